"""Large copies: processes die in the middle of copies in parts, and others overwrite the sources meanwhile, and
overtake the copies.

Half of the manifests name keys alone, so that an attempt may find another version than the one before it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from jobs.core.model import Location, ObjectVersion
from jobs.core.run import RunSpec
from jobs.errors import StoreError
from jobs.ledger.ledger import Ledger
from jobs.ledger.uploads import ShardUploads
from jobs.replicate.decision import Overwrite
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.runs.worker import Job
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import Store
from jobs.s3.uploads import UploadRecords, abort_unfinished
from tests.doubles.memory_buckets import Version
from tests.simulation.copies.course import ROUTE, Course
from tests.simulation.copies.model import Model
from tests.simulation.copies.schedule import (
    DESTINATION,
    LEDGER,
    Fault,
    Kind,
    Put,
    Schedule,
    Step,
    Where,
    faults_of_answers,
)
from tests.simulation.engine.processes import Process, Request

_WEIGHTS = {
    Kind.KILL: 6, Kind.KILL_AFTER: 8, Kind.KILL_ALL: 3, Kind.STOP: 5, Kind.SOURCE_PUT: 8, Kind.TWIN: 2,
    Kind.REFUSED: 2, Kind.LOST: 3, Kind.HALF: 2, Kind.LATE: 3, Kind.REPEAT: 2, Kind.SLOW: 2, Kind.BURST: 2,
    Kind.DENIED: 1, Kind.TARGET_PUT: 6, Kind.TARGET_MARK: 4, Kind.JUMP: 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeCopySchedule(Schedule):
    """`is_bare`: the manifest has keys and sizes alone."""

    is_bare: bool = False


def make_large_copy_schedule(seed: int) -> LargeCopySchedule:
    """The schedule of a seed."""
    chance = random.Random(seed ^ 0x1A26E)
    keys = [f"{chance.choice('ab')}{number}" for number in range(chance.randint(1, 3))]
    source = [Put(key, chance.choice([17, 24, 31, 40, 56, 80]), chance.randint(1, 9_999)) for key in keys]
    kinds = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=chance.randint(1, 7))
    span = 30 + 14 * len(keys)
    faults = [Fault(chance.randint(8, span), kind, chance.getrandbits(24)) for kind in kinds]
    return LargeCopySchedule(
        seed=seed,
        steps=(Step.REPLICATE,),
        source=tuple(source),
        faults=tuple(sorted([*faults, *_faults_at_parts(seed), *faults_of_answers(seed, span)])),
        overwrite=chance.choice([Overwrite.OLDER, Overwrite.ALWAYS]),
        is_source_versioned=chance.random() < 0.5,
        is_destination_versioned=chance.random() < 0.7,
        default_checksum="CRC64NVME" if chance.random() < 0.7 else None,
        rows_per_shard=chance.randint(1, 3),
        in_flight=chance.randint(1, 3),
        checkpoint_rows=1,
        is_in_order=chance.random() < 0.2,
        is_bare=chance.random() < 0.5,
    )


def _faults_at_parts(seed: int) -> list[Fault]:
    """Sometimes a source is overwritten in the middle of its copy, whose process dies. By dice of its own."""
    dice = random.Random(seed * 7 + 5)
    if dice.random() >= 0.2:
        return []
    where, at = Where("copy_part", DESTINATION), dice.randint(1, 4)
    return [
        Fault(at, Kind.SOURCE_PUT, dice.getrandbits(24), where),
        Fault(at, dice.choice((Kind.KILL_AFTER, Kind.KILL_ALL)), 0, where),
    ]


class LargeCopyModel(Model):
    """Also knows which uploads the ledger says were begun, and when a shard's worker says that it is done."""

    def __init__(self, schedule: Schedule):
        super().__init__(schedule)
        self._recorded: dict[tuple[str, int], set[str]] = defaultdict(set)

    def effect(self, request: Request, before: Version | None, result: Any) -> None:
        super().effect(request, before, result)
        is_record = request.bucket == LEDGER and request.name == "put" and "/uploads/" in request.key
        if is_record and not isinstance(result, StoreError):
            upload_id = msgspec.json.decode(request.arguments[2]).get("upload_id")
            if upload_id is not None:
                self._recorded[request.process.run_id, request.process.shard].add(upload_id)

    def finished(self, process: Process) -> None:
        """Of what was recorded for the shard, only what others are still at work at is left."""
        super().finished(process)
        for upload_id in self._recorded[process.run_id, process.shard]:
            maker = self._uploads.get(upload_id)
            is_at_work = maker is not None and not maker.is_dead and maker.code is None and maker is not process
            if upload_id in self.world.memory.uploads(DESTINATION) and not is_at_work:
                self.demand(upload_id in self._aborts, "no upload is left", f"{process.name} left {upload_id}")

    def _is_left_rightly(self, upload_id: str, process: Process) -> bool:
        """A process that has not done its work leaves what it recorded to the next attempt."""
        return process.code != 0 and upload_id in self._recorded[process.run_id, process.shard]


class LargeCopyCourse(Course):
    """Workers record their uploads, as `sealift worker` does."""

    def _make_model(self) -> Model:
        return LargeCopyModel(self.schedule)

    async def _request(
        self, process: Process, ledger: Ledger, step: Step, run_id: str, earlier: str
    ) -> tuple[RunSpec, list[ObjectVersion]]:
        spec, rows = await super()._request(process, ledger, step, run_id, earlier)
        if isinstance(self.schedule, LargeCopySchedule) and self.schedule.is_bare:
            rows = [row._replace(version_id=None, etag=None, storage_class=None) for row in rows]
        return spec, rows

    def _make_job(self, process: Process, store: Store, spec: RunSpec, ledger: Ledger, budget: ByteBudget) -> Job:
        options = ReplicateOptions.from_dict(spec.options)
        job = Replicate(store, store, ROUTE, options, budget, self._records(process, ledger))
        job.copier = replace(job.copier, clock=process.clock)
        return job

    def _clean_up(self, process: Process, store: Store, ledger: Ledger) -> Callable[[], Awaitable[None]] | None:
        place = Location(ROUTE.destination.bucket, ROUTE.destination.key)
        return partial(abort_unfinished, store, self._records(process, ledger), place)

    def _records(self, process: Process, ledger: Ledger) -> UploadRecords:
        return ShardUploads(ledger, process.run_id, process.shard)


def smaller(schedule: LargeCopySchedule) -> list[LargeCopySchedule]:
    """Schedules with an object less, or a row at a time."""
    kept = [tuple(put for put in schedule.source if put.key != key) for key in schedule.keys]
    fewer = [replace(schedule, source=source) for source in kept if source]
    return [*fewer, replace(schedule, in_flight=1)] if schedule.in_flight > 1 else fewer
