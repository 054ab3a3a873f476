"""Checks of an answer to HEAD or GET before it is believed. Pure.

A server that is broken, or a cache between, may answer with another range, another version or
another state of the object than was asked for. S3 names all three in its headers, so that each is
held against the question.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from jobs.core.model import ObjectInfo, ObjectRef
from jobs.errors import PreconditionFailed, StoreError, Unavailable
from jobs.s3 import wire
from jobs.s3.checksums import full_object_checksums, is_checksum_of
from jobs.s3.dates import parse_http_date
from jobs.s3.http.answers import Response
from jobs.s3.operations import Operation
from jobs.s3.store import Body

_RANGE = re.compile("bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
OF_TAGS, OF_ANNOTATIONS = "x-amz-version-id", "x-amz-object-version-id"
"""The headers that say whose they are."""
_NO_LENGTH = (
    "the answer has no Content-Length, so that the object's size is unknown: "
    "have the server, or the proxy before it, send it with the answers to HEAD"
)


class Asked(NamedTuple):
    """The bytes (`end` exclusive, None: to the end) and the state that a GET asked for."""

    start: int = 0
    end: int | None = None
    if_match: str | None = None

    @property
    def is_ranged(self) -> bool:
        """Whether less than the whole object was asked for."""
        return self.start > 0 or self.end is not None


def described(ref: ObjectRef, answer: Response) -> ObjectInfo:
    """What a HEAD says. Raises Unavailable if it does not name size and ETag, or another version
    than `ref`.
    """
    if ref.version_id is not None:
        _check_version(Operation.HEAD, ref, answer)
    info = wire.object_info(answer.headers)
    if "content-length" not in answer.headers:
        raise Unavailable(Operation.HEAD, str(ref), "NoContentLength", _NO_LENGTH, answer.status)
    if not info.etag:
        raise _malformed(Operation.HEAD, ref, answer, "no ETag in the answer")
    return info


def received(ref: ObjectRef, asked: Asked, answer: Response) -> Body:
    """What a GET brought. Raises Unavailable for other bytes than asked for, PreconditionFailed for
    another ETag.
    """
    _check_version(Operation.GET, ref, answer)
    etag = wire.unquote_etag(answer.headers.get("etag", ""))
    if asked.if_match is not None and etag != asked.if_match:
        message = f"the server ignores If-Match: asked for ETag {asked.if_match}, it sent {etag or 'none'}"
        raise PreconditionFailed(Operation.GET, str(ref), "PreconditionFailed", message, answer.status)
    if answer.status == 206 and asked.is_ranged:
        size_bytes, data = _size_by_range(ref, asked, answer), answer.body
    elif answer.status == 200:
        size_bytes, data = len(answer.body), answer.body
        _check_bytes(Operation.GET, ref, answer)
        if asked.is_ranged:  # a server without ranges
            data = data[asked.start : asked.end]
            if not data:
                raise _malformed(Operation.GET, ref, answer, f"no byte {asked.start} in the {size_bytes} that came")
    else:
        raise _malformed(Operation.GET, ref, answer, f"status {answer.status}")
    answered_at = parse_http_date(answer.headers.get("date", "")) or None
    return Body(data, replace(wire.object_info(answer.headers), size_bytes=size_bytes), answered_at)


def _size_by_range(ref: ObjectRef, asked: Asked, answer: Response) -> int:
    """The object's size by Content-Range, which has to be the range that was asked for, and that of
    the body.
    """
    text = answer.headers.get("content-range", "")
    match = _RANGE.fullmatch(text.strip())
    if not match:
        raise _malformed(Operation.GET, ref, answer, f"a part of the object, but its Content-Range is {text!r}")
    first, last, size_bytes = map(int, match.groups())
    end = size_bytes if asked.end is None else min(asked.end, size_bytes)
    if (first, last + 1) != (asked.start, end) or last - first + 1 != len(answer.body):
        wanted = f"bytes={asked.start}-{'' if asked.end is None else asked.end - 1}"
        raise _malformed(Operation.GET, ref, answer, f"asked for {wanted}, got {len(answer.body)} bytes as {text!r}")
    return size_bytes


def _check_version(operation: Operation, ref: ObjectRef, answer: Response) -> None:
    """S3 names the version that it answers with.

    A server without versions cannot be asked for one.
    """
    version_id = answer.headers.get("x-amz-version-id")
    if version_id != ref.version_id and ref.version_id is not None and (version_id or "null") != ref.version_id:
        sent = f"version {version_id}" if version_id else "no version id"
        raise _malformed(operation, ref, answer, f"asked for version {ref.version_id}, the server sent {sent}")


def received_annotation(ref: ObjectRef, answer: Response) -> bytes:
    """The text in the answer to a GET of an annotation.

    Raises Unavailable if the answer is about another version, or the text does not have the
    checksum that S3 sends with it.
    """
    check_named_version(Operation.GET_ANNOTATION, ref, answer, OF_ANNOTATIONS)
    _check_bytes(Operation.GET_ANNOTATION, ref, answer)
    return answer.body


def _check_bytes(operation: Operation, ref: ObjectRef, answer: Response) -> None:
    """Raises Unavailable if the whole content does not have the checksums that S3 sends with it."""
    for checksum in full_object_checksums(wire.header_checksums(answer.headers)):
        if not is_checksum_of(checksum, answer.body):
            message = f"the bytes do not have the {checksum.algorithm} of the answer"
            raise _malformed(operation, ref, answer, message)


def check_named_version(operation: Operation, ref: ObjectRef, answer: Response, header: str) -> None:
    """Raises Unavailable if the server says that the tags or annotations are those of another version.

    They have no version of their own, and some servers name none.
    """
    version_id = answer.headers.get(header)
    if ref.version_id is not None and version_id not in (None, ref.version_id):
        message = f"asked for version {ref.version_id}, the server answered for version {version_id}"
        raise _malformed(operation, ref, answer, message)


def check_copied_version(operation: Operation, source: ObjectRef, place: ObjectRef, answer: Response) -> None:
    """Raises Unavailable if the server says that it copied another version of the source than it
    was asked to.
    """
    version_id = answer.headers.get("x-amz-copy-source-version-id")
    if version_id is not None and source.version_id not in (None, version_id):
        message = f"it copied version {version_id} of {source.key}, asked for version {source.version_id}"
        raise _malformed(operation, place, answer, message)


def _malformed(operation: Operation, ref: ObjectRef, answer: Response, message: str) -> StoreError:
    return Unavailable(operation, str(ref), "MalformedAnswer", message, answer.status)
