"""One contract for every Store: memory, moto's server, SeaweedFS.

What S3 documents is what a check demands. Where a double does otherwise it stands in DEVIATIONS, and
the check must fail there: a double that was mended makes this suite fail until its line is removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import unicodedata
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from jobs.core.model import Attributes, Listed, ObjectLock, ObjectRef
from jobs.errors import ArchivedObject, Denied, NotFound, PreconditionFailed, Rejected, StoreError, Unavailable
from jobs.s3 import checksums
from jobs.s3.memory import MemoryStore
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard, Marker, PartDone, Restoring, Store
from tests.servers import Server

# (check, store) or (check, store, case) → what the double does instead.
DEVIATIONS: dict[tuple[str, ...], str] = {
    ("copy_absent_refuses_an_existing_key", "moto"): "ignores If-None-Match on CopyObject",
    ("copy_with_an_etag_replaces_that_object_only", "moto"): "ignores If-Match on CopyObject",
    ("complete_with_an_etag_replaces_that_object_only", "moto"): "ignores If-Match on CompleteMultipartUpload",
    ("copy_refuses_a_source_that_has_moved_on", "moto"): "ignores x-amz-copy-source-if-match",
    ("copy_part_refuses_a_source_that_has_moved_on", "moto"): "ignores x-amz-copy-source-if-match",
    ("put_refuses_a_wrong_checksum", "moto"): "takes any checksum",
    ("put_part_refuses_a_wrong_checksum", "moto"): "takes any checksum",
    ("multipart_refuses_a_wrong_full_object_checksum", "moto"): "takes any checksum",
    ("multipart_makes_a_composite_checksum", "moto"): "the value lacks -N",
    ("multipart_makes_a_full_object_checksum", "moto", "CRC32C"): "a value of its own",
    ("copy_of_a_multipart_object_has_one_part", "moto"): "the checksum stays composite",
    ("a_website_redirect_is_put_but_never_copied", "moto"): "copies it",
    ("object_lock_is_set_told_and_kept", "moto"): "asks for a Content-MD5 of a copy",
    ("versions_are_listed_newest_first", "moto"): "all versions of the page, then its delete markers",
    ("a_delete_marker_hides_the_object", "moto"): "does not say that what it deleted was a delete marker",
    ("a_delete_marker_can_be_made_for_a_key_that_never_was", "moto"): "makes none",
    ("an_odd_key_makes_the_round_trip", "moto", "line\nbreak"): "404 for a line feed",
    ("an_odd_key_makes_the_round_trip", "moto", "tab\tand\x01control\x7f"): "lists versions without encoding-type",
    ("versions_are_deleted_together_and_exactly", "moto", "line\nbreak"): "404 for a line feed",
    ("versions_under_a_lock_are_told_from_those_deleted", "moto"): "does not say what it did not delete",
    ("a_key_of_more_than_1024_bytes_is_refused", "moto"): "takes it",
    ("an_aborted_upload_is_gone", "moto"): "500 instead of NoSuchUpload",
    ("a_part_for_no_upload_is_refused", "moto"): "500 instead of NoSuchUpload",
    ("put_with_an_etag_finds_no_key", "seaweedfs"): "412 instead of 404",
    ("a_bucket_that_is_not_there", "seaweedfs", "put"): "makes the bucket",
    ("a_bucket_that_is_not_there", "seaweedfs", "create_multipart"): "makes the bucket",
    ("copied_parts_have_their_md5_as_etag", "seaweedfs"): "an ETag of its own chunks",
    ("copy_of_a_multipart_object_has_one_part", "seaweedfs"): "keeps the multipart ETag and checksum",
    ("a_website_redirect_is_put_but_never_copied", "seaweedfs"): "drops it",
    ("copy_sets_the_storage_class", "seaweedfs"): "carries the source's class where S3 takes STANDARD",
    ("an_archived_object_cannot_be_read", "seaweedfs"): "GLACIER is only a name",
    ("a_restore_is_asked_for_once_and_may_be_asked_for_again", "seaweedfs"): "knows no RestoreObject",
    ("a_restore_of_what_is_not_archived_is_refused", "seaweedfs"): "404 for all of RestoreObject",
    ("object_lock_is_set_told_and_kept", "seaweedfs"): "drops the lock settings of a copy",
    ("head_tells_a_delete_marker_from_nothing", "seaweedfs"): "no x-amz-delete-marker",
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "/leading"): "drops the slash",
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "a//b"): "one slash",
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "a/../b"): "refuses it",
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "./dot"): "refuses it",
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "trailing/"): "a folder, without content",
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "back\\slash"): "a slash",
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "tab\tand\x01control\x7f"): "lists it as U+FFFD",
}

STORES = ("memory", "moto", "seaweedfs")
PLAIN = Attributes()
PART = 5 * 1024 * 1024
RICH = Attributes(
    headers={
        "content-type": "application/pdf",
        "cache-control": "max-age=60",
        "content-disposition": 'attachment; filename="a.pdf"',
        "content-language": "de",
        "content-encoding": "identity",
    },
    metadata={"shipment": "SL-1", "note": "a=b; c"},
    tags={"team": "ops/docs", "note": "a+b = c:d@e_f.g-h"},
)


@dataclass(frozen=True)
class Subject:
    """A store under test and how to make buckets there."""

    store: Store
    create_bucket: Callable[..., None]

    def bucket(self, *, versioned: bool = False, object_lock: bool = False) -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        self.create_bucket(name, versioned=versioned, object_lock=object_lock)
        return name

    async def put(self, bucket: str, key: str, data: bytes = b"content", attributes: Attributes = PLAIN) -> ObjectRef:
        """Write an object → its reference, with the version id if it got one."""
        written = await self.store.put(bucket, key, data, attributes, guard=UNGUARDED)
        return ObjectRef(bucket, key, written.version_id)

    async def read(self, bucket: str, key: str) -> bytes:
        return (await self.store.get(ObjectRef(bucket, key))).data

    async def upload(
        self, bucket: str, key: str, pieces: list[bytes], attributes: Attributes = PLAIN, algorithm: str | None = None
    ) -> tuple[str, list[PartDone]]:
        """Begin a multipart upload and upload the pieces."""
        upload_id = await self.store.create_multipart(
            bucket, key, attributes, checksum_algorithm=algorithm, is_composite=algorithm in ("SHA1", "SHA256")
        )
        parts = []
        for number, piece in enumerate(pieces, 1):
            checksum = checksums.full_object(algorithm, piece) if algorithm else None
            parts.append(await self.store.put_part(bucket, key, upload_id, number, piece, checksum=checksum))
        return upload_id, parts


Check = Callable[..., Awaitable[None]]


@pytest.fixture(scope="module")
def subjects(seaweed: Server, moto_server: Server) -> Iterator[dict[str, Subject]]:
    memory = MemoryStore()
    with mock.patch.dict(os.environ):
        yield {
            "memory": Subject(memory, memory.create_bucket),
            "moto": _subject_on(moto_server),
            "seaweedfs": _subject_on(seaweed),
        }


def _subject_on(server: Server) -> Subject:
    os.environ.update(server.environment())
    client = server.client()

    def create_bucket(name: str, *, versioned: bool, object_lock: bool) -> None:
        client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if object_lock else {}))
        if versioned or object_lock:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    return Subject(open_store(server.endpoint, None, None, max_in_flight=16), create_bucket)


def contract(*cases: Any) -> Callable[[Check], Callable[..., None]]:
    """A check becomes a test for each store, and for each case if there are any."""

    def decorate(check: Check) -> Callable[..., None]:
        def test(subjects: dict[str, Subject], store: str, case: Any) -> None:
            arguments = (subjects[store], case) if cases else (subjects[store],)
            name = check.__name__.removeprefix("test_")
            case_id = case if isinstance(case, str) else repr(case)
            deviation = DEVIATIONS.get((name, store)) or DEVIATIONS.get((name, store, case_id))
            if deviation is None:
                asyncio.run(_run(check, arguments))
                return
            with pytest.raises((AssertionError, StoreError, pytest.fail.Exception)):
                asyncio.run(_run(check, arguments))

        test.__doc__ = inspect.getdoc(check)
        parametrized = pytest.mark.parametrize("case", cases or [None], ids=_case_id)(test)
        return pytest.mark.parametrize("store", STORES)(parametrized)

    return decorate


async def _run(check: Check, arguments: tuple[Any, ...]) -> None:
    await check(*arguments)


def _case_id(case: Any) -> str:
    text = "-" if case is None else str(case)
    return text.encode("unicode_escape").decode()[:40]


# --- guards ---------------------------------------------------------------------------------------------------------


@contract()
async def test_put_absent_refuses_an_existing_key(s: Subject) -> None:
    bucket = s.bucket()
    await s.store.put(bucket, "k", b"first", PLAIN, guard=ABSENT)
    with pytest.raises(PreconditionFailed):
        await s.store.put(bucket, "k", b"second", PLAIN, guard=ABSENT)
    assert await s.read(bucket, "k") == b"first"


@contract()
async def test_put_absent_lets_one_of_many_win(s: Subject) -> None:
    bucket = s.bucket()
    bodies = [f"writer {n}".encode() for n in range(8)]
    puts = [s.store.put(bucket, "k", body, PLAIN, guard=ABSENT) for body in bodies]
    results = await asyncio.gather(*puts, return_exceptions=True)
    winners = [body for body, result in zip(bodies, results, strict=True) if not isinstance(result, BaseException)]
    assert len(winners) == 1
    assert await s.read(bucket, "k") == winners[0]
    assert all(isinstance(r, StoreError) for r in results if isinstance(r, BaseException))


@contract()
async def test_put_absent_succeeds_over_a_delete_marker(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    await s.put(bucket, "k", b"old")
    await s.store.delete(bucket, "k")
    await s.store.put(bucket, "k", b"new", PLAIN, guard=ABSENT)
    assert await s.read(bucket, "k") == b"new"


@contract()
async def test_put_with_an_etag_replaces_that_object_only(s: Subject) -> None:
    bucket = s.bucket()
    first = await s.store.put(bucket, "k", b"first", PLAIN, guard=UNGUARDED)
    second = await s.store.put(bucket, "k", b"second", PLAIN, guard=Guard(etag=first.etag))
    with pytest.raises(PreconditionFailed):
        await s.store.put(bucket, "k", b"third", PLAIN, guard=Guard(etag=first.etag))
    assert (await s.store.head(ObjectRef(bucket, "k"))).etag == second.etag == _md5(b"second")


@contract()
async def test_put_with_an_etag_finds_no_key(s: Subject) -> None:
    bucket = s.bucket()
    with pytest.raises(NotFound):
        await s.store.put(bucket, "k", b"x", PLAIN, guard=Guard(etag=_md5(b"x")))


@contract()
async def test_copy_absent_refuses_an_existing_key(s: Subject) -> None:
    bucket = s.bucket()
    source = await s.put(bucket, "source", b"new")
    await s.put(bucket, "k", b"old")
    with pytest.raises(PreconditionFailed):
        await s.store.copy(source, None, bucket, "k", CopySettings(), guard=ABSENT)
    assert await s.read(bucket, "k") == b"old"
    await s.store.copy(source, None, bucket, "other", CopySettings(), guard=ABSENT)
    assert await s.read(bucket, "other") == b"new"


@contract()
async def test_copy_with_an_etag_replaces_that_object_only(s: Subject) -> None:
    bucket = s.bucket()
    source = await s.put(bucket, "source", b"new")
    await s.put(bucket, "k", b"old")
    with pytest.raises(PreconditionFailed):
        await s.store.copy(source, None, bucket, "k", CopySettings(), guard=Guard(etag=_md5(b"other")))
    assert await s.read(bucket, "k") == b"old"
    await s.store.copy(source, None, bucket, "k", CopySettings(), guard=Guard(etag=_md5(b"old")))
    assert await s.read(bucket, "k") == b"new"


@contract()
async def test_complete_absent_refuses_an_existing_key(s: Subject) -> None:
    bucket = s.bucket()
    upload_id, parts = await s.upload(bucket, "k", [b"multipart"])
    await s.put(bucket, "k", b"first")
    with pytest.raises(PreconditionFailed):
        await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT)
    assert await s.read(bucket, "k") == b"first"


@contract()
async def test_complete_with_an_etag_replaces_that_object_only(s: Subject) -> None:
    bucket = s.bucket()
    await s.put(bucket, "k", b"old")
    upload_id, parts = await s.upload(bucket, "k", [b"new"])
    with pytest.raises(PreconditionFailed):
        await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=Guard(etag=_md5(b"x")))
    upload_id, parts = await s.upload(bucket, "k", [b"new"])
    await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=Guard(etag=_md5(b"old")))
    assert await s.read(bucket, "k") == b"new"


# --- pinned reads ---------------------------------------------------------------------------------------------------


@contract()
async def test_copy_takes_the_version_it_names(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    first = await s.put(bucket, "k", b"first")
    await s.put(bucket, "k", b"second")
    written = await s.store.copy(first, _md5(b"first"), bucket, "copy", CopySettings(), guard=ABSENT)
    assert await s.read(bucket, "copy") == b"first"
    assert written.etag == _md5(b"first")
    assert written.version_id == (await s.store.head(ObjectRef(bucket, "copy"))).version_id


@contract()
async def test_copy_takes_the_null_version(s: Subject) -> None:
    bucket = s.bucket()
    await s.put(bucket, "k", b"first")
    await s.store.copy(ObjectRef(bucket, "k", "null"), None, bucket, "copy", CopySettings(), guard=ABSENT)
    assert await s.read(bucket, "copy") == b"first"


@contract()
async def test_copy_refuses_a_source_that_has_moved_on(s: Subject) -> None:
    bucket = s.bucket()
    source = await s.put(bucket, "k", b"first")
    await s.put(bucket, "k", b"second")
    with pytest.raises(PreconditionFailed):
        await s.store.copy(source, _md5(b"first"), bucket, "copy", CopySettings(), guard=UNGUARDED)
    with pytest.raises(NotFound):
        await s.store.head(ObjectRef(bucket, "copy"))


@contract()
async def test_copy_part_refuses_a_source_that_has_moved_on(s: Subject) -> None:
    bucket = s.bucket()
    source = await s.put(bucket, "k", b"first")
    await s.put(bucket, "k", b"second")
    upload_id, _ = await s.upload(bucket, "copy", [])
    with pytest.raises(PreconditionFailed):
        await s.store.copy_part(source, _md5(b"first"), 0, 5, bucket, "copy", upload_id, 1)


@contract()
async def test_copy_part_takes_its_range_of_its_version(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    data = os.urandom(PART) + b"the end"
    source = await s.put(bucket, "k", data)
    await s.put(bucket, "k", b"newer")
    upload_id, _ = await s.upload(bucket, "copy", [])
    ranges = [(1, 0, PART), (2, PART, len(data))]
    parts = [await s.store.copy_part(source, _md5(data), a, b, bucket, "copy", upload_id, n) for n, a, b in ranges]
    await s.store.complete_multipart(bucket, "copy", upload_id, parts, guard=ABSENT)
    assert await s.read(bucket, "copy") == data


@contract()
async def test_copied_parts_have_their_md5_as_etag(s: Subject) -> None:
    bucket = s.bucket()
    data = os.urandom(PART) + b"the end"
    source = await s.put(bucket, "k", data)
    upload_id, _ = await s.upload(bucket, "copy", [])
    part = await s.store.copy_part(source, _md5(data), 0, PART, bucket, "copy", upload_id, 1)
    assert part.etag == _md5(data[:PART])


@contract()
async def test_get_reads_ranges(s: Subject) -> None:
    bucket = s.bucket()
    ref = await s.put(bucket, "k", b"0123456789")
    for start, end, expected in [(0, 4, b"0123"), (4, 7, b"456"), (7, None, b"789"), (8, 50, b"89"), (9, 10, b"9")]:
        body = await s.store.get(ref, start=start, end=end)
        assert (body.data, body.info.size_bytes) == (expected, 10)
    whole = await s.store.get(ref)
    assert (whole.data, whole.info.etag) == (b"0123456789", _md5(b"0123456789"))


@contract((10, 12), (3, 3))
async def test_get_refuses_a_range_without_bytes(s: Subject, case: tuple[int, int]) -> None:
    bucket = s.bucket()
    ref = await s.put(bucket, "k", b"0123456789")
    with pytest.raises(Rejected):
        await s.store.get(ref, start=case[0], end=case[1])


@contract()
async def test_get_if_match(s: Subject) -> None:
    bucket = s.bucket()
    ref = await s.put(bucket, "k", b"content")
    assert (await s.store.get(ref, if_match=_md5(b"content"))).data == b"content"
    with pytest.raises(PreconditionFailed):
        await s.store.get(ref, if_match=_md5(b"other"))


@contract()
async def test_get_and_head_take_the_version_they_name(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    first = await s.put(bucket, "k", b"first")
    second = await s.put(bucket, "k", b"second!")
    assert first.version_id != second.version_id
    assert (await s.store.get(first)).data == b"first"
    info = await s.store.head(first)
    assert (info.size_bytes, info.version_id, info.etag) == (5, first.version_id, _md5(b"first"))
    assert (await s.store.head(ObjectRef(bucket, "k"))).version_id == second.version_id


# --- checksums ------------------------------------------------------------------------------------------------------


@contract("CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256")
async def test_put_keeps_a_checksum(s: Subject, case: str) -> None:
    bucket = s.bucket()
    checksum = checksums.full_object(case, b"content")
    await s.store.put(bucket, "k", b"content", PLAIN, guard=ABSENT, checksum=checksum)
    ref = ObjectRef(bucket, "k")
    assert (await s.store.head(ref)).checksums == (checksum,)
    assert (await s.store.get(ref)).info.checksums == (checksum,)


@contract("CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256")
async def test_put_refuses_a_wrong_checksum(s: Subject, case: str) -> None:
    bucket = s.bucket()
    with pytest.raises(Unavailable):
        await s.store.put(bucket, "k", b"x", PLAIN, guard=ABSENT, checksum=checksums.full_object(case, b"y"))
    with pytest.raises(NotFound):
        await s.store.head(ObjectRef(bucket, "k"))


@contract()
async def test_put_part_refuses_a_wrong_checksum(s: Subject) -> None:
    bucket = s.bucket()
    upload_id, _ = await s.upload(bucket, "k", [], algorithm="SHA256")
    with pytest.raises(Unavailable):
        await s.store.put_part(bucket, "k", upload_id, 1, b"x", checksum=checksums.full_object("SHA256", b"y"))


@contract("SHA256", "SHA1")
async def test_multipart_makes_a_composite_checksum(s: Subject, case: str) -> None:
    bucket = s.bucket()
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload(bucket, "k", pieces, algorithm=case)
    written = await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT)
    assert written.etag == _multipart_etag(pieces)
    assert (await s.store.head(ObjectRef(bucket, "k"))).checksums == (checksums.composite(case, pieces),)


@contract("CRC64NVME", "CRC32", "CRC32C")
async def test_multipart_makes_a_full_object_checksum(s: Subject, case: str) -> None:
    bucket = s.bucket()
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload(bucket, "k", pieces, algorithm=case)
    expected = checksums.full_object(case, b"".join(pieces))
    await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT, checksum=expected)
    assert (await s.store.head(ObjectRef(bucket, "k"))).checksums == (expected,)


@contract()
async def test_multipart_refuses_a_wrong_full_object_checksum(s: Subject) -> None:
    bucket = s.bucket()
    upload_id, parts = await s.upload(bucket, "k", [b"content"], algorithm="CRC64NVME")
    wrong = checksums.full_object("CRC64NVME", b"other")
    with pytest.raises(Unavailable):
        await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT, checksum=wrong)
    with pytest.raises(NotFound):
        await s.store.head(ObjectRef(bucket, "k"))


@contract()
async def test_copy_keeps_the_checksum_algorithm(s: Subject) -> None:
    bucket = s.bucket()
    checksum = checksums.full_object("SHA256", b"content")
    await s.store.put(bucket, "k", b"content", PLAIN, guard=ABSENT, checksum=checksum)
    await s.store.copy(ObjectRef(bucket, "k"), None, bucket, "copy", CopySettings(), guard=ABSENT)
    assert (await s.store.head(ObjectRef(bucket, "copy"))).checksums == (checksum,)


@contract()
async def test_copy_of_a_multipart_object_has_one_part(s: Subject) -> None:
    bucket = s.bucket()
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload(bucket, "k", pieces, algorithm="SHA256")
    written = await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT)
    copied = await s.store.copy(ObjectRef(bucket, "k"), written.etag, bucket, "copy", CopySettings(), guard=ABSENT)
    info = await s.store.head(ObjectRef(bucket, "copy"))
    assert copied.etag == info.etag == _md5(b"".join(pieces))
    assert info.checksums == (checksums.full_object("SHA256", b"".join(pieces)),)


@contract()
async def test_head_describes_a_part(s: Subject) -> None:
    bucket = s.bucket()
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload(bucket, "k", pieces)
    await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT)
    sizes = [
        (info.size_bytes, info.parts_count)
        for number in (1, 2)
        for info in [await s.store.head(ObjectRef(bucket, "k"), part_number=number)]
    ]
    assert sizes == [(PART, 2), (7, 2)]
    assert (await s.store.head(ObjectRef(bucket, "k"))).size_bytes == PART + 7


# --- what an object carries -----------------------------------------------------------------------------------------


async def assert_rich(s: Subject, ref: ObjectRef) -> None:
    info = await s.store.head(ref)
    assert {name: info.attributes.headers.get(name) for name in RICH.headers} == RICH.headers
    assert info.attributes.metadata == RICH.metadata
    assert info.attributes.tags == {}
    assert await s.store.get_tags(ref) == RICH.tags


@contract()
async def test_put_carries_headers_metadata_and_tags(s: Subject) -> None:
    bucket = s.bucket()
    await assert_rich(s, await s.put(bucket, "k", b"content", RICH))


@contract()
async def test_copy_carries_headers_metadata_and_tags(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    source = await s.put(bucket, "k", b"content", RICH)
    await s.put(bucket, "k", b"newer, and plain")
    await s.store.copy(source, None, bucket, "copy", CopySettings(), guard=ABSENT)
    await assert_rich(s, ObjectRef(bucket, "copy"))


@contract()
async def test_multipart_carries_headers_metadata_and_tags(s: Subject) -> None:
    bucket = s.bucket()
    upload_id, parts = await s.upload(bucket, "k", [b"content"], RICH)
    await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT)
    await assert_rich(s, ObjectRef(bucket, "k"))


@contract()
async def test_head_counts_the_tags(s: Subject) -> None:
    bucket = s.bucket()
    assert (await s.store.head(await s.put(bucket, "k", b"content", RICH))).tag_count == 2
    assert (await s.store.head(await s.put(bucket, "plain"))).tag_count == 0


@contract()
async def test_tags_may_be_in_any_script(s: Subject) -> None:
    bucket = s.bucket()
    ref = await s.put(bucket, "k", b"", Attributes(tags={"ключ": "значение 港"}))
    assert await s.store.get_tags(ref) == {"ключ": "значение 港"}


@contract()
async def test_metadata_beyond_ascii_comes_back(s: Subject) -> None:
    bucket = s.bucket()
    metadata = {"port": "Łódź — 港"}
    await s.put(bucket, "k", b"", Attributes(metadata=metadata))
    assert (await s.store.head(ObjectRef(bucket, "k"))).attributes.metadata == metadata


@contract()
async def test_a_website_redirect_is_put_but_never_copied(s: Subject) -> None:
    bucket = s.bucket()
    source = await s.put(bucket, "k", b"", Attributes(headers={"x-amz-website-redirect-location": "/elsewhere"}))
    await s.store.copy(source, None, bucket, "copy", CopySettings(), guard=ABSENT)
    name = "x-amz-website-redirect-location"
    assert (await s.store.head(source)).attributes.headers.get(name) == "/elsewhere"
    assert name not in (await s.store.head(ObjectRef(bucket, "copy"))).attributes.headers


@contract()
async def test_copy_sets_the_storage_class(s: Subject) -> None:
    bucket = s.bucket()
    source = await s.put(bucket, "k", b"content", Attributes(storage_class="STANDARD_IA"))
    assert (await s.store.head(source)).storage_class == "STANDARD_IA"
    await s.store.copy(source, None, bucket, "plain", CopySettings(), guard=ABSENT)
    await s.store.copy(source, None, bucket, "same", CopySettings(storage_class="STANDARD_IA"), guard=ABSENT)
    classes = {entry.key: entry.storage_class for entry in (await s.store.list_objects(bucket, "")).entries}
    assert classes == {"k": "STANDARD_IA", "plain": "STANDARD", "same": "STANDARD_IA"}


@contract()
async def test_an_archived_object_cannot_be_read(s: Subject) -> None:
    bucket = s.bucket()
    ref = await s.put(bucket, "k", b"content", Attributes(storage_class="GLACIER"))
    assert (await s.store.head(ref)).is_archived
    with pytest.raises(ArchivedObject):
        await s.store.get(ref)
    with pytest.raises(ArchivedObject):
        await s.store.copy(ref, None, bucket, "copy", CopySettings(), guard=ABSENT)


@contract()
async def test_a_restore_is_asked_for_once_and_may_be_asked_for_again(s: Subject) -> None:
    bucket = s.bucket()
    cold = await s.put(bucket, "cold", b"content", Attributes(storage_class="GLACIER"))
    assert await s.store.request_restore(cold, days=1, tier="Bulk") is Restoring.REQUESTED
    assert await s.store.request_restore(cold, days=1, tier="Bulk") in (Restoring.UNDER_WAY, Restoring.READY)
    info = await s.store.head(cold)
    assert info.is_restoring is info.is_archived
    with pytest.raises(NotFound):
        await s.store.request_restore(ObjectRef(bucket, "none"), days=1, tier="Bulk")


@contract()
async def test_a_restore_of_what_is_not_archived_is_refused(s: Subject) -> None:
    bucket = s.bucket()
    warm = await s.put(bucket, "warm", b"content")
    with pytest.raises(Rejected):
        await s.store.request_restore(warm, days=1, tier="Standard")


@contract()
async def test_encryption_is_asked_for_and_told(s: Subject) -> None:
    bucket = s.bucket()
    source = await s.put(bucket, "k", b"content", Attributes(sse="AES256"))
    await s.store.copy(source, None, bucket, "copy", CopySettings(sse="AES256"), guard=ABSENT)
    assert (await s.store.head(source)).attributes.sse == "AES256"
    assert (await s.store.head(ObjectRef(bucket, "copy"))).attributes.sse == "AES256"


@contract()
async def test_object_lock_is_set_told_and_kept(s: Subject) -> None:
    bucket = s.bucket(object_lock=True)
    lock = ObjectLock("GOVERNANCE", "2099-01-02T03:04:05Z")
    source = await s.put(bucket, "k")
    await s.store.copy(source, None, bucket, "copy", CopySettings(lock=lock), guard=ABSENT)
    info = await s.store.head(ObjectRef(bucket, "copy"))
    assert info.attributes.lock is not None
    assert info.attributes.lock.mode == "GOVERNANCE"
    assert (info.attributes.lock.retain_until or "").startswith("2099-01-02T03:04:05")
    with pytest.raises(Denied):
        await s.store.delete(bucket, "copy", version_id=info.version_id)


@contract()
async def test_legal_hold_is_set_told_and_kept(s: Subject) -> None:
    bucket = s.bucket(object_lock=True)
    ref = await s.put(bucket, "k", b"", Attributes(lock=ObjectLock(legal_hold=True)))
    lock = (await s.store.head(ref)).attributes.lock
    assert lock is not None
    assert lock.legal_hold
    with pytest.raises(Denied):
        await s.store.delete(bucket, "k", version_id=ref.version_id)


@contract()
async def test_an_empty_object_is_an_object(s: Subject) -> None:
    bucket = s.bucket()
    ref = await s.put(bucket, "k", b"")
    await s.store.copy(ref, _md5(b""), bucket, "copy", CopySettings(), guard=ABSENT)
    for key in ("k", "copy"):
        body = await s.store.get(ObjectRef(bucket, key))
        assert (body.data, body.info.size_bytes, body.info.etag) == (b"", 0, _md5(b""))


# --- versions and delete markers ------------------------------------------------------------------------------------


@contract()
async def test_is_versioned(s: Subject) -> None:
    assert await s.store.is_versioned(s.bucket(versioned=True))
    assert not await s.store.is_versioned(s.bucket())


@contract()
async def test_versions_are_listed_newest_first(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    first = await s.put(bucket, "a", b"1")
    second = await s.put(bucket, "a", b"22")
    marker = await s.store.delete(bucket, "a")
    third = await s.put(bucket, "a", b"333")
    other = await s.put(bucket, "b", b"4444")
    assert marker.is_delete_marker
    entries = (await s.store.list_versions(bucket, "")).entries
    assert [_brief(entry) for entry in entries] == [
        ("a", third.version_id, True, False, 3),
        ("a", marker.version_id, False, True, None),
        ("a", second.version_id, False, False, 2),
        ("a", first.version_id, False, False, 1),
        ("b", other.version_id, True, False, 4),
    ]
    assert [entry.etag for entry in entries][:2] == [_md5(b"333"), None]
    assert [entry.storage_class for entry in entries][:2] == ["STANDARD", None]


@contract()
async def test_a_delete_marker_hides_the_object(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    kept = await s.put(bucket, "k", b"content")
    marker = await s.store.delete(bucket, "k")
    assert (await s.store.list_objects(bucket, "")).entries == []
    with pytest.raises(NotFound):
        await s.store.head(ObjectRef(bucket, "k"))
    assert (await s.store.get(kept)).data == b"content"
    removed = await s.store.delete(bucket, "k", version_id=marker.version_id)
    assert removed.is_delete_marker
    assert await s.read(bucket, "k") == b"content"


@contract()
async def test_head_tells_a_delete_marker_from_nothing(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    await s.put(bucket, "k")
    marker = await s.store.delete(bucket, "k")
    codes = []
    for version_id in (None, marker.version_id):
        with pytest.raises(NotFound) as caught:
            await s.store.head(ObjectRef(bucket, "k", version_id))
        codes.append(caught.value.code)
    assert codes == ["DeleteMarker", "DeleteMarker"]


@contract()
async def test_a_delete_marker_can_be_made_for_a_key_that_never_was(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    marker = await s.store.delete(bucket, "never")
    entries = (await s.store.list_versions(bucket, "")).entries
    assert [_brief(entry) for entry in entries] == [("never", marker.version_id, True, True, None)]


@contract()
async def test_delete_of_a_version_removes_it_alone(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    first = await s.put(bucket, "k", b"first")
    second = await s.put(bucket, "k", b"second")
    assert not (await s.store.delete(bucket, "k", version_id=second.version_id)).is_delete_marker
    assert await s.read(bucket, "k") == b"first"
    entries = (await s.store.list_versions(bucket, "")).entries
    assert [(entry.version_id, entry.is_latest) for entry in entries] == [(first.version_id, True)]


@contract(False, True)
async def test_a_delete_with_an_etag_takes_that_object_only(s: Subject, versioned: bool) -> None:
    bucket = s.bucket(versioned=versioned)
    await s.put(bucket, "k", b"content")
    with pytest.raises(PreconditionFailed):
        await s.store.delete(bucket, "k", if_match=_md5(b"other"))
    assert await s.read(bucket, "k") == b"content"
    assert (await s.store.delete(bucket, "k", if_match=_md5(b"content"))).is_delete_marker is versioned
    with pytest.raises(NotFound):
        await s.read(bucket, "k")


@contract()
async def test_a_delete_with_an_etag_finds_nothing(s: Subject) -> None:
    with pytest.raises((NotFound, PreconditionFailed)):
        await s.store.delete(s.bucket(), "k", if_match=_md5(b"content"))


@contract("a&<b>", "line\nbreak", "é\U0001f6a2", "control\x01")
async def test_versions_are_deleted_together_and_exactly(s: Subject, odd: str) -> None:
    bucket = s.bucket(versioned=True)
    refs = [await s.put(bucket, key) for key in (odd, "plain") for _ in range(2)]
    doomed = [(ref.key, str(ref.version_id)) for ref in refs[::2]]
    assert await s.store.delete_versions(bucket, doomed) == [None] * 2
    assert await s.store.delete_versions(bucket, doomed[:1]) == [None]
    left = (await s.store.list_versions(bucket, "")).entries
    assert {entry.version_id for entry in left} == {ref.version_id for ref in refs[1::2]}


@contract()
async def test_delete_markers_are_deleted_together_like_versions(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    await s.put(bucket, "k", b"content")
    marker = await s.store.delete(bucket, "k")
    assert await s.store.delete_versions(bucket, [("k", str(marker.version_id))]) == [None]
    assert await s.read(bucket, "k") == b"content"


@contract()
async def test_versions_under_a_lock_are_told_from_those_deleted(s: Subject) -> None:
    bucket = s.bucket(object_lock=True)
    held = await s.put(bucket, "held", b"", Attributes(lock=ObjectLock(legal_hold=True)))
    free = await s.put(bucket, "free", b"")
    told = await s.store.delete_versions(bucket, [(ref.key, str(ref.version_id)) for ref in (held, free)])
    assert isinstance(told[0], Denied)
    assert told[1] is None
    assert [entry.key for entry in (await s.store.list_versions(bucket, "")).entries] == ["held"]


@contract()
async def test_an_unversioned_bucket_has_null_versions(s: Subject) -> None:
    bucket = s.bucket()
    written = await s.store.put(bucket, "k", b"content", PLAIN, guard=ABSENT)
    await s.put(bucket, "k", b"newer")
    assert written.version_id is None
    assert (await s.store.head(ObjectRef(bucket, "k"))).version_id is None
    entries = (await s.store.list_versions(bucket, "")).entries
    assert [_brief(entry) for entry in entries] == [("k", "null", True, False, 5)]
    assert [entry.version_id for entry in (await s.store.list_objects(bucket, "")).entries] == [None]
    assert not (await s.store.delete(bucket, "k")).is_delete_marker
    assert (await s.store.list_versions(bucket, "")).entries == []


# --- listings -------------------------------------------------------------------------------------------------------


@contract()
async def test_objects_come_in_pages_in_byte_order(s: Subject) -> None:
    bucket = s.bucket()
    keys = [f"p/{n:02d}" for n in range(20)] + ["p/é", "p/Z", "p/a", "p/\U0001f6a2", "p/～"]
    await asyncio.gather(*(s.put(bucket, key) for key in [*keys, "other"]))
    found: list[str] = []
    sizes: list[int] = []
    after: Marker | None = None
    while True:
        page = await s.store.list_objects(bucket, "p/", after=after, max_keys=7)
        found += [entry.key for entry in page.entries]
        sizes.append(len(page.entries))
        if page.next_marker is None:
            break
        after = page.next_marker
    assert found == sorted(keys)
    assert sizes == [7, 7, 7, 4]


@contract()
async def test_objects_are_listed_after_any_key(s: Subject) -> None:
    bucket = s.bucket()
    for key in ("a", "b b", "c"):
        await s.put(bucket, key)
    for after, expected in [("b b", ["c"]), ("b", ["b b", "c"]), ("c", []), ("", ["a", "b b", "c"])]:
        page = await s.store.list_objects(bucket, "", after=Marker(after))
        assert [entry.key for entry in page.entries] == expected


@contract()
async def test_a_listing_says_what_head_says(s: Subject) -> None:
    bucket = s.bucket()
    ref = await s.put(bucket, "k", b"content")
    info = await s.store.head(ref)
    (entry,) = (await s.store.list_objects(bucket, "")).entries
    assert (entry.size_bytes, entry.etag, entry.storage_class) == (7, info.etag, info.storage_class)
    assert int(entry.last_modified) == info.last_modified
    assert entry.is_latest
    assert not entry.is_delete_marker


@contract()
async def test_a_delimiter_rolls_up_common_prefixes(s: Subject) -> None:
    bucket = s.bucket()
    for key in ("a/1", "a/2", "b c/1", "b c/2", "top", "z/1"):
        await s.put(bucket, key)
    entries: list[str] = []
    prefixes: list[str] = []
    after: Marker | None = None
    while True:
        page = await s.store.list_objects(bucket, "", after=after, delimiter="/", max_keys=2)
        entries += [entry.key for entry in page.entries]
        prefixes += page.prefixes
        if page.next_marker is None:
            break
        after = page.next_marker
    assert (entries, prefixes) == (["top"], ["a/", "b c/", "z/"])


@contract()
async def test_versions_come_in_pages(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    expected: list[tuple[str, str | None]] = []
    for key in ("a", "b b", "c+c"):
        refs = [await s.put(bucket, key, f"{n}".encode()) for n in range(3)]
        expected += [(key, ref.version_id) for ref in reversed(refs)]
    found: list[tuple[str, str | None]] = []
    after: Marker | None = None
    while True:
        page = await s.store.list_versions(bucket, "", after=after, max_keys=2)
        assert len(page.entries) <= 2
        found += [(entry.key, entry.version_id) for entry in page.entries]
        if page.next_marker is None:
            break
        after = page.next_marker
    assert found == expected


@contract()
async def test_versions_with_a_delimiter_roll_up_too(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    for key in ("a/1", "a/1", "b", "c/1"):
        await s.put(bucket, key)
    page = await s.store.list_versions(bucket, "", delimiter="/")
    assert [entry.key for entry in page.entries] == ["b"]
    assert page.prefixes == ["a/", "c/"]
    assert [entry.key for entry in (await s.store.list_versions(bucket, "a/")).entries] == ["a/1", "a/1"]


# --- odd keys -------------------------------------------------------------------------------------------------------

ODD_KEYS = (
    "with spaces  two ",
    "a+b",
    "100%",
    "%41%2F",
    "q?a=b&c=d#e",
    "ampersand&<tag>\"'",
    unicodedata.normalize("NFC", "café/é"),
    unicodedata.normalize("NFD", "café/é"),
    "\U0001f6a2/港",
    "line\nbreak",
    "carriage\rreturn",
    "tab\tand\x01control\x7f",
    "/leading",
    "a//b",
    "a/../b",
    "./dot",
    "trailing/",
    "back\\slash",
    "~tilde*(paren)!",
    "x" * 1024,
    "é" * 512,
)


@contract(*ODD_KEYS)
async def test_an_odd_key_makes_the_round_trip(s: Subject, case: str) -> None:
    bucket = s.bucket(versioned=True)
    ref = await s.put(bucket, case, b"content", RICH)
    assert (await s.store.get(ref)).data == b"content"
    await s.store.copy(ref, _md5(b"content"), bucket, "copy", CopySettings(), guard=ABSENT)
    assert await s.read(bucket, "copy") == b"content"
    await s.store.delete(bucket, "copy")
    await s.store.copy(ref, None, bucket, case, CopySettings(storage_class="STANDARD_IA"), guard=UNGUARDED)
    assert [entry.key for entry in (await s.store.list_objects(bucket, "")).entries] == [case]
    assert [entry.key for entry in (await s.store.list_versions(bucket, case)).entries] == [case, case]
    assert await s.store.get_tags(ref) == RICH.tags
    await s.store.delete(bucket, case)
    with pytest.raises(NotFound):
        await s.store.head(ObjectRef(bucket, case))


@contract()
async def test_nfc_and_nfd_are_two_keys(s: Subject) -> None:
    bucket = s.bucket()
    for form in ("NFC", "NFD"):
        await s.put(bucket, unicodedata.normalize(form, "é"), form.encode())
    assert await s.read(bucket, unicodedata.normalize("NFC", "é")) == b"NFC"
    assert len((await s.store.list_objects(bucket, "")).entries) == 2


@contract()
async def test_a_key_of_more_than_1024_bytes_is_refused(s: Subject) -> None:
    bucket = s.bucket()
    with pytest.raises(Rejected):
        await s.put(bucket, "x" * 1025)


# --- multipart and errors -------------------------------------------------------------------------------------------


@contract()
async def test_an_aborted_upload_is_gone(s: Subject) -> None:
    bucket = s.bucket()
    upload_id, parts = await s.upload(bucket, "k", [b"content"])
    await s.store.abort_multipart(bucket, "k", upload_id)
    await s.store.abort_multipart(bucket, "k", upload_id)
    with pytest.raises(NotFound):
        await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT)
    with pytest.raises(NotFound):
        await s.store.head(ObjectRef(bucket, "k"))


@contract()
async def test_a_part_for_no_upload_is_refused(s: Subject) -> None:
    bucket = s.bucket()
    upload_id, _ = await s.upload(bucket, "k", [])
    await s.store.abort_multipart(bucket, "k", upload_id)
    with pytest.raises(NotFound):
        await s.store.put_part(bucket, "k", upload_id, 1, b"content")


@contract()
async def test_complete_refuses_a_part_with_another_etag(s: Subject) -> None:
    bucket = s.bucket()
    upload_id, _ = await s.upload(bucket, "k", [b"content"])
    with pytest.raises(Rejected):
        await s.store.complete_multipart(bucket, "k", upload_id, [PartDone(1, _md5(b"other"))], guard=ABSENT)


@contract()
async def test_parts_may_be_given_in_any_order(s: Subject) -> None:
    bucket = s.bucket()
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload(bucket, "k", pieces)
    await s.store.complete_multipart(bucket, "k", upload_id, parts[::-1], guard=ABSENT)
    assert await s.read(bucket, "k") == b"".join(pieces)


@contract()
async def test_a_small_part_that_is_not_the_last_is_refused(s: Subject) -> None:
    bucket = s.bucket()
    upload_id, parts = await s.upload(bucket, "k", [b"too small", b"the end"])
    with pytest.raises(Rejected):
        await s.store.complete_multipart(bucket, "k", upload_id, parts, guard=ABSENT)


REQUESTS: dict[str, Callable[[Store, ObjectRef], Awaitable[Any]]] = {
    "head": lambda store, ref: store.head(ref),
    "get": lambda store, ref: store.get(ref),
    "put": lambda store, ref: store.put(ref.bucket, ref.key, b"", PLAIN, guard=UNGUARDED),
    "copy": lambda store, ref: store.copy(ref, None, ref.bucket, "copy", CopySettings(), guard=UNGUARDED),
    "create_multipart": lambda store, ref: store.create_multipart(ref.bucket, ref.key, PLAIN),
    "list_objects": lambda store, ref: store.list_objects(ref.bucket, ""),
    "list_versions": lambda store, ref: store.list_versions(ref.bucket, ""),
    "is_versioned": lambda store, ref: store.is_versioned(ref.bucket),
}


@contract(*REQUESTS)
async def test_a_bucket_that_is_not_there(s: Subject, case: str) -> None:
    bucket = f"never-{uuid.uuid4().hex[:8]}"
    with pytest.raises(NotFound, match=bucket):
        await REQUESTS[case](s.store, ObjectRef(bucket, "k"))


@contract()
async def test_a_key_that_is_not_there(s: Subject) -> None:
    bucket = s.bucket()
    ref = ObjectRef(bucket, "never")
    for request in (
        s.store.head(ref),
        s.store.get(ref),
        s.store.get_tags(ref),
        s.store.copy(ref, None, bucket, "copy", CopySettings(), guard=UNGUARDED),
        s.store.copy(ref, _md5(b""), bucket, "copy", CopySettings(), guard=UNGUARDED),
    ):
        with pytest.raises(NotFound):
            await request
    assert not (await s.store.delete(bucket, "never")).is_delete_marker


@contract()
async def test_a_version_that_is_not_there(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    gone = await s.put(bucket, "k", b"gone")
    await s.put(bucket, "k", b"kept")
    await s.store.delete(bucket, "k", version_id=gone.version_id)
    for request in (
        s.store.head(gone),
        s.store.get(gone),
        s.store.get_tags(gone),
        s.store.copy(gone, None, bucket, "copy", CopySettings(), guard=UNGUARDED),
    ):
        with pytest.raises(NotFound):
            await request


def test_the_deviations_name_checks_and_stores_that_exist() -> None:
    checks = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {key[0] for key in DEVIATIONS} <= checks
    assert {key[1] for key in DEVIATIONS} <= set(STORES) - {"memory"}


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _multipart_etag(pieces: list[bytes]) -> str:
    digests = b"".join(hashlib.md5(piece, usedforsecurity=False).digest() for piece in pieces)
    return f"{_md5(digests)}-{len(pieces)}"


def _brief(entry: Listed) -> tuple[str, str | None, bool, bool, int | None]:
    return entry.key, entry.version_id, entry.is_latest, entry.is_delete_marker, entry.size_bytes
