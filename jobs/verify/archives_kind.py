"""Verification of archives as a kind of work.

A row of its runs is a member or an archive. A shard holds whole archives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from jobs.archives.model import ArchiveRecord
from jobs.config import Settings
from jobs.core import pricing
from jobs.core.display import Display
from jobs.core.model import Location
from jobs.core.pricing import GIB
from jobs.core.run import Plan, RunSpec, ShardSummary
from jobs.core.sampling import Sample
from jobs.errors import ConfigError, DamagedArchive, UsageError
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened
from jobs.runs.request import Draft, Planned, Request, drafting
from jobs.runs.sharding import count_shards
from jobs.s3.sessions import open_side
from jobs.verify.archives_job import ARCHIVES_AT_ONCE, VerifyArchives

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.archives.index import ArchiveIndex


def _open(opened: Opened) -> VerifyArchives:
    from jobs.archives.index import ArchiveIndex

    index = ArchiveIndex(opened.ledger.store, opened.ledger.location)
    return VerifyArchives(opened.destination, index, opened.budget)


def _not_retried(spec: RunSpec) -> UsageError:
    advice = "compact again, or restore, what it found damaged"
    return UsageError(f"run {spec.run_id} only read archives", advice=advice)


def _hints(report: Mapping[str, Any]) -> list[str]:
    return ["Restore what is whole, or compact the originals again."]


async def _plan(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Find the archives, indexed or not, and make their members rows.

    Raises ConfigError if there are none.
    """
    from jobs.archives.files import list_archives
    from jobs.archives.index import ArchiveIndex, Damage
    from jobs.core.pricing import own_prices

    side = request.destination
    with drafting(request) as draft:
        index = ArchiveIndex(ledger.store, ledger.location)
        store = open_side(side, max_in_flight=16)
        try:
            listed = [location async for location, _ in list_archives(store, side.location)]
        finally:
            await store.close()
        damage: Damage = []
        records = await index.records(side.location, damage)
        known = {record.location for record in records}
        lost = [each for each in dict.fromkeys([*listed, *(bad.archive for bad in damage)]) if each not in known]
        if not records and not lost:
            raise ConfigError(
                f"no archives are in {side.location}, and the index of {ledger.location} has none there",
                advice="check --archives",
            )
        sample = Sample(*request.options["sample"]) if request.options["sample"] else Sample(0, 1)
        taken = [record for record in records if sample.contains(str(record.location))]
        taken_lost = [each for each in lost if sample.contains(str(each))]
        left_out = len(records) + len(lost) - len(taken) - len(taken_lost)

        shards = await _write_shards(index, taken, taken_lost, draft, settings)
        # Each archive is read once, by large ranges, then its own index by three requests.
        prices = own_prices()
        size_bytes = sum(record.size_bytes for record in taken)
        gets = {record.location: -(-record.size_bytes // pricing.RANGE_BYTES) + 2 for record in taken}
        requests = {"head": 2 * len(taken), "get": sum(gets.values())}
        dollars = {"gets": 0.0, "retrieval": 0.0}
        for record in taken:
            of_class = prices.of_class(record.storage_class)
            dollars["gets"] += (2 + gets[record.location]) * of_class.get_per_1000 / 1000
            dollars["retrieval"] += record.size_bytes / GIB * of_class.retrieval_per_gib
        plan = Plan(
            rows=sum(shard.rows for shard in shards),
            size_bytes=sum(shard.size_bytes for shard in shards),
            shards=tuple(shards),
            excluded={"archives_of_other_samples": left_out} if left_out else {},
            requests={kind: count for kind, count in requests.items() if count},
            dollars={item: amount for item, amount in dollars.items() if amount},
            price_table=prices.name,
            seconds=pricing.estimate_seconds(requests, size_bytes, settings.processes),
        )
        return draft.planned(draft.spec(f"archives in {side.location}", {}, side), plan)


async def _write_shards(
    index: ArchiveIndex, records: Sequence[ArchiveRecord], lost: Sequence[Location], draft: Draft, settings: Settings
) -> list[ShardSummary]:
    """Write the rows of all archives. `lost`: those without an index."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from jobs.tables.rows import write_parquet

    rows, size_bytes = sum(each.members + 1 for each in records) + len(lost), sum(each.member_bytes for each in records)
    wanted = count_shards(rows, size_bytes, rows_per_shard=settings.rows_per_shard, processes=settings.processes)
    shards: list[ShardSummary] = []
    pending: list[pa.RecordBatch] = []
    number = 0
    archives = {**{record.location: record for record in records}, **dict.fromkeys(lost)}
    for place, (archive, record) in enumerate(archives.items(), 1):
        async for batch in _rows(index, archive, record):
            pending.append(batch.set_column(0, "row", pa.array(range(number, number + batch.num_rows), pa.int64())))
            number += batch.num_rows
        waiting = sum(batch.num_rows for batch in pending)
        if waiting * wanted >= rows or place == len(archives):
            table = pa.Table.from_batches(pending)
            await draft.write_shard(len(shards), write_parquet(table))
            shards.append(ShardSummary(waiting, pc.sum(table["size_bytes"]).as_py() or 0))
            pending.clear()
    return shards


async def _rows(index: ArchiveIndex, archive: Location, record: ArchiveRecord | None) -> AsyncIterator[pa.RecordBatch]:
    """The members of an archive, as its index has them, and the archive itself."""
    from jobs.tables.rows import fill_batch, shard_schema

    own: dict[str, list[object]] = {"key": [str(archive)]}
    if record is not None:
        # The worker meets the same damage, and says so in the outcomes of this archive's rows.
        with suppress(DamagedArchive):
            async with aclosing(index.tables(archive)) as tables:
                async for table in tables:
                    columns = {name: table[name] for name in table.column_names}
                    extra = {"row": [0] * table.num_rows, "archive": [str(archive)] * table.num_rows}
                    yield fill_batch(columns | extra, table.num_rows, shard_schema())
        own |= {name: [getattr(record, name)] for name in ("version_id", "etag", "storage_class")}
    yield fill_batch(own | {"row": [0], "archive": [str(archive)]}, 1, shard_schema())


KIND = Kind(
    "verify archives",
    _open,
    ARCHIVES_AT_ONCE,
    _plan,
    not_retried=_not_retried,
    hints=_hints,
)
