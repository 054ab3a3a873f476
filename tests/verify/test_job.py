"""The verify job against the in-memory store: what goes wrong while it reads."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Repair, Route
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import ArchivedObject, Denied, NotFound, PreconditionFailed, StoreError
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from jobs.s3.store import UNGUARDED, Written
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.examples import examples
from tests.doubles.forged_content import with_crc32_of
from tests.doubles.hooks import nth, refuse
from tests.doubles.memory_store import MemoryStore, Request

ROUTE = Route(Location("here"), Location("there"))
KMS = "aws:kms"


def store_of(*, here: bool = False, there: bool = False, **options: Any) -> MemoryStore:
    """A store with both sides. `here`, `there`: whether they keep versions."""
    store = MemoryStore(**options)
    store.create_bucket("here", versioned=here)
    store.create_bucket("there", versioned=there)
    return store


def put(store: MemoryStore, bucket: str, data: bytes | None, sse: str | None = None, **more: Any) -> Written:
    """Write the key, or set a delete marker."""
    if data is None:
        asyncio.run(MemoryStore.delete(store, ObjectRef(bucket, "k")))
        return Written("")
    return asyncio.run(
        MemoryStore.put(store, ObjectRef(bucket, "k"), data, Attributes(sse=sse, **more), guard=UNGUARDED)
    )


def row_of(written: Written, size_bytes: int | None = None, **more: Any) -> ObjectVersion:
    return ObjectVersion(0, "k", written.version_id, size_bytes=size_bytes, etag=written.etag)._replace(**more)


def verify(store: MemoryStore, rows: Sequence[ObjectVersion], **options: Any) -> list[Outcome]:
    job = Verify(store, store, ROUTE, VerifyOptions(**options), ByteBudget(1000))
    return asyncio.run(job.process(rows))


def statuses(outcomes: Sequence[Outcome]) -> list[Status]:
    return [each.status for each in outcomes]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (NotFound, Status.DIFFERENT),  # it is there, and its bytes are not
        (PreconditionFailed, Status.UNKNOWN),
        (Denied, Status.BLOCKED),
        (ArchivedObject, Status.UNKNOWN),
    ],
)
def test_what_happens_while_reading_is_the_rows_outcome(kind: type[StoreError], status: Status) -> None:
    async def fail(request: Request) -> Any:
        raise kind("GetObject", "s3://there/k", "Sorry")

    store = store_of(on={"get": fail})
    for bucket in ("here", "there"):
        put(store, bucket, b"body")
    [outcome] = verify(store, [ObjectVersion(0, "k")], deep=True)
    assert (outcome.status, bool(outcome.reason)) == (status, True)


@pytest.mark.parametrize("etag", ["0" * 32, None])
def test_what_was_replaced_is_the_object_of_the_row_and_not_the_one_that_is_there(etag: str | None) -> None:
    """Else the state would take the one that is there for gone, and with it what lists found of it.

    A manifest may have sizes and no ETags.
    """
    store = store_of()
    for bucket in ("here", "there"):
        put(store, bucket, b"another")
    rows = [ObjectVersion(0, "k", size_bytes=999, etag=etag), ObjectVersion(1, "k", size_bytes=7)]
    replaced, named = verify(store, rows)
    assert (replaced.reason, replaced.etag, named.status) == (Reason.SOURCE_REPLACED, etag, Status.VERIFIED)


def test_a_source_that_is_overwritten_and_copied_between_the_two_looks_has_changed() -> None:
    async def busy(request: Request) -> Any:
        if request.place.bucket == "there":
            for bucket in ("here", "there"):
                await MemoryStore.put(store, ObjectRef(bucket, "k"), b"newer", Attributes(), guard=UNGUARDED)
        return await request()

    store = store_of(on={"head": busy})
    for bucket in ("here", "there"):
        put(store, bucket, b"older")
    assert statuses(verify(store, [ObjectVersion(0, "k")])) == [Status.CHANGED]


@pytest.mark.parametrize(
    ("bucket", "now", "known", "status"),
    [
        (bucket, now, known, status)
        for known in (None, "SHA256:2pJaMOMff9qnBE4+W6SuF2cN6C1new5631cAQooTejY=")
        for bucket, now, status in (
            ("there", None, Status.MISSING),
            ("there", b"ransom", Status.DIFFERENT),
            ("there", b"older", Status.VERIFIED),
            ("here", None, Status.CHANGED),
            ("here", b"newer", Status.CHANGED),
        )
        if bucket == "there" or known is None  # else no source is read
    ],
)
def test_what_becomes_of_a_side_while_it_is_read(
    bucket: str, now: bytes | None, known: str | None, status: Status
) -> None:
    """A source that moves on is judged later, a copy is judged by what it is now."""
    reads: list[str] = []

    async def busy(request: Request) -> Any:
        reads.append(request.place.key)
        if len(reads) > 1:
            return await request()
        if now is None:
            await MemoryStore.delete(store, ObjectRef(bucket, "k"))
        else:
            await MemoryStore.put(store, ObjectRef(bucket, "k"), now, Attributes(), guard=UNGUARDED)
        raise PreconditionFailed("GetObject", f"s3://{bucket}/k", "Changed")

    store = store_of(on={"get": busy})
    for name in ("here", "there"):
        put(store, name, b"older")
    assert statuses(verify(store, [ObjectVersion(0, "k", beside=Repair(known_checksum=known))], deep=True)) == [status]


GOOD = b"salary of Alice: 1000 EUR per month."
FORGED = with_crc32_of(GOOD, b"salary of Alice: 9999 EUR per month.")


@pytest.mark.parametrize(
    ("algorithm", "sse", "there", "status", "asks_source"),
    [
        ("CRC32", None, GOOD, Status.VERIFIED, False),
        ("CRC32", None, FORGED, Status.DIFFERENT, True),  # another MD5 than the row's ETag
        ("CRC32", KMS, GOOD, Status.VERIFIED, True),  # S3 gives such an object an ETag that looks like an MD5
        ("SHA256", KMS, GOOD, Status.VERIFIED, False),
        ("SHA256", None, FORGED, Status.DIFFERENT, True),
    ],
)
def test_what_an_earlier_run_has_proven_of_the_content_saves_a_look_at_the_source(
    algorithm: str, sse: str | None, there: bytes, status: Status, asks_source: bool
) -> None:
    store = store_of()
    etag = put(store, "here", GOOD, sse).etag
    if sse:
        etag = store._buckets.find("HeadObject", ObjectRef("here", "k")).etag = "1" * 32
    put(store, "there", there)
    known = full_object(algorithm, GOOD)
    row = ObjectVersion(0, "k", size_bytes=len(GOOD), etag=etag, beside=Repair(known_checksum=str(known)))
    asked: list[str] = []

    async def note(request: Request) -> Any:
        asked.append(request.place.bucket)
        return await request()

    store.hook(head=note)
    [outcome] = verify(store, [row], deep=True)
    assert (outcome.status, outcome.detail == "proven", "here" in asked) == (status, not asks_source, asks_source)


@pytest.mark.parametrize("source", ["archived", "gone", "rotten"])
@pytest.mark.parametrize("all_versions", [False, True])
def test_a_copy_that_is_not_what_was_proven_differs_whatever_the_source_is(all_versions: bool, source: str) -> None:
    """It may have rotted to the same."""
    store, rows = store_of(here=True, there=True, default_checksum=None), []
    for at, data in enumerate([b"older", GOOD] if all_versions else [GOOD]):
        written = put(store, "here", data, KMS, storage_class="GLACIER" if source == "archived" else "STANDARD")
        put(store, "there", data, KMS)
        known = f"SHA256:{full_object('SHA256', data).value}"
        row = row_of(written, len(data), row=at, beside=Repair(known_checksum=known))
        rows.append(row._replace(last_modified=float(at), is_latest=data == GOOD))
        if source == "gone":
            asyncio.run(MemoryStore.delete(store, ObjectRef("here", "k", written.version_id)))
    store.rot("there", "k", GOOD[::-1])
    if source == "rotten":
        store.rot("here", "k", GOOD[::-1])
    expected = [*[Status.VERIFIED] * all_versions, Status.DIFFERENT]
    assert statuses(verify(store, rows, all_versions=all_versions, deep=True)) == expected


def test_each_row_has_an_outcome_of_its_own_though_another_names_the_same_version() -> None:
    store = store_of(here=True)
    written = put(store, "here", b"body")
    put(store, "there", b"body")
    rows = [ObjectVersion(0, "k"), ObjectVersion(1, "k", written.version_id)]
    assert [(each.row, each.version_id) for each in verify(store, rows)] == [(0, None), (1, written.version_id)]


@pytest.mark.parametrize(
    ("versions", "there", "status"),
    [
        ((b"older", b"newer"), b"newer", Status.CHANGED),  # a copy that was made since
        ((b"older", b"newer"), b"older", Status.VERIFIED),
        ((b"older", None), b"newer", Status.CHANGED),
        ((b"older",), b"newer", Status.DIFFERENT),
        ((b"older", b"newer"), None, Status.MISSING),
    ],
)
def test_a_version_that_was_superseded_since_proves_nothing_wrong(
    versions: tuple[bytes | None, ...], there: bytes | None, status: Status
) -> None:
    """The destination may be the copy of a newer one, and a retry would take it for damage."""
    store = store_of(here=True)
    first, *_ = [put(store, "here", data) for data in versions]
    if there is not None:
        put(store, "there", there)
    assert statuses(verify(store, [row_of(first)])) == [status]


def test_a_current_version_without_an_id_in_its_answer_is_still_the_rows() -> None:
    """Some servers leave the id out where a request names none."""

    async def terse(request: Request) -> Any:
        info = await request()
        return info if request.place.version_id else replace(info, version_id=None)

    store = store_of(here=True)
    row = row_of(put(store, "here", b"body"))
    put(store, "there", b"ydob")
    store.hook(head=terse)
    assert statuses(verify(store, [row])) == [Status.DIFFERENT]


HISTORIES = [
    ("a -", "a -", "verified verified"),
    ("a - b", "a - b", "verified verified verified"),
    ("a - b", "a b", "verified left verified"),
    ("a - b", "a", "verified missing missing"),
    ("a -", "a", "verified missing"),
    ("a b", "a b a", "verified different"),
    ("a b", "b a b", "verified verified"),
    ("a", "a a", "verified"),
    ("a b", "a x", "verified different"),
    ("a b c", "a x c", "verified different verified"),
    ("a b", "a x x", "verified missing"),
    ("a b", "a", "verified missing"),
    ("a a", "a", "verified missing"),
    ("a b a", "a b", "verified verified missing"),
    ("a", "", "missing"),
    # of a part of its versions: the copies of others are no damage
    ("(a) b c", "a b", "verified missing"),
    ("(a) b c", "b c", "verified verified"),
    ("(a) b (c)", "a", "missing"),
    ("a (b) c", "a b", "verified missing"),
]


@pytest.mark.parametrize(("sse", "deep"), [(None, False), (None, True), (KMS, True)])
@pytest.mark.parametrize(("source", "copies", "expected"), HISTORIES)
def test_each_version_ends_by_the_copy_that_is_its_own(
    source: str, copies: str, expected: str, sse: str | None, deep: bool
) -> None:
    """A letter is an object, `-` a delete marker, `(…)` not asked for. Under KMS no ETag says which copy is whose."""
    store = store_of(here=True, there=True)
    rows: list[ObjectVersion] = []
    for content in source.split():
        data = None if content == "-" else content.strip("()").encode()
        put(store, "here", data, sse)
        if "(" not in content:
            version_id = store.stored("here", "k")[-1].version_id
            rows.append(ObjectVersion(len(rows), "k", version_id, is_delete_marker=data is None))
    for content in copies.split():
        put(store, "there", None if content == "-" else content.encode(), sse)
    outcomes = verify(store, rows, all_versions=True, deep=deep)
    assert " ".join(statuses(outcomes)) == expected
    assert [each.row for each in outcomes] == list(range(len(rows)))


contents = st.lists(st.sampled_from([b"a", b"b", b"c", None]), max_size=6)


@settings(max_examples=examples(100), deadline=None)
@given(contents.filter(len), contents, st.booleans())
def test_a_version_is_verified_only_by_a_copy_of_its_own(
    source: list[bytes | None], copies: list[bytes | None], deep: bool
) -> None:
    store = store_of(here=True, there=True)
    for bucket, history in (("here", source), ("there", copies)):
        for data in history:
            put(store, bucket, data)
    rows = [
        ObjectVersion(at, "k", each.version_id, is_delete_marker=each.is_delete_marker)
        for at, each in enumerate(store.stored("here", "k"))
    ]
    ends = statuses(verify(store, rows, all_versions=True, deep=deep))
    verified = [data for data, end in zip(source, ends, strict=True) if end is Status.VERIFIED]
    for content in (b"a", b"b", b"c"):
        assert verified.count(content) <= copies.count(content)
    if copies and copies[-1] is not None and source[-1] not in (None, copies[-1]):
        assert ends[-1] is not Status.VERIFIED, "readers get another one"
    if source == copies:
        assert {*ends} <= {Status.VERIFIED, Status.LEFT}


@pytest.mark.parametrize(
    ("on_top", "status"),
    [
        (None, Status.MISSING),  # a delete marker
        (b"other", Status.DIFFERENT),
        (b"one", Status.DIFFERENT),  # the copy of an older version
        (b"two!", Status.VERIFIED),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_current_version_whose_copy_is_covered_is_not_verified(
    on_top: bytes | None, status: Status, deep: bool
) -> None:
    store = store_of(here=True, there=True)
    rows = []
    for data in (b"one", b"two!"):
        put(store, "there", data)
        rows.append(row_of(put(store, "here", data), len(data)))
    put(store, "there", on_top)
    whole, covered = verify(store, rows, all_versions=True, deep=deep)
    assert (whole.status, covered.status, covered.size_bytes) == (Status.VERIFIED, status, len(on_top or b""))
    # With a newer version at the source, what lies on top may be its copy.
    put(store, "here", b"newer")
    assert set(statuses(verify(store, rows, all_versions=True, deep=deep))) == {Status.VERIFIED}


@pytest.mark.parametrize(
    ("on_top", "deep", "status"),
    [
        (b"tWo!", False, Status.UNKNOWN),
        (b"two!", True, Status.VERIFIED),
        (b"tWo!", True, Status.DIFFERENT),
        (b"longer", False, Status.DIFFERENT),
    ],
)
def test_a_version_on_top_that_cannot_be_compared_is_not_called_another_one(
    on_top: bytes, deep: bool, status: Status
) -> None:
    """A copy in parts may lie, without checksums on either side, above an earlier copy of the same."""
    store = store_of(here=True, there=True, default_checksum=None)
    put(store, "there", b"two!")
    row = row_of(put(store, "here", b"two!"), 4)

    async def upload() -> None:
        upload_id = await store.create_multipart(ObjectRef("there", "k"), Attributes())
        part = await store.put_part(upload_id, 1, on_top)
        await store.complete_multipart(upload_id, [part], guard=UNGUARDED)

    asyncio.run(upload())
    assert statuses(verify(store, [row], all_versions=True, deep=deep)) == [status]


@pytest.mark.parametrize("sse", [None, KMS])
@pytest.mark.parametrize("deep", [False, True])
def test_a_version_that_is_gone_keeps_no_other_of_its_key_from_being_verified(sse: str | None, deep: bool) -> None:
    store = store_of(here=True, there=True)
    rows = []
    for at in range(3):
        rows.append(row_of(put(store, "here", b"b", sse), 1, row=at, last_modified=float(at), is_latest=at == 2))
    put(store, "there", b"b", sse)
    for row in rows[:2]:
        asyncio.run(MemoryStore.delete(store, ObjectRef("here", "k", row.version_id)))
    ends = verify(store, rows, all_versions=True, deep=deep)
    assert statuses(ends) == [Status.CHANGED, Status.CHANGED, Status.VERIFIED]


def test_one_copy_verifies_one_version_where_the_other_copy_cannot_be_read() -> None:
    dates = itertools.count(1_000)
    store = store_of(here=True, there=True, default_checksum=None, clock=lambda: float(next(dates)))
    rows = []
    for at, data in enumerate((b"b", b"c", b"b")):
        rows.append(row_of(put(store, "here", data, KMS), 1, row=at, last_modified=float(at), is_latest=at == 2))
        put(store, "there", data, KMS, storage_class="STANDARD" if at else "GLACIER")
    ends = verify(store, rows, all_versions=True, deep=True)
    assert statuses(ends) == [Status.UNKNOWN, Status.VERIFIED, Status.VERIFIED]


@pytest.mark.parametrize("below", [b"older copy", b"one"])
@pytest.mark.parametrize(("sse", "is_known"), [(None, False), (None, True), (KMS, False)])
def test_a_copy_that_rotted_in_a_longer_history_is_damaged_and_not_missing(
    below: bytes, sse: str | None, is_known: bool
) -> None:
    """A retry reads what is damaged. What is missing it may find by the ETag and checksums that stayed.

    Under KMS the ETags say nothing, and the stored checksums claim that it is the copy.
    """
    store = store_of(here=True, there=True)
    put(store, "there", below)
    written, copy = put(store, "here", b"two", sse), put(store, "there", b"two", sse)
    store.rot("there", "k", b"tWo")
    known = f"CRC32:{full_object('CRC32', b'two').value}" if is_known else None
    [outcome] = verify(store, [row_of(written, 3, beside=Repair(known_checksum=known))], all_versions=True, deep=True)
    assert (outcome.status, outcome.destination_etag) == (Status.DIFFERENT, copy.etag)
    assert outcome.evidence is Evidence.CONTENT


@pytest.mark.parametrize("sse", [None, KMS])
def test_copies_of_other_versions_of_the_same_size_are_not_called_damaged(sse: str | None) -> None:
    store = store_of(here=True, there=True)
    for data in (b"one", b"thr"):
        put(store, "there", data, sse)
    row = row_of(put(store, "here", b"two", sse), 3)
    assert statuses(verify(store, [row], all_versions=True, deep=True)) == [Status.MISSING]


@pytest.mark.parametrize("all_versions", [False, True])
def test_a_copy_that_is_what_was_proven_keeps_the_checksum_of_the_proof(all_versions: bool) -> None:
    store = store_of(here=True, there=True)
    written = put(store, "here", GOOD)
    put(store, "there", GOOD)
    known = f"SHA256:{full_object('SHA256', GOOD).value}"
    row = row_of(written, len(GOOD), beside=Repair(known_checksum=known))
    [outcome] = verify(store, [row], all_versions=all_versions, deep=True)
    assert (outcome.status, outcome.checksum) == (Status.VERIFIED, known)


def test_a_version_that_vanishes_while_its_tags_are_read_is_looked_for_again() -> None:
    store = store_of(here=True, there=True)
    written = put(store, "here", GOOD, tags={"a": "b"})
    put(store, "there", GOOD, tags={"a": "b"})
    store.hook(get_tags=refuse(NotFound("GetObjectTagging", "it", "NoSuchVersion"), nth(1)))
    [outcome] = verify(store, [row_of(written, len(GOOD))], all_versions=True, compares_tags=True)
    assert outcome.status is Status.VERIFIED
