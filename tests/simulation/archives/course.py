"""The course of an archive schedule: compactions, verifications, expiries, undos and restores, one after the other.

Real: the compact, verify-archives, expire, restore and replicate jobs as `sealift worker` makes them, the worker, the
ledger, the index, tombstones, `--undo`, `archives reindex`, concluding a run; in full schedules the commands' planners,
Parquet, the fold and its tables as well. Stand-ins: processes, and who types commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import jobs.expire.deletions_table
from jobs import __version__
from jobs.archives.files import list_archives
from jobs.archives.index import ArchiveIndex
from jobs.cli.archives import _renew
from jobs.compact.job import CompactOptions
from jobs.compact.packing import PackingRule
from jobs.compact.savings import Economy, Prices
from jobs.core.model import Location, ObjectRef, ObjectVersion
from jobs.core.run import RunSpec, Side
from jobs.errors import ExitCode
from jobs.expire.undo import unhide
from jobs.ledger.ledger import Ledger
from jobs.ledger.tombstones import Tombstones
from jobs.registry import open_job
from jobs.restore.thawing import Tier
from jobs.runs.kind import Opened
from jobs.runs.request import Planned
from jobs.runs.worker import Job
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import Store
from tests.simulation.archives import commands
from tests.simulation.archives import tables as archive_tables
from tests.simulation.archives.model import ArchiveModel
from tests.simulation.archives.others import ArchiveOthers
from tests.simulation.archives.plans import Planner, demand_equal
from tests.simulation.archives.schedule import ARCHIVES, ArchiveSchedule
from tests.simulation.copies import tables
from tests.simulation.copies.course import PLACE, Course
from tests.simulation.copies.schedule import DESTINATION, LEDGER, PREFIX, SOURCE, Step
from tests.simulation.engine.processes import EPOCH, Process, second_of

COLD = Location(DESTINATION, ARCHIVES)
_JOBS = {
    Step.COMPACT: "compact", Step.VERIFY_ARCHIVES: "verify", Step.EXPIRE: "expire", Step.RESTORE: "restore",
    Step.RESTORE_AS_OF: "restore", Step.REPLICATE: "replicate",
}  # fmt: skip
SETTLED_SECONDS = 200.0
"""After this no request is under way any more, however slow."""
_PRICES = {"STANDARD": Prices(0.02, 0.005, 0.005, 0.0004, 0.0), "GLACIER_IR": Prices(0.004, 0.02, 0.02, 0.01, 0.03)}


class ArchiveCourse(Course):
    """Plays one schedule; what was wrong is in `model.violations`."""

    schedule: ArchiveSchedule
    model: ArchiveModel
    others: ArchiveOthers

    def __init__(self, schedule: ArchiveSchedule):
        super().__init__(schedule)
        self.world.others = self.others = ArchiveOthers(self.world)
        self.world._setup_clock = EPOCH - schedule.setup_seconds
        self._proving = self._expired = self._retried = ""

    def _make_model(self) -> ArchiveModel:
        return ArchiveModel(self.schedule)

    def _replacements(self) -> list[tuple[Any, str, Any]]:
        world, is_full = self.world, self.schedule.is_full
        own = (
            []
            if is_full
            else [*archive_tables.FAST, (jobs.expire.deletions_table, "write_deletions", _write_deletions)]
        )
        chances = archive_tables.chances(world.loop.time)
        return [*super()._replacements(), *archive_tables.SCALE, *own, *chances]

    # Who types commands.

    async def _operate(self) -> None:
        steps = self.schedule.steps
        for place, (step, pause_seconds) in enumerate(zip(steps, self.schedule.pauses_seconds, strict=True)):
            await asyncio.sleep(pause_seconds)
            if (edit := self.schedule.edits[place]) is not None:
                self.world.others.put(SOURCE, edit)
                self.model.touched(SOURCE, edit.key)
            for lock in self.schedule.locks:
                if lock.step == place and (version := self.others.lock(lock)) is not None:
                    self.model.locks.locked(version, lock.seconds)
            if step is Step.UNDO:
                await self._undo()
            elif self.schedule.gives_up and Step.UNDO in steps[place + 1 : place + 2] and self._proving:
                await self._begin(step)
            elif self._is_possible(step):
                run_id = await self._finish(step, self._proving)
                if run_id is None:
                    break
                await self._follow(step, run_id)
        await self._rest()

    async def _rest(self) -> None:
        """Until no process is at work any more."""
        while any(process.code is None and not process.is_dead for process in self.world.processes):
            await asyncio.sleep(1.0)

    async def _begin(self, step: Step) -> None:
        """Give the command once, whatever comes of it; what is under way then comes to its end."""
        run_id = f"20231114T2213{next(self._numbers):02d}Z-expire-aaaaaa"
        self.model.began(run_id, self.world.loop.time())
        await self.world.spawn("command once", self._command(step, run_id, self._proving), run_id=run_id).ended
        await self._rest()
        await asyncio.sleep(SETTLED_SECONDS)
        if run_id in self.model.rows:
            self._expired = run_id

    def _is_possible(self, step: Step) -> bool:
        """Else the command says at once that there is nothing of the kind."""
        if step is Step.EXPIRE:
            return bool(self._proving)
        folder = f"{PLACE.key}/archives/{DESTINATION}/"
        indexed = [
            key
            for key in self.world.keys(LEDGER)
            if key.startswith(folder) and not self.world.versions(LEDGER, key)[-1].is_delete_marker
        ]
        if step in (Step.RESTORE, Step.RESTORE_AS_OF):
            return bool(indexed)
        there = [key for key in self.world.keys(DESTINATION) if key.startswith(ARCHIVES)]
        return step is not Step.VERIFY_ARCHIVES or bool(indexed or there)

    async def _follow(self, step: Step, run_id: str) -> None:
        """What an operator does when a run has ended."""
        if step in (Step.COMPACT, Step.REPLICATE):
            self._proving = run_id
        elif step is Step.EXPIRE:
            self._expired = run_id
        elif step in (Step.RESTORE, Step.RESTORE_AS_OF) and "thawing" in self.model.reports[run_id]["outcomes"]:
            await asyncio.sleep(3_600.0)
            for key in self.world.keys(DESTINATION):
                for version in self.world.versions(DESTINATION, key):
                    if version.is_restoring:
                        self.world.memory.restore(ObjectRef(DESTINATION, key, version.version_id))
            self._retried = run_id
            await self._finish(step, self._proving)
            self._retried = ""

    async def _undo(self) -> None:
        """`expire --undo`, until it says that nothing is left."""
        if not self._expired:
            return
        for life in range(3 + 2 * len(self.schedule.faults)):
            name = f"undo {life}"
            undo = self.world.spawn(name, partial(self._unhide, run_id=self._expired), run_id=self._expired)
            await undo.ended
            if undo.code == 0:
                return
            await asyncio.sleep(10.0)
        if self.model.deletes.is_left_to_a_person(self._expired):
            self.model.known_limits["a marker of a killed attempt is left to a person"] += 1
        else:
            self.model.violate("a run ends", f"{self._expired} cannot be undone, whatever one does")

    async def _unhide(self, process: Process, run_id: str) -> int:
        tombstones = Tombstones(process.connect(), PLACE, SOURCE, run_id)
        undone = await unhide(process.connect(), tombstones)
        left = [self._why_left(run_id, each.key) for each in undone.problems]
        if left and all(left):
            self.model.known_limits.update(left)
            return 0
        if undone.problems:
            return int(ExitCode.FINDINGS)
        self.model.undone(process, run_id)
        return 0

    def _why_left(self, run_id: str, key: str) -> str:
        """Why a person has to decide about the marker. Empty where the undo should have removed it."""
        if self._is_parted(key):
            return "an upload that began before a marker ended below it: a person removes the marker"
        if self.model.is_hidden_one_taken(run_id, key):
            return "others removed the hidden version, and an older one is below its marker: a person removes it"
        return ""

    def _is_parted(self, key: str) -> bool:
        """Whether a version lies below a marker that was there before it: S3 dates an upload from when it began.

        The ids of the store count what came.
        """
        versions = self.world.versions(SOURCE, key)
        pairs = pairwise(versions)
        return any(above.is_delete_marker and str(below.version_id) > str(above.version_id) for below, above in pairs)

    async def _retry(self, command: Process) -> None:
        """An index that cannot be read is made anew, until that has been done to its end."""
        is_needed = any(each.code == ExitCode.CONFIG for each in self.world.processes if each.run_id == command.run_id)
        while is_needed:
            reindex = self.world.spawn("reindex", self._reindex)
            await reindex.ended
            is_needed = reindex.code != 0

    async def _reindex(self, process: Process) -> int:
        index, store = ArchiveIndex(process.connect(), PLACE), process.connect()
        archives = [archive async for archive in list_archives(store, COLD)]
        for archive in archives:
            if "restore the archive there" in (await _renew(index, store, archive)).problem:
                self.world.memory.restore(ObjectRef(archive.bucket, archive.key))
                await _renew(index, store, archive)
        for lost in self.model.holdings.unreadable() - {archive.key for archive in archives}:
            self.model.known_limits["the damaged index of an archive that is gone was removed by hand"] += 1
            place = Location(DESTINATION, lost)
            await index.forget(place, await index.etag(place) or "")
        return 0

    # What is asked.

    async def _plan(self, process: Process, ledger: Ledger, step: Step, run_id: str, earlier: str) -> Planned:
        if step is Step.REPLICATE:
            return await super()._plan(process, ledger, step, run_id, earlier)
        spec, store = self._spec(step, run_id, earlier), process.connect()
        if not self.schedule.is_full:
            return await self._plan_purely(step, spec, store, ledger)
        memory: Any = self.world.memory
        aside = Ledger(memory, PLACE)
        before = await self._plan_purely(step, spec, memory, aside)
        real = await commands.plan(spec, process, ledger, self.schedule)
        after = await self._plan_purely(step, spec, memory, aside)
        demand_equal(real, before, after)
        return real

    async def _request(self, *asked: Any) -> tuple[RunSpec, list[ObjectVersion]]:
        spec, rows = await super()._request(*asked)
        options = dict(spec.options) | {"multipart_threshold_bytes": 40, "part_size_bytes": 24}
        return replace(spec, options=options), rows

    async def _plan_purely(self, step: Step, spec: RunSpec, store: Store, ledger: Ledger) -> Planned:
        planner = Planner(store, ledger, COLD, self.schedule.rows_per_shard)
        all_versions = self.schedule.all_versions
        if step is Step.COMPACT:
            return await planner.compact(spec, await planner.listing(versions=all_versions), all_versions=all_versions)
        if step is Step.VERIFY_ARCHIVES:
            return await planner.verify(spec)
        if step is Step.EXPIRE:
            return await planner.expire(spec)
        asked: Sequence[ObjectVersion] | None = None
        if self._retried:
            place = Location.parse(self.model.reports[self._retried]["failures_manifest"])
            data = (await store.get(ObjectRef(*place))).data
            asked = tables.read_failures(data)
        return await planner.restore(spec, asked)

    def _spec(self, step: Step, run_id: str, earlier: str) -> RunSpec:
        schedule = self.schedule
        source, archives = Side(Location(SOURCE)), Side(COLD)
        destination, options = archives, dict[str, Any]()
        if step is Step.COMPACT:
            rule = PackingRule(
                schedule.target_bytes, schedule.kind, {"tag": "7"} if schedule.with_tag else {}, schedule.members_max
            )
            economy = Economy(_PRICES, schedule.archive_class, EPOCH, schedule.payback_months)
            packing = CompactOptions(rule, economy, schedule.archive_class).to_dict()
            options = packing | {"payback_months": schedule.payback_months, "streamed": schedule.streamed}
        elif step is Step.VERIFY_ARCHIVES:
            source, options = archives, {"archives": True, "sample": None, "rotate": False}
        elif step is Step.EXPIRE:
            options = {"grace_seconds": schedule.grace_seconds, "delete": schedule.deletes, "max_share": 1.0}
            options |= {"proofs": [earlier], "streamed": False, "claimed": False}
            options |= {"copies": [str(Location(DESTINATION))]}
            destination = Side(Location(DESTINATION, self._prefix_of(earlier)))
        else:
            is_history = step is Step.RESTORE_AS_OF
            source = source if is_history else archives
            destination = Side(Location(SOURCE) if schedule.in_place else Location(DESTINATION, PREFIX))
            options = {
                "archives": archives.to_dict(), "is_history": is_history, "bucket": None,
                "at": EPOCH + schedule.at_seconds if is_history else None, "in_place": True, "source_prefix": "",
                "tier": Tier.BULK.value, "days": 3, "storage_class": "keep" if schedule.deep else "STANDARD",
                "sse": None, "kms_key_id": None, "multipart_threshold_bytes": 40, "part_size_bytes": 24,
                "requester_pays": False, "streamed": False,
            }  # fmt: skip
        return RunSpec(
            run_id, _JOBS[step], second_of(run_id), source, destination, "asked", options,
            self._retried or None, __version__,
        )  # fmt: skip

    def _prefix_of(self, run_id: str) -> str:
        return ARCHIVES if self.model.specs[run_id]["job"] == "compact" else PREFIX

    def _make_job(self, process: Process, store: Store, spec: RunSpec, ledger: Ledger, budget: ByteBudget) -> Job:
        return open_job(Opened(self._timed(spec), store, store, budget, ledger, self.schedule.in_flight))

    def _timed(self, spec: RunSpec) -> RunSpec:
        """With the time at which it was planned: the seconds in its id are made up."""
        return replace(spec, created_at=EPOCH + self.model.starts[spec.run_id])


async def _write_deletions(ledger: Ledger, run_id: str, plan: Any) -> dict[str, Any]:
    """Without the tables."""
    return {"parquet": None, "csv": None, "rows": 0, "bytes": 0, "shown": []}
