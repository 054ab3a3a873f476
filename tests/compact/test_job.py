"""The compact job against a store that fails in every way: no row is lost, no byte is wrong, no archive is two."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.compact.job import Compact
from jobs.compact.packing import PackingRule
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, ObjectRef, ObjectVersion
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
from tests.archives.samples import refuse_if_match
from tests.compact.samples import (
    OBJECTS,
    RULE,
    failing,
    filled,
    grouped,
    index_of,
    lose_index,
    make,
    noting,
    unpacked,
    work,
)
from tests.doubles.examples import examples
from tests.doubles.hooks import once, refuse
from tests.doubles.memory_store import MemoryStore, Request

MIB = 1 << 20
ROOMY = PackingRule(1 << 30, members_max=100)
LARGE = {"big": b"b" * (9 * MIB), "small": b"s"}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


def statuses(outcomes: Mapping[str, Outcome]) -> set[Status]:
    return {each.status for each in outcomes.values()}


def roomy(store: MemoryStore, **options: Any) -> Compact:
    """A job that packs all into one archive."""
    return make(store, budget_bytes=32 * MIB, rule=ROOMY, **options)


Spoil = Callable[[MemoryStore, ObjectRef], object]


def failed(error: type[StoreError], code: str = "") -> Spoil:
    return lambda store, ref: store.hook(get=failing(ref.key, error, code=code))


def altered(change: Callable[[Request, Any], Any]) -> Spoil:
    def spoil(store: MemoryStore, ref: ObjectRef) -> None:
        async def alter(request: Request) -> Any:
            answer = await request()
            return change(request, answer) if request.place.key == ref.key else answer

        store.hook(get=alter, head=alter)

    return spoil


def other_bytes(request: Request, answer: Any) -> Any:
    is_first = request.operation == "get" and not request.arguments["start"]
    return answer._replace(data=b"!" * len(answer.data)) if is_first else answer


def unsent_metadata(request: Request, answer: Any) -> Any:
    """SOAP and POST can give an object metadata that no header holds: x-amz-missing-meta counts it."""
    info = replace(answer if request.operation == "head" else answer.info, unsent_metadata=1)
    return info if request.operation == "head" else answer._replace(info=info)


def odd_metadata(store: MemoryStore, ref: ObjectRef) -> None:
    """One such member would make the index of all its archive unreadable."""
    store._buckets.named["docs"].versions[ref.key][-1].attributes = Attributes(metadata={"na me": "v"})


def annotated(store: MemoryStore, ref: ObjectRef) -> None:
    etag = asyncio.run(store.head(ref)).etag
    asyncio.run(store.put_annotation(ref, "labels", b"cat", object_etag=etag))


@pytest.mark.parametrize("key", LARGE)
@pytest.mark.parametrize(
    ("spoil", "status", "reason"),
    [
        (failed(Denied), Status.BLOCKED, Reason.DENIED),
        (failed(NotFound), Status.MISSING, Reason.SOURCE_GONE),
        (failed(PreconditionFailed), Status.CHANGED, None),
        (failed(Unavailable), Status.BLOCKED, Reason.GIVEN_UP),
        (failed(Rejected, "KMS.DisabledException"), Status.BLOCKED, Reason.REFUSED),
        (failed(Redirected), Status.BLOCKED, Reason.DENIED),
        (altered(other_bytes), Status.BLOCKED, Reason.GIVEN_UP),
        (altered(unsent_metadata), Status.BLOCKED, Reason.UNPACKABLE),
        (odd_metadata, Status.BLOCKED, Reason.UNPACKABLE),
        (annotated, Status.LEFT, Reason.HAS_ANNOTATIONS),
    ],
)
def test_an_object_that_cannot_be_packed_is_its_own_outcome_and_the_others_are_packed(
    key: str, spoil: Spoil, status: Status, reason: Reason | None
) -> None:
    store, rows = filled(LARGE)
    spoil(store, ObjectRef("docs", key, next(row.version_id for row in rows if row.key == key)))
    outcomes = work(roomy(store), rows)
    store.hook(get=None, head=None)
    outcome = outcomes.pop(key)
    assert (outcome.status, outcome.reason) == (status, reason or outcome.reason)
    assert statuses(outcomes) == {Status.DONE}
    assert unpacked(store) == {name: data for name, data in LARGE.items() if name != key}
    assert store.uploads("cold") == []


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
        jobs = [make(store, kind, rule=ROOMY) for _ in range(2)]
        return await asyncio.gather(*(job.process(rows) for job in jobs))

    first, second = asyncio.run(run())
    assert [each[:5] for each in first] == [each[:5] for each in second]
    assert [each.destination_etag for each in first] == [each.destination_etag for each in second]
    assert unpacked(store) == OBJECTS


def test_an_archive_that_cannot_be_read_is_known_again_by_its_bytes() -> None:
    """Glacier: killed between the archive and its index, another attempt cannot read what it finds."""
    store, rows = filled({"a": b"1", "z": b"2" * (6 * MIB)})
    job = roomy(store, storage_class="GLACIER")
    outcomes = work(job, rows)
    index = index_of(store)
    (record,) = asyncio.run(index.records())
    lose_index(store, record)
    assert work(job, rows) == outcomes
    assert asyncio.run(index.records()) == [record]


@pytest.mark.parametrize("is_damaged", [False, True], ids=["of a lost archive", "damaged"])
def test_an_index_that_is_wrong_is_replaced_and_where_the_server_refuses_that_nothing_is_packed(
    is_damaged: bool,
) -> None:
    """Its record would say where the members are."""
    store, rows = filled(OBJECTS)
    job = make(store)
    work(job, rows)
    for record in asyncio.run(index_of(store).records()):
        if is_damaged:
            store.rot("ledger", f"archives/cold/{record.location.key}.parquet", b"junk")
        else:
            asyncio.run(store.delete(ObjectRef(*record.location, record.version_id)))
    store.hook(put=refuse_if_match)
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
    (record,) = asyncio.run(index_of(store).records())
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
    job = roomy(store, sse="aws:kms")
    for _ in range(2):
        outcomes = work(job, rows)
        lack = (Status.DONE, Reason.COPY_INCOMPLETE, "encryption with aws:kms")
        assert {(each.status, each.reason, each.detail) for each in outcomes.values()} == {lack}
        read = noting(store)
    assert read == []


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
        store.hook(get_tags=refuse(Denied("GetObjectTagging", "it", "AccessDenied", "no", 403)))
    outcomes = work(roomy(store), rows)
    assert statuses(outcomes) == {Status.DONE if may_read_tags else Status.BLOCKED}
    records = asyncio.run((index := index_of(store)).records())
    hits = [asyncio.run(index.find(key, records)) for key in OBJECTS]
    assert [hit.member.tags for [hit] in filter(None, hits)] == [{"claim": "none"}] * len(outcomes) * may_read_tags


def test_no_member_has_the_tags_of_what_replaced_it() -> None:
    """Without versions, tags are those of what is there now, and no condition pins them."""
    store = MemoryStore(buckets=("docs", "cold", "ledger"), versioned=False)

    late = partial(store.put, ObjectRef("docs", "k"), b"new", Attributes(tags={"team": "new"}), guard=UNGUARDED)
    made = asyncio.run(store.put(ObjectRef("docs", "k"), b"old", Attributes(tags={"team": "old"}), guard=UNGUARDED))
    store.hook(get_tags=once(late))
    row = ObjectVersion(0, "k", None, size_bytes=3, etag=made.etag, last_modified=1_750_000_000.0)
    assert work(make(store), [row])["k"].status is Status.CHANGED
    assert unpacked(store) == {}


def test_rows_that_were_denied_when_their_archive_was_written_get_one_of_their_own() -> None:
    objects = {f"k{n}": b"data%d" % n for n in range(3)}
    store, rows = filled(objects)
    store.hook(get=failing("k1", Denied))
    for _ in range(2):  # the same group, by another attempt: still denied
        outcomes = work(make(store), rows)
        assert (outcomes.pop("k1").status, statuses(outcomes)) == (Status.BLOCKED, {Status.DONE})
    assert set(unpacked(store)) == {"k0", "k2"}
    store.hook(get=None)
    assert statuses(work(make(store), rows)) == {Status.DONE}
    assert unpacked(store) == objects


def test_refused_credentials_end_the_work_on_a_large_member() -> None:
    store, rows = filled(LARGE)
    store.hook(get=failing("big", AuthenticationFailed, code="ExpiredToken"))
    with pytest.raises(AuthenticationFailed):
        work(roomy(store), rows)


def test_an_object_without_the_tag_is_left() -> None:
    store, rows = filled({"k0": b"x", "k1": b"x"})
    made = asyncio.run(store.put(ObjectRef("docs", "k0"), b"x", Attributes(tags={"keep": "yes"}), guard=UNGUARDED))
    rows[0] = rows[0]._replace(version_id=made.version_id, etag=made.etag)
    outcomes = work(make(store, rule=replace(RULE, tags={"keep": "yes"})), rows)
    assert (outcomes["k0"].status, outcomes["k1"].reason) == (Status.DONE, Reason.TAG_MISSING)
    assert unpacked(store) == {"k0": b"x"}
