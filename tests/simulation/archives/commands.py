"""The real planners of the archive commands, for full schedules: what their stores and clocks are, comes from here."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import jobs.archives.unindexed
import jobs.compact.plan
import jobs.expire.plan
import jobs.restore.candidates
import jobs.restore.left_out
import jobs.restore.plan
import jobs.restore.pricing
import jobs.runs.request
import jobs.verify.archives_plan
from jobs.config import Settings
from jobs.core.model import Location, ObjectRef
from jobs.core.run import RunSpec
from jobs.core.selection import Selection
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Planned, Planner, Request, failures_of
from tests.doubles.silent_display import SILENT
from tests.simulation.archives.schedule import ArchiveSchedule
from tests.simulation.copies.tables import replaced
from tests.simulation.engine.processes import Connection, Process

_real_failures_of = failures_of


class Opened(Connection):
    """A store that a command opens and closes."""

    async def close(self) -> None:
        """Nothing to release."""

    def region_of(self, bucket: str) -> str | None:
        """No server here has regions."""
        return None


async def plan(spec: RunSpec, process: Process, ledger: Ledger, schedule: ArchiveSchedule) -> Planned:
    """What the command plans; the run keeps the id and the options of `spec`."""
    versions = "all" if spec.job != "compact" or schedule.all_versions else "current"
    request = Request(
        job=spec.job,
        source=spec.source,
        destination=spec.destination,
        manifest=spec.retry_of and f"run:{spec.retry_of}",
        selection=Selection(versions=versions),
        options=dict(spec.options),
        retry_of=spec.retry_of,
    )
    planners: dict[str, Planner] = {
        "compact": jobs.compact.plan.plan_run,
        "verify": jobs.verify.archives_plan.plan_run,
        "expire": jobs.expire.plan.plan_run,
        "restore": jobs.restore.plan.plan_run,
    }
    settings = Settings(None, "local", 1, 4, 3, 2.0, 60.0, 1_000_000, schedule.rows_per_shard)
    clock = SimpleNamespace(time=process.clock, strftime=time.strftime, gmtime=time.gmtime)

    async def failures_of(ledger: Ledger, run_id: str) -> str:
        """Boto3 would read it from S3."""
        place = Location.parse(await _real_failures_of(ledger, run_id))
        path = Path(folder) / "failures.parquet"
        path.write_bytes((await ledger.store.get(ObjectRef(*place))).data)
        return str(path)

    def open_side(*given: Any, **named: Any) -> Any:
        return Opened(process)

    openers = (
        jobs.runs.request,
        jobs.compact.plan,
        jobs.expire.plan,
        jobs.verify.archives_plan,
        jobs.restore.pricing,
        jobs.restore.candidates,
        jobs.archives.unindexed,
        jobs.restore.left_out,
    )
    places: list[tuple[Any, str, Any]] = [(module, "open_side", open_side) for module in openers]
    places += [(module, "failures_of", failures_of) for module in (jobs.runs.request, jobs.restore.candidates)]
    places.append((jobs.runs.request, "time", clock))
    with TemporaryDirectory() as folder, replaced(places):
        planned = await planners[spec.job](request, ledger, settings, SILENT)
    return replace(planned, spec=spec)
