"""BotocoreStore: the Store on botocore's client, whose calls run in threads.

`jobs.s3.store` says what each method means.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectRef
from jobs.core.pace import backoff_seconds
from jobs.errors import (
    ArchivedObject,
    AuthenticationFailed,
    Conflict,
    Denied,
    NotFound,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.s3 import wire
from jobs.s3.botocore_store import answers, parameters
from jobs.s3.botocore_store.client import extra_headers
from jobs.s3.botocore_store.failures import failure, is_bare
from jobs.s3.http.answers import MAX_BODY_BYTES
from jobs.s3.http.endpoints import Endpoint
from jobs.s3.http.failures import SIGNATURE, explain, with_advice
from jobs.s3.http.part_files import Content
from jobs.s3.http.signing import Credentials
from jobs.s3.http.transport import ERROR_BYTES
from jobs.s3.list_pages import check_advance, check_parts_advance
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

THREADS_MAX = 64
_WITH_CHECKSUMS = {"x-amz-checksum-mode": "ENABLED"}
_PLAINEST = "GetBucketVersioning"
_BREAKS = re.compile("[\r\n\0]")

T = TypeVar("T")


class BotocoreStore:
    """S3 through botocore's `client`. Satisfies `Store`.

    Each call occupies a thread until its answer is there. A request whose caller is cancelled
    still waits for its answer, since a thread cannot be stopped. `tries`: how often a body that
    breaks off is read. botocore retries everything else by itself. `acl`: the canned ACL of all
    that it writes. `credentials`: have the access key that a message names.
    """

    def __init__(
        self,
        client: Any,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials],
        *,
        max_in_flight: int,
        tries: int = 1,
        acl: str | None = None,
    ):
        self._client, self._endpoint, self._credentials, self._tries = client, endpoint, credentials, tries
        self._calls = {name: getattr(client, method) for method, name in client.meta.method_to_api_mapping.items()}
        self._threads = ThreadPoolExecutor(min(max_in_flight, THREADS_MAX), "botocore")
        self._acl = {"ACL": acl} if acl else {}
        self._is_closed = False
        client.meta.events.register_first("before-send.s3", self._check_open)

    @property
    def heeds_conditions(self) -> bool:
        """Whether conditional writes are known to hold: at AWS's own endpoints."""
        return self._endpoint.is_aws

    @property
    def keeps_annotations(self) -> bool:
        """See `Store`. True at AWS's own endpoints of most regions."""
        return self._endpoint.keeps_annotations

    def region_of(self, bucket: str) -> str | None:
        """None: botocore follows S3's directions by itself, and does not say to where."""
        return None

    async def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        """HeadObject."""
        part = {} if part_number is None else {"PartNumber": part_number}

        def read(answer: answers.Answer) -> ObjectInfo:
            described(ref, answers.response(answer))
            return answers.object_info(answer)

        return await self._ask("HeadObject", ref, parameters.place(ref) | part, read, headers=_WITH_CHECKSUMS)

    async def get(self, ref: ObjectRef, *, start: int = 0, end: int | None = None, if_match: str | None = None) -> Body:
        """GetObject, the whole body in memory."""
        asked, values = Asked(start, end, if_match), parameters.place(ref)
        if if_match is not None:
            values["IfMatch"] = f'"{if_match}"'
        if asked.is_ranged:
            if end is not None and end <= start:  # S3 would ignore such a range and send everything
                raise Rejected("GetObject", str(ref), "InvalidRange", f"bytes {start} to {end} are none", 416)
            values["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        bytes_max = MAX_BODY_BYTES if end is None else end - start

        def read(answer: answers.Answer) -> Body:
            with contextlib.closing(answer["Body"]) as stream:
                if (answer.get("ContentLength") or 0) > max(bytes_max, ERROR_BYTES):
                    message = f"a body of {answer['ContentLength']} bytes, at most {bytes_max} were asked for"
                    raise Unavailable("GetObject", str(ref), "AnswerTooLarge", message)
                data = stream.read()
            answers.check_whole(ref, answer)
            body = received(ref, asked, answers.response(answer, data))
            return Body(body.data, replace(answers.object_info(answer), size_bytes=body.info.size_bytes))

        for attempt in range(1, self._tries + 1):
            try:
                return await self._ask("GetObject", ref, values, read, headers=_WITH_CHECKSUMS)
            except Unavailable as error:
                if error.code != "IncompleteBody" or attempt == self._tries:
                    raise
            await asyncio.sleep(backoff_seconds(attempt, random.random()))
        raise AssertionError("a store that never tries")

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
        place, carried = ObjectRef(bucket, key), parameters.attributes(attributes)
        values = parameters.place(place) | carried.values | parameters.guard(guard) | self._acl
        values |= parameters.body(data, checksum)
        return await self._ask("PutObject", place, values, answers.put, headers=carried.headers)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, bucket: str, key: str, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject."""
        place = ObjectRef(bucket, key)
        values = parameters.place(place) | parameters.copy_source(source, source_etag)
        values |= parameters.guard(guard) | parameters.settings(settings) | self._acl

        def read(answer: answers.Answer) -> Written:
            check_copied_version("CopyObject", source, place, answers.response(answer))
            return _result(answer, "CopyObjectResult")

        return await self._ask("CopyObject", place, values, read)

    async def get_tags(self, ref: ObjectRef) -> Mapping[str, str]:
        """GetObjectTagging."""

        def read(answer: answers.Answer) -> Mapping[str, str]:
            check_tagged_version("GetObjectTagging", ref, answers.response(answer))
            return {tag.get("Key") or "": tag.get("Value") or "" for tag in answer.get("TagSet") or ()}

        return await self._ask("GetObjectTagging", ref, parameters.place(ref), read)

    async def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        """ListObjectAnnotations."""
        operation = "ListObjectAnnotations"

        def read(answer: answers.Answer) -> AnnotationPage:
            check_annotated_version(operation, ref, answers.response(answer))
            return answers.annotations_page(answer)

        values = parameters.place(ref) | ({} if token is None else {"ContinuationToken": token})
        return await self._ask(operation, ref, values, read)

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        """GetObjectAnnotation."""
        operation = "GetObjectAnnotation"

        def read(answer: answers.Answer) -> bytes:
            with contextlib.closing(answer["AnnotationPayload"]) as stream:
                if (answer.get("ContentLength") or 0) > max(ANNOTATION_BYTES, ERROR_BYTES):
                    message = f"a body of {answer['ContentLength']} bytes, at most {ANNOTATION_BYTES} were asked for"
                    raise Unavailable(operation, str(ref), "AnswerTooLarge", message)
                return received_annotation(ref, answers.response(answer, stream.read()))

        values = parameters.place(ref) | {"AnnotationName": name}
        return await self._ask(operation, ref, values, read, headers=_WITH_CHECKSUMS)

    async def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        """PutObjectAnnotation."""
        operation = "PutObjectAnnotation"

        def read(answer: answers.Answer) -> None:
            check_annotated_version(operation, ref, answers.response(answer))

        values = parameters.place(ref) | {
            "AnnotationName": name,
            "AnnotationPayload": text,
            "ContentMD5": wire.content_md5(text),
            "ObjectIfMatch": f'"{object_etag}"',
        }
        await self._ask(operation, ref, values, read)

    async def delete(
        self, bucket: str, key: str, *, version_id: str | None = None, if_match: str | None = None
    ) -> Deleted:
        """DeleteObject."""
        ref = ObjectRef(bucket, key, version_id)
        values = parameters.place(ref) | parameters.guard(Guard(etag=if_match))

        def read(answer: answers.Answer) -> Deleted:
            return Deleted(answer.get("VersionId"), answer.get("DeleteMarker") is True)

        return await self._ask("DeleteObject", ref, values, read)

    async def delete_versions(self, bucket: str, versions: Sequence[tuple[str, str]]) -> list[StoreError | None]:
        """DeleteObjects. Keys that no XML can hold are deleted one by one."""
        place = ObjectRef(bucket, "")
        results: dict[tuple[str, str], StoreError | None] = {}
        objects = [{"Key": key, "VersionId": version} for key, version in versions if wire.is_xml_text(key)]
        if objects:
            values = {"Bucket": bucket, "Delete": {"Objects": objects}, "ChecksumAlgorithm": "SHA256"}
            results = await self._ask("DeleteObjects", place, values, partial(_deletions, bucket))
        for key, version_id in versions:
            if not wire.is_xml_text(key):
                results[key, version_id] = await self._delete_one(bucket, key, version_id)
        silence = Unavailable("DeleteObjects", str(place), "MalformedAnswer", "the answer leaves it out", 200)
        return [results.get(each, silence) for each in versions]

    async def _delete_one(self, bucket: str, key: str, version_id: str) -> StoreError | None:
        try:
            await self.delete(bucket, key, version_id=version_id)
        except StoreError as error:
            return None if wire.is_gone(error) else error
        return None

    async def request_restore(self, ref: ObjectRef, *, days: int | None, tier: str) -> Restoring:
        """RestoreObject."""
        request: dict[str, Any] = {"GlacierJobParameters": {"Tier": tier}}
        if days is not None:
            request["Days"] = days

        def read(answer: answers.Answer) -> Restoring:
            is_new = answer["ResponseMetadata"]["HTTPStatusCode"] == 202
            return Restoring.REQUESTED if is_new else Restoring.READY

        try:
            return await self._ask("RestoreObject", ref, parameters.place(ref) | {"RestoreRequest": request}, read)
        except Conflict as error:
            if error.code != "RestoreAlreadyInProgress":
                raise
            return Restoring.UNDER_WAY
        except ArchivedObject as error:  # InvalidObjectState means here that there is nothing to restore
            raise error.recast(Rejected) from error

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
        place, carried = ObjectRef(bucket, key), parameters.attributes(attributes)
        values = parameters.place(place) | carried.values | self._acl
        if checksum_algorithm:
            kind = "COMPOSITE" if is_composite else "FULL_OBJECT"
            values |= {"ChecksumAlgorithm": checksum_algorithm, "ChecksumType": kind}

        def read(answer: answers.Answer) -> str:
            upload_id: str = answer.get("UploadId") or ""
            if not upload_id:
                raise ValueError("no UploadId in the answer")
            return upload_id

        return await self._ask("CreateMultipartUpload", place, values, read, headers=carried.headers)

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
        place = ObjectRef(bucket, key)
        values = parameters.place(place) | parameters.copy_source(source, source_etag)
        values |= {"CopySourceRange": f"bytes={start}-{end - 1}", "UploadId": upload_id, "PartNumber": number}

        def read(answer: answers.Answer) -> PartDone:
            check_copied_version("UploadPartCopy", source, place, answers.response(answer))
            result = _result(answer, "CopyPartResult")
            return PartDone(number, result.etag, result.checksums)

        return await self._ask("UploadPartCopy", place, values, read)

    async def put_part(
        self, bucket: str, key: str, upload_id: str, number: int, data: Content, *, checksum: Checksum | None = None
    ) -> PartDone:
        """UploadPart."""
        place = ObjectRef(bucket, key)
        values = parameters.place(place) | {"UploadId": upload_id, "PartNumber": number}

        def read(answer: answers.Answer) -> PartDone:
            result = answers.put(answer)
            return PartDone(number, result.etag, result.checksums or ((checksum,) if checksum else ()))

        return await self._ask("UploadPart", place, values | parameters.body(data, checksum), read)

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
        place = ObjectRef(bucket, key)
        listed = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
            | {f"Checksum{each.algorithm}": each.value for each in part.checksums}
            for part in sorted(parts, key=lambda part: part.number)
        ]
        values = parameters.place(place) | parameters.guard(guard)
        values |= {"UploadId": upload_id, "MultipartUpload": {"Parts": listed}}
        if checksum:
            kind = "COMPOSITE" if checksum.is_composite else "FULL_OBJECT"
            values |= {f"Checksum{checksum.algorithm}": checksum.value, "ChecksumType": kind}
        return await self._ask("CompleteMultipartUpload", place, values, _result)

    async def list_parts(self, bucket: str, key: str, upload_id: str, *, after: int = 0) -> PartPage:
        """ListParts."""
        place = ObjectRef(bucket, key)
        values = parameters.place(place) | {"UploadId": upload_id}

        def read(answer: answers.Answer) -> PartPage:
            page = answers.parts_page(answer)
            try:
                check_parts_advance(page, after)
            except wire.Malformed as error:
                raise ValueError(str(error)) from error
            return page

        return await self._ask("ListParts", place, values | ({"PartNumberMarker": after} if after else {}), read)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """AbortMultipartUpload."""
        place = ObjectRef(bucket, key)
        try:
            await self._ask(
                "AbortMultipartUpload", place, parameters.place(place) | {"UploadId": upload_id}, lambda _: None
            )
        except NotFound as error:
            if error.code not in ("NoSuchUpload", "NotFound"):
                raise

    async def list_objects(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectsV2."""
        token = after.token if after else None
        values = {
            "Prefix": prefix,
            "Delimiter": delimiter,
            "ContinuationToken": token,
            "StartAfter": after.key if after and not token else None,
        }
        return await self._list("ListObjectsV2", bucket, values, max_keys, after, answers.objects_page)

    async def list_versions(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectVersions."""
        values = {
            "Prefix": prefix,
            "Delimiter": delimiter,
            "KeyMarker": after.key if after else None,
            "VersionIdMarker": after.version_id if after else None,
        }
        return await self._list("ListObjectVersions", bucket, values, max_keys, after, answers.versions_page)

    async def is_versioned(self, bucket: str) -> bool:
        """GetBucketVersioning."""
        place = ObjectRef(bucket, "")
        return await self._ask(
            "GetBucketVersioning", place, {"Bucket": bucket}, lambda answer: answer.get("Status") == "Enabled"
        )

    async def close(self) -> None:
        """Release the connections. A thread ends with its request, which is not sent again."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _check_open(self, **_: Any) -> None:
        """Raises ConnectionAbortedError instead of sending a request once more: nobody waits for it."""
        if self._is_closed:
            raise ConnectionAbortedError("the store is closed")

    async def _list(
        self,
        operation: str,
        bucket: str,
        values: Mapping[str, str | None],
        max_keys: int,
        after: Marker | None,
        read: Callable[[answers.Answer], Page],
    ) -> Page:
        def read_page(answer: answers.Answer) -> Page:
            page = read(answer)
            try:
                check_advance(page, after)
            except wire.Malformed as error:
                raise ValueError(str(error)) from error
            return page

        given = {name: value for name, value in values.items() if value}
        place = ObjectRef(bucket, "")
        return await self._ask(operation, place, {"Bucket": bucket, "MaxKeys": max_keys, **given}, read_page)

    async def _ask(
        self,
        operation: str,
        place: ObjectRef,
        values: Mapping[str, Any],
        read: Callable[[answers.Answer], T],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Call botocore in a thread, and read its answer there. Raises StoreError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, partial(self._call, operation, place, values, read, headers or {})
        )

    def _call(
        self,
        operation: str,
        place: ObjectRef,
        values: Mapping[str, Any],
        read: Callable[[answers.Answer], T],
        headers: Mapping[str, str],
    ) -> T:
        """Send a request, and find out what its failure means. Runs in a thread. Raises StoreError."""
        try:
            return self._send(operation, place, values, read, headers)
        except AuthenticationFailed as error:
            raise self._judge(error, place) from error
        except StoreError as error:
            if not is_bare(error):
                raise
            explained = self._explain(error, place)
            if explained is not None:
                raise explained from error
        return self._send(operation, place, values, read, headers)

    def _send(
        self,
        operation: str,
        place: ObjectRef,
        values: Mapping[str, Any],
        read: Callable[[answers.Answer], T],
        headers: Mapping[str, str],
    ) -> T:
        try:
            self._check_breaks(operation, place, values, headers)
            with extra_headers(headers):
                answer = self._calls[operation](**values)
            return read(answer)
        except StoreError:
            raise
        except Exception as error:  # botocore and urllib3 raise errors without a common base
            raise failure(operation, place, error, self._client.meta.region_name, self._endpoint) from error

    def _explain(self, bare: StoreError, place: ObjectRef) -> StoreError | None:
        """Find the code of a refused HEAD, whose answer has no body, by a GET of one byte."""
        values = parameters.place(place) | {"Range": "bytes=0-0"}
        try:
            self._call("GetObject", place, values, lambda answer: answer["Body"].close(), {})
        except StoreError as answer:
            return explain(bare, answer)
        return explain(bare, None)

    def _judge(self, error: AuthenticationFailed, place: ObjectRef) -> StoreError:
        """The same error, with what to do about it. Denied if S3 accepts the secret key: then the
        signature of this key or these headers is in doubt.
        """
        if error.code == SIGNATURE and error.operation != _PLAINEST and self._is_accepted(place):
            return error.recast(Denied)
        if error.code == "NoCredentials":
            return error
        return with_advice(error, self._credentials().access_key, self._endpoint)

    def _is_accepted(self, place: ObjectRef) -> bool:
        """Whether S3 accepts the signature of a plain request. Raises Unavailable."""
        bucket = ObjectRef(place.bucket, "")
        try:
            self._send(_PLAINEST, bucket, {"Bucket": place.bucket}, lambda _: None, {})
        except Unavailable:
            raise
        except StoreError as error:
            return not isinstance(error, AuthenticationFailed)
        return True

    def _check_breaks(
        self, operation: str, place: ObjectRef, values: Mapping[str, Any], headers: Mapping[str, str]
    ) -> None:
        """No header may end its line: what follows would be a header of another's choice."""
        members = self._client.meta.service_model.operation_model(operation).input_shape.members
        texts = [*headers.items(), *(values.get("Metadata") or {}).items()]
        texts += [
            (name, value)
            for name, value in values.items()
            if isinstance(value, str) and members[name].serialization.get("location") == "header"
        ]
        for name, value in texts:
            if _BREAKS.search(name) or _BREAKS.search(value):
                raise Rejected(operation, str(place), "InvalidHeader", f"{name!r} has a line break or NUL in it", 400)


def _result(answer: answers.Answer, member: str | None = None) -> Written:
    """The answer to a write that names the ETag in its body. Raises ValueError if it does not."""
    written = answers.written(answer, None if member is None else answer.get(member) or {})
    if not written.etag:
        raise ValueError("no ETag in the answer")
    return written


def _deletions(bucket: str, answer: answers.Answer) -> dict[tuple[str, str], StoreError | None]:
    """(Key, version id) → why it was not deleted, None when it was."""
    results: dict[tuple[str, str], StoreError | None] = {}
    for each in answer.get("Deleted") or ():
        version_id = wire.deleted_version(each.get("VersionId") or "", each.get("DeleteMarkerVersionId") or "")
        results[each.get("Key") or "", version_id] = None
    for each in answer.get("Errors") or ():
        version_id = wire.deleted_version(each.get("VersionId") or "", "")
        ref = ObjectRef(bucket, each.get("Key") or "", version_id)
        results[ref.key, version_id] = wire.deletion_error(ref, each.get("Code") or "", each.get("Message") or "")
    return results
