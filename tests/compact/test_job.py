"""The compact job against a store that fails in every way: no row is lost, no byte is wrong, no archive is two."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archives.index import ArchiveIndex
from jobs.compact.grouping import cut
from jobs.compact.job import NOT_STORED_AS_ASKED, Compact, CompactOptions
from jobs.compact.member_reader import HAS_ANNOTATIONS
from jobs.compact.packing import TOO_BIG, PackingRule, sort_key
from jobs.compact.savings import Economy
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import (
    AuthenticationFailed,
    Conflict,
    Denied,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    StoreError,
    Throttled,
    Unavailable,
)
from jobs.runs.planning import read_price_table
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED, Body, Guard, Written
from tests.archives.samples import read_member
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore

Fault = Callable[[str, ObjectRef], None]
ECONOMY = Economy.of(read_price_table(), "GLACIER_IR", 0.0, None)
RULE = PackingRule(10_000, ArchiveFormat.TAR, members_max=4)


class Faulty(MemoryStore):
    """Asks `fault` before each request and after each write; whatever that raises is the answer."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 1_750_000_000.0)
        self.fault: Fault = lambda moment, ref: None
        self.reads: list[str] = []
        self.held_bytes = 0

    async def get(self, ref: ObjectRef, **more: Any) -> Body:
        self.fault("get", ref)
        body = await super().get(ref, **more)
        if ref.bucket == "docs":
            self.reads.append(ref.key)
        await asyncio.sleep(0)
        return body

    async def put(self, bucket: str, key: str, *given: Any, **more: Any) -> Any:
        self.fault("put", ObjectRef(bucket, key))
        written = await super().put(bucket, key, *given, **more)
        self.fault("after put", ObjectRef(bucket, key))
        return written


def make(
    store: MemoryStore, kind: ArchiveFormat = ArchiveFormat.TAR, budget_bytes: int = 1 << 20, **options: Any
) -> Compact:
    rule = replace(RULE, format=kind, **options)
    return Compact(
        store,
        store,
        Route(Location("docs"), Location("cold", "packed")),
        CompactOptions(rule, ECONOMY),
        ByteBudget(budget_bytes),
        ArchiveIndex(store, Location("ledger")),
        "run",
    )


def filled(objects: dict[str, bytes], **attributes: Any) -> tuple[Faulty, list[ObjectVersion]]:
    store = Faulty()

    async def fill() -> list[ObjectVersion]:
        rows = []
        for number, (key, data) in enumerate(objects.items()):
            made = await store.put("docs", key, data, Attributes(**attributes), guard=UNGUARDED)
            row = ObjectVersion(number, key, made.version_id, size_bytes=len(data), etag=made.etag, last_modified=0.0)
            rows.append(row)
        return sorted(rows, key=sort_key)

    for bucket in ("docs", "cold", "ledger"):
        store.create_bucket(bucket)
    return store, asyncio.run(fill())


def work(job: Compact, rows: Sequence[ObjectVersion]) -> dict[str, Outcome]:
    """The job over all groups, as a worker does it: what may pass is tried again."""

    async def run() -> dict[str, Outcome]:
        outcomes: list[Outcome] = []
        for group in job.chains(rows):
            for attempt in range(5):
                try:
                    outcomes += await job.process(group)
                    break
                except (Unavailable, Conflict, PreconditionFailed):
                    assert attempt < 4
        assert [outcome.row for outcome in outcomes] == [row.row for row in rows]
        return {outcome.key: outcome for outcome in outcomes}

    return asyncio.run(run())


def unpacked(store: MemoryStore) -> dict[str, bytes]:
    """Every member of every indexed archive; no key twice."""

    async def run() -> dict[str, bytes]:
        index = ArchiveIndex(store, Location("ledger"))
        found: dict[str, bytes] = {}
        for record in await index.records():
            async for members in index.members(record.location):
                for member in members:
                    assert member.key not in found
                    found[member.key] = await read_member(store, record, member)
        return found

    return asyncio.run(run())


OBJECTS = {f"k/{n}": bytes([n]) * (100 * n) for n in range(10)}


def failing(key: str, error: type[StoreError], *, times: int = 1 << 30, moment: str = "get") -> Fault:
    left = [times]

    def fault(at: str, ref: ObjectRef) -> None:
        if at == moment and ref.key == key and left[0]:
            left[0] -= 1
            raise error(at, str(ref), error.__name__, "injected", 503 if issubclass(error, Unavailable) else 403)

    return fault


@pytest.mark.parametrize(
    ("error", "status"),
    [(Denied, Status.DENIED), (NotFound, Status.MISSING), (PreconditionFailed, Status.CHANGED)],
)
def test_what_one_object_refuses_is_its_own_outcome(error: type[StoreError], status: Status) -> None:
    store, rows = filled(OBJECTS)
    store.fault = failing("k/5", error)
    outcomes = work(make(store), rows)
    assert outcomes.pop("k/5").status is status
    assert {each.status for each in outcomes.values()} == {Status.PACKED}
    assert unpacked(store) == {key: data for key, data in OBJECTS.items() if key != "k/5"}


def test_a_cold_object_must_be_restored_first() -> None:
    store, rows = filled(OBJECTS, storage_class="GLACIER")
    store.restore(ObjectRef("docs", "k/3", next(row.version_id for row in rows if row.key == "k/3")))
    outcomes = work(make(store), rows)
    assert outcomes.pop("k/3").status is Status.PACKED
    assert {each.status for each in outcomes.values()} == {Status.ARCHIVED}


@pytest.mark.parametrize("error", [Throttled, Unavailable])
def test_what_may_pass_is_asked_for_again(error: type[StoreError], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    store, rows = filled(OBJECTS)
    store.fault = failing("k/5", error, times=3)
    assert {each.status for each in work(make(store), rows).values()} == {Status.PACKED}
    assert unpacked(store) == OBJECTS


def test_one_object_that_never_answers_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    store, rows = filled(OBJECTS)
    store.fault = failing("k/5", Unavailable)
    outcomes = work(make(store), rows)
    assert outcomes.pop("k/5").status is Status.FAILED
    assert {each.status for each in outcomes.values()} == {Status.PACKED}


class Killed(Exception):
    """The process ends here."""


@given(st.data())
@settings(max_examples=examples(60), deadline=None)
def test_killed_at_any_request_it_goes_on_and_reads_no_finished_archive_again(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(ArchiveFormat))
    store, rows = filled(OBJECTS)
    groups = list(cut(rows, RULE))
    left = data.draw(st.integers(0, 45))

    def fault(moment: str, ref: ObjectRef) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1

    store.fault = fault
    with contextlib.suppress(Killed):
        work(make(store, kind), rows)
    store.fault = lambda moment, ref: None

    packed_before = unpacked(store).keys()
    store.reads.clear()
    outcomes = work(make(store, kind), rows)
    assert {each.status for each in outcomes.values()} == {Status.PACKED}
    assert packed_before.isdisjoint(store.reads)
    assert unpacked(store) == OBJECTS

    async def archives() -> list[str]:
        return [entry.key for entry in (await store.list_objects("cold", "")).entries]

    assert len(asyncio.run(archives())) == len(groups)
    assert store.uploads("cold") == []


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


@pytest.mark.parametrize("objects", [OBJECTS, {"a": b"1", "copied": b"c" * (65 << 20), "z": b"2" * (6 << 20)}])
def test_an_archive_that_cannot_be_read_is_known_again_by_its_bytes(objects: dict[str, bytes]) -> None:
    """Glacier: killed between the archive and its index, another attempt cannot read what it finds.

    Of a member that S3 copied itself, nobody here has seen the bytes: S3 says the checksum of the part.
    """
    store, rows = filled(objects)
    job = make(store, target_bytes=1 << 30, members_max=100, budget_bytes=16 << 20)
    job = replace(job, options=replace(job.options, storage_class="GLACIER"))
    outcomes = work(job, rows)
    index = ArchiveIndex(store, Location("ledger"))

    async def lose() -> Any:
        (record,) = await index.records()
        await index.forget(record.location, await index.etag(record.location) or "")
        return record

    record = asyncio.run(lose())
    assert work(job, rows) == outcomes

    async def again() -> Any:
        return await index.records()

    assert asyncio.run(again()) == [record]


@pytest.mark.parametrize("is_damaged", [False, True], ids=["of a lost archive", "damaged"])
def test_nothing_is_packed_where_the_server_keeps_an_index_that_is_wrong(is_damaged: bool) -> None:
    """Its record would say where the members are. Ceph 18.2 refuses each If-Match of a PutObject."""
    store, rows = filled(OBJECTS)
    job, index = make(store), ArchiveIndex(store, Location("ledger"))
    work(job, rows)

    async def damage() -> None:
        for record in await index.records():
            if is_damaged:
                key = f"archives/cold/{record.location.key}.parquet"
                await store.put("ledger", key, b"junk", Attributes(), guard=UNGUARDED)
            else:
                await store.delete(*record.location, version_id=record.version_id)

    asyncio.run(damage())
    put = store.put

    async def refuse(bucket: str, key: str, *given: Any, guard: Guard, **more: Any) -> Written:
        if guard.etag is not None:
            raise PreconditionFailed("PutObject", key, "PreconditionFailed", "", 412)
        written: Written = await put(bucket, key, *given, guard=guard, **more)
        return written

    with mock.patch.object(store, "put", refuse):
        outcomes = work(job, rows).values()
    assert {outcome.status for outcome in outcomes} == {Status.FAILED}
    assert all("delete s3://ledger/archives/cold/packed/" in outcome.reason for outcome in outcomes)
    assert {outcome.status for outcome in work(job, rows).values()} == {Status.PACKED}
    assert unpacked(store) == OBJECTS


def test_an_object_in_the_place_of_an_archive_is_left_there_and_named() -> None:
    """`archives reindex` does not help: the index is whole."""
    store, rows = filled({"k": b"content"})
    job, index = make(store), ArchiveIndex(store, Location("ledger"))
    work(job, rows)
    (record,) = asyncio.run(index.records())
    asyncio.run(store.delete(*record.location, version_id=record.version_id))
    asyncio.run(store.put(*record.location, b"another object", Attributes(), guard=UNGUARDED))
    with pytest.raises(Conflict, match="another object took the place of this archive"):
        asyncio.run(job.process(rows))
    assert asyncio.run(store.get(ObjectRef(*record.location))).data == b"another object"
    asyncio.run(store.delete(*record.location))
    assert {outcome.status for outcome in work(job, rows).values()} == {Status.PACKED}
    assert unpacked(store) == {"k": b"content"}


@pytest.mark.parametrize("is_indexed", [True, False], ids=["indexed", "adopted"])
@pytest.mark.parametrize(
    ("has", "missing"),
    [
        ({"sse": "aws:kms", "kms_key_id": "arn:aws:kms:us-east-1:1:key/one"}, ""),
        ({"sse": "aws:kms", "kms_key_id": "arn:aws:kms:us-east-1:1:key/two"}, "the KMS key"),
        ({"sse": "AES256"}, "encryption with aws:kms"),
        ({}, "encryption with aws:kms"),
    ],
)
def test_an_archive_without_the_encryption_that_is_asked_for_is_kept_and_named(
    is_indexed: bool, has: dict[str, Any], missing: str
) -> None:
    """Somebody may have written it there, or a server may have dropped the encryption."""
    store, rows = filled(OBJECTS)
    store.create_bucket("plain", versioned=False)
    job = make(store)
    job = replace(
        job,
        route=Route(Location("docs"), Location("plain", "packed")),
        options=replace(job.options, sse="aws:kms", kms_key_id="one"),
    )
    work(job, rows)
    index = ArchiveIndex(store, Location("ledger"))

    async def write_again() -> dict[Location, bytes]:
        archives = {}
        for record in await index.records():
            place = record.location
            archives[place] = (await store.get(ObjectRef(*place))).data
            await store.put(place.bucket, place.key, archives[place], Attributes(**has), guard=UNGUARDED)
            if not is_indexed:
                await index.forget(place, await index.etag(place) or "")
        return archives

    async def kept(archives: dict[Location, bytes]) -> bool:
        return all([(await store.get(ObjectRef(*place))).data == data for place, data in archives.items()])

    archives = asyncio.run(write_again())
    store.reads.clear()
    outcomes = work(job, rows).values()
    assert {outcome.status for outcome in outcomes} == {Status.PACKED}
    assert {outcome.reason for outcome in outcomes} == {missing and NOT_STORED_AS_ASKED.format(missing=missing)}
    assert archives
    assert store.reads == []
    assert asyncio.run(kept(archives))


def test_a_server_that_drops_the_encryption_of_an_upload_is_seen_at_once() -> None:
    store, rows = filled({"a": b"a" * (6 << 20), "b": b"b" * (6 << 20)})
    store.drops = frozenset({"sse"})
    job = make(store, target_bytes=1 << 30, budget_bytes=32 << 20)
    outcomes = work(replace(job, options=replace(job.options, sse="aws:kms")), rows).values()
    note = NOT_STORED_AS_ASKED.format(missing="encryption with aws:kms")
    assert {(outcome.status, outcome.reason) for outcome in outcomes} == {(Status.PACKED, note)}


def test_an_object_that_changes_while_it_is_streamed_spoils_nothing() -> None:
    store, rows = filled({"big": b"b" * (20 << 20), "small": b"s"})
    reads = [0]

    def fault(moment: str, ref: ObjectRef) -> None:
        if moment == "get" and ref.key == "big":
            reads[0] += 1
            if reads[0] == 2:
                raise NotFound("GetObject", str(ref), "NoSuchVersion", "", 404)

    store.fault = fault
    outcomes = work(make(store, target_bytes=1 << 30, budget_bytes=32 << 20), rows)
    assert {key: each.status for key, each in outcomes.items()} == {"big": Status.MISSING, "small": Status.PACKED}
    assert unpacked(store) == {"small": b"s"}
    assert store.uploads("cold") == []


def test_a_compaction_that_ends_amid_a_large_object_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is kept until the worker has ended, and with it was kept what it had read."""
    store, rows = filled({"big": b"b" * (20 << 20), "small": b"s"})

    async def refuse(bucket: str, key: str, *given: Any, **more: Any) -> str:
        raise AuthenticationFailed("CreateMultipartUpload", f"s3://{bucket}/{key}", "ExpiredToken", "", 400)

    monkeypatch.setattr(store, "create_multipart", refuse)
    job = make(store, target_bytes=1 << 30, budget_bytes=32 << 20)

    async def end() -> tuple[Exception, int | None]:
        try:
            await job.process(rows)
        except AuthenticationFailed as error:
            return error, job.budget.try_acquire(job.budget.size_bytes)
        raise AssertionError("it packed them")

    assert asyncio.run(end())[1] == job.budget.size_bytes


def test_a_small_budget_is_enough_for_large_and_small_members() -> None:
    objects = {f"k{n}": b"x" * (9 << 20 if n % 3 == 0 else 1 << 20) for n in range(9)}
    store, rows = filled(objects)
    unknown = [row._replace(size_bytes=None, etag=None) for row in rows]
    for asked in (rows, unknown):
        job = make(store, target_bytes=1 << 30, members_max=100, budget_bytes=8 << 20)
        assert {each.status for each in work(job, asked).values()} == {Status.PACKED}


def test_bytes_that_are_not_the_sources_never_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    store, rows = filled(OBJECTS)
    honest = store.get

    async def lying(ref: ObjectRef, **more: Any) -> Body:
        body = await honest(ref, **more)
        return body._replace(data=b"!" * len(body.data)) if ref.key == "k/7" else body

    monkeypatch.setattr(store, "get", lying)
    outcomes = work(make(store), rows)
    assert outcomes.pop("k/7").status is Status.FAILED
    assert {each.status for each in outcomes.values()} == {Status.PACKED}
    assert "k/7" not in unpacked(store)


class Uncounted(Faulty):
    """Does not say how many tags an object has, as S3 to those who may not read them."""

    may_read_tags = False
    asked = 0

    async def get(self, ref: ObjectRef, **more: Any) -> Body:
        body = await super().get(ref, **more)
        return body._replace(info=replace(body.info, tag_count=0))

    async def head(self, ref: ObjectRef, **more: Any) -> Any:
        return replace(await super().head(ref, **more), tag_count=0)

    async def get_tags(self, ref: ObjectRef) -> Any:
        self.asked += 1
        if not self.may_read_tags:
            raise Denied("GetObjectTagging", str(ref), "AccessDenied", "no s3:GetObjectTagging", 403)
        return await super().get_tags(ref)


@pytest.mark.parametrize("may_read_tags", [True, False])
def test_nothing_is_packed_without_its_tags_where_nobody_says_how_many_it_has(may_read_tags: bool) -> None:
    counting, rows = filled(OBJECTS, tags={"claim": "none"})
    store = Uncounted()
    store._buckets, store.may_read_tags = counting._buckets, may_read_tags
    outcomes = work(make(store, members_max=100, target_bytes=1 << 20), rows)
    assert {each.status for each in outcomes.values()} == {Status.PACKED if may_read_tags else Status.DENIED}
    hits = [asyncio.run(ArchiveIndex(store, Location("ledger")).find(key)) for key in OBJECTS]
    assert [hit.member.tags for [hit] in filter(None, hits)] == [{"claim": "none"}] * len(outcomes) * may_read_tags


def test_no_member_has_the_tags_of_what_replaced_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without versions, tags are those of what is there now, and no condition pins them."""
    store = Faulty()
    for bucket in ("docs", "cold", "ledger"):
        store.create_bucket(bucket, versioned=False)
    honest = store.get_tags

    async def late(ref: ObjectRef) -> Any:
        await store.put("docs", "k", b"new", Attributes(tags={"team": "new"}), guard=UNGUARDED)
        return await honest(ref)

    async def put() -> ObjectVersion:
        made = await store.put("docs", "k", b"old", Attributes(tags={"team": "old"}), guard=UNGUARDED)
        return ObjectVersion(0, "k", None, size_bytes=3, etag=made.etag, last_modified=1_750_000_000.0)

    row = asyncio.run(put())
    monkeypatch.setattr(store, "get_tags", late)
    assert work(make(store), [row])["k"].status is Status.CHANGED
    assert unpacked(store) == {}


def test_one_look_shows_that_tags_may_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store, rows = filled(OBJECTS)
    asked: list[ObjectRef] = []

    async def get_tags(ref: ObjectRef) -> dict[str, str]:
        asked.append(ref)
        return {}

    monkeypatch.setattr(store, "get_tags", get_tags)
    work(make(store, members_max=100, target_bytes=1 << 20), rows)
    assert len(asked) == 1


@pytest.mark.parametrize("may_list", [True, False])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_versions_of_a_manifest_that_does_not_say_which_is_the_latest_come_in_their_order(
    monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...], may_list: bool
) -> None:
    """All are of one second, as S3 dates them, so a restore takes the order of the archive."""
    store, _ = filled({})

    async def put() -> list[ObjectVersion]:
        made = [await store.put("docs", "k", b"%d" % n, Attributes(), guard=UNGUARDED) for n in range(4)]
        return [ObjectVersion(row, "k", made[n].version_id) for row, n in enumerate(order)]

    rows = asyncio.run(put())
    if not may_list:

        async def denied(*_: Any, **__: Any) -> Any:
            raise Denied("ListObjectVersions", "s3://docs", "AccessDenied", "no", 403)

        monkeypatch.setattr(store, "list_versions", denied)
    job = make(store)
    job = replace(job, options=CompactOptions.from_dict(job.options.to_dict() | {"old_versions": True}))
    assert {each.status for each in asyncio.run(job.process(rows))} == {Status.PACKED}

    async def packed() -> list[tuple[str | None, bool]]:
        index = ArchiveIndex(store, Location("ledger"))
        (record,) = await index.records()
        return [(each.version_id, each.is_latest) async for part in index.members(record.location) for each in part]

    in_order = sorted(rows, key=lambda row: order[row.row]) if may_list else rows
    assert asyncio.run(packed()) == [(row.version_id, False) for row in in_order]  # the latest is not among them


def unnamed(rows: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    """The rows of a manifest of keys alone."""
    return [row._replace(version_id=None, etag=None, size_bytes=None) for row in rows]


def test_rows_of_a_key_alone_are_asked_for_before_they_count_as_packed() -> None:
    store, rows = filled({"k": b"first", "l": b"other"})
    job = make(store, target_bytes=1 << 30, members_max=100)
    first = work(job, unnamed(rows))
    assert (first["k"].etag, first["k"].status) == (rows[0].etag, Status.PACKED)
    asyncio.run(store.put("docs", "k", b"second", Attributes(), guard=UNGUARDED))
    second = work(job, unnamed(rows))
    assert second["k"].status is Status.PACKED
    assert second["k"].etag != first["k"].etag
    assert second["k"].destination_etag != first["k"].destination_etag
    asyncio.run(store.delete("docs", "l", version_id=None))
    assert work(job, unnamed(rows))["l"].status is Status.MISSING


def test_a_size_that_is_unknown_is_not_zero() -> None:
    store, rows = filled({"k": b"x" * 5_000_000})
    economy = replace(ECONOMY, payback_months=24.0, storage_class="STANDARD")
    job = make(store, target_bytes=1 << 30)
    job = replace(job, options=replace(job.options, economy=economy))
    known, unknown = work(job, rows)["k"], work(job, unnamed(rows))["k"]
    assert (known.status, unknown.status) == (Status.SKIPPED, Status.SKIPPED)
    assert known.reason == unknown.reason


def test_sizes_that_the_manifest_does_not_say_are_asked_for_before_groups_are_cut() -> None:
    store, rows = filled({f"k{n}": b"x" * 6_000 for n in range(3)})
    outcomes = work(make(store), [row._replace(size_bytes=None) for row in rows])
    assert {(each.status, each.size_bytes) for each in outcomes.values()} == {(Status.PACKED, 6_000)}
    assert len({each.destination_etag for each in outcomes.values()}) == 3  # an archive holds 10,000 bytes
    assert work(make(store), rows)["k0"].destination_etag == outcomes["k0"].destination_etag


def test_a_row_without_a_size_is_still_the_version_that_it_names() -> None:
    store, rows = filled({"k": b"first"})
    asyncio.run(store.put("docs", "k", b"second", Attributes(), guard=UNGUARDED))
    pinned = rows[0]._replace(size_bytes=None, version_id=None)
    assert work(make(store), [pinned])["k"].status is Status.CHANGED


def test_rows_that_were_denied_when_their_archive_was_written_get_one_of_their_own() -> None:
    store, rows = filled({f"k{n}": b"data%d" % n for n in range(3)})

    def deny(moment: str, ref: ObjectRef) -> None:
        if (moment, ref.key) == ("get", "k1"):
            raise Denied("GetObject", str(ref), "AccessDenied", "no", 403)

    store.fault = deny
    assert work(make(store), rows)["k1"].status is Status.DENIED
    assert set(unpacked(store)) == {"k0", "k2"}
    again = work(make(store), rows)["k1"]  # the same group, by another attempt: still denied
    assert again.status is Status.DENIED
    assert "it could not be read" not in again.reason
    store.fault = lambda moment, ref: None
    assert {each.status for each in work(make(store), rows).values()} == {Status.PACKED}
    assert unpacked(store) == {f"k{n}": b"data%d" % n for n in range(3)}
    store.reads.clear()
    assert {each.status for each in work(make(store), rows).values()} == {Status.PACKED}


def test_the_class_of_objects_is_weighed_as_it_is_read() -> None:
    """A manifest without a column of classes: packing what is in Deep Archive's class saves nothing."""
    store, rows = filled({f"k{n}": b"x" * 100_000 for n in range(20)}, storage_class="GLACIER_IR")
    economy = replace(ECONOMY, payback_months=1200.0, storage_class="STANDARD_IA")
    job = make(store, target_bytes=1 << 30, members_max=100)
    job = replace(job, options=replace(job.options, economy=economy))
    known, unknown = work(job, [row._replace(storage_class="GLACIER_IR") for row in rows]), work(job, rows)
    assert {each.status for each in known.values()} == {Status.SKIPPED}
    assert {each.status for each in unknown.values()} == {Status.SKIPPED}
    assert unpacked(store) == {}


@pytest.mark.parametrize("error", [Denied, NotFound])
def test_a_large_member_that_is_refused_leaves_the_others_packed(error: type[StoreError]) -> None:
    store, rows = filled({"big": b"b" * (20 << 20), "small": b"s"})

    def fault(moment: str, ref: ObjectRef) -> None:
        if moment == "get" and ref.key == "big":
            raise error("GetObject", str(ref), error.__name__, "no kms:Decrypt", 403)

    store.fault = fault
    outcomes = work(make(store, target_bytes=1 << 30, budget_bytes=32 << 20), rows)
    assert outcomes["big"].status is (Status.DENIED if error is Denied else Status.MISSING)
    assert outcomes["small"].status is Status.PACKED
    assert unpacked(store) == {"small": b"s"}
    assert store.uploads("cold") == []


@pytest.mark.parametrize("error", [Rejected, Unavailable, Redirected])
def test_a_large_member_that_cannot_be_read_is_its_own_outcome(
    error: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key may be disabled (KMS.DisabledException), or a part of it lost: that is no one else's."""
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    store, rows = filled({"big": b"b" * (20 << 20), "small": b"s"})

    def fault(moment: str, ref: ObjectRef) -> None:
        if moment == "get" and ref.key == "big":
            raise error("GetObject", str(ref), "KMS.DisabledException", "the key is disabled", 400)

    store.fault = fault
    outcomes = work(make(store, target_bytes=1 << 30, budget_bytes=32 << 20), rows)
    assert outcomes["big"].status is (Status.DENIED if error is Redirected else Status.FAILED)
    assert "KMS.DisabledException" in outcomes["big"].reason
    assert outcomes["small"].status is Status.PACKED
    assert unpacked(store) == {"small": b"s"}
    assert store.uploads("cold") == []


@pytest.mark.parametrize(
    "attributes",
    [
        Attributes({"content-disposition": b'attachment; filename="caf\xe9"'.decode("utf-8", "surrogateescape")}),
        Attributes(storage_class="lz4-cold.2"),
    ],
    ids=["Latin-1 in a header", "a class of Ceph"],
)
@pytest.mark.parametrize("kind", list(ArchiveFormat))
def test_what_a_server_keeps_of_an_object_never_makes_its_archive_unreadable(
    attributes: Attributes, kind: ArchiveFormat
) -> None:
    store, rows = filled({"a": b"1", "b": b"2"})

    async def put() -> ObjectVersion:
        made = await store.put("docs", "c", b"3", attributes, guard=UNGUARDED)
        return ObjectVersion(2, "c", made.version_id, size_bytes=1, etag=made.etag, last_modified=0.0)

    rows.append(asyncio.run(put()))
    outcomes = work(make(store, kind), rows)
    assert {each.status for each in outcomes.values()} == {Status.PACKED}
    assert unpacked(store) == {"a": b"1", "b": b"2", "c": b"3"}
    [hit] = asyncio.run(ArchiveIndex(store, Location("ledger")).find("c"))
    assert hit.member.headers == attributes.headers
    assert hit.member.storage_class == (attributes.storage_class or "STANDARD")


@pytest.mark.parametrize("size_bytes", [1, 20 << 20])
def test_what_no_reader_of_archives_takes_is_not_packed(size_bytes: int) -> None:
    """One such member would make the index of all its archive unreadable."""
    store, rows = filled({"a": b"1", "odd": b"x" * size_bytes})
    store._buckets.named["docs"].versions["odd"][-1].attributes = Attributes(metadata={"na me": "v"})
    outcomes = work(make(store, target_bytes=1 << 30, budget_bytes=32 << 20), rows)
    assert (outcomes["odd"].status, outcomes["a"].status) == (Status.FAILED, Status.PACKED)
    assert "'na me' is not a name of metadata" in outcomes["odd"].reason
    assert unpacked(store) == {"a": b"1"}


@pytest.mark.parametrize("times", [1, 1 << 30])
def test_a_large_member_whose_bytes_come_altered_is_read_once_more_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    objects = {"big": b"b" * (20 << 20), "small": b"s"}
    store, rows = filled(objects)
    honest, left = store.get, [times]

    async def rotten(ref: ObjectRef, **more: Any) -> Body:
        body = await honest(ref, **more)
        if ref.key != "big" or more.get("start") != 0 or not left[0]:
            return body
        left[0] -= 1
        return body._replace(data=b"!" * len(body.data))

    monkeypatch.setattr(store, "get", rotten)
    outcomes = work(make(store, target_bytes=1 << 30, budget_bytes=32 << 20), rows)
    assert outcomes["small"].status is Status.PACKED
    if times == 1:
        assert outcomes["big"].status is Status.PACKED
        assert unpacked(store) == objects
        return
    assert (outcomes["big"].status, "AlteredContent" in outcomes["big"].reason) == (Status.FAILED, True)
    assert unpacked(store) == {"small": b"s"}


@pytest.mark.parametrize(("error", "status"), [(Rejected, Status.FAILED), (Denied, Status.DENIED)])
def test_an_archive_that_cannot_be_looked_at_holds_up_its_own_rows_alone(
    monkeypatch: pytest.MonkeyPatch, error: type[StoreError], status: Status
) -> None:
    store, rows = filled(OBJECTS)
    work(make(store), rows)
    [first, *_] = [ref for ref in asyncio.run(_archives(store)) if ref.key.startswith("packed/")]
    honest = store.head

    async def refusing(ref: ObjectRef, **more: Any) -> Any:
        if (ref.bucket, ref.key) == ("cold", first.key):
            raise error("HeadObject", str(ref), "KMS.DisabledException", "the key is disabled", 400)
        return await honest(ref, **more)

    monkeypatch.setattr(store, "head", refusing)
    outcomes = work(make(store), rows)
    assert {each.status for each in outcomes.values()} == {Status.PACKED, status}


async def _archives(store: MemoryStore) -> list[ObjectRef]:
    return [ObjectRef("cold", each.key) for each in (await store.list_objects("cold", "")).entries]


@pytest.mark.parametrize("error", [Denied, NotFound, PreconditionFailed])
@pytest.mark.parametrize("first_bytes", [65_536, 6 << 20])
def test_a_member_that_s3_may_not_copy_is_its_own_outcome(
    monkeypatch: pytest.MonkeyPatch, error: type[StoreError], first_bytes: int
) -> None:
    """The copy of a part runs beside what comes after it. Its error belongs to no other member."""
    objects = {"a": b"a" * first_bytes, "b": b"b" * (65 << 20), "c": b"c" * (65 << 20)}
    store, rows = filled(objects)
    honest = store.copy_part

    async def refusing(source: ObjectRef, *given: Any, **named: Any) -> Any:
        if source.key == "b":
            raise error("UploadPartCopy", str(source), error.__name__, "injected", 403)
        return await honest(source, *given, **named)

    monkeypatch.setattr(store, "copy_part", refusing)
    outcomes = work(make(store, target_bytes=1 << 30, members_max=100, budget_bytes=16 << 20), rows)
    status = {Denied: Status.DENIED, NotFound: Status.MISSING, PreconditionFailed: Status.CHANGED}[error]
    assert {key: each.status for key, each in outcomes.items()} == {"a": Status.PACKED, "b": status, "c": Status.PACKED}
    assert store.uploads("cold") == []


def test_an_archive_of_too_few_members_with_the_tag_is_not_written() -> None:
    store, rows = filled({f"k{n}": b"x" * 100_000 for n in range(40)})
    tagged = Attributes(tags={"keep": "yes"})
    row = rows[0]
    made = asyncio.run(store.put("docs", row.key, b"x" * 100_000, tagged, guard=UNGUARDED))
    rows[0] = row._replace(version_id=made.version_id, etag=made.etag)
    economy = replace(ECONOMY, payback_months=1.0, storage_class="DEEP_ARCHIVE")
    job = make(store, target_bytes=1 << 30, members_max=100, tags={"keep": "yes"})
    job = replace(job, options=replace(job.options, economy=economy))
    outcomes = work(job, rows)
    assert {each.status for each in outcomes.values()} == {Status.SKIPPED}
    assert "would not pay" in outcomes[row.key].reason
    assert "has no tag" in outcomes[rows[1].key].reason
    assert unpacked(store) == {}
    assert store.uploads("cold") == []


def test_delete_markers_have_nothing_to_pack() -> None:
    store, rows = filled({"k": b"1"})
    marker = ObjectVersion(1, "l", "v", is_delete_marker=True, last_modified=0.0)
    outcomes = work(make(store), [*rows, marker])
    assert (outcomes["l"].status, outcomes["k"].status) == (Status.SKIPPED, Status.PACKED)


def test_what_no_archive_can_hold_is_skipped_before_a_byte_is_read() -> None:
    """A plan may be older than the rule, and a manifest may lack the size: the worker looks itself."""
    store, rows = filled({"huge": b"in truth it is small"})
    outcomes = work(make(store, target_bytes=1 << 30), [rows[0]._replace(size_bytes=50 << 40)])
    assert (outcomes["huge"].status, outcomes["huge"].reason) == (Status.SKIPPED, TOO_BIG)
    assert (store.reads, unpacked(store)) == ([], {})


def annotate(store: MemoryStore, row: ObjectVersion) -> None:
    ref = ObjectRef("docs", row.key, row.version_id)
    asyncio.run(store.put_annotation(ref, "labels", b"cat", object_etag=row.etag or ""))


@pytest.mark.parametrize("is_large", [False, True])
def test_an_object_with_annotations_is_left_out_by_name(is_large: bool) -> None:
    store, rows = filled({"a": b"1", "b": b"2" * (9 << 20 if is_large else 1), "c": b"3"})
    annotate(store, next(row for row in rows if row.key == "b"))
    outcomes = work(make(store, budget_bytes=32 << 20, target_bytes=64 << 20), rows)
    assert {key: outcome.status for key, outcome in outcomes.items()} == {
        "a": Status.PACKED,
        "b": Status.SKIPPED,
        "c": Status.PACKED,
    }
    assert outcomes["b"].reason == HAS_ANNOTATIONS
    assert set(unpacked(store)) == {"a", "c"}


def test_annotations_that_are_skipped_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store, rows = filled({"a": b"1"})
    annotate(store, rows[0])

    async def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked for annotations")

    monkeypatch.setattr(store, "list_annotations", never)
    job = make(store)
    job = replace(job, options=replace(job.options, annotations="skip"))
    assert work(job, rows)["a"].status is Status.PACKED


def test_an_object_whose_annotations_nobody_may_list_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    store, rows = filled({"a": b"1"})

    async def denied(ref: ObjectRef, **_: Any) -> Any:
        raise Denied("ListObjectAnnotations", str(ref), "AccessDenied", "no", 403)

    monkeypatch.setattr(store, "list_annotations", denied)
    outcome = work(make(store), rows)["a"]
    assert (outcome.status, "ListObjectAnnotations" in outcome.reason) == (Status.DENIED, True)
