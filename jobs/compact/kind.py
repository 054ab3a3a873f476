"""Compaction as a kind of work."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.compact.job import ARCHIVES_AT_ONCE, Compact
from jobs.core.run import RunSpec
from jobs.runs.kind import Kind, Opened, planned_by
from jobs.s3.operations import Operation


def _open(opened: Opened) -> Compact:
    from jobs.archives.index import ArchiveIndex

    return Compact(opened, ArchiveIndex(opened.ledger.store, opened.ledger.location))


def _writes(spec: RunSpec) -> Sequence[Operation]:
    """How a run writes archives: by one request, or in parts."""
    return (Operation.PUT, Operation.COMPLETE)


KIND = Kind(
    "compact",
    _open,
    ARCHIVES_AT_ONCE,
    planned_by("jobs.compact.plan"),
    retried_as="compact",
    may_be_empty=True,
    carries_bytes=True,
    writes=_writes,
)
