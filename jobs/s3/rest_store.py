"""RestStore: the Store over S3's REST interface.

`jobs.s3.store` says what each method means.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectRef
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    Conflict,
    Denied,
    NotFound,
    PreconditionFailed,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.s3 import wire
from jobs.s3.checksums import full_object_checksums, is_checksum_of
from jobs.s3.http.answers import MAX_BODY_BYTES, Response
from jobs.s3.list_pages import parse_page, parse_parts
from jobs.s3.operations import Operation
from jobs.s3.store import (
    ANNOTATION_BYTES,
    AnnotationPage,
    Body,
    CopySettings,
    Deleted,
    Guard,
    Marker,
    Page,
    PartDone,
    PartPage,
    Restoring,
    Upload,
    Written,
)
from jobs.s3.transport import NONE, Parameters, Transport
from jobs.s3.wire import Malformed

T = TypeVar("T")
Parse = Callable[[Response], T]

_WITH_CHECKSUMS = ("x-amz-checksum-mode", "ENABLED")
_IS_XML = ("Content-Type", "application/xml")
_RESTORING = {"RestoreAlreadyInProgress": Restoring.UNDER_WAY, "ObjectAlreadyInActiveTierError": Restoring.READY}
"""Errors of RestoreObject that say how far a restore is:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html"""
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


class RestStore:
    """S3 through `transport`. Satisfies `Store`.

    Safe for many requests at once on one event loop at a time. Responses that are no S3 answers
    raise Unavailable with the code `MalformedAnswer`. `asks_checksums`, `sends_checksums`: the server
    knows the headers for them.
    """

    def __init__(self, transport: Transport, *, asks_checksums: bool = True, sends_checksums: bool = True):
        self.transport, self._sends_checksums = transport, sends_checksums
        self.heeds_conditions = transport.endpoint.is_aws
        self.keeps_annotations = transport.endpoint.keeps_annotations
        self.region_of = transport.region_of
        self._asked = [_WITH_CHECKSUMS] * asks_checksums
        self._found = set[str]()

    @property
    def server_clock(self) -> float | None:
        """The server's time, by its latest Date."""
        return self.transport.server_clock

    async def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        """HeadObject."""
        part = NONE if part_number is None else {"partNumber": part_number}
        try:
            return await self._ask(Operation.HEAD, ref, _described, part, headers=self._asked)
        except NotFound:
            await self._find(ref.bucket)
            raise

    async def _find(self, bucket: str) -> None:
        """Raises NoSuchBucket. S3's 404 for a HEAD has no code, so the first one asks for the bucket, unless it has
        answered before.
        """
        if bucket in self._found:
            return
        self._found.add(bucket)  # others need not ask meanwhile
        try:
            await self.list_objects(bucket, "", max_keys=1)
        except StoreError as error:
            if not isinstance(error, REFUSALS):
                self._found.discard(bucket)
                raise

    async def get(self, ref: ObjectRef, *, start: int = 0, end: int | None = None, if_match: str | None = None) -> Body:
        """GetObject, the whole body in memory."""
        headers, content_bytes = [*self._asked], MAX_BODY_BYTES
        if if_match is not None:
            headers.append(("If-Match", f'"{if_match}"'))
        if start > 0 or end is not None:
            if end is not None and end <= start:  # S3 would ignore such a range and send everything
                raise Rejected(Operation.GET, str(ref), "InvalidRange", f"bytes {start} to {end} are none", 416)
            headers.append(("Range", f"bytes={start}-{'' if end is None else end - 1}"))
            content_bytes = MAX_BODY_BYTES if end is None else end - start
        parse = partial(_received, ref, start, end, if_match)
        return await self._ask(Operation.GET, ref, parse, headers=headers, content_bytes=content_bytes)

    async def put(
        self, ref: ObjectRef, data: bytes, attributes: Attributes, *, guard: Guard, checksum: Checksum | None = None
    ) -> Written:
        """PutObject."""
        headers = wire.attribute_headers(attributes) + wire.guard_headers(guard) + self._proofs(data, checksum)
        return await self._ask(Operation.PUT, ref, _written(Operation.PUT), headers=headers, body=data)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, ref: ObjectRef, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject."""
        headers = wire.source_headers(source, source_etag) + wire.guard_headers(guard) + wire.settings_headers(settings)
        return await self._ask(Operation.COPY, ref, _written(Operation.COPY), headers=headers, source=source)

    async def get_tags(self, ref: ObjectRef) -> Mapping[str, str]:
        """GetObjectTagging."""
        return await self._ask(Operation.GET_TAGS, ref, _document(wire.parse_tags))

    async def may_read_locks(self, ref: ObjectRef) -> bool:
        """GetObjectRetention. Servers refuse it where an object or a bucket has no lock."""
        try:
            return await self._ask(Operation.GET_RETENTION, ref, lambda answer: True)
        except Denied:
            return False
        except (NotFound, Rejected):
            return True

    async def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        """ListObjectAnnotations."""
        parse = _document(wire.parse_annotations)
        return await self._ask(Operation.LIST_ANNOTATIONS, ref, parse, {"continuation-token": token})

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        """GetObjectAnnotation."""
        named, asked = {"annotationName": name}, self._asked
        parse, size_bytes = _checked_bytes, ANNOTATION_BYTES
        return await self._ask(Operation.GET_ANNOTATION, ref, parse, named, headers=asked, content_bytes=size_bytes)

    async def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        """PutObjectAnnotation."""
        named, parse = {"annotationName": name}, _document(wire.check_annotated)
        headers = [("x-amz-object-if-match", f'"{object_etag}"'), *wire.body_headers(text, None)]
        await self._ask(Operation.PUT_ANNOTATION, ref, parse, named, headers=headers, body=text)

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None, send_by: float | None = None) -> Deleted:
        """DeleteObject."""
        headers = wire.guard_headers(Guard(etag=if_match))
        return await self._ask(Operation.DELETE, ref, _deleted, headers=headers, send_by=send_by)

    async def request_restore(self, ref: ObjectRef, *, days: int | None, tier: str) -> Restoring:
        """RestoreObject."""
        body = wire.restore_body(days, tier)
        try:
            return await self._ask(Operation.RESTORE, ref, _restoring, headers=[_IS_XML], body=body)
        except Conflict as error:
            if error.code not in _RESTORING:
                raise
            return _RESTORING[error.code]
        except ArchivedObject as error:  # InvalidObjectState means here that there is nothing to restore
            raise error.recast(Rejected) from error

    async def create_multipart(
        self, ref: ObjectRef, attributes: Attributes, *, checksum: Checksum | None = None
    ) -> Upload:
        """CreateMultipartUpload."""
        headers = wire.attribute_headers(attributes)
        if checksum and self._sends_checksums:
            headers += [("x-amz-checksum-algorithm", checksum.algorithm), wire.checksum_type(checksum)]
        parse = _document(wire.parse_upload_id)
        upload_id = await self._ask(Operation.CREATE_MULTIPART, ref, parse, headers=headers)
        return Upload(ref.bucket, ref.key, upload_id)

    async def copy_part(
        self, source: ObjectRef, source_etag: str, start: int, end: int | None, upload: Upload, number: int
    ) -> PartDone:
        """UploadPartCopy."""
        span = [] if end is None else [("x-amz-copy-source-range", f"bytes={start}-{end - 1}")]
        headers = [*wire.source_headers(source, source_etag), *span]
        part = _part(upload, number)
        parse = _written(Operation.COPY_PART)
        result = await self._ask(Operation.COPY_PART, upload.place, parse, part, headers=headers, source=source)
        return PartDone(number, result.etag, result.checksums)

    async def put_part(self, upload: Upload, number: int, data: bytes, *, checksum: Checksum | None = None) -> PartDone:
        """UploadPart."""
        part, headers = _part(upload, number), self._proofs(data, checksum)
        parse = _written(Operation.PUT_PART)
        result = await self._ask(Operation.PUT_PART, upload.place, parse, part, headers=headers, body=data)
        own = (checksum,) if checksum and self._sends_checksums else ()
        return PartDone(number, result.etag, result.checksums or own)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[PartDone],
        *,
        guard: Guard,
        size_bytes: int | None = None,
        checksum: Checksum | None = None,
    ) -> Written:
        """CompleteMultipartUpload."""
        headers, body = [*wire.guard_headers(guard), _IS_XML], wire.complete_body(parts)
        if size_bytes is not None:
            headers.append(("x-amz-mp-object-size", str(size_bytes)))
        if checksum and self._sends_checksums:
            headers += [wire.checksum_header(checksum), wire.checksum_type(checksum)]
        parse = _written(Operation.COMPLETE)
        return await self._ask(Operation.COMPLETE, upload.place, parse, _part(upload), headers=headers, body=body)

    async def list_parts(self, upload: Upload, *, after: int = 0) -> PartPage:
        """ListParts."""
        parameters = {**_part(upload), "part-number-marker": after or None}
        parse = _document(partial(parse_parts, after=after))
        return await self._ask(Operation.LIST_PARTS, upload.place, parse, parameters)

    async def abort_multipart(self, upload: Upload) -> None:
        """AbortMultipartUpload."""
        try:
            await self.transport.send(Operation.ABORT, upload.place, _part(upload))
        except NotFound as error:
            if error.code not in ("NoSuchUpload", "NotFound"):
                raise

    async def list_objects(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectsV2."""
        token = after.token if after else None
        start = after.key if after and after.key and not token else None
        place = {**_listing(prefix, delimiter, max_keys), "continuation-token": token, "start-after": start}
        return await self._page(Operation.LIST_OBJECTS, bucket, place, after)

    async def list_versions(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectVersions."""
        key, version_id = (after.key, after.version_id) if after else (None, None)
        place = {**_listing(prefix, delimiter, max_keys), "key-marker": key, "version-id-marker": version_id}
        return await self._page(Operation.LIST_VERSIONS, bucket, place, after)

    async def is_versioned(self, bucket: str) -> bool:
        """GetBucketVersioning."""
        return await self._ask(Operation.GET_VERSIONING, ObjectRef(bucket, ""), _document(wire.parse_versioning))

    async def close(self) -> None:
        """Release the connections."""
        self.transport.close()

    def _proofs(self, data: bytes, checksum: Checksum | None) -> wire.Pairs:
        return wire.body_headers(data, checksum if self._sends_checksums else None)

    def _page(self, operation: Operation, bucket: str, parameters: Parameters, after: Marker | None) -> Awaitable[Page]:
        parse = _document(partial(parse_page, operation=operation, after=after, prefix=str(parameters["prefix"] or "")))
        return self._ask(operation, ObjectRef(bucket, ""), parse, parameters)

    async def _ask(
        self, operation: Operation, place: ObjectRef, parse: Parse[T], parameters: Parameters = NONE, **request: Any
    ) -> T:
        """What `parse` makes of the answer. Raises Unavailable for what S3 does not send.

        `request`: as `Transport.send` takes it.
        """
        answer = await self.transport.send(operation, place, parameters, **request)
        try:
            _check_answer(operation, request.get("source") or place, answer)
            result = parse(answer)
        except Malformed as error:
            raise Unavailable(operation, str(place), "MalformedAnswer", str(error), answer.status) from error
        self._found.add(place.bucket)
        return result


# Answers before they are believed. A server that is broken, or a cache between, may answer with another range, another
# version or another state of the object than was asked for. S3 names all three in its headers, so that each is held
# against the question. All raise `Malformed`, but where they say otherwise.


def _check_answer(operation: Operation, asked: ObjectRef, answer: Response) -> None:
    """Raises Malformed for a document where S3 sends none, and for another version than the one that was asked for, of
    a copy as its source. A server without versions cannot be asked for one.
    """
    if not operation.body and answer.body and not answer.body.isspace():
        raise Malformed(f"a body of {len(answer.body)} bytes in an answer that has none")
    if asked.version_id is None or operation not in _NAMED_BY:
        return
    named = answer.headers.get(_NAMED_BY[operation])
    if named is None and operation not in _ALWAYS_NAMED:
        return
    if asked.version_id not in (named, named or "null"):
        sent = f"version {named}" if named else "no version id"
        raise Malformed(f"asked for version {asked.version_id} of {asked.key}, the server named {sent}")


def _described(answer: Response) -> ObjectInfo:
    """What a HEAD says, which has to name size and ETag."""
    info = wire.object_info(answer.headers)
    if "content-length" not in answer.headers:
        raise Malformed(_NO_LENGTH)
    if not info.etag:
        raise Malformed("no ETag in the answer")
    return info


def _received(ref: ObjectRef, start: int, end: int | None, if_match: str | None, answer: Response) -> Body:
    """What a GET brought: the bytes that were asked for. Raises PreconditionFailed for another ETag."""
    etag, is_ranged = wire.unquote_etag(answer.headers.get("etag", "")), start > 0 or end is not None
    if if_match is not None and etag != if_match:
        message = f"the server ignores If-Match: asked for ETag {if_match}, it sent {etag or 'none'}"
        raise PreconditionFailed(Operation.GET, str(ref), "PreconditionFailed", message, answer.status)
    size_bytes, data = len(answer.body), answer.body
    if answer.status == 206 and is_ranged:
        size_bytes = _size_by_range(start, end, answer)
    elif answer.status == 200:
        data = _checked_bytes(answer)
        if is_ranged:  # a server without ranges
            data = data[start:end]
            if not data:
                raise Malformed(f"no byte {start} in the {size_bytes} that came")
    else:
        raise Malformed(f"status {answer.status}")
    answered_at = wire.parse_http_date(answer.headers.get("date", "")) or None
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


def _checked_bytes(answer: Response) -> bytes:
    """The whole content of an object or an annotation, with the checksums that S3 sends with it."""
    for checksum in full_object_checksums(wire.header_checksums(answer.headers)):
        if not is_checksum_of(checksum, answer.body):
            raise Malformed(f"the bytes do not have the {checksum.algorithm} of the answer")
    return answer.body


def _deleted(answer: Response) -> Deleted:
    """What a DELETE has made or removed."""
    return Deleted(answer.headers.get("x-amz-version-id"), answer.headers.get("x-amz-delete-marker") == "true")


def _restoring(answer: Response) -> Restoring:
    """Whether a restore has begun, or its copy was there."""
    return Restoring.REQUESTED if answer.status == 202 else Restoring.READY


def _written(operation: Operation) -> Parse[Written]:
    return lambda answer: wire.parse_written(operation, answer.headers, answer.body)


def _document(parse: Callable[[bytes], T]) -> Parse[T]:
    return lambda answer: parse(answer.body)


def _part(upload: Upload, number: int | None = None) -> Parameters:
    return {"partNumber": number, "uploadId": upload.upload_id}


def _listing(prefix: str, delimiter: str, max_keys: int) -> Parameters:
    return {"encoding-type": "url", "max-keys": max_keys, "prefix": prefix or None, "delimiter": delimiter or None}
