"""Agreement of a run's id, spec, plan, shards and checkpoints. Pure.

Each of them can be written by anybody with write access to the ledger. What acts on a run asks here
first, through `jobs.ledger.ledger`. Every function returns what disagrees. An empty text means that
all is well.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from jobs.core.run import Plan, RunSpec

_RUN_ID = re.compile(r"(\d{8}T\d{6}Z)-([a-z]+)-[0-9a-f]{6}")
_STAMP = "%Y%m%dT%H%M%SZ"
_WITHOUT_SHARDS = "reconcile"


def run_job(run_id: str) -> str | None:
    """The job that a run's id names. None for an id that no planner makes (`new_run_id`)."""
    match = _RUN_ID.fullmatch(run_id)
    return match[2] if match and begin_second(run_id) is not None else None


def spec_disagreement(run_id: str, spec: RunSpec) -> str:
    """Compare a spec with the id by which its run was asked for, the name of its folder."""
    if spec.run_id != run_id:
        return f"is the spec of run {spec.run_id!r}"
    job = run_job(run_id)
    if job is None:
        return f"belongs to {run_id!r}, which is not a run's id (TIME-JOB-NUMBER)"
    if spec.job != job:
        return f"asks for the job {spec.job!r}, the run's id for {job!r}"
    if not _is_within(spec.created_at, run_id):
        return f"was made at another time (created_at {spec.created_at}) than the run's id says"
    return _defect({name: getattr(spec, name) for name in _SpecFields.__struct_fields__}, _SpecFields)


def report_disagreement(run_id: str, report: Mapping[str, object]) -> str:
    """Compare a report with the id of its run, and its fields with what a report holds.

    It may lack any of them.
    """
    if report.get("run_id", run_id) != run_id:
        return f"is the report of run {report['run_id']!r}"
    return _defect(report, _ReportFields)


def _defect(document: Mapping[str, object], fields: type[Struct]) -> str:
    """Name the first field that does not hold what it should."""
    try:
        msgspec.convert(document, fields)
    except msgspec.ValidationError as error:
        return f"is none ({error})"
    return ""


_Count = Annotated[int, Meta(ge=0)]
_Number = Annotated[float, Meta(ge=-1e18, le=1e18)]  # no infinity, and no NaN
_Text = str | UnsetType


class _Amount(Struct):
    rows: _Count
    bytes: _Count


class _SpecFields(Struct):
    manifest: str
    options: dict[str, Any]
    retry_of: str | None


class _ReportFields(Struct):
    """What the fields of a report hold that lists of runs, pages and exit codes are made of."""

    job: _Text = UNSET
    state: _Text = UNSET
    rows: _Count | UnsetType = UNSET
    accounted: _Count | UnsetType = UNSET
    outcomes: dict[str, _Count] | UnsetType = UNSET
    categories: dict[str, _Amount] | UnsetType = UNSET
    failures: _Count | UnsetType = UNSET
    findings: _Count | UnsetType = UNSET
    left_out_archives: list[dict[str, Any]] | UnsetType = UNSET
    bytes: _Count | UnsetType = UNSET
    seconds: _Number | UnsetType = UNSET
    planned_dollars: _Number | UnsetType = UNSET
    finished_at: _Text = UNSET


def is_comparison(run_id: str) -> bool:
    """Whether the run compares two reports. It has no shards: its report is all of its result."""
    return run_job(run_id) == _WITHOUT_SHARDS


def plan_disagreement(run_id: str, plan: Plan) -> str:
    """Compare a plan with its own shards. A reconciliation has none."""
    if is_comparison(run_id):
        return "has shards, which no reconciliation has" if plan.shards else ""
    counts: list[object] = [count for shard in plan.shards for count in (shard.rows, shard.size_bytes)]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return "has a shard whose rows or bytes are not counts"
    totals = (sum(shard.rows for shard in plan.shards), sum(shard.size_bytes for shard in plan.shards))
    if totals != (plan.rows, plan.size_bytes):
        wanted = f"{plan.rows:,} rows of {plan.size_bytes:,} bytes"
        return f"promises {wanted}, its shards have {totals[0]:,} rows of {totals[1]:,} bytes"
    there: object = plan.there
    if not isinstance(there, Mapping) or not all(isinstance(each, int) and each >= 0 for each in there.values()):
        return "says of the copies that are there what is no count"
    if there.get("shards", 0) > len(plan.shards) or plan.rows - plan.open_rows != there.get("same", 0):
        return f"promises {there.get('same', 0):,} rows whose copies are there, its last shards have others"
    return ""


def shard_disagreement(numbers: Sequence[int], rows: range) -> str:
    """Compare a shard file's row numbers with those of the plan: all of them, in order."""
    if len(numbers) != len(rows):
        return f"has {len(numbers):,} rows, the plan says {len(rows):,}"
    if list(numbers) != list(rows):
        return f"has other row numbers than {_span(rows)}, which the plan gives this shard"
    return ""


def checkpoint_disagreement(numbers: Collection[int], bad_rows: int, named: tuple[int, int], rows: range) -> str:
    """Compare a checkpoint's rows with its name and with its shard.

    `named`: the counts in the name (rows, bad rows). `rows`: the shard's row numbers.
    """
    if (len(numbers), bad_rows) != named:
        counts = f"{len(numbers):,} rows, {bad_rows:,} of them bad"
        return f"has {counts}, its name says {named[0]:,} and {named[1]:,}"
    if len(set(numbers)) != len(numbers):
        return "has two outcomes for one row"
    if not all(number in rows for number in numbers):
        return f"has outcomes for other rows than {_span(rows)}, which the plan gives its shard"
    return ""


def _is_within(created_at: object, run_id: str) -> bool:
    """Whether a time, from a document that can hold anything, is in the second of a run's id."""
    return isinstance(created_at, int | float) and begin_second(run_id) == created_at // 1


def begin_second(run_id: str) -> int | None:
    """When the run of such an id began, in epoch seconds. None for an id of another form."""
    try:
        return calendar.timegm(time.strptime(run_id.partition("-")[0], _STAMP))
    except ValueError:
        return None


def begin_order(run_id: str) -> tuple[str, str, str]:
    """The key that sorts the ids of runs by when they began.

    The text of an id does so by the second alone: its job comes before the
    fraction of the second (`jobs.runs.request.new_run_id`).
    """
    return run_id.partition("-")[0], run_id.rpartition("-")[2], run_id


def _span(rows: range) -> str:
    return f"{rows.start:,} to {rows.stop - 1:,}"
