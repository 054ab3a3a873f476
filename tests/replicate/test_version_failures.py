"""One version of a key that cannot be read or compared: what becomes of the others, and of their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import ArchivedObject, Denied, StoreError, Throttled, Unavailable
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.runs.failure_count import TRIES
from jobs.s3.byte_ranges import READ_AHEAD, ByteBudget
from jobs.s3.lookup import key_history
from jobs.s3.retries import TRIES as RETRIES
from jobs.s3.store import UNGUARDED
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.memory_store import MemoryStore

ROUTE = Route(Location("here"), Location("there"))
BODIES = [b"version 1", b"version 2", b"version 3", b"version 4"]


def broken(ref: ObjectRef) -> StoreError:
    return Unavailable("GetObject", str(ref), "InternalError", "we encountered an internal error", 500)


def silent(ref: ObjectRef) -> StoreError:
    return Unavailable("GetObject", str(ref), "ConnectionLost", "no answer", 0)


def busy(ref: ObjectRef) -> StoreError:
    return Throttled("GetObject", str(ref), "SlowDown", "please reduce your request rate", 503)


def denied(ref: ObjectRef) -> StoreError:
    return Denied("GetObject", str(ref), "AccessDenied", "because", 403)


def archived(ref: ObjectRef) -> StoreError:
    return ArchivedObject("GetObject", str(ref), "InvalidObjectState", "because", 403)


class Store(MemoryStore):
    """A bucket and that of its copies. `fails`: version id → the error of each read of it.

    `in_parts`: objects come in parts and without checksums, so that their bytes alone can be compared.
    """

    def __init__(self, *, in_parts: bool = False) -> None:
        super().__init__(minimum_part_bytes=1, default_checksum=None if in_parts else "CRC64NVME")
        self.in_parts, self.fails = in_parts, dict[str | None, Callable[[ObjectRef], StoreError]]()
        self.reads = 0
        for bucket in ("here", "there"):
            self.create_bucket(bucket, versioned=True)

    async def get(self, ref: ObjectRef, **more: Any) -> Any:
        self.reads += 1
        self._check(ref)
        return await super().get(ref, **more)

    async def copy(self, source: ObjectRef, *arguments: Any, **named: Any) -> Any:
        self._check(source)
        return await super().copy(source, *arguments, **named)

    def _check(self, ref: ObjectRef) -> None:
        if fail := self.fails.get(ref.version_id):
            raise fail(ref)

    async def add(self, *bodies: bytes) -> None:
        for body in bodies:
            if not self.in_parts:
                await self.put("here", "k", body, Attributes(), guard=UNGUARDED)
                continue
            upload = await self.create_multipart("here", "k", Attributes())
            part = await self.put_part("here", "k", upload, 1, body)
            await self.complete_multipart("here", "k", upload, [part], guard=UNGUARDED)

    async def rows(self) -> list[ObjectVersion]:
        return [
            ObjectVersion(
                row, "k", each.version_id, each.is_latest, False, each.size_bytes, each.etag, each.last_modified
            )
            for row, each in enumerate(await key_history(self, "here", "k"))
        ]

    async def bodies_there(self) -> list[bytes]:
        """The destination's versions, oldest first, as its disk has them."""
        history, fails, self.fails = await key_history(self, "there", "k"), self.fails, {}
        bodies = [(await self.get(ObjectRef("there", "k", each.version_id))).data for each in history]
        self.fails = fails
        return bodies

    async def fail_copy(self, place: int, how: Callable[[ObjectRef], StoreError]) -> None:
        self.fails[(await key_history(self, "there", "k"))[place].version_id] = how

    def replicate(self, **options: Any) -> Replicate:
        return Replicate(self, self, ROUTE, ReplicateOptions(all_versions=True, **options), ByteBudget(1 << 20))


async def work(job: Replicate | Verify, rows: list[ObjectVersion]) -> list[Outcome]:
    """As the worker does."""
    for _ in range(TRIES - 1):
        try:
            return await job.process(rows)
        except Unavailable:
            continue
    return await job.process_last(rows)


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [each.status.value for each in outcomes]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_unreadable_version_does_not_keep_newer_ones_from_being_copied(streamed: bool) -> None:
    store = Store()
    await store.add(*BODIES)
    rows = await store.rows()
    store.fails[rows[1].version_id] = broken
    outcomes = await work(store.replicate(streamed=streamed), rows)
    assert statuses(outcomes) == ["same", "failed", "copied", "copied"]  # an earlier try copied the first
    assert outcomes[1].reason.startswith(f"gave up after {TRIES} tries: GetObject ")
    assert await store.bodies_there() == [BODIES[0], BODIES[2], BODIES[3]]
    again = await work(store.replicate(streamed=streamed), rows)
    assert statuses(again) == ["same", "changed", "same", "same"]


@pytest.mark.parametrize(("piece_bytes", "reads_max"), [(1 << 20, 1), (8, 2 * READ_AHEAD * RETRIES)])
async def test_a_stream_whose_every_read_fails_reads_no_further(
    monkeypatch: pytest.MonkeyPatch, piece_bytes: int, reads_max: int
) -> None:
    """Each piece of a part was tried to the end, one after the other, though the first had failed."""
    monkeypatch.setattr("jobs.s3.multipart_copy.STREAM_PART_BYTES", piece_bytes)

    store = Store(in_parts=True)
    await store.add(b"x" * 512)  # one part
    rows = await store.rows()
    store.fails[rows[0].version_id] = broken
    options = ReplicateOptions(all_versions=True, streamed=True)
    job = Replicate(store, store, ROUTE, options, ByteBudget(1 << 24))  # which holds a part
    with pytest.raises(Unavailable, match="internal error"):
        await job.process(rows)
    assert 1 <= store.reads <= reads_max


async def test_a_version_that_rotted_is_damaged_and_newer_ones_are_streamed() -> None:
    store = Store()
    await store.add(*BODIES[:2])
    store.rot("here", "k", b"VERSION 2")
    await store.add(*BODIES[2:])
    outcomes = await store.replicate(streamed=True).process(await store.rows())
    assert statuses(outcomes) == ["copied", "damaged", "copied", "copied"]
    assert await store.bodies_there() == [BODIES[0], BODIES[2], BODIES[3]]


@pytest.mark.parametrize("how", [silent, busy])
async def test_a_server_that_is_silent_or_busy_costs_no_version_its_place(
    how: Callable[[ObjectRef], StoreError],
) -> None:
    store = Store()
    await store.add(*BODIES)
    rows = await store.rows()
    store.fails[rows[1].version_id] = how
    with pytest.raises(Unavailable):
        await work(store.replicate(), rows)
    assert await store.bodies_there() == [BODIES[0]]
    store.fails.clear()
    assert statuses(await work(store.replicate(), rows)) == ["same", "copied", "copied", "copied"]


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        (broken, "failed", "gave up"),
        (denied, "denied", "GetObject s3://there/k"),
        (archived, "archived", "the copy must be restored"),
    ],
)
async def test_a_copy_that_cannot_be_compared_is_covered_by_newer_versions_only(
    how: Callable[[ObjectRef], StoreError], status: str, reason: str
) -> None:
    """Only the bytes could tell. It may be the copy of any version of its size."""

    store = Store(in_parts=True)
    await store.add(*BODIES[:3])
    assert statuses(await work(store.replicate(), await store.rows())) == ["copied"] * 3
    await store.fail_copy(2, how)
    outcomes = await work(store.replicate(), await store.rows())
    assert statuses(outcomes) == ["same", "same", status]
    assert outcomes[2].reason.startswith(reason)
    assert await store.bodies_there() == BODIES[:3]
    await store.add(BODIES[3] + b", longer")
    assert statuses(await work(store.replicate(), await store.rows())) == ["same", "same", status, "copied"]
    assert await store.bodies_there() == [*BODIES[:3], BODIES[3] + b", longer"]


async def test_no_older_version_is_put_above_a_copy_that_cannot_be_compared() -> None:
    store = Store(in_parts=True)
    await store.add(b"one", b"seven", b"fifteen")
    rows = await store.rows()
    await work(store.replicate(), [rows[0]])
    await store.put("there", "k", b"fifteen", Attributes(), guard=UNGUARDED)  # the second is missing
    await store.fail_copy(1, broken)
    outcomes = await work(store.replicate(), rows)
    assert statuses(outcomes) == ["same", "failed", "failed"]
    assert outcomes[1].reason.startswith("a newer version may be at the destination already")
    assert await store.bodies_there() == [b"one", b"fifteen"]


async def test_each_version_is_verified_beside_one_that_cannot_be_read() -> None:
    store = Store()
    await store.add(*BODIES)
    rows = await store.rows()
    await work(store.replicate(), rows)
    await store.fail_copy(1, broken)
    job = Verify(store, store, ROUTE, VerifyOptions(all_versions=True, deep=True), ByteBudget(1 << 20))
    outcomes = await work(job, rows)
    assert statuses(outcomes) == ["verified", "failed", "verified", "verified"]
    assert outcomes[1].status is Status.FAILED
    await store.fail_copy(1, silent)
    with pytest.raises(Unavailable):
        await work(job, rows)
