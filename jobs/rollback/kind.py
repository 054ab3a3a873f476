"""Rollback as a kind of work. A stopped run continues. What is left of an ended one is planned again."""

from __future__ import annotations

import shlex
from typing import Any

from jobs.core.display import shown
from jobs.core.run import Plan, RunSpec
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger
from jobs.reports.document import iso_time
from jobs.rollback.job import CHAINS_AT_ONCE, Rollback
from jobs.rollback.rules import Move, Step
from jobs.runs.kind import Kind, planned_by
from jobs.s3.condition_trial import OF_COPIES
from jobs.s3.operations import Operation


def _command(spec: RunSpec, option: str, value: str) -> str:
    return shlex.join(["sealift", "rollback", "--source", shown(str(spec.source.location)), option, value])


def _planned_again(spec: RunSpec) -> str:
    """The command that plans what is left of a run."""
    undone = spec.options["undo"]
    return _command(spec, "--undo", undone) if undone else _command(spec, "--as-of", iso_time(spec.options["at"]))


def again(spec: RunSpec) -> UsageError:
    """The error for a run that the ledger alone does not work at again."""
    what = f"run {spec.run_id} is not tried again as it is"
    return UsageError(what, advice=f"plan what is left: {_planned_again(spec)}")


def _read_moves(batch: Any) -> list[Move]:
    from jobs.rollback.plan import MOVE  # pyarrow loads here
    from jobs.tables.rows import column_values

    return [Move(Step(step), *top) for step, *top in zip(*column_values(batch, MOVE), strict=True)]


async def _report_details(ledger: Ledger, spec: RunSpec, plan: Plan) -> dict[str, Any]:
    undo = {} if spec.options["undo"] else {"undo": _command(spec, "--undo", spec.run_id)}
    return {"rollback": {**plan.rollback, "again": _planned_again(spec), **undo}}


KIND = Kind(
    "rollback",
    lambda opened: Rollback(opened),
    CHAINS_AT_ONCE,
    planned_by("jobs.rollback.plan"),
    not_retried=again,
    may_be_empty=True,
    writes=lambda spec: (*OF_COPIES, Operation.DELETE),
    hints=lambda report: [f"Plan what is left: {report['rollback']['again']}"],
    report_details=_report_details,
    beside=_read_moves,
)
