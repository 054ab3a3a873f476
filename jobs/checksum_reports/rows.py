"""Rows of a completion report of S3 Batch Operations' *Compute checksum*.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-examples-reports.html and
batch-ops-compute-checksums.html there. `ReportSchema` names ErrorCode before HTTPStatusCode, the
documented rows have them the other way round: neither is needed here. The documented failure
messages are not well-formed CSV, so that what follows the sixth comma is all message. Keys are
encoded as in the job's manifest (a space is `+`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Literal, NamedTuple
from urllib.parse import unquote_plus

from msgspec import Struct, field, json

from jobs.core.algorithms import ALGORITHMS
from jobs.core.model import NULL_VERSION, Checksum


class Row(NamedTuple):
    """A row of a report: the object, and its checksum or the `reason` why it has none.

    ETag without quotes.
    """

    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    checksum: Checksum | None
    reason: str | None = None


class _Result(Struct):
    """The message of a task that succeeded."""

    algorithm: str = field(name="checksumAlgorithm")
    kind: Literal["FULL_OBJECT", "COMPOSITE"] = field(name="checksumType")
    value: str = field(name="checksum_base64")
    in_hex: str | None = field(name="checksum_hex", default=None)
    etag: str | None = None


def parse_row(fields: Sequence[str]) -> Row | str:
    """The row of a line's fields, or what is wrong with them."""
    if len(fields) < 7:
        return f"{len(fields)} fields instead of 7"
    bucket, encoded, version, status = fields[:4]
    try:
        key = unquote_plus(encoded, errors="strict") if "%" in encoded or "+" in encoded else encoded
    except UnicodeDecodeError:
        return "the key is not URL-encoded UTF-8"
    if not bucket or not key:
        return "no bucket or no key"
    version_id = version if version and version != NULL_VERSION else None
    message = ",".join(fields[6:])
    if status.lower() == "failed":
        return Row(bucket, key, version_id, None, None, f"no evidence, because S3 says: {message.strip()[:300]}")
    if status.lower() != "succeeded":
        return f"the task's status is {status!r}"
    if len(fields) != 7:
        return f"{len(fields)} fields instead of 7"
    try:
        result = json.decode(message, type=_Result)
    except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        return f"the result is not that of a Compute checksum job: {error}"
    return _succeeded(bucket, key, version_id, result)


def _succeeded(bucket: str, key: str, version_id: str | None, result: _Result) -> Row | str:
    algorithm, is_composite = result.algorithm.upper(), result.kind == "COMPOSITE"
    plain, dash, parts = result.value.partition("-")
    try:
        digest = base64.b64decode(plain, validate=True)
        same = result.in_hex is None or digest == bytes.fromhex(result.in_hex.partition("-")[0])
    except (binascii.Error, ValueError):
        return "the checksum is not base64, or not hex"
    if algorithm not in ALGORITHMS:
        return f"{algorithm} is an algorithm that this Sealift does not know, so it proves nothing"
    if len(digest) != ALGORITHMS[algorithm].digest_bytes:
        return f"the checksum has {len(digest)} bytes, which no {algorithm} has"
    if not same:
        return "checksum_base64 and checksum_hex are not the same value"
    if dash and not (is_composite and parts.isdecimal()):
        return "the checksum is not base64, or not hex"
    etag = (result.etag or "").strip('"') or None
    return Row(bucket, key, version_id, etag, Checksum(algorithm, result.value, is_composite))
