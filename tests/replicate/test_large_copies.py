"""Copies in parts that fail, are killed, and go on: what is sent again, what is believed, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import Conflict, StoreError, Throttled, Unavailable
from jobs.ledger.ledger import Ledger
from jobs.ledger.uploads import ShardUploads
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from jobs.s3.uploads import abort_unfinished
from tests.doubles.memory_store import MemoryStore
from tests.doubles.sized_store import Killed, SizedStore

MIB = 1024 * 1024
TB = 10**12
PLACE = Location("destination", "out/")
ROUTE = Route(Location("source", "in/"), PLACE)
PARTS: dict[str, Any] = {"multipart_threshold_bytes": 6 * MIB, "part_size_bytes": 5 * MIB}
RUN = "20261125T003345Z-replicate-aaaaaa"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    monkeypatch.setattr("jobs.s3.uploads.backoff_seconds", lambda attempt, jitter: 0.0)


class Failing:
    """A store whose requests fail as `fail` says. `asked` has their names."""

    def __init__(self, store: MemoryStore, fail: Callable[[str, tuple[Any, ...]], BaseException | None]):
        self._store, self._fail = store, fail
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            self.asked.append(name)
            if (error := self._fail(name, arguments)) is not None:
                raise error
            return await getattr(self._store, name)(*arguments, **named)

        return call


def make_store(kind: type[MemoryStore] = MemoryStore, **options: Any) -> Any:
    store = kind(**options)
    for bucket in ("source", "destination", "ledger"):
        store.create_bucket(bucket)
    return store


def records_of(store: Any) -> ShardUploads:
    """What a new attempt at the shard knows."""
    return ShardUploads(Ledger(store, Location("ledger", "x")), RUN, 0)


async def replicate(store: Any, row: ObjectVersion, records: ShardUploads, **options: Any) -> Outcome:
    job = Replicate(store, store, ROUTE, ReplicateOptions(**options), ByteBudget(64 * MIB), records)
    [outcome] = await job.process([row])
    return outcome


async def put_source(store: MemoryStore, body: bytes = bytes(11 * MIB), **attributes: Any) -> ObjectVersion:
    written = await store.put("source", "in/k", body, Attributes(**attributes), guard=UNGUARDED)
    info = await store.head(ObjectRef("source", "in/k"))
    return ObjectVersion(0, "in/k", written.version_id, True, False, len(body), written.etag, info.last_modified, "")


def dies_at(name: str, number: int) -> Callable[[str, tuple[Any, ...]], BaseException | None]:
    """A process that is gone when it sends its request number `number` of this name, and ever after."""
    left = [number]

    def fail(operation: str, arguments: tuple[Any, ...]) -> BaseException | None:
        left[0] -= operation == name
        return Killed() if left[0] <= 0 else None

    return fail


def test_a_copy_of_5_tb_that_was_killed_sends_one_percent_again_at_most() -> None:
    async def scene() -> None:
        store = make_store(SizedStore)
        size_bytes = 5 * TB
        store.sizes["source", "in/k"] = size_bytes, "0" * 32 + "-9999"
        row = ObjectVersion(0, "in/k", None, True, False, size_bytes, "0" * 32 + "-9999", 1_700_000_000.0, "STANDARD")
        store.killed_at_bytes = 0.9 * size_bytes
        with pytest.raises(Killed):
            await replicate(store, row, records_of(store))
        store.killed_at_bytes = float("inf")
        outcome = await replicate(store, row, records_of(store))
        assert outcome.status is Status.COPIED
        assert size_bytes <= store.copied_bytes <= 1.01 * size_bytes
        assert store.sizes["destination", "out/k"][0] == size_bytes
        assert store.uploads("destination") == []

    asyncio.run(scene())


def test_an_upload_goes_on_with_the_parts_that_are_there_and_proves_the_copy_as_before() -> None:
    async def scene() -> None:
        store = make_store()
        row = await put_source(store, b"x" * (31 * MIB))
        killed = Failing(store, dies_at("copy_part", 4))
        with pytest.raises(Killed):
            await replicate(killed, row, records_of(store), **PARTS)
        resumed = Failing(store, lambda operation, arguments: None)
        outcome = await replicate(resumed, row, records_of(store), **PARTS)
        assert (outcome.status, resumed.asked.count("copy_part"), resumed.asked.count("create_multipart")) == (
            Status.COPIED, 7 - 3, 0,
        )  # fmt: skip
        assert outcome.evidence.value == "checksum"
        assert (await store.get(ObjectRef("destination", "out/k"))).data == b"x" * (31 * MIB)
        assert await records_of(store).unfinished() == []

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("body", "attributes"),
    [(b"y" * (11 * MIB), {}), (b"x" * (12 * MIB), {}), (b"x" * (11 * MIB), {"metadata": {"other": "1"}})],
)
def test_an_upload_of_another_source_version_is_aborted_and_not_gone_on_with(body: bytes, attributes: Any) -> None:
    async def scene() -> None:
        store = make_store()
        killed = Failing(store, dies_at("copy_part", 3))
        with pytest.raises(Killed):
            await replicate(killed, await put_source(store, b"x" * (11 * MIB)), records_of(store), **PARTS)
        [left] = store.uploads("destination")
        records, row = records_of(store), await put_source(store, body, **attributes)
        assert (await replicate(store, row, records, **PARTS)).status is Status.COPIED
        assert (await store.get(ObjectRef("destination", "out/k"))).data == body
        assert store.uploads("destination") == [left]
        await abort_unfinished(store, records, PLACE)
        assert store.uploads("destination") == []

    asyncio.run(scene())


def test_an_upload_with_a_part_of_another_size_is_aborted() -> None:
    async def scene() -> None:
        store = make_store()
        row = await put_source(store, b"x" * (11 * MIB))
        with pytest.raises(Killed):
            await replicate(Failing(store, dies_at("copy_part", 3)), row, records_of(store), **PARTS)
        [left] = store.uploads("destination")
        await store.put_part("destination", "out/k", left, 2, b"of another's")
        assert (await replicate(store, row, records_of(store), **PARTS)).status is Status.COPIED
        assert (await store.get(ObjectRef("destination", "out/k"))).data == b"x" * (11 * MIB)
        assert store.uploads("destination") == []

    asyncio.run(scene())


def test_uploads_that_this_run_did_not_record_are_left_alone() -> None:
    async def scene() -> None:
        store = make_store()
        row = await put_source(store)
        foreign = await store.create_multipart("destination", "out/k", Attributes())
        other_run = ShardUploads(Ledger(store, Location("ledger", "x")), RUN.replace("aaaaaa", "bbbbbb"), 0)
        with pytest.raises(Killed):
            await replicate(Failing(store, dies_at("copy_part", 2)), row, other_run, **PARTS)
        [_, theirs] = store.uploads("destination")
        records = records_of(store)
        assert (await replicate(store, row, records, **PARTS)).status is Status.COPIED
        await abort_unfinished(store, records, PLACE)
        assert store.uploads("destination") == [foreign, theirs]

    asyncio.run(scene())


def test_a_forged_record_makes_nobody_abort_an_upload_elsewhere() -> None:
    async def scene() -> None:
        store = make_store()
        row = await put_source(store)
        route, killed = Route(ROUTE.source, Location("source", "out/")), Failing(store, dies_at("copy_part", 2))
        elsewhere = Replicate(store, killed, route, ReplicateOptions(**PARTS), ByteBudget(64 * MIB), records_of(store))
        with pytest.raises(Killed):
            await elsewhere.process([row])
        await abort_unfinished(store, records_of(store), PLACE)
        assert len(store.uploads("source")) == 1

    asyncio.run(scene())


@pytest.mark.parametrize("name", ["copy_part", "complete_multipart", "create_multipart", "list_parts"])
@pytest.mark.parametrize("kind", [Throttled, Unavailable])
def test_a_request_that_fails_for_a_moment_is_sent_again_and_nothing_else(name: str, kind: type[StoreError]) -> None:
    async def scene() -> None:
        store = make_store()
        row = await put_source(store)
        with pytest.raises(Killed):
            await replicate(Failing(store, dies_at("copy_part", 2)), row, records_of(store), **PARTS)
        if name == "create_multipart":
            for upload in await records_of(store).unfinished():
                await store.abort_multipart(*upload[:3])
        left = [2]

        def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
            left[0] -= operation == name
            return kind(operation, "k", "InternalError", "", 200) if operation == name and left[0] >= 0 else None

        again = Failing(store, fail)
        assert (await replicate(again, row, records_of(store), **PARTS)).status is Status.COPIED
        counts = {each: again.asked.count(each) for each in ("create_multipart", "copy_part", "complete_multipart")}
        is_new = name == "create_multipart"
        assert counts == {
            "create_multipart": is_new * 3,
            "copy_part": 2 + is_new + 2 * (name == "copy_part"),
            "complete_multipart": 1 + 2 * (name == "complete_multipart"),
        }

    asyncio.run(scene())


def test_a_row_that_is_tried_again_goes_on_with_its_upload() -> None:
    async def scene() -> None:
        store = make_store()
        row, records = await put_source(store, bytes(31 * MIB)), records_of(store)
        down = [True]

        def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
            is_last = operation == "copy_part" and arguments[-1] == 7
            return Unavailable(operation, "k", "InternalError", "", 500) if is_last and down[0] else None

        failing = Failing(store, fail)
        with pytest.raises(Unavailable):
            await replicate(failing, row, records, **PARTS)
        assert len(store.uploads("destination")) == 1
        down[0] = False
        failing.asked.clear()
        assert (await replicate(failing, row, records, **PARTS)).status is Status.COPIED
        assert (failing.asked.count("copy_part"), failing.asked.count("create_multipart")) == (1, 0)

    asyncio.run(scene())


def test_a_part_in_flight_that_survives_an_abort_is_aborted_again() -> None:
    async def scene() -> None:
        store = make_store()
        row = await put_source(store)

        def changes(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
            return Conflict(operation, "k", "Raced", "", 409) if operation == "complete_multipart" else None

        store.survivors = 2
        with pytest.raises(Conflict):
            await replicate(Failing(store, changes), row, records_of(store), **PARTS)
        assert store.uploads("destination") == []

    asyncio.run(scene())


def test_an_upload_that_could_not_be_aborted_is_aborted_at_the_end_of_the_shard() -> None:
    async def scene() -> None:
        store = make_store()
        row, records = await put_source(store), records_of(store)

        def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
            if operation == "complete_multipart":
                return Conflict(operation, "k", "Raced", "", 409)
            return Unavailable(operation, "k", "InternalError", "", 500) if operation == "abort_multipart" else None

        with pytest.raises(Conflict):
            await replicate(Failing(store, fail), row, records, **PARTS)
        assert len(store.uploads("destination")) == 1
        await abort_unfinished(store, records, PLACE)
        assert store.uploads("destination") == []

    asyncio.run(scene())
