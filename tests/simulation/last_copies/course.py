"""The course of a last-copy schedule: replications, verifications and compactions, then expiries of what they prove.

Real: the jobs as `sealift worker` makes them, the worker, the ledger, tombstones, `--undo`, which runs an expiry takes
as proofs. Stand-ins: processes, planning for few rows, and who types commands.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import jobs.cli.expire
import jobs.expire.plan
from jobs import __version__
from jobs.core.model import Attributes, Location, ObjectVersion
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import ExitCode
from jobs.expire.places import READ_RUNS
from jobs.ledger.ledger import Ledger
from jobs.registry import open_job
from jobs.runs.kind import Opened
from jobs.runs.request import Planned
from jobs.runs.worker import Job
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.conditional_writes import look_first
from jobs.s3.listing import list_all
from jobs.s3.sessions import are_apart
from jobs.s3.store import UNGUARDED, Store
from tests.simulation.archives.course import ArchiveCourse
from tests.simulation.archives.plans import Planner, planned
from tests.simulation.copies import tables
from tests.simulation.copies.course import _row
from tests.simulation.copies.schedule import DESTINATION, LEDGER, PREFIX, SOURCE, Put, Step, content
from tests.simulation.copies.tables import PART_BYTES
from tests.simulation.engine.elsewhere import Elsewhere
from tests.simulation.engine.loop import run_at_once
from tests.simulation.engine.peculiar_memory import PeculiarMemory, twin_of
from tests.simulation.engine.processes import EPOCH, Process, second_of
from tests.simulation.last_copies.books import ROGUE
from tests.simulation.last_copies.model import LastCopyModel
from tests.simulation.last_copies.others import OWN, LastCopyOthers
from tests.simulation.last_copies.schedule import Act, LastCopySchedule, World

ALIAS = "alias-"  # how the second name of a bucket begins
ALONE_GRACE_SECONDS = 1.0
COLD = Location(DESTINATION, "cold/")
_EQUAL = frozenset({
    World.HONEST, World.MUTUAL, World.CYCLE, World.HIDDEN, World.WEAK, World.NULL, World.ALIAS,
    World.ORPHAN, World.LATER,
})  # fmt: skip
"""Worlds in which the copies may be there at the beginning."""
_WAYS = {"back": 1, "round": 2}
"""Which side a run begins at, by the last word of the act; others begin at the first."""


class LastCopyCourse(ArchiveCourse):
    """Plays one schedule; what was wrong is in `model.violations`. `expired`: the latest expire run."""

    schedule: LastCopySchedule
    model: LastCopyModel  # type: ignore[assignment]

    def __init__(self, schedule: LastCopySchedule):
        super().__init__(schedule)
        self.memory = PeculiarMemory.of(self.world.memory)
        self.world.memory, self.memory.ignored = self.memory, schedule.ignored
        self.sides = self._make_sides()
        self.memory.create_bucket(SOURCE, schedule.is_source_versioned)
        self.memory.create_bucket(DESTINATION, schedule.is_destination_versioned)
        self.memory.create_bucket(LEDGER)
        self.memory.create_bucket(ROGUE)
        for bucket in (SOURCE, DESTINATION):
            self.memory.add_name(ALIAS + bucket, bucket)
        self.world.others = self.doers = LastCopyOthers(self)
        self.expired = ""
        self._proofs: dict[int, str] = {}
        self._rots = asyncio.Event()
        """Set when a copy may rot beside a late expiry, or the expiry has ended."""
        self._read_runs: dict[str, list[str]] = {}
        """By expire run, the runs that had ended when it was planned."""
        self._deep_runs: set[str] = set()
        self.model.struck = self._strike
        self._ids = 0

    def _make_model(self) -> Any:
        return LastCopyModel(self.schedule)

    def _make_sides(self) -> tuple[Location, ...]:
        if self.schedule.world is World.CYCLE:
            return tuple(Location(SOURCE, prefix) for prefix in ("x/", "y/", "z/"))
        if self.schedule.is_one_bucket:
            return Location(SOURCE, "x/"), Location(SOURCE, "y/")
        return Location(SOURCE), Location(DESTINATION, PREFIX)

    def copies_of(self, way: int) -> Location:
        """Where the copies of a side's objects are, by the name that the command is given."""
        place = self.sides[(way + 1) % len(self.sides)]
        if self.schedule.world is World.ALIAS and self.schedule.alias_of == SOURCE:
            return Location(ALIAS + SOURCE, self.sides[0].key)
        return (
            place._replace(bucket=ALIAS + place.bucket) if self.schedule.alias_of in (place.bucket, "both") else place
        )

    def _replacements(self) -> list[tuple[Any, str, Any]]:
        return super()._replacements()

    @property
    def now(self) -> float:
        """The world's time."""
        return EPOCH + self.world.loop.now

    def proving(self, way: int) -> str:
        """The latest run that may have proven copies of a side's objects; empty when there is none."""
        return self._proofs.get(way, "")

    def _strike(self, process: Process, key: str) -> None:
        """A delete is on its way, the first: others act at this moment."""
        if self.schedule.strike == "kill":
            self._kill_command(process)
        elif self.schedule.strike == "edit":
            self.doers.write(self.sides[0].bucket, key, b"just now")
        elif self.schedule.strike == "rot":
            self._rots.set()
        elif self.schedule.strike == "hide":
            self.doers.hide_copy(self.schedule.picks[0])

    def _kill_command(self, worker: Process) -> None:
        for each in self.world.processes:
            if each.name.startswith("command") and each.run_id == worker.run_id and each.code is None:
                self.world.kill(each)
                self.model.killed_at[worker.run_id] = self.world.loop.time()
        if self.schedule.is_tied:
            self.world.loop.call_later(0.01, self._end_workers, worker.run_id, context=self.world.outside)

    def _end_workers(self, run_id: str) -> None:
        """The pipe from the command has closed."""
        for each in self.world.processes:
            if each.run_id == run_id and each.shard >= 0 and each.code is None and not each.is_dead:
                stop: Any = each.stop
                if stop is not None:
                    stop(ALONE_GRACE_SECONDS)

    # What is there at the beginning.

    def play(self) -> Any:
        """Run the schedule to its end."""
        self._fill()
        self.world.run_to_end(self._operate(), self._replacements(), self.model)
        return self.model

    def attributes(self) -> Attributes:
        """What users' objects carry."""
        return Attributes(sse="aws:kms") if self.schedule.is_opaque else Attributes()

    def _fill(self) -> None:
        schedule, x, y = self.schedule, self.sides[0], self.sides[1]
        for put in schedule.source:
            self._put(x, put)
        if Act.VERIFY in schedule.acts and Act.REPLICATE not in schedule.acts and schedule.world in _EQUAL:
            has_own = schedule.world is not World.ALIAS or schedule.alias_of != SOURCE
            for side in self.sides[1:] if has_own else ():
                for put in schedule.source:
                    self._put(side, put, is_twin=schedule.world is World.WEAK and put.content % 3 > 0)
        if schedule.world is World.WEAK and Act.REPLICATE in schedule.acts:
            self._put(y, schedule.source[0], is_twin=True)
        if schedule.world is World.CONDITION and schedule.picks[0] % 2:
            self._put(y, schedule.source[0]._replace(content=schedule.source[0].content + 1))
        if schedule.world is World.NULL:
            self.memory.enable_versioning(SOURCE)
            for put in schedule.second:
                self._put(x, put)
        if schedule.world is World.TOMBSTONE:
            self._put(x, Put(OWN, 7, 4_711))
        self.world._setup_clock = None

    def _put(self, side: Location, put: Put, *, is_twin: bool = False) -> None:
        assert self.world._setup_clock is not None
        self.world._setup_clock += 7.0
        data, key, memory = content(put.content, put.size_bytes), side.key + put.key, self.memory
        if is_twin:
            data = twin_of(data, self.schedule.default_checksum or "CRC32") or data
        if put.parts > 1:
            upload = run_at_once(memory.create_multipart(side.bucket, key, self.attributes()))
            size = max(len(data) // put.parts, PART_BYTES)
            cuts = [*range(0, len(data) - size + 1, size)][: put.parts]
            pieces = [data[start:end] for start, end in pairwise([*cuts, len(data)])]
            parts = [
                run_at_once(memory.put_part(side.bucket, key, upload, n, each)) for n, each in enumerate(pieces, 1)
            ]
            run_at_once(memory.complete_multipart(side.bucket, key, upload, parts, guard=UNGUARDED))
        else:
            run_at_once(memory.put(side.bucket, key, data, self.attributes(), guard=UNGUARDED))
        self.model.copies.written(key, data)

    # Who acts.

    async def _operate(self) -> None:
        schedule = self.schedule
        for act, pick, pause_seconds in zip(schedule.acts, schedule.picks, schedule.pauses_seconds, strict=True):
            await asyncio.sleep(pause_seconds)
            if act is Act.MEDDLE:
                self.doers.hide_copy(pick)
            elif act is Act.EDIT:
                self.doers.edit(pick)
            elif act is Act.FORGE:
                self.doers.forge(pick)
            elif act is Act.UNDO:
                self._expired = self.expired
                await self._undo()
            else:
                await self._run(act, pick)
        await self._rest()

    async def _run(self, act: Act, pick: int) -> None:
        if act.value.startswith("expire") and self.schedule.is_suspended:
            self.memory.suspend(SOURCE)
        if act is Act.EXPIRE_AT_ONCE:
            each = (Act.EXPIRE, Act.EXPIRE_BACK, Act.EXPIRE_ROUND)[: len(self.sides)]
            await asyncio.gather(*(self._end(one) for one in each))
        elif act is Act.EXPIRE_LATE:
            self._rots.clear()
            await asyncio.gather(self._end_late(act), self._find_wrong(pick))
        else:
            await self._end(act)

    async def _end_late(self, act: Act) -> None:
        try:
            await self._end(act)
        finally:
            self._rots.set()

    async def _find_wrong(self, pick: int) -> None:
        """A copy rots, and a verification reads all bytes."""
        await self._rots.wait()
        self.doers.flip(pick)
        await self._end(Act.VERIFY_DEEP)

    async def _end(self, act: Act) -> None:
        """Give the command until the run has a report, or is refused."""
        is_expiry, way = act.value.startswith("expire"), _way(act)
        if is_expiry and not self.schedule.by_manifest and not self.proving(way):
            return
        run_id = ""
        for _ in range(3 + len(self.schedule.faults)):
            if run_id not in self.model.rows:
                self._ids += 1
                run_id = f"20231114T22{self._ids // 60:02d}{self._ids % 60:02d}Z-{act.value.split()[0]}-aaaaaa"
                self.model.began(run_id, self.world.loop.time())
                self._deep_runs |= {run_id} if act is Act.VERIFY_DEEP else set()
            command = self.world.spawn(
                f"command {run_id[11:15]}", self._command(cast(Step, act), run_id, ""), run_id=run_id
            )
            await command.ended
            if run_id in self.model.reports:
                break
            if command.code not in (None, int(ExitCode.TRANSIENT)):
                self.model.count(f"refused {command.code}")
                break
            await asyncio.sleep(10.0 if self.schedule.is_tied else 0.1)
        if is_expiry and run_id in self.model.rows:
            self.expired = run_id
        elif run_id in self.model.reports:
            self._proofs[way] = run_id

    # What is planned.

    async def _plan(self, process: Process, ledger: Ledger, step: Any, run_id: str, earlier: str) -> Planned:
        act: Act = step
        if act.value.startswith("expire"):
            return await self._plan_expiry(process, ledger, act, run_id)
        if act is Act.COMPACT:
            store = process.connect()
            spec = replace(self._spec(Step.COMPACT, run_id, ""), source=Side(self.sides[0]))
            planner = Planner(store, ledger, COLD, self.schedule.rows_per_shard)
            return await planner.compact(
                spec, await self._listing(store, self.sides[0], versions=False), all_versions=False
            )
        source, destination = self.sides[_way(act)], self.copies_of(_way(act))
        options: dict[str, Any] = {
            "all_versions": self.schedule.all_versions, "streamed": False, "overwrite": self.schedule.overwrite.value,
            "multipart_threshold_bytes": 40, "part_size_bytes": 24, "deep": act is Act.VERIFY_DEEP,
        }  # fmt: skip
        job, sides = act.value.split()[0], (Side(source), Side(destination))
        spec = RunSpec(run_id, job, second_of(run_id), *sides, "listing", options, None, __version__)
        rows = await self._listing(process.connect(), source, versions=self.schedule.all_versions)
        return await tables.plan(spec, rows, rows_per_shard=self.schedule.rows_per_shard, is_full=False)

    async def _listing(self, store: Store, place: Location, *, versions: bool) -> list[ObjectVersion]:
        rows: list[ObjectVersion] = []
        async with aclosing(list_all(store, place, versions=versions, concurrency=1)) as pages:
            async for page in pages:
                rows += [_row(*each) for each in page]
        return [row for row in rows if not row.key.endswith(OWN)]

    async def _plan_expiry(self, process: Process, ledger: Ledger, act: Act, run_id: str) -> Planned:
        bucket = self.sides[_way(act)].bucket
        # This plan reads no findings, so the workers have to read those of all deep verifications.
        self._read_runs[run_id] = sorted(self.model.reports.keys() - self._deep_runs)
        runs = await self._proving_runs(ledger, bucket, _way(act))
        planner = Planner(process.connect(), ledger, COLD, self.schedule.rows_per_shard)
        latest: dict[tuple[Any, ...], ObjectVersion] = {}
        is_both = act is Act.EXPIRE_BOTH
        source = Side(Location(bucket) if is_both else self.sides[_way(act)])
        destination = self._named_destination(_way(act), runs)
        ways = range(len(self.sides)) if is_both else [_way(act)]
        places = [COLD, *(self.copies_of(way) for way in ways)]
        options = {
            "grace_seconds": self.schedule.grace_seconds, "delete": True, "max_share": 1.0,
            "proofs": [each.run_id for each in runs], "streamed": are_apart(source, destination),
            "copies": [str(each) for each in places],
        }  # fmt: skip
        spec = RunSpec(run_id, "expire", second_of(run_id), source, destination, "asked", options, None, __version__)
        side = self.sides[_way(act)].key
        for run in runs:
            found = await planner.expire(replace(spec, options=options | {"proofs": [run.run_id]}))
            for row in _rows(found):
                if is_both or row.key.startswith(side):
                    latest[row.key, row.version_id, row.etag] = row
        named = {(row.key, row.etag) for row in latest.values() if row.version_id is not None}
        # A row without an id that matches a version which another row names is that row once more.
        rows = [row for row in latest.values() if row.version_id is not None or (row.key, row.etag) not in named]
        plan = planned(spec, planner._even(rows))
        if act is Act.EXPIRE_LATE and self.schedule.strike != "rot":
            self._rots.set()
            await asyncio.sleep(self.schedule.queue_seconds)
        return plan

    def _named_destination(self, way: int, runs: Sequence[RunSpec]) -> Side:
        """Where copies are: as the operator says, whatever the proving runs do."""
        return Side(self.copies_of(way))

    async def _proving_runs(self, ledger: Ledger, bucket: str, way: int) -> list[RunSpec]:
        if self.schedule.by_manifest:
            return await jobs.expire.plan.proving_runs(ledger, bucket)
        return [await jobs.cli.expire._proving_run(ledger, self.proving(way))]

    async def _unhide(self, process: Process, run_id: str) -> int:
        """Where a tombstone is forged, the undo says what it did not do."""
        code = await super()._unhide(process, run_id)
        return 0 if self.schedule.world is World.TOMBSTONE and code == ExitCode.FINDINGS else code

    # How workers reach buckets.

    def _has_leases(self) -> bool:
        return self.schedule.world is World.ORPHAN or super()._has_leases()

    def _connect(self, process: Process) -> Store:
        return look_first(process.connect())

    def _make_job(self, process: Process, store: Store, spec: RunSpec, ledger: Ledger, budget: ByteBudget) -> Job:
        source, destination = (
            Elsewhere(process) if side.endpoint else store for side in (spec.source, spec.destination)
        )
        stores = cast(Store, source), cast(Store, destination)
        read_runs = [(run_id, None) for run_id in self._read_runs.get(spec.run_id, ())]
        plan = Plan(0, 0, (), expiry={READ_RUNS: read_runs})
        return open_job(Opened(self._timed(spec), *stores, budget, ledger, self.schedule.in_flight, plan=plan))


def _way(act: Act) -> int:
    return _WAYS.get(act.value.split()[-1], 0)


def _rows(found: Planned) -> list[ObjectVersion]:
    files = [(found.scratch / f"{number:05d}.parquet").read_bytes() for number in range(len(found.plan.shards))]
    return [row for data in files for row in pickle.loads(data)]
