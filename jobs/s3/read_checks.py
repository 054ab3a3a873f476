"""Answers before they are believed: what they say, and whether it is of what was asked for. Pure.

A server that is broken, or a cache between, may answer with another range, another version or
another state of the object than was asked for. S3 names all three in its headers, so that each is
held against the question. All raise `wire.Malformed`, but where they say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from jobs.core.model import ObjectInfo, ObjectRef
from jobs.errors import PreconditionFailed
from jobs.s3 import wire
from jobs.s3.checksums import full_object_checksums, is_checksum_of
from jobs.s3.dates import parse_http_date
from jobs.s3.http.answers import Response
from jobs.s3.operations import Operation
from jobs.s3.store import Body, Deleted, Restoring
from jobs.s3.wire import Malformed

_RANGE = re.compile("bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
_NAMED_BY: Mapping[Operation, str] = {
    **dict.fromkeys((Operation.HEAD, Operation.GET, Operation.GET_TAGS), "x-amz-version-id"),
    **dict.fromkeys(
        (Operation.LIST_ANNOTATIONS, Operation.GET_ANNOTATION, Operation.PUT_ANNOTATION), "x-amz-object-version-id"
    ),
    **dict.fromkeys((Operation.COPY, Operation.COPY_PART), "x-amz-copy-source-version-id"),
}
"""The header in which an answer says which version it is about, of a copy which one it was made of."""
_ALWAYS_NAMED = frozenset({Operation.HEAD, Operation.GET})
"""S3 names the version of each object. Tags, annotations and copies have none at some servers."""
_NO_LENGTH = (
    "the answer has no Content-Length, so that the object's size is unknown: "
    "have the server, or the proxy before it, send it with the answers to HEAD"
)


def check_answer(operation: Operation, asked: ObjectRef, answer: Response) -> None:
    """Raises Malformed for a document where S3 sends none, and for another version than the one that was asked for, of
    a copy as its source. A server without versions cannot be asked for one.
    """
    if not operation.body:
        wire.demand_no_document(answer.body)
    if asked.version_id is None or operation not in _NAMED_BY:
        return
    named = answer.headers.get(_NAMED_BY[operation])
    if named is None and operation not in _ALWAYS_NAMED:
        return
    if asked.version_id not in (named, named or "null"):
        sent = f"version {named}" if named else "no version id"
        raise Malformed(f"asked for version {asked.version_id} of {asked.key}, the server named {sent}")


def described(answer: Response) -> ObjectInfo:
    """What a HEAD says, which has to name size and ETag."""
    info = wire.object_info(answer.headers)
    if "content-length" not in answer.headers:
        raise Malformed(_NO_LENGTH)
    if not info.etag:
        raise Malformed("no ETag in the answer")
    return info


def received(ref: ObjectRef, start: int, end: int | None, if_match: str | None, answer: Response) -> Body:
    """What a GET brought: the bytes that were asked for. Raises PreconditionFailed for another ETag."""
    etag, is_ranged = wire.unquote_etag(answer.headers.get("etag", "")), start > 0 or end is not None
    if if_match is not None and etag != if_match:
        message = f"the server ignores If-Match: asked for ETag {if_match}, it sent {etag or 'none'}"
        raise PreconditionFailed(Operation.GET, str(ref), "PreconditionFailed", message, answer.status)
    size_bytes, data = len(answer.body), answer.body
    if answer.status == 206 and is_ranged:
        size_bytes = _size_by_range(start, end, answer)
    elif answer.status == 200:
        _check_bytes(answer)
        if is_ranged:  # a server without ranges
            data = data[start:end]
            if not data:
                raise Malformed(f"no byte {start} in the {size_bytes} that came")
    else:
        raise Malformed(f"status {answer.status}")
    answered_at = parse_http_date(answer.headers.get("date", "")) or None
    return Body(data, replace(wire.object_info(answer.headers), size_bytes=size_bytes), answered_at)


def _size_by_range(start: int, end: int | None, answer: Response) -> int:
    """The object's size by Content-Range, which has to be the range that was asked for, and that of the body."""
    text = answer.headers.get("content-range", "")
    match = _RANGE.fullmatch(text.strip())
    if not match:
        raise Malformed(f"a part of the object, but its Content-Range is {text!r}")
    first, last, size_bytes = map(int, match.groups())
    reach = size_bytes if end is None else min(end, size_bytes)
    if (first, last + 1) != (start, reach) or last - first + 1 != len(answer.body):
        wanted = f"bytes={start}-{'' if end is None else end - 1}"
        raise Malformed(f"asked for {wanted}, got {len(answer.body)} bytes as {text!r}")
    return size_bytes


def received_annotation(answer: Response) -> bytes:
    """The text in the answer to a GET of an annotation, with the checksum that S3 sends with it."""
    _check_bytes(answer)
    return answer.body


def _check_bytes(answer: Response) -> None:
    """Raises Malformed if the whole content does not have the checksums that S3 sends with it."""
    for checksum in full_object_checksums(wire.header_checksums(answer.headers)):
        if not is_checksum_of(checksum, answer.body):
            raise Malformed(f"the bytes do not have the {checksum.algorithm} of the answer")


def deleted(answer: Response) -> Deleted:
    """What a DELETE has made or removed."""
    return Deleted(answer.headers.get("x-amz-version-id"), answer.headers.get("x-amz-delete-marker") == "true")


def restoring(answer: Response) -> Restoring:
    """Whether a restore has begun, or its copy was there."""
    return Restoring.REQUESTED if answer.status == 202 else Restoring.READY
