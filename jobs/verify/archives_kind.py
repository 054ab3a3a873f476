"""Verification of archives as a kind of work. A row of its runs is an archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pyarrow as pa

from jobs.archives.files import list_archives
from jobs.archives.index import ArchiveIndex
from jobs.archives.model import ArchiveRecord
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.model import Location
from jobs.core.pricing import PricedWork, part_rule
from jobs.core.run import RunSpec
from jobs.errors import ConfigError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened
from jobs.runs.request import Planned, Request, drafting
from jobs.s3.sessions import side_store
from jobs.tables.rows import fill_batch
from jobs.verify.archives_job import ARCHIVES_AT_ONCE, VerifyArchives

_KNOWN = ("version_id", "size_bytes", "etag", "storage_class")
_WORK = PricedWork(is_copying=False, deep=True, sides_read=1)
"""Each archive is read once, by large ranges. The requests for its own index are not counted."""


def _open(opened: Opened) -> VerifyArchives:
    index = ArchiveIndex(opened.ledger.store, opened.ledger.location)
    return VerifyArchives(opened.destination, index, opened.budget, opened.spec.destination.location.bucket)


def _not_retried(spec: RunSpec) -> UsageError:
    advice = "compact again, or restore, what it found damaged"
    return UsageError(f"run {spec.run_id} only read archives", advice=advice)


def _hints(report: Mapping[str, Any]) -> list[str]:
    return ["Restore what is whole, or compact the originals again."]


async def _plan(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Make the archives rows, indexed or not. Raises ConfigError if there are none."""
    from jobs.runs.planning import plan_rows, priced

    side = request.destination
    with drafting(request) as draft:
        damage = list[Any]()
        async with side_store(side, max_in_flight=16) as store:
            listed = [location async for location, _ in list_archives(store, side.location)]
        records = await ArchiveIndex(ledger.store, ledger.location).records(side.location, damage)
        known: dict[Location, ArchiveRecord | None] = dict.fromkeys([*listed, *(bad.archive for bad in damage)])
        known |= {record.location: record for record in records}
        if not known:
            raise ConfigError(
                f"no archives are in {side.location}, and the index of {ledger.location} has none there",
                advice="check --archives",
            )
        columns = {name: [getattr(each, name, None) for each in known.values()] for name in _KNOWN}
        rows = fill_batch({"key": [place.key for place in known], **columns}, len(known))
        plan, histogram = await plan_rows(
            _once(rows),
            request.selection,
            **draft.sharding(settings),
            **part_rule(_WORK),
        )
        spec = draft.spec(f"archives in {side.location}", {}, side)
        return draft.planned(spec, priced(plan, histogram, _WORK, settings.processes))


async def _once(batch: pa.RecordBatch) -> AsyncIterator[pa.RecordBatch]:
    yield batch


KIND = Kind(
    "verify archives",
    _open,
    ARCHIVES_AT_ONCE,
    _plan,
    not_retried=_not_retried,
    hints=_hints,
)
