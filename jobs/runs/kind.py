"""Kinds of work: what the engine has to know of each, one record per kind.

Each record is in the package of its work (`kind.py`), and `jobs.registry` finds it.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from msgspec import Struct, field

from jobs.core.display import shown
from jobs.core.model import Route
from jobs.core.outcome import GOOD
from jobs.core.rate_limits import RateLimits
from jobs.core.run import Plan, RunSpec
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Planned, Planner
from jobs.runs.worker import Job
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.condition_trial import OF_COPIES, OF_STREAMS
from jobs.s3.gated_store import Throttle
from jobs.s3.operations import Operation
from jobs.s3.store import Store
from jobs.s3.uploads import NO_RECORDS, UploadRecords
from jobs.tables.rows import ReadBeside, read_repairs


async def no_look() -> None:
    """Of a job that works for no owner."""


class Opened(Struct, frozen=True):
    """What the job of one worker works with.

    `in_flight`: requests at once. `records`: of the multipart uploads that it begins. `throttle`:
    the run's rate limits, for stores that the job opens itself. `plan`: the run's. None: the worker
    does not know it. `look_at_owner` raises TakenOver if the run has another owner.
    """

    spec: RunSpec
    source: Store
    destination: Store
    budget: ByteBudget
    ledger: Ledger
    in_flight: int
    records: UploadRecords = NO_RECORDS
    throttle: Throttle = field(default_factory=lambda: Throttle(RateLimits()))
    plan: Plan | None = None
    look_at_owner: Callable[[], Awaitable[None]] = no_look

    @property
    def route(self) -> Route:
        """The locations of the source and the destination."""
        return Route(self.spec.source.location, self.spec.destination.location)


def bad_outcomes(report: Mapping[str, Any]) -> dict[str, int]:
    """The outcomes of a report that are not good ones, with their rows."""
    return {status: rows for status, rows in report["outcomes"].items() if status not in GOOD and rows}


def verify_options(report: Mapping[str, Any]) -> str:
    """The options with which `sealift verify` compares the two places of a run as it did."""
    access = report.get("access")
    sides = {side: report[side] for side in ("source", "destination")}
    sides |= access if isinstance(access, Mapping) else {}  # anything may be in the ledger
    named = ((f"--{name.replace('_', '-')}", shown(str(value))) for name, value in sides.items())
    words = shlex.join([word for option in named for word in option])
    return f"{words} --versions all" if report.get("versions") == "all" else words


def planned_by(module: str, **how: Any) -> Planner:
    """The `plan_run` of a module that is imported when a run is planned: no worker needs it. `how`: what it is told."""

    async def plan(*arguments: Any) -> Planned:
        planned: Planned = await import_module(module).plan_run(*arguments, **how)
        return planned

    return plan


def hint_at_retry(report: Mapping[str, Any], which: str = "them") -> list[str]:
    """The one next step where a retry can end otherwise than the run did."""
    return [f"Try {which} again: sealift runs retry {report['run_id']}"]


def no_hints(report: Mapping[str, Any]) -> list[str]:
    """Nothing, where the report itself says what to do."""
    return []


def writes_of_copies(spec: RunSpec) -> Sequence[Operation]:
    """The writes of a run that copies: by the server, or streamed through the worker."""
    return OF_STREAMS if spec.options.get("streamed") else OF_COPIES


class Kind(Struct, frozen=True):
    """A kind of work.

    `open_job` makes the job of a worker. None: no worker works on such a run.
    `at_once`: groups in flight. None: the settings decide.
    `plan` makes a run of its failed rows, or of another kind's. None: no run is planned this way.
    `retried_as`: the job that acts on its failed rows. None: no job does, and `not_retried` is
    the error that says what to do instead.
    `not_resumed`: the error for an unfinished run that does not continue. None: it continues.
    `deletes`: its runs delete originals, or would without a dry run. So the ledger alone starts
    none of them, and a request names other runs by their whole ids.
    `may_be_empty`: a plan without rows is no mistake, if it says what left them out.
    `carries_bytes`: all bytes pass through its workers, whatever its options say.
    `writes`: the operations by which a run writes objects at its destination, or deletes them at its
    source. Their conditions are tried before it begins.
    `joins_as_text`: the keys of its copies are the destination's prefix as it was typed, and the
    rest of the source's key. Others take the destination for a folder.
    `hints`: the next steps for a complete run with bad rows, by its report, each as `Why: command`.
    Terminal, page and report.json have the same ones.
    `report_details`: what the report of a complete run says besides its counts.
    `beside` reads what shards of this kind have beside each row (`ObjectVersion.beside`). Mostly a `Repair`.
    """

    name: str
    open_job: Callable[[Opened], Job] | None = None
    at_once: int | None = None
    plan: Planner | None = None
    retried_as: str | None = None
    not_retried: Callable[[RunSpec], UsageError] | None = None
    not_resumed: Callable[[RunSpec], UsageError] | None = None
    deletes: bool = False
    may_be_empty: bool = False
    carries_bytes: bool = False
    writes: Callable[[RunSpec], Sequence[Operation]] = lambda spec: ()
    joins_as_text: bool = False
    hints: Callable[[Mapping[str, Any]], list[str]] = hint_at_retry
    report_details: Callable[[Ledger, RunSpec, Plan], Awaitable[dict[str, Any]]] | None = None
    beside: ReadBeside = read_repairs
