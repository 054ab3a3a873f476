"""Restore as a kind of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.model import Location, Route
from jobs.core.reasons import Reason
from jobs.core.run import RunSpec, Side
from jobs.ledger.ledger import Ledger
from jobs.restore.job import CHAINS_AT_ONCE, Restore, RestoreOptions
from jobs.runs.kind import Kind, Opened, hint_at_retry, writes_of_copies
from jobs.runs.request import Planned, Request
from jobs.s3.operations import Operation
from jobs.s3.sessions import open_side

_MAY_PASS = frozenset({Reason.THAWING, Reason.DENIED, Reason.GIVEN_UP})
"""The codes of rows that a retry may restore."""


def _open(opened: Opened) -> Restore:
    """The job of one worker. The archives may be on a third service."""
    from jobs.archives.index import ArchiveIndex

    spec = opened.spec
    archives, named = opened.source, spec.options["archives"]
    if named is not None:
        side = Side.from_dict(named)
        alike = replace(spec.source, location=side.location) == side
        archives = opened.source if alike else opened.throttle.throttled(open_side(side, max_in_flight=64))
    route = Route(Location(spec.source.location.bucket, spec.options["source_prefix"]), spec.destination.location)
    options = RestoreOptions.from_dict(spec.options)
    index = ArchiveIndex(opened.ledger.store, opened.ledger.location)
    return Restore(
        opened.source,
        archives,
        opened.destination,
        route,
        options,
        opened.budget,
        index,
        spec.run_id,
        opened.in_flight,
        opened.records,
    )


async def _plan(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    from jobs.restore.plan import plan_run  # duckdb and pyarrow load here

    return await plan_run(request, ledger, settings, display)


def _hints(report: Mapping[str, Any]) -> list[str]:
    """No retry brings back what no archive has whole."""
    passing = sum(each["rows"] for each in report["reasons"] if each["reason"] in _MAY_PASS)
    if passing >= report["failures"]:
        return hint_at_retry(report)
    others = hint_at_retry(report, "the others") if passing else []
    return ["See which archives have a key: sealift archives find KEY", *others]


def _writes(spec: RunSpec) -> Sequence[Operation]:
    """How a run writes: it sends members of archives. The server copies versions of a bucket."""
    copied = writes_of_copies(spec) if spec.options["is_history"] else ()
    return sorted({Operation.PUT, Operation.COMPLETE, *copied})


KIND = Kind(
    "restore",
    _open,
    CHAINS_AT_ONCE,
    _plan,
    retried_as="restore",
    carries_bytes=True,
    writes=_writes,
    hints=_hints,
)
