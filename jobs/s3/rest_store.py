"""RestStore: the Store over S3's REST interface.

`jobs.s3.store` says what each method means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectRef
from jobs.errors import REFUSALS, ArchivedObject, Conflict, NoSuchBucket, NotFound, Rejected, StoreError, Unavailable
from jobs.s3 import wire
from jobs.s3.checksums import full_object
from jobs.s3.http.answers import MAX_BODY_BYTES, Response
from jobs.s3.http.transport import Transport
from jobs.s3.list_pages import check_advance, check_parts_advance, parse_page, parse_parts
from jobs.s3.read_checks import (
    Asked,
    check_annotated_version,
    check_copied_version,
    check_tagged_version,
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
    Written,
)

T = TypeVar("T")

_WITH_CHECKSUMS = ("x-amz-checksum-mode", "ENABLED")


class RestStore:
    """S3 through `transport`. Satisfies `Store`.

    Safe for many requests at once on one event loop at a time. Responses that are no S3 answers
    raise Unavailable with the code `MalformedAnswer`.
    """

    def __init__(self, transport: Transport):
        self.transport = transport
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
            answer = await self.transport.send("HeadObject", "HEAD", ref, query=query, headers=[_WITH_CHECKSUMS])
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
        headers, asked, content_bytes = [_WITH_CHECKSUMS], Asked(start, end, if_match), MAX_BODY_BYTES
        if if_match is not None:
            headers.append(("If-Match", f'"{if_match}"'))
        if asked.is_ranged:
            if end is not None and end <= start:  # S3 would ignore such a range and send everything
                raise Rejected("GetObject", str(ref), "InvalidRange", f"bytes {start} to {end} are none", 416)
            headers.append(("Range", f"bytes={start}-{'' if end is None else end - 1}"))
            content_bytes = MAX_BODY_BYTES if end is None else end - start
        answer = await self.transport.send(
            "GetObject", "GET", ref, query=_query(ref), headers=headers, content_bytes=content_bytes
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
        headers = wire.attribute_headers(attributes) + wire.guard_headers(guard)
        headers += wire.body_headers(data, checksum)
        answer = await self.transport.send("PutObject", "PUT", ObjectRef(bucket, key), headers=headers, body=data)
        return _written("PutObject", ObjectRef(bucket, key), answer)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, bucket: str, key: str, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject."""
        headers = [("x-amz-copy-source", wire.copy_source(source))]
        if source_etag is not None:
            headers.append(("x-amz-copy-source-if-match", f'"{source_etag}"'))
        headers += wire.guard_headers(guard) + wire.settings_headers(settings)
        place = ObjectRef(bucket, key)
        answer = await self.transport.send("CopyObject", "PUT", place, headers=headers, source=source)
        check_copied_version("CopyObject", source, place, answer)
        return _result("CopyObject", place, answer)

    async def get_tags(self, ref: ObjectRef) -> Mapping[str, str]:
        """GetObjectTagging."""
        query = "&".join(filter(None, ("tagging", _query(ref))))
        answer = await self.transport.send("GetObjectTagging", "GET", ref, query=query)
        check_tagged_version("GetObjectTagging", ref, answer)
        return _parsed("GetObjectTagging", ref, answer, wire.parse_tags)

    async def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        """ListObjectAnnotations."""
        operation = "ListObjectAnnotations"
        more = wire.query(versionId=ref.version_id, continuation_token=token)
        answer = await self.transport.send(operation, "GET", ref, query="&".join(filter(None, ("annotation", more))))
        check_annotated_version(operation, ref, answer)
        return _parsed(operation, ref, answer, wire.parse_annotations)

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        """GetObjectAnnotation."""
        query = f"annotation&{wire.query(annotationName=name, versionId=ref.version_id)}"
        answer = await self.transport.send(
            "GetObjectAnnotation",
            "GET",
            ref,
            query=query,
            headers=[_WITH_CHECKSUMS],
            content_bytes=ANNOTATION_BYTES,
        )
        return received_annotation(ref, answer)

    async def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        """PutObjectAnnotation."""
        operation = "PutObjectAnnotation"
        query = f"annotation&{wire.query(annotationName=name, versionId=ref.version_id)}"
        headers = [("x-amz-object-if-match", f'"{object_etag}"'), *wire.body_headers(text, None)]
        answer = await self.transport.send(operation, "PUT", ref, query=query, headers=headers, body=text)
        check_annotated_version(operation, ref, answer)
        _parsed(operation, ref, answer, wire.check_annotated)

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
        ref = ObjectRef(bucket, key, version_id)
        headers = wire.guard_headers(Guard(etag=if_match))
        answer = await self.transport.send(
            "DeleteObject", "DELETE", ref, query=_query(ref), headers=headers, send_by=send_by
        )
        _parsed("DeleteObject", ref, answer, wire.demand_no_document)
        is_delete_marker = answer.headers.get("x-amz-delete-marker") == "true"
        return Deleted(answer.headers.get("x-amz-version-id"), is_delete_marker)

    async def delete_versions(
        self, bucket: str, versions: Sequence[tuple[str, str]], *, send_by: float | None = None
    ) -> list[StoreError | None]:
        """DeleteObjects. Keys that no XML can hold are deleted one by one."""
        place = ObjectRef(bucket, "")
        answers: dict[tuple[str, str], StoreError | None] = {}
        spelled = [each for each in versions if wire.is_xml_text(each[0])]
        if spelled:
            body = wire.delete_body(spelled)
            headers = [("Content-Type", "application/xml"), *wire.checksum_headers(full_object("SHA256", body))]
            answer = await self.transport.send(
                "DeleteObjects", "POST", place, query="delete=", headers=headers, body=body, send_by=send_by
            )
            answers = _parsed("DeleteObjects", place, answer, partial(wire.parse_deletions, bucket=bucket))
        for key, version_id in versions:
            if not wire.is_xml_text(key):
                answers[key, version_id] = await self._delete_one(bucket, key, version_id, send_by)
        silence = Unavailable("DeleteObjects", str(place), "MalformedAnswer", "the answer leaves it out", 200)
        return [answers.get(each, silence) for each in versions]

    async def _delete_one(self, bucket: str, key: str, version_id: str, send_by: float | None) -> StoreError | None:
        try:
            await self.delete(bucket, key, version_id=version_id, send_by=send_by)
        except StoreError as error:
            return None if wire.is_gone(error) else error
        return None

    async def request_restore(self, ref: ObjectRef, *, days: int | None, tier: str) -> Restoring:
        """RestoreObject."""
        operation, query = "RestoreObject", "&".join(filter(None, ("restore=", _query(ref))))
        headers = [("Content-Type", "application/xml")]
        body = wire.restore_body(days, tier)
        try:
            answer = await self.transport.send(operation, "POST", ref, query=query, headers=headers, body=body)
        except Conflict as error:
            if error.code != "RestoreAlreadyInProgress":
                raise
            return Restoring.UNDER_WAY
        except ArchivedObject as error:  # InvalidObjectState means here that there is nothing to restore
            raise error.recast(Rejected) from error
        _parsed(operation, ref, answer, wire.demand_no_document)
        return Restoring.REQUESTED if answer.status == 202 else Restoring.READY

    async def create_multipart(
        self,
        bucket: str,
        key: str,
        attributes: Attributes,
        *,
        checksum_algorithm: str | None = None,
        is_composite: bool = False,
    ) -> str:
        """CreateMultipartUpload."""
        headers = wire.attribute_headers(attributes)
        if checksum_algorithm:
            headers.append(("x-amz-checksum-algorithm", checksum_algorithm))
            headers.append(("x-amz-checksum-type", "COMPOSITE" if is_composite else "FULL_OBJECT"))
        place = ObjectRef(bucket, key)
        answer = await self.transport.send("CreateMultipartUpload", "POST", place, query="uploads=", headers=headers)
        return _parsed("CreateMultipartUpload", place, answer, wire.parse_upload_id)

    async def copy_part(
        self,
        source: ObjectRef,
        source_etag: str,
        start: int,
        end: int,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
    ) -> PartDone:
        """UploadPartCopy."""
        headers = [
            ("x-amz-copy-source", wire.copy_source(source)),
            ("x-amz-copy-source-range", f"bytes={start}-{end - 1}"),
            ("x-amz-copy-source-if-match", f'"{source_etag}"'),
        ]
        query = wire.query(partNumber=number, uploadId=upload_id)
        place = ObjectRef(bucket, key)
        answer = await self.transport.send("UploadPartCopy", "PUT", place, query=query, headers=headers, source=source)
        check_copied_version("UploadPartCopy", source, place, answer)
        result = _result("UploadPartCopy", place, answer)
        return PartDone(number, result.etag, result.checksums)

    async def put_part(
        self, bucket: str, key: str, upload_id: str, number: int, data: bytes, *, checksum: Checksum | None = None
    ) -> PartDone:
        """UploadPart."""
        query = wire.query(partNumber=number, uploadId=upload_id)
        headers = wire.body_headers(data, checksum)
        place = ObjectRef(bucket, key)
        answer = await self.transport.send("UploadPart", "PUT", place, query=query, headers=headers, body=data)
        result = _written("UploadPart", place, answer)
        return PartDone(number, result.etag, result.checksums or ((checksum,) if checksum else ()))

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartDone],
        *,
        guard: Guard,
        checksum: Checksum | None = None,
    ) -> Written:
        """CompleteMultipartUpload."""
        headers = wire.guard_headers(guard)
        if checksum:
            headers.append((f"x-amz-checksum-{checksum.algorithm.lower()}", checksum.value))
            headers.append(("x-amz-checksum-type", "COMPOSITE" if checksum.is_composite else "FULL_OBJECT"))
        headers.append(("Content-Type", "application/xml"))
        answer = await self.transport.send(
            "CompleteMultipartUpload",
            "POST",
            ObjectRef(bucket, key),
            query=wire.query(uploadId=upload_id),
            headers=headers,
            body=wire.complete_body(parts),
        )
        return _result("CompleteMultipartUpload", ObjectRef(bucket, key), answer)

    async def list_parts(self, bucket: str, key: str, upload_id: str, *, after: int = 0) -> PartPage:
        """ListParts."""
        place = ObjectRef(bucket, key)
        query = wire.query(uploadId=upload_id, part_number_marker=after or None)
        answer = await self.transport.send("ListParts", "GET", place, query=query)

        def parse(body: bytes) -> PartPage:
            page = parse_parts(body)
            check_parts_advance(page, after)
            return page

        return _parsed("ListParts", place, answer, parse)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """AbortMultipartUpload."""
        query = wire.query(uploadId=upload_id)
        try:
            await self.transport.send("AbortMultipartUpload", "DELETE", ObjectRef(bucket, key), query=query)
        except NotFound as error:
            if error.code not in ("NoSuchUpload", "NotFound"):
                raise

    async def list_objects(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectsV2."""
        token = after.token if after else None
        query = wire.query(
            list_type=2,
            encoding_type="url",
            max_keys=max_keys,
            prefix=prefix or None,
            delimiter=delimiter or None,
            continuation_token=token,
            start_after=after.key if after and after.key and not token else None,
        )
        return await self._page("ListObjectsV2", bucket, query, after)

    async def list_versions(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectVersions."""
        query = wire.query(
            versions="",
            encoding_type="url",
            max_keys=max_keys,
            prefix=prefix or None,
            delimiter=delimiter or None,
            key_marker=after.key if after else None,
            version_id_marker=after.version_id if after else None,
        )
        return await self._page("ListObjectVersions", bucket, query, after)

    async def is_versioned(self, bucket: str) -> bool:
        """GetBucketVersioning."""
        place = ObjectRef(bucket, "")
        answer = await self.transport.send("GetBucketVersioning", "GET", place, query="versioning=")
        return _parsed("GetBucketVersioning", place, answer, wire.parse_versioning)

    async def close(self) -> None:
        """Release the connections."""
        self.transport.close()

    async def _page(self, operation: str, bucket: str, query: str, after: Marker | None) -> Page:
        place = ObjectRef(bucket, "")
        answer = await self.transport.send(operation, "GET", place, query=query)

        def parse(body: bytes) -> Page:
            page = parse_page(body, is_versions=operation == "ListObjectVersions")
            check_advance(page, after)
            return page

        return _parsed(operation, place, answer, parse)


def _query(ref: ObjectRef, **more: int | None) -> str:
    return wire.query(versionId=ref.version_id, **more)


def _result(operation: str, place: ObjectRef, answer: Response) -> Written:
    return _parsed(operation, place, answer, partial(wire.parse_result, operation, answer.headers))


def _written(operation: str, place: ObjectRef, answer: Response) -> Written:
    return _parsed(operation, place, answer, partial(wire.written, answer.headers))


def _parsed(operation: str, place: ObjectRef, answer: Response, parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of the answer's body. Raises Unavailable for what S3 does not send."""
    try:
        return parse(answer.body)
    except wire.Malformed as error:
        raise Unavailable(operation, str(place), "MalformedAnswer", str(error), answer.status) from error
