"""RestStore: the Store over S3's REST interface.

`jobs.s3.store` says what each method means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectRef
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    Conflict,
    Denied,
    NoSuchBucket,
    NotFound,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.s3 import wire
from jobs.s3.http.answers import MAX_BODY_BYTES, Response
from jobs.s3.list_pages import parse_page, parse_parts
from jobs.s3.operations import Operation
from jobs.s3.read_checks import (
    OF_ANNOTATIONS,
    OF_TAGS,
    Asked,
    check_copied_version,
    check_named_version,
    described,
    received,
    received_annotation,
)
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
from jobs.s3.transport import Transport

T = TypeVar("T")

_WITH_CHECKSUMS = ("x-amz-checksum-mode", "ENABLED")
_IS_XML = ("Content-Type", "application/xml")


class RestStore:
    """S3 through `transport`. Satisfies `Store`.

    Safe for many requests at once on one event loop at a time. Responses that are no S3 answers
    raise Unavailable with the code `MalformedAnswer`. `asks_checksums`, `sends_checksums`: the server
    knows the headers for them.
    """

    def __init__(self, transport: Transport, *, asks_checksums: bool = True, sends_checksums: bool = True):
        self.transport, self._sends_checksums = transport, sends_checksums
        self._asked = [_WITH_CHECKSUMS] * asks_checksums
        self._found = set[str]()

    @property
    def heeds_conditions(self) -> bool:
        """Whether conditional writes are known to hold: at AWS's own endpoints.

        See `jobs.s3.condition_trial`.
        """
        return self.transport.endpoint.is_aws

    @property
    def keeps_annotations(self) -> bool:
        """See `Store`. True at AWS's own endpoints of most regions."""
        return self.transport.endpoint.keeps_annotations

    @property
    def server_clock(self) -> float | None:
        """The server's time, by its latest Date."""
        return self.transport.server_clock

    def region_of(self, bucket: str) -> str | None:
        """Where the bucket is, as far as a request has found out."""
        return self.transport.region_of(bucket)

    async def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        """HeadObject."""
        query = "" if ref.version_id is None and part_number is None else _query(ref, partNumber=part_number)
        try:
            answer = await self.transport.send(Operation.HEAD, ref, query=query, headers=self._asked)
        except NotFound:
            await self._find(ref.bucket)
            raise
        self._found.add(ref.bucket)
        return described(ref, answer)

    async def _find(self, bucket: str) -> None:
        """Raises NoSuchBucket. S3's 404 for a HEAD has no code, so the first one asks for the bucket."""
        if bucket in self._found:
            return
        self._found.add(bucket)  # others need not ask meanwhile
        try:
            await self.list_objects(bucket, "", max_keys=1)
        except StoreError as error:
            if isinstance(error, NoSuchBucket) or not isinstance(error, REFUSALS):
                self._found.discard(bucket)
                raise

    async def get(self, ref: ObjectRef, *, start: int = 0, end: int | None = None, if_match: str | None = None) -> Body:
        """GetObject, the whole body in memory."""
        headers, asked, content_bytes = [*self._asked], Asked(start, end, if_match), MAX_BODY_BYTES
        if if_match is not None:
            headers.append(("If-Match", f'"{if_match}"'))
        if asked.is_ranged:
            if end is not None and end <= start:  # S3 would ignore such a range and send everything
                raise Rejected(Operation.GET, str(ref), "InvalidRange", f"bytes {start} to {end} are none", 416)
            headers.append(("Range", f"bytes={start}-{'' if end is None else end - 1}"))
            content_bytes = MAX_BODY_BYTES if end is None else end - start
        answer = await self.transport.send(
            Operation.GET, ref, query=_query(ref), headers=headers, content_bytes=content_bytes
        )
        return received(ref, asked, answer)

    async def put(
        self,
        bucket: str,
        key: str,
        data: bytes,
        attributes: Attributes,
        *,
        guard: Guard,
        checksum: Checksum | None = None,
    ) -> Written:
        """PutObject."""
        headers = wire.attribute_headers(attributes) + wire.guard_headers(guard) + self._proofs(data, checksum)
        place = ObjectRef(bucket, key)
        answer = await self.transport.send(Operation.PUT, place, headers=headers, body=data)
        return _written(Operation.PUT, place, answer)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, bucket: str, key: str, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject."""
        headers = wire.source_headers(source, source_etag) + wire.guard_headers(guard) + wire.settings_headers(settings)
        place = ObjectRef(bucket, key)
        answer = await self.transport.send(Operation.COPY, place, headers=headers, source=source)
        return _written(Operation.COPY, place, answer, source)

    async def get_tags(self, ref: ObjectRef) -> Mapping[str, str]:
        """GetObjectTagging."""
        answer = await self.transport.send(Operation.GET_TAGS, ref, query=_query(ref))
        check_named_version(Operation.GET_TAGS, ref, answer, OF_TAGS)
        return _parsed(Operation.GET_TAGS, ref, answer, wire.parse_tags)

    async def may_read_locks(self, ref: ObjectRef) -> bool:
        """GetObjectRetention. Servers refuse it where an object or a bucket has no lock."""
        try:
            await self.transport.send(Operation.GET_RETENTION, ref, query=_query(ref))
        except Denied:
            return False
        except (NotFound, Rejected):
            return True
        return True

    async def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        """ListObjectAnnotations."""
        query = wire.query(versionId=ref.version_id, continuation_token=token)
        answer = await self.transport.send(Operation.LIST_ANNOTATIONS, ref, query=query)
        check_named_version(Operation.LIST_ANNOTATIONS, ref, answer, OF_ANNOTATIONS)
        return _parsed(Operation.LIST_ANNOTATIONS, ref, answer, wire.parse_annotations)

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        """GetObjectAnnotation."""
        query = wire.query(annotationName=name, versionId=ref.version_id)
        answer = await self.transport.send(
            Operation.GET_ANNOTATION, ref, query=query, headers=self._asked, content_bytes=ANNOTATION_BYTES
        )
        return received_annotation(ref, answer)

    async def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        """PutObjectAnnotation."""
        query = wire.query(annotationName=name, versionId=ref.version_id)
        headers = [("x-amz-object-if-match", f'"{object_etag}"'), *wire.body_headers(text, None)]
        answer = await self.transport.send(Operation.PUT_ANNOTATION, ref, query=query, headers=headers, body=text)
        check_named_version(Operation.PUT_ANNOTATION, ref, answer, OF_ANNOTATIONS)
        _parsed(Operation.PUT_ANNOTATION, ref, answer, wire.check_annotated)

    async def delete(
        self,
        bucket: str,
        key: str,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        send_by: float | None = None,
    ) -> Deleted:
        """DeleteObject."""
        ref, headers = ObjectRef(bucket, key, version_id), wire.guard_headers(Guard(etag=if_match))
        answer = await self.transport.send(Operation.DELETE, ref, query=_query(ref), headers=headers, send_by=send_by)
        _parsed(Operation.DELETE, ref, answer, wire.demand_no_document)
        is_delete_marker = answer.headers.get("x-amz-delete-marker") == "true"
        return Deleted(answer.headers.get("x-amz-version-id"), is_delete_marker)

    async def request_restore(self, ref: ObjectRef, *, days: int | None, tier: str) -> Restoring:
        """RestoreObject."""
        body = wire.restore_body(days, tier)
        try:
            answer = await self.transport.send(Operation.RESTORE, ref, query=_query(ref), headers=[_IS_XML], body=body)
        except Conflict as error:
            if error.code != "RestoreAlreadyInProgress":
                raise
            return Restoring.UNDER_WAY
        except ArchivedObject as error:  # InvalidObjectState means here that there is nothing to restore
            raise error.recast(Rejected) from error
        _parsed(Operation.RESTORE, ref, answer, wire.demand_no_document)
        return Restoring.REQUESTED if answer.status == 202 else Restoring.READY

    async def create_multipart(
        self, bucket: str, key: str, attributes: Attributes, *, checksum: Checksum | None = None
    ) -> Upload:
        """CreateMultipartUpload."""
        headers = wire.attribute_headers(attributes)
        if checksum and self._sends_checksums:
            headers += [("x-amz-checksum-algorithm", checksum.algorithm), wire.checksum_type(checksum)]
        place = ObjectRef(bucket, key)
        upload_id = await self._ask(Operation.CREATE_MULTIPART, place, wire.parse_upload_id, headers=headers)
        return Upload(bucket, key, upload_id)

    async def copy_part(
        self, source: ObjectRef, source_etag: str, start: int, end: int, upload: Upload, number: int
    ) -> PartDone:
        """UploadPartCopy."""
        headers = [*wire.source_headers(source, source_etag), ("x-amz-copy-source-range", f"bytes={start}-{end - 1}")]
        query = wire.query(partNumber=number, uploadId=upload.upload_id)
        place = upload.place
        answer = await self.transport.send(Operation.COPY_PART, place, query=query, headers=headers, source=source)
        result = _written(Operation.COPY_PART, place, answer, source)
        return PartDone(number, result.etag, result.checksums)

    async def put_part(self, upload: Upload, number: int, data: bytes, *, checksum: Checksum | None = None) -> PartDone:
        """UploadPart."""
        query = wire.query(partNumber=number, uploadId=upload.upload_id)
        headers = self._proofs(data, checksum)
        answer = await self.transport.send(Operation.PUT_PART, upload.place, query=query, headers=headers, body=data)
        result = _written(Operation.PUT_PART, upload.place, answer)
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
        headers = [*wire.guard_headers(guard), _IS_XML]
        if size_bytes is not None:
            headers.append(("x-amz-mp-object-size", str(size_bytes)))
        if checksum and self._sends_checksums:
            headers += [(f"x-amz-checksum-{checksum.algorithm.lower()}", checksum.value), wire.checksum_type(checksum)]
        query, body = wire.query(uploadId=upload.upload_id), wire.complete_body(parts)
        answer = await self.transport.send(Operation.COMPLETE, upload.place, query=query, headers=headers, body=body)
        return _written(Operation.COMPLETE, upload.place, answer)

    async def list_parts(self, upload: Upload, *, after: int = 0) -> PartPage:
        """ListParts."""
        query = wire.query(uploadId=upload.upload_id, part_number_marker=after or None)
        return await self._ask(Operation.LIST_PARTS, upload.place, partial(parse_parts, after=after), query=query)

    async def abort_multipart(self, upload: Upload) -> None:
        """AbortMultipartUpload."""
        try:
            await self.transport.send(Operation.ABORT, upload.place, query=wire.query(uploadId=upload.upload_id))
        except NotFound as error:
            if error.code not in ("NoSuchUpload", "NotFound"):
                raise

    async def list_objects(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectsV2."""
        token = after.token if after else None
        start = after.key if after and after.key and not token else None
        query = wire.query(**_listing(prefix, delimiter, max_keys), continuation_token=token, start_after=start)
        return await self._page(Operation.LIST_OBJECTS, bucket, query, after)

    async def list_versions(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectVersions."""
        key, version_id = (after.key, after.version_id) if after else (None, None)
        query = wire.query(**_listing(prefix, delimiter, max_keys), key_marker=key, version_id_marker=version_id)
        return await self._page(Operation.LIST_VERSIONS, bucket, query, after)

    async def is_versioned(self, bucket: str) -> bool:
        """GetBucketVersioning."""
        return await self._ask(Operation.GET_VERSIONING, ObjectRef(bucket, ""), wire.parse_versioning)

    async def close(self) -> None:
        """Release the connections."""
        self.transport.close()

    def _proofs(self, data: bytes, checksum: Checksum | None) -> wire.Pairs:
        return wire.body_headers(data, checksum if self._sends_checksums else None)

    async def _page(self, operation: Operation, bucket: str, query: str, after: Marker | None) -> Page:
        parse = partial(parse_page, operation=operation, after=after)
        return await self._ask(operation, ObjectRef(bucket, ""), parse, query=query)

    async def _ask(self, operation: Operation, place: ObjectRef, parse: Callable[[bytes], T], **request: Any) -> T:
        return _parsed(operation, place, await self.transport.send(operation, place, **request), parse)


def _query(ref: ObjectRef, **more: int | None) -> str:
    return wire.query(versionId=ref.version_id, **more)


def _listing(prefix: str, delimiter: str, max_keys: int) -> dict[str, str | int | None]:
    return {"encoding_type": "url", "max_keys": max_keys, "prefix": prefix or None, "delimiter": delimiter or None}


def _written(operation: Operation, place: ObjectRef, answer: Response, source: ObjectRef | None = None) -> Written:
    """What the answer to a write says, with its ETag. `source`: of a copy."""
    if source is not None:
        check_copied_version(operation, source, place, answer)
    return _parsed(operation, place, answer, partial(wire.parse_written, operation, answer.headers))


def _parsed(operation: Operation, place: ObjectRef, answer: Response, parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of the answer's body. Raises Unavailable for what S3 does not send."""
    try:
        return parse(answer.body)
    except wire.Malformed as error:
        raise Unavailable(operation, str(place), "MalformedAnswer", str(error), answer.status) from error
