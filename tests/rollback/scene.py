"""A bucket with a history in memory, workers that roll it back, and others who write."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.run import RunSpec, Side
from jobs.errors import Conflict, Denied, PreconditionFailed, StoreError, Unavailable
from jobs.ledger.ledger import Ledger
from jobs.rollback.job import Rollback
from jobs.rollback.rules import Step, decide, turn_round
from jobs.runs.kind import Opened
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore, Request

DOCS = Location("docs")
KEYS = "ab"


CONTENT = 5
"""So much of a state is marker, bytes, headers, metadata and tags."""


class Killed(BaseException):
    """The worker's process is gone."""


def state(version: Version) -> tuple[Any, ...]:
    """What a reader gets."""
    kept = version.attributes
    along = (
        kept.headers,
        kept.metadata,
        kept.tags,
        version.storage_class,
        kept.sse,
        kept.kms_key_id,
        version.annotations,
    )
    return version.is_delete_marker, version.data, *map(str, along)


class World:
    """A bucket with a history, a worker, and others who write. `faults`: number of a request → what happens there."""

    def __init__(self, faults: dict[int, str], *, denies_markers: bool = False):
        ids = itertools.count(1)
        self.time, self.requests, self.faults, self.denies_markers = 1.0, 0, faults, denies_markers
        self.store = MemoryStore(clock=lambda: self.time, new_id=lambda: f"v{next(ids)}")
        self.store.create_bucket("docs", object_lock=True)
        self.store.create_bucket("ledger")
        self.rows: list[ObjectVersion] = []
        self.others: dict[str, tuple[Any, ...]] = {}
        self.may_be_taken = False
        """An answer was lost or an error, or a worker killed: an equal write of others may count as the worker's."""
        self.is_dead = False

    def versions(self) -> dict[str, list[Version]]:
        return {key: self.store.stored("docs", key) for key in KEYS}

    async def write(self, key: str, data: bytes | None, attributes: Attributes, *, is_null: bool = False) -> str:
        ref = ObjectRef("docs", key)
        if is_null:
            self.store.suspend_versioning("docs")
        if data is None:
            made: Any = await MemoryStore.delete(self.store, ref)
        else:
            made = await MemoryStore.put(self.store, ref, data, attributes, guard=UNGUARDED)
        self.store.enable_versioning("docs")
        return str(made.version_id)

    async def plan(self, at: float) -> list[ObjectVersion]:
        page = await MemoryStore.list_versions(self.store, "docs", "")
        histories = [list(group)[::-1] for _, group in itertools.groupby(page.entries, key=lambda each: each.key)]
        rows = filter(None, (decide(history, at) for history in histories))
        return [row._replace(row=number) for number, row in enumerate(rows)]

    async def hook(self, request: Request) -> Any:
        """Around each request of the worker."""
        if self.is_dead:
            raise Killed
        self.requests += 1
        fault = self.faults.get(self.requests, "")
        if fault.startswith("others"):
            await self._disturb(fault.removeprefix("others "))
        if fault == "killed before":
            self.is_dead = self.may_be_taken = True
            raise Killed
        if fault == "busy":
            self.may_be_taken = True
            raise Unavailable(request.operation, "k", "InternalError", status=500)
        named = request.arguments.get("ref")
        if self.denies_markers and request.operation == "delete" and named and self._is_marker(named):
            raise Denied("DeleteObject", str(named), "AccessDenied", status=403)
        try:
            answer = await request()
        except StoreError as error:
            error.was_sent_once = True
            raise
        if fault == "killed after":
            self.is_dead = self.may_be_taken = True
            raise Killed
        if fault == "lost":
            self.may_be_taken = True
            raise Unavailable(request.operation, "k", "InternalError", status=500)
        return answer

    def _is_marker(self, ref: ObjectRef) -> bool:
        return any(each.version_id == ref.version_id and each.is_delete_marker for each in self.versions()[ref.key])

    async def _disturb(self, how: str) -> None:
        """Others write: something new, what the worker is about to write, or a delete marker."""
        row = self.rows[self.requests % len(self.rows)]
        wanted = next((each for each in self.versions()[row.key] if each.version_id == row.version_id), None)
        self.time += 1
        if how == "delete" or (how == "the same" and (wanted is None or row.beside.step is Step.HIDE)):  # type: ignore[attr-defined]
            made = await self.write(row.key, None, Attributes())
        elif how == "the same" and wanted is not None:
            made = await self.write(row.key, wanted.data, wanted.attributes)
        else:
            made = await self.write(row.key, f"new {self.requests}".encode(), Attributes())
        self.others[made] = state(self.versions()[row.key][-1])

    def work(self, run_id: str, rows: Sequence[ObjectVersion], *, undo: str | None = None) -> list[Outcome]:
        """Work through the rows as workers do, one after the other where they are killed."""
        self.rows, outcomes = list(rows), list[Outcome]()
        for _ in range(40):
            self.is_dead = False
            self.store.hook(every=self.hook)
            job = job_of(self, run_id, undo=undo)
            try:
                for chain in job.chains(rows):
                    outcomes += asyncio.run(job.process(chain))
                return outcomes
            except (Killed, Unavailable, Conflict, PreconditionFailed):
                outcomes.clear()
            finally:
                self.store.hook(every=None)
        raise AssertionError("the worker never ends")


def job_of(world: World, run_id: str, *, undo: str | None) -> Rollback:
    """One worker's job."""
    spec = RunSpec(run_id, "rollback", 0.0, Side(DOCS), Side(DOCS), "", {"undo": undo, "delete": undo is not None})
    ledger = Ledger(world.store, Location("ledger"))
    return Rollback(Opened(spec, world.store, world.store, ByteBudget(1 << 20), ledger, 8))


def back(outcomes: Sequence[Outcome]) -> list[ObjectVersion]:
    done = [each for each in outcomes if each.status is Status.DONE]
    return [
        ObjectVersion(number, each.key, each.version_id, etag=each.etag, beside=turn_round(each))
        for number, each in enumerate(done)
    ]
