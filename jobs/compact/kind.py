"""Compaction as a kind of work."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from jobs.compact.job import ARCHIVES_AT_ONCE, Compact
from jobs.compact.packing import CompactOptions
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.run import RunSpec
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened
from jobs.runs.request import Planned, Request
from jobs.s3.operations import Operation


def _open(opened: Opened) -> Compact:
    from jobs.archives.index import ArchiveIndex

    index = ArchiveIndex(opened.ledger.store, opened.ledger.location)
    options, spec = msgspec.convert(dict(opened.spec.options), CompactOptions), opened.spec
    return Compact(
        opened.source,
        opened.destination,
        opened.route,
        options,
        opened.budget,
        index,
        spec.run_id,
        opened.in_flight,
        opened.records,
    )


async def _plan(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    from jobs.compact.plan import plan_run  # duckdb and pyarrow load here

    return await plan_run(request, ledger, settings, display)


def _writes(spec: RunSpec) -> Sequence[Operation]:
    """How a run writes archives: by one request, or in parts."""
    return (Operation.PUT, Operation.COMPLETE)


KIND = Kind(
    "compact",
    _open,
    ARCHIVES_AT_ONCE,
    _plan,
    retried_as="compact",
    may_be_empty=True,
    carries_bytes=True,
    writes=_writes,
)
