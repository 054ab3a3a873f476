"""The compact job against a store that fails in every way: no row is lost, no byte is wrong, no archive is two."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archives.index import ArchiveIndex
from jobs.compact.job import Compact
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import (
    AuthenticationFailed,
    Denied,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    StoreError,
    Throttled,
    Unavailable,
)
from jobs.s3.store import UNGUARDED
from tests.compact.samples import OBJECTS, RULE, failing, filled, grouped, lose_index, make, noting, unpacked, work
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore, Request

MIB = 1 << 20
LARGE = {"big": b"b" * (20 * MIB), "small": b"s"}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


def statuses(outcomes: Mapping[str, Outcome]) -> set[Status]:
    return {each.status for each in outcomes.values()}


def roomy(store: MemoryStore) -> Compact:
    """A job that packs all into one archive."""
    return make(store, target_bytes=1 << 30, members_max=100, budget_bytes=32 * MIB)


def optioned(job: Compact, **options: Any) -> Compact:
    return replace(job, options=replace(job.options, **options))


def refused(outcomes: dict[str, Outcome], key: str) -> Outcome:
    """The outcome of the one object that is not packed."""
    outcome = outcomes.pop(key)
    assert statuses(outcomes) == {Status.DONE}
    return outcome


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Denied, Status.BLOCKED),
        (NotFound, Status.MISSING),
        (PreconditionFailed, Status.CHANGED),
        (Unavailable, Status.BLOCKED),
    ],
)
def test_what_one_object_refuses_is_its_own_outcome(error: type[StoreError], status: Status) -> None:
    store, rows = filled(OBJECTS)
    store.hook(get=failing("k/5", error))
    assert refused(work(make(store), rows), "k/5").status is status
    store.hook(get=None)
    assert unpacked(store) == {key: data for key, data in OBJECTS.items() if key != "k/5"}


def test_a_cold_object_must_be_restored_first() -> None:
    store, rows = filled(OBJECTS, storage_class="GLACIER")
    store.restore(ObjectRef("docs", "k/3", next(row.version_id for row in rows if row.key == "k/3")))
    outcomes = work(make(store), rows)
    assert outcomes.pop("k/3").status is Status.DONE
    assert statuses(outcomes) == {Status.BLOCKED}


@pytest.mark.parametrize("error", [Throttled, Unavailable])
def test_what_may_pass_is_asked_for_again(error: type[StoreError]) -> None:
    store, rows = filled(OBJECTS)
    store.hook(get=failing("k/5", error, times=3))
    assert statuses(work(make(store), rows)) == {Status.DONE}
    assert unpacked(store) == OBJECTS


class Killed(Exception):
    """The process ends here."""


@given(st.data())
@settings(max_examples=examples(8), deadline=None)
def test_killed_at_any_request_it_goes_on_and_reads_no_finished_archive_again(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(ArchiveFormat))
    store, rows = filled(OBJECTS)
    left = data.draw(st.integers(0, 45))

    def spend() -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1

    async def kill(request: Request) -> Any:
        spend()
        answer = await request()
        if request.operation == "put":
            spend()
        return answer

    store.hook(get=kill, put=kill)
    with contextlib.suppress(Killed):
        work(make(store, kind), rows)
    store.hook(get=None, put=None)
    packed_before = unpacked(store).keys()
    read = noting(store)
    assert statuses(work(make(store, kind), rows)) == {Status.DONE}
    assert packed_before.isdisjoint(read)
    assert unpacked(store) == OBJECTS
    assert len(archives(store)) == len(grouped(rows, RULE)[1])
    assert store.uploads("cold") == []


def archives(store: MemoryStore) -> list[ObjectRef]:
    return [ObjectRef("cold", each.key) for each in asyncio.run(store.list_objects("cold", "")).entries]


@pytest.mark.parametrize("kind", ArchiveFormat)
def test_two_workers_at_once_make_one_archive(kind: ArchiveFormat) -> None:
    store, rows = filled(OBJECTS)

    async def run() -> list[list[Outcome]]:
        jobs = [make(store, kind, target_bytes=1 << 30, members_max=100) for _ in range(2)]
        return await asyncio.gather(*(job.process(rows) for job in jobs))

    first, second = asyncio.run(run())
    assert [each[:5] for each in first] == [each[:5] for each in second]
    assert [each.destination_etag for each in first] == [each.destination_etag for each in second]
    assert unpacked(store) == OBJECTS


def test_an_archive_that_cannot_be_read_is_known_again_by_its_bytes() -> None:
    """Glacier: killed between the archive and its index, another attempt cannot read what it finds."""
    store, rows = filled({"a": b"1", "z": b"2" * (6 * MIB)})
    job = optioned(roomy(store), storage_class="GLACIER")
    outcomes = work(job, rows)
    index = job.index
    (record,) = asyncio.run(index.records())
    lose_index(store, record)
    assert work(job, rows) == outcomes
    assert asyncio.run(index.records()) == [record]


def refuse_if_match(store: MemoryStore) -> None:
    """Ceph 18.2 refuses each If-Match of a PutObject."""

    async def refuse(request: Request) -> Any:
        if request.arguments["guard"].etag is not None:
            raise PreconditionFailed("PutObject", request.place.key, "PreconditionFailed", "", 412)
        return await request()

    store.hook(put=refuse)


@pytest.mark.parametrize("is_damaged", [False, True], ids=["of a lost archive", "damaged"])
def test_an_index_that_is_wrong_is_replaced_and_where_the_server_refuses_that_nothing_is_packed(
    is_damaged: bool,
) -> None:
    """Its record would say where the members are."""
    store, rows = filled(OBJECTS)
    job = make(store)
    work(job, rows)
    for record in asyncio.run(job.index.records()):
        if is_damaged:
            store.rot("ledger", f"archives/cold/{record.location.key}.parquet", b"junk")
        else:
            asyncio.run(store.delete(ObjectRef(*record.location, record.version_id)))
    refuse_if_match(store)
    outcomes = work(job, rows)
    assert {(each.status, each.reason) for each in outcomes.values()} == {(Status.BLOCKED, Reason.ARCHIVE_DAMAGED)}
    store.hook(put=None)
    assert statuses(work(job, rows)) == {Status.DONE}
    assert unpacked(store) == OBJECTS


def test_an_object_in_the_place_of_an_archive_is_left_there_and_named() -> None:
    """`archives reindex` does not help: the index is whole."""
    store, rows = filled({"k": b"content"})
    job = make(store)
    work(job, rows)
    (record,) = asyncio.run(job.index.records())
    asyncio.run(store.delete(ObjectRef(*record.location, record.version_id)))
    asyncio.run(store.put(ObjectRef(*record.location), b"another object", Attributes(), guard=UNGUARDED))
    outcome = work(job, rows)["k"]
    assert (outcome.status, outcome.reason) == (Status.BLOCKED, Reason.ARCHIVE_DAMAGED)
    assert "another object has the name of this archive" in outcome.detail
    assert asyncio.run(store.get(ObjectRef(*record.location))).data == b"another object"
    asyncio.run(store.delete(ObjectRef(*record.location)))
    assert statuses(work(job, rows)) == {Status.DONE}
    assert unpacked(store) == {"k": b"content"}


def test_an_archive_without_the_encryption_that_is_asked_for_is_kept_and_named() -> None:
    """Somebody may have written it there, or a server may have dropped the encryption."""
    store, rows = filled({"a": b"a" * (6 * MIB), "b": b"b" * (6 * MIB)})
    store.drops = frozenset({"sse"})
    job = optioned(roomy(store), sse="aws:kms")
    for _ in range(2):
        outcomes = work(job, rows)
        lack = (Status.DONE, Reason.COPY_INCOMPLETE, "encryption with aws:kms")
        assert {(each.status, each.reason, each.detail) for each in outcomes.values()} == {lack}
        read = noting(store)
    assert read == []


@pytest.mark.parametrize("key", ["small", "big"])
def test_bytes_that_are_not_the_sources_never_get_in(key: str) -> None:
    store, rows = filled(LARGE)

    async def lie(request: Request) -> Any:
        body = await request()
        if request.place.key != key or request.arguments["start"]:
            return body
        return body._replace(data=b"!" * len(body.data))

    store.hook(get=lie)
    outcomes = work(roomy(store), rows)
    store.hook(get=None)
    assert refused(outcomes, key).status is Status.BLOCKED
    assert unpacked(store) == {name: data for name, data in LARGE.items() if name != key}


@pytest.mark.parametrize("may_read_tags", [True, False])
def test_nothing_is_packed_without_its_tags_where_nobody_says_how_many_it_has(may_read_tags: bool) -> None:
    """S3 says how many tags an object has only to those who may read them."""
    store, rows = filled(OBJECTS, tags={"claim": "none"})

    async def uncounted(request: Request) -> Any:
        answer = await request()
        if request.operation == "get":
            return answer._replace(info=replace(answer.info, tag_count=0))
        return replace(answer, tag_count=0)

    store.hook(get=uncounted, head=uncounted)
    if not may_read_tags:
        store.hook(get_tags=denied)
    outcomes = work(roomy(store), rows)
    assert statuses(outcomes) == {Status.DONE if may_read_tags else Status.BLOCKED}
    hits = [asyncio.run(ArchiveIndex(store, Location("ledger")).find(key)) for key in OBJECTS]
    assert [hit.member.tags for [hit] in filter(None, hits)] == [{"claim": "none"}] * len(outcomes) * may_read_tags


async def denied(request: Request) -> Any:
    raise Denied(request.operation, str(request.place), "AccessDenied", "no", 403)


def test_no_member_has_the_tags_of_what_replaced_it() -> None:
    """Without versions, tags are those of what is there now, and no condition pins them."""
    store = MemoryStore()
    for bucket in ("docs", "cold", "ledger"):
        store.create_bucket(bucket, versioned=False)

    async def late(request: Request) -> Any:
        await store.put(ObjectRef("docs", "k"), b"new", Attributes(tags={"team": "new"}), guard=UNGUARDED)
        return await request()

    made = asyncio.run(store.put(ObjectRef("docs", "k"), b"old", Attributes(tags={"team": "old"}), guard=UNGUARDED))
    store.hook(get_tags=late)
    row = ObjectVersion(0, "k", None, size_bytes=3, etag=made.etag, last_modified=1_750_000_000.0)
    assert work(make(store), [row])["k"].status is Status.CHANGED
    assert unpacked(store) == {}


def test_rows_that_were_denied_when_their_archive_was_written_get_one_of_their_own() -> None:
    objects = {f"k{n}": b"data%d" % n for n in range(3)}
    store, rows = filled(objects)
    store.hook(get=failing("k1", Denied))
    for _ in range(2):  # the same group, by another attempt: still denied
        assert refused(work(make(store), rows), "k1").status is Status.BLOCKED
    assert set(unpacked(store)) == {"k0", "k2"}
    store.hook(get=None)
    assert statuses(work(make(store), rows)) == {Status.DONE}
    assert unpacked(store) == objects


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Denied, Status.BLOCKED),
        (NotFound, Status.MISSING),
        (Rejected, Status.BLOCKED),
        (Unavailable, Status.BLOCKED),
        (Redirected, Status.BLOCKED),
    ],
)
def test_a_large_member_that_cannot_be_read_leaves_the_others_packed(error: type[StoreError], status: Status) -> None:
    """Its key may be disabled (KMS.DisabledException), or a part of it lost: that is no one else's."""
    store, rows = filled(LARGE)
    store.hook(get=failing("big", error, code="KMS.DisabledException"))
    assert refused(work(roomy(store), rows), "big").status is status
    store.hook(get=None)
    assert unpacked(store) == {"small": b"s"}
    assert store.uploads("cold") == []


def test_refused_credentials_end_the_work_on_a_large_member() -> None:
    store, rows = filled(LARGE)
    store.hook(get=failing("big", AuthenticationFailed, code="ExpiredToken"))
    with pytest.raises(AuthenticationFailed):
        work(roomy(store), rows)


@pytest.mark.parametrize("size_bytes", [1, 20 * MIB])
def test_what_no_reader_of_archives_takes_is_not_packed(size_bytes: int) -> None:
    """One such member would make the index of all its archive unreadable."""
    store, rows = filled({"a": b"1", "odd": b"x" * size_bytes})
    store._buckets.named["docs"].versions["odd"][-1].attributes = Attributes(metadata={"na me": "v"})
    assert refused(work(roomy(store), rows), "odd").status is Status.BLOCKED
    assert unpacked(store) == {"a": b"1"}


def test_an_object_without_the_tag_is_left() -> None:
    store, rows = filled({"k0": b"x", "k1": b"x"})
    made = asyncio.run(store.put(ObjectRef("docs", "k0"), b"x", Attributes(tags={"keep": "yes"}), guard=UNGUARDED))
    rows[0] = rows[0]._replace(version_id=made.version_id, etag=made.etag)
    outcomes = work(make(store, tags={"keep": "yes"}), rows)
    assert (outcomes["k0"].status, outcomes["k1"].reason) == (Status.DONE, Reason.TAG_MISSING)
    assert unpacked(store) == {"k0": b"x"}


@pytest.mark.parametrize("key", LARGE)
def test_an_object_of_which_s3_cannot_send_all_metadata_is_refused(key: str) -> None:
    """SOAP and POST can give an object metadata that no header holds: x-amz-missing-meta counts it."""
    store, rows = filled(LARGE)

    async def unsent(request: Request) -> Any:
        answer = await request()
        info = replace(answer if request.operation == "head" else answer.info, unsent_metadata=1)
        if request.place.key != key:
            return answer
        return info if request.operation == "head" else answer._replace(info=info)

    store.hook(get=unsent, head=unsent)
    outcome = refused(work(roomy(store), rows), key)
    assert (outcome.status, outcome.reason) == (Status.BLOCKED, Reason.UNPACKABLE)
    assert "x-amz-missing-meta" in outcome.detail
    store.hook(get=None, head=None)
    assert unpacked(store) == {name: data for name, data in LARGE.items() if name != key}


def annotated(**objects: bytes) -> tuple[MemoryStore, list[ObjectVersion]]:
    """Objects, of which `b` has an annotation."""
    store, rows = filled(objects)
    row = next(row for row in rows if row.key == "b")
    ref = ObjectRef("docs", row.key, row.version_id)
    asyncio.run(store.put_annotation(ref, "labels", b"cat", object_etag=row.etag or ""))
    return store, rows


@pytest.mark.parametrize("size_bytes", [1, 9 * MIB])
def test_an_object_with_annotations_is_left_out_by_name(size_bytes: int) -> None:
    store, rows = annotated(a=b"1", b=b"2" * size_bytes, c=b"3")
    outcome = refused(work(roomy(store), rows), "b")
    assert (outcome.status, outcome.reason) == (Status.LEFT, Reason.HAS_ANNOTATIONS)
    assert set(unpacked(store)) == {"a", "c"}
