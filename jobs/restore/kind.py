"""Restore as a kind of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from jobs.core.reasons import Reason
from jobs.core.run import RunSpec, Side
from jobs.restore.job import CHAINS_AT_ONCE, Restore
from jobs.runs.kind import Kind, Opened, hint_at_retry, planned_by, writes_of_copies
from jobs.s3.operations import Operation
from jobs.s3.sessions import open_side

_MAY_PASS = frozenset({Reason.THAWING, Reason.DENIED, Reason.GIVEN_UP})
"""The codes of rows that a retry may restore."""


def _open(opened: Opened) -> Restore:
    """The job of one worker. The archives may be on a third service."""
    from jobs.archives.index import ArchiveIndex

    spec, archives = opened.spec, opened.source
    if (named := spec.options["archives"]) is not None:
        side = Side.from_dict(named)
        if replace(spec.source, location=side.location) != side:
            archives = opened.throttle.throttled(open_side(side, max_in_flight=64))
    return Restore(opened, archives, ArchiveIndex(opened.ledger.store, opened.ledger.location))


def _hints(report: Mapping[str, Any]) -> list[str]:
    """No retry brings back what no archive has whole."""
    passing = sum(each["rows"] for each in report["reasons"] if each["reason"] in _MAY_PASS)
    if passing >= report["failures"]:
        return hint_at_retry(report)
    others = hint_at_retry(report, "the others") if passing else []
    return ["Name another --destination, or see which archives have a key: sealift archives find KEY", *others]


def _writes(spec: RunSpec) -> Sequence[Operation]:
    """How a run writes: it sends members of archives. The server copies versions of a bucket."""
    copied = writes_of_copies(spec) if spec.options["is_history"] else ()
    return sorted({Operation.PUT, Operation.COMPLETE, *copied})


KIND = Kind(
    "restore",
    _open,
    CHAINS_AT_ONCE,
    planned_by("jobs.restore.plan"),
    retried_as="restore",
    carries_bytes=True,
    writes=_writes,
    hints=_hints,
)
