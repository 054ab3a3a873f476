"""What makes a copy count as its original: its bytes of now, and all that the original carries."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.enums import ArchiveFormat
from jobs.core.evidence import Verdict
from jobs.core.model import Attributes, ObjectRef, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import ArchivedObject, Denied, NotFound, PreconditionFailed, Rejected, StoreError, Unavailable
from jobs.expire.job import Expire
from jobs.expire.rules import Candidate, CopyAt
from jobs.s3.checksums import composite, full_object
from tests.archives.samples import member
from tests.doubles.forged_content import with_crc32_of
from tests.doubles.memory_store import MemoryStore, Request
from tests.expire.scene import Shop, comparing, copy_of, one, packed, row_of, shop

KMS = {"sse": "aws:kms"}
SOME = member("k", b"")
NO_VERDICT = Verdict(None, Evidence.NONE, detail="not compared")
NUMBERS = itertools.count()
CONTENT = b"content of the original, as it was written"
OTHER = with_crc32_of(CONTENT, b"content of some object that means to be it")
LARGE = 9 << 20
SIZES = pytest.mark.parametrize("size_bytes", [len(CONTENT), LARGE], ids=["small", "over 8 MiB"])
PLACES = pytest.mark.parametrize("is_packed", [False, True], ids=["replica", "archive"])


def world() -> Shop:
    return shop(default_checksum=None)


def pair(store: Shop, ref: ObjectRef, at: CopyAt | None = None) -> Candidate:
    row = ObjectVersion(next(NUMBERS), ref.key, ref.version_id, beside=at or CopyAt("copies", ref.key))
    return Candidate(row, at or CopyAt("copies", ref.key), ref, asyncio.run(MemoryStore.head(store, ref)))


def compare(store: Shop, *pairs: Candidate, **options: Any) -> list[Verdict]:
    return [each.verdict or NO_VERDICT for each in by_pair(pairs, comparing(store, **options))]


def by_pair(pairs: Sequence[Candidate], copies: Expire) -> list[Candidate]:
    compared = asyncio.run(copies.compare(pairs))
    return [compared[each.row.row] for each in pairs]


def verdict(store: Shop, *pairs: Candidate, **options: Any) -> Verdict:
    (found,) = compare(store, *pairs, **options)
    return found


def padded(data: bytes, size_bytes: int) -> bytes:
    return bytes(size_bytes - len(data)) + data


@pytest.mark.parametrize("algorithm", [None, "CRC32", "CRC64NVME", "SHA1", "SHA256", "MD5"])
@pytest.mark.parametrize("is_md5", [True, False], ids=["MD5 ETag", "KMS"])
@PLACES
def test_bytes_are_proven_by_a_strong_checksum_of_the_original_or_by_its_bytes(
    algorithm: str | None, is_md5: bool, is_packed: bool
) -> None:
    store = world()
    ref = store.put_now("docs", "k", CONTENT, algorithm, sse=None if is_md5 else "aws:kms")
    found = verdict(store, pair(store, ref, copy_of(store, ref, is_packed)))
    assert found.same is True, found
    is_strong = is_md5 or algorithm in ("SHA1", "SHA256", "MD5")
    assert (found.evidence is not Evidence.CONTENT) is is_strong, found


@pytest.mark.parametrize(
    ("algorithm", "attributes", "size_bytes"),
    [
        *((None, {}, 42), ("SHA256", KMS, 42), ("CRC32", KMS, 42), ("CRC32", {}, 42), (None, KMS, 42)),
        *(("SHA256", KMS, LARGE), (None, KMS, LARGE)),
    ],
)
@PLACES
def test_other_bytes_below_whole_metadata_are_no_copy(
    algorithm: str | None, attributes: dict[str, Any], size_bytes: int, is_packed: bool
) -> None:
    """A replica that has rotted, or an archive of another object that has the original's CRC32."""
    store = world()
    data, other = padded(CONTENT, size_bytes), padded(OTHER, size_bytes)
    ref = store.put_now("docs", "k", data, algorithm, **attributes)
    if is_packed:
        (at,) = packed(store, [store.put_now("docs", "other", other, **KMS)])
    else:
        store.put_now("copies", "k", data, algorithm, **attributes)
        store.rot("copies", "k", other)
        at = CopyAt("copies", "k")
    assert verdict(store, pair(store, ref, at)).same is False


def test_a_copy_of_a_rotten_original_keeps_it() -> None:
    """Their bytes are the same, and are not those of the original's CRC."""
    store = world()
    ref = store.put_now("docs", "k", CONTENT, "CRC32", **KMS)
    store.rot("docs", "k", CONTENT[::-1])
    for is_packed in (False, True):
        assert verdict(store, pair(store, ref, copy_of(store, ref, is_packed))).same is False


@SIZES
@pytest.mark.parametrize("kind", list(ArchiveFormat))
def test_a_member_counts_where_its_bytes_are_what_index_and_original_say(size_bytes: int, kind: ArchiveFormat) -> None:
    copied = {"sha256": None, "checksums": (full_object("CRC64NVME", padded(CONTENT, size_bytes)),)}  # by S3 itself
    changes: list[tuple[dict[str, Any], bool | None]] = [({}, True), (copied, True), ({"sha256": "0" * 64}, None)]
    for change, expected in changes:
        store = world()
        ref = store.put_now("docs", "k", padded(CONTENT, size_bytes), **KMS)
        assert verdict(store, pair(store, ref, *packed(store, [ref], kind, **change))).same is expected


HEADERS = {"content-type": "text/plain", "cache-control": "no-store"}
CARRIED: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], bool]] = {
    "all": ({"headers": HEADERS, "metadata": {"a": "1"}, "tags": {"t": "1"}},) * 2 + (True,),
    "no wrapped key": ({"metadata": {"x-amz-key-v2": "a2V5"}}, {}, False),
    "other metadata": ({"metadata": {"a": "1"}}, {"metadata": {"a": "2"}}, False),
    "more metadata": ({}, {"metadata": {"a": "1"}}, False),
    "other header": ({"headers": HEADERS}, {"headers": {**HEADERS, "cache-control": "public"}}, False),
    "no redirect": ({"headers": {"x-amz-website-redirect-location": "/a"}}, {}, False),
    "the type that S3 adds": ({}, {"headers": {"content-type": "binary/octet-stream"}}, True),
    "no tag": ({"tags": {"t": "1"}}, {}, False),
    "other tag": ({"tags": {"t": "1"}}, {"tags": {"t": "2"}}, False),
    "more tags": ({"tags": {"t": "1"}}, {"tags": {"t": "1", "u": "2"}}, True),
}


@pytest.mark.parametrize("name", CARRIED)
@PLACES
def test_a_copy_carries_what_its_original_carries(name: str, is_packed: bool) -> None:
    store, (original, copy, expected) = world(), CARRIED[name]
    ref = store.put_now("docs", "k", CONTENT, **original)
    stale = store.put_now("docs", "stale", CONTENT, **copy)
    at = packed(store, [stale])[0] if is_packed else CopyAt("copies", store.put_now("copies", "k", CONTENT, **copy).key)
    assert verdict(store, pair(store, ref, at)).same is expected


@pytest.mark.parametrize(
    ("is_aws", "refusal", "expected"),
    [
        (False, None, False),
        (True, None, False),
        (False, Rejected("GetObjectTagging", "k", "NotImplemented", "", 501), True),
        (False, Denied("GetObjectTagging", "k", "AccessDenied", "", 403), None),
    ],
)
def test_tags_that_no_answer_counts_are_asked_for(
    is_aws: bool, refusal: StoreError | None, expected: bool | None
) -> None:
    store = world()
    store.heeds_conditions = is_aws

    async def uncounted(request: Request) -> Any:
        return replace(await request(), tag_count=0)

    async def refuse(request: Request) -> Any:
        if refusal is not None:
            raise refusal
        return await request()

    store.hook(head=uncounted, get_tags=refuse)
    ref = store.put_now("docs", "k", CONTENT, tags={"t": "1"})
    store.put_now("copies", "k", CONTENT)
    original = pair(store, ref)
    assert verdict(store, original._replace(info=replace(original.info, tag_count=0))).same is expected


TEXTS = {"labels": b"cat", "transcript": b"words"}
ANNOTATIONS: list[tuple[dict[str, bytes] | None, bool, Status]] = [
    ({}, False, Status.BLOCKED),
    ({"labels": b"cat"}, False, Status.BLOCKED),
    (TEXTS | {"labels": b"dog"}, False, Status.BLOCKED),
    (None, False, Status.BLOCKED),  # an archive holds none
    (TEXTS, False, Status.DONE),
    (TEXTS | {"own": b"of the copy's own"}, False, Status.DONE),
    ({}, True, Status.DONE),
    (None, True, Status.DONE),
]


def annotated(store: Shop, texts: dict[str, bytes] | None, **options: Any) -> Outcome:
    """What becomes of an annotated original whose replica has these annotations. None: it is in an archive."""

    async def annotate(ref: ObjectRef, texts: Mapping[str, bytes]) -> None:
        etag = (await store.head(ref)).etag
        for name, text in texts.items():
            await store.put_annotation(ref, name, text, object_etag=etag)

    ref = store.put_now("docs", "k", CONTENT)
    at = copy_of(store, ref, texts is None)
    asyncio.run(annotate(ref, TEXTS))
    asyncio.run(annotate(ObjectRef(at.bucket, at.key), texts or {}))
    return one(store, row_of(store, 0, ref, at), **options)


@pytest.mark.parametrize(("texts", "is_skipped", "status"), ANNOTATIONS)
def test_an_original_goes_only_if_its_copy_has_its_annotations(
    texts: dict[str, bytes] | None, is_skipped: bool, status: Status
) -> None:
    store = shop(versioned=False)
    outcome = annotated(store, texts, annotations="skip" if is_skipped else "check")
    assert (outcome.status, outcome.detail == "annotations") == (status, status is Status.BLOCKED), outcome
    assert bool(store.contents()) == (status is Status.BLOCKED)


@pytest.mark.parametrize("error", [Denied, Unavailable])
def test_an_original_whose_annotations_nobody_lists_is_kept(error: type[StoreError]) -> None:
    async def refuse(request: Request) -> Any:
        raise error("ListObjectAnnotations", str(request.place), "No", "no", 503)

    assert annotated(shop(versioned=False, on={"list_annotations": refuse}), TEXTS).status is Status.BLOCKED


Change = Callable[[Shop, CopyAt], Any]


def hide(store: Shop, at: CopyAt) -> None:
    asyncio.run(store.delete(ObjectRef(at.bucket, at.key)))


def write_over(store: Shop, at: CopyAt) -> None:
    store.put_now(at.bucket, at.key, b"newer")


def write_again(store: Shop, at: CopyAt) -> None:
    store.put_now(at.bucket, at.key, asyncio.run(store.get(ObjectRef(at.bucket, at.key))).data, metadata={"a": "1"})


def change_info(**changes: Any) -> Change:
    def change(store: Shop, at: CopyAt) -> None:
        async def head(request: Request) -> Any:
            info = await request()
            return replace(info, **changes) if request.place.bucket == at.bucket else info

        store.hook(head=head)

    return change


@pytest.mark.parametrize("change", [hide, change_info(expiration="…"), change_info(is_archived=True)])
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["bytes", "empty"])
@PLACES
def test_what_is_not_current_or_goes_or_cannot_be_read_is_no_copy(
    change: Change, is_packed: bool, content: bytes
) -> None:
    store = world()
    ref = store.put_now("docs", "k", content)
    at = copy_of(store, ref, is_packed)
    before = compare(store, pair(store, ref, at))
    change(store, at)
    assert (before[0].same, verdict(store, pair(store, ref, at)).same) == (True, None)


def test_what_an_archive_does_not_say_itself_is_no_copy() -> None:
    """What an index in the ledger adds to a member, and an archive that has rotted, of which no content is read."""
    store = world()
    ref = store.put_now("docs", "k", b"", metadata={"a": "1"})
    at, bare = packed(store, [ref, store.put_now("docs", "bare", b"")])
    claimed = replace(bare, member=(bare.member or SOME)._replace(metadata={"a": "1"}))
    assert [verdict(store, pair(store, ref, each)).same for each in (at, bare, claimed)] == [True, False, None]
    store.rot("cold", "a.tar", bytes(10_000))
    assert verdict(store, pair(store, ref, at)).same is None


@pytest.mark.parametrize(("is_apart", "expected"), [(False, None), (True, True)])
def test_an_object_is_no_copy_of_itself(is_apart: bool, expected: bool | None) -> None:
    store = world()
    ref = store.put_now("docs", "k", CONTENT)
    assert verdict(store, pair(store, ref, CopyAt("docs", "k")), apart=is_apart).same is expected


CHANGES: Mapping[str, tuple[Change, bool]] = {
    "nothing": (lambda store, at: None, False),
    "hidden": (hide, True),
    "written over": (write_over, True),
    "written again": (write_again, True),
    "will be removed": (change_info(expiration="…"), True),
    "archived": (change_info(is_archived=True), True),
    "metadata that no header says": (change_info(unsent_metadata=1), True),
    "another date": (change_info(last_modified=1.0), True),
    "another version": (change_info(version_id="v99"), True),
    "other metadata": (change_info(attributes=Attributes(metadata={"a": "2"})), True),
    "other headers": (change_info(attributes=Attributes(headers=HEADERS)), True),
    "other tags": (change_info(tag_count=3), True),
}


@pytest.mark.parametrize("name", CHANGES)
@PLACES
def test_a_copy_that_changed_since_it_was_compared_is_found(name: str, is_packed: bool) -> None:
    store, (change, expected) = world(), CHANGES[name]
    ref = store.put_now("docs", "k", CONTENT)
    at = copy_of(store, ref, is_packed)
    copies, pairs = comparing(store, 1 << 20), [pair(store, ref, at)]
    compared = by_pair(pairs, copies)
    change(store, at)
    changed = asyncio.run(copies.find_changed(compared))
    assert bool(changed) is expected


def test_each_pair_gets_its_verdict_and_each_archive_is_asked_once() -> None:
    store = world()
    refs = [store.put_now("docs", str(number), CONTENT + bytes([number])) for number in range(4)]
    wrong = store.put_now("docs", "wrong", CONTENT + b"w")
    members = packed(store, [refs[0], wrong, refs[2]])
    places = [*members, copy_of(store, refs[3], False), CopyAt("copies", "none")]
    pairs = [pair(store, ref, at) for ref, at in zip([*refs, refs[3]], places, strict=True)]
    asked = Counter[str]()

    async def count(request: Request) -> Any:
        asked[request.place.key] += request.place.bucket != "docs"
        return await request()

    store.hook(head=count)
    copies = comparing(store, 1 << 20)
    compared = by_pair(pairs, copies)
    assert [each.verdict and each.verdict.same for each in compared] == [True, False, True, True, None]
    changed = asyncio.run(copies.find_changed(compared))
    assert [each.row.row in changed for each in compared] == [False, False, False, False, True]
    assert +asked == {"a.tar": 3, "3": 2, "none": 2}


@pytest.mark.parametrize("algorithm", [None, "SHA256"])
def test_reads_are_pinned_to_the_versions_that_were_looked_at(algorithm: str | None) -> None:
    store, read = world(), set[tuple[Any, ...]]()
    ref = store.put_now("docs", "k", CONTENT, algorithm, **KMS)
    store.put_now("docs", "k", OTHER)
    copy = store.put_now("copies", "k", CONTENT)

    async def note(request: Request) -> Any:
        read.add((request.place, bool(request.arguments["if_match"])))
        return await request()

    store.hook(get=note)
    assert verdict(store, pair(store, ref)).same is True
    assert read == {(each, True) for each in ([copy] if algorithm else [copy, ref])}


@pytest.mark.parametrize("error", [NotFound, PreconditionFailed, ArchivedObject, Denied, Rejected])
@pytest.mark.parametrize("operation", ["head", "get"])
@pytest.mark.parametrize("bucket", ["docs", "copies", "cold"])
def test_what_cannot_be_read_proves_nothing(error: type[StoreError], operation: str, bucket: str) -> None:
    store = world()
    ref = store.put_now("docs", "k", CONTENT, **KMS)
    pairs = [pair(store, ref, copy_of(store, ref, is_packed)) for is_packed in (False, True)]

    async def refuse(request: Request) -> Any:
        if request.place.bucket == bucket:
            raise error(operation, str(request.place), "Injected", "", 403)
        return await request()

    store.hook(**{operation: refuse})
    expected = {
        "copies": [None, True],
        "cold": [True, None],
        "docs": [None, None] if operation == "get" else [True] * 2,
    }
    assert [each.same for each in compare(store, *pairs)] == expected[bucket]


def test_a_request_without_an_answer_ends_and_the_rest_of_its_archive_is_not_tried() -> None:
    store, asked = world(), Counter[str]()
    refs = [store.put_now("docs", str(number), padded(CONTENT, LARGE), **KMS) for number in range(3)]
    places = [*packed(store, refs[:2]), copy_of(store, refs[2], False)]
    pairs = [pair(store, ref, at) for ref, at in zip(refs, places, strict=True)]

    async def never(request: Request) -> Any:
        if request.place.bucket != "docs":
            asked[request.place.key] += 1
            await asyncio.Event().wait()
        return await request()

    for operation, tries in (("get", 2), ("head", 1)):  # two ranges of a large replica are read ahead
        store.hook(**{"get": None, "head": None, operation: never})
        asked.clear()
        assert [each.same for each in compare(store, *pairs, patience_seconds=0.05)] == [None] * 3
        assert asked == {"a.tar": 1, "2": tries}


def test_a_read_that_fails_once_is_repeated_alone() -> None:
    store, begun = world(), Counter[int]()
    ref = store.put_now("docs", "k", bytes(LARGE), "SHA256", **KMS)
    at = copy_of(store, ref, False)

    async def fail_once(request: Request) -> Any:
        start = request.arguments["start"]
        begun[start] += 1
        if start and begun[start] == 1:
            raise Unavailable("GetObject", "k", "SlowDown")
        return await request()

    store.hook(get=fail_once)
    assert verdict(store, pair(store, ref, at)).same is True
    assert begun == {0: 1, 8 << 20: 2}


BY_CHECKSUM = [("SHA256", {}, True), ("CRC32", {}, True), ("SHA1", KMS, True), ("CRC32", KMS, None), (None, KMS, None)]


@pytest.mark.parametrize(("algorithm", "attributes", "expected"), BY_CHECKSUM)
@pytest.mark.parametrize("storage_class", ["STANDARD", "DEEP_ARCHIVE"])
def test_by_checksum_what_s3_keeps_of_both_sides_counts_and_never_a_crc_alone(
    algorithm: str | None, attributes: dict[str, Any], expected: bool | None, storage_class: str
) -> None:
    store = world()
    ref = store.put_now("docs", "k", CONTENT, algorithm, **attributes)
    store.put_now("copies", "k", CONTENT, algorithm, storage_class=storage_class, **attributes)

    async def fail(request: Request) -> Any:
        raise AssertionError(f"nothing is read: {request}")

    store.hook(get=fail)
    assert verdict(store, pair(store, ref), by_checksum=True).same is expected


def frozen(store: Shop, at: CopyAt, algorithm: str, parts: int = 2, storage_class: str = "DEEP_ARCHIVE") -> CopyAt:
    """The archive has this class now, and S3 keeps such a checksum of it, which the index has."""
    version = store.stored(at.bucket, at.key)[-1]
    sums = [full_object(algorithm, each) for each in (version.data[:100], version.data[100:])]
    kept = composite(sums) if parts > 1 else full_object(algorithm, version.data)
    version.checksums = (kept,)
    version.attributes = replace(version.attributes, storage_class=storage_class)
    return replace(at, checksum=f"{kept.algorithm}:{kept.value}")


@pytest.mark.parametrize("parts", [1, 2])
def test_a_cold_archive_counts_by_its_sha256_and_the_bytes_of_the_original(parts: int) -> None:
    store = world()
    ref = store.put_now("docs", "k", CONTENT, **KMS)
    other = store.put_now("docs", "other", OTHER, **KMS)
    at, second = (frozen(store, each, "SHA256", parts) for each in packed(store, [ref, other]))
    unproven = {
        "none in the index": replace(at, checksum=None),
        "of another archive": replace(at, checksum=f"SHA256:{full_object('SHA256', OTHER).value}"),
        "no SHA-256 of the member": replace(at, member=(at.member or SOME)._replace(sha256=None)),
    }
    assert verdict(store, pair(store, ref, at)).same is None  # without the option
    assert verdict(store, pair(store, ref, at), by_checksum=True) == Verdict(True, Evidence.CHECKSUM)
    for name, each in unproven.items():
        pairs = [pair(store, ref, at), pair(store, ref, each)]
        assert [found.same for found in compare(store, *pairs, by_checksum=True)] == [True, None], name
    assert verdict(store, pair(store, ref, second), by_checksum=True).same is False  # that member has other bytes


@pytest.mark.parametrize("storage_class", ["DEEP_ARCHIVE", "GLACIER_IR"])
@pytest.mark.parametrize(("algorithm", "expected"), [("SHA256", True), ("CRC32", None)])
def test_by_checksum_no_archive_is_read_and_none_counts_by_a_crc(
    storage_class: str, algorithm: str, expected: bool | None
) -> None:
    store, read = world(), Counter[str]()
    ref = store.put_now("docs", "k", CONTENT)
    at = frozen(store, packed(store, [ref])[0], algorithm, storage_class=storage_class)

    async def note(request: Request) -> Any:
        read[request.place.bucket] += 1
        return await request()

    store.hook(get=note)
    assert verdict(store, pair(store, ref, at), by_checksum=True).same is expected
    assert read == ({"docs": 1} if expected else {})
