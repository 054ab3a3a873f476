"""Plan of a compaction: rows in packing order, cut into archives, spread over shards.

Rows of groups that would not pay are left out. The others have the number of their group as their
`archive`, and a shard holds whole groups.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from msgspec import Struct, field

from jobs.archives.index import ArchiveIndex, Damage
from jobs.compact.archived import SCHEMA as ARCHIVED_SCHEMA
from jobs.compact.archived import archived_rows_sql, archived_versions, renew_indexes
from jobs.compact.grouping import Group, cut_shards, number_groups
from jobs.compact.packing import MEMBER_BYTES_MAX, CompactOptions
from jobs.compact.savings import Savings
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.part_sizes import COPY_LIMIT_BYTES, PREFERRED_PART_BYTES
from jobs.core.pricing import Bill, Histogram, PricedWork, own_prices
from jobs.core.reasons import Reason
from jobs.core.run import Plan, ShardSummary
from jobs.core.selection import Selection
from jobs.errors import ManifestError
from jobs.ledger.ledger import Ledger
from jobs.runs.planning import MEMORY_LIMIT, spool, write_shards
from jobs.runs.request import Planned, Request, check_sides, drafting, manifest_rows
from jobs.runs.sharding import Shards
from jobs.runs.sorting import Sorting
from jobs.s3.sessions import side_store
from jobs.tables.duck import in_thread, quoted, scratch_folder

pc: Any = pyarrow.compute  # its stubs know too few overloads

UNDESCRIBED = ManifestError(
    "the manifest does not say which content its rows have",
    advice="compact needs size, ETag and time of each, and of versions which is the latest: list the bucket "
    "(--source), or add these fields to the inventory",
)


async def plan_run(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Read and filter the manifest, cut it into archives, weigh them. Raises ManifestError, ConfigError, …"""
    with drafting(request) as draft:
        source, description, batches = await manifest_rows(request, ledger, draft)
        source, draft.destination = await check_sides(source, draft.destination, destination_name="archives")
        packing = msgspec.convert(request.options, CompactOptions)
        damage: Damage = []
        index = ArchiveIndex(ledger.store, ledger.location)
        place, of = request.destination, source.location._replace(key=request.selection.prefix)
        async with side_store(place, max_in_flight=16) as store:
            archived = archived_versions(index, place.location, of, packing, store, damage)
            damage += await renew_indexes(index, place.location, store)
            grouped = await plan_groups(batches, request.selection, packing, archived, draft.shards(settings))
        if draft.has_old_versions:
            raise UNDESCRIBED
        for each in damage:
            display.say(
                f"{each.archive} was not looked into, what it holds is packed again: {each.reason}. To rebuild its "
                f"index, or see why not: sealift archives reindex --source {place.location}"
            )
        spec = draft.spec(description, draft.ways(source), source)
        work = PricedWork.of(spec, is_copying=True)
        return draft.planned(spec, forecast(grouped, work, settings.processes))


class Grouped(Struct):
    """A manifest cut into archives. `left_alone` counts the rows that are not packed, by reason."""

    rows: int = 0
    size_bytes: int = 0
    shards: Sequence[ShardSummary] = ()
    excluded: Mapping[str, int] = {}
    archives: int = 0
    packed: Savings = field(default_factory=Savings)
    left_alone: Counter[str] = field(default_factory=Counter)

    def add(self, group: Group, packing: CompactOptions) -> bool:
        """Count a group. False: it would not pay, and is not packed."""
        savings = group.savings(packing.storage_class, time.time(), own_prices())
        if not (savings.pays or packing.pack_all):
            self.left_alone[Reason.DOES_NOT_PAY] += group.rows
            return False
        self.archives += 1
        self.packed = self.packed.plus(savings)
        self.rows, self.size_bytes = self.packed.members, self.packed.size_bytes
        return True

    def savings(self) -> dict[str, Any]:
        """The savings for the plan, JSON-ready. The dollars before and after are per month."""
        return {
            "archives": self.archives,
            "members": self.packed.members,
            "member_bytes": self.packed.size_bytes,
            "archive_bytes": self.packed.archive_bytes,
            "monthly_before": self.packed.before,
            "monthly_after": self.packed.after,
            "cost": self.packed.cost,
            "early_delete": self.packed.early_delete,
            "break_even_months": self.packed.break_even_months,
            "left_alone": dict(self.left_alone),
        }


async def plan_groups(
    batches: AsyncIterator[pa.RecordBatch],
    selection: Selection,
    packing: CompactOptions,
    archived: AsyncIterator[pa.Table],
    to: Shards,
) -> Grouped:
    """Take the selected rows of `batches` (in `manifest_schema()`) and write them as shards of
    whole groups.

    `archived`: versions that archives hold (in `jobs.compact.archived.SCHEMA`), which are left out.
    Raises ConfigError when the scratch directory cannot hold the rows.
    """
    grouped = Grouped()
    with scratch_folder(to.folder, "planning-", "sort the manifest") as folder:
        excluded = await spool(_described(batches), selection, folder / "rows.parquet")
        sorting = Sorting(folder, COPY_LIMIT_BYTES, PREFERRED_PART_BYTES, MEMORY_LIMIT)
        with closing(sorting.connection):
            known = folder / "archived.parquet"
            with pq.ParquetWriter(known, ARCHIVED_SCHEMA, compression="lz4") as writer:
                async for table in archived:
                    writer.write_table(table)
            await in_thread(sorting.connection, sorting.leave_out, *_left_out(sorting.relation, packing, known))
            counted = sorting.connection.execute("SELECT name, count(*) FROM left_out GROUP BY name")
            excluded.update(dict(counted.fetchall()))
            _, _, excluded["duplicate"] = await in_thread(sorting.connection, sorting.count)
            groups: list[Group] = []
            numbered = folder / "numbered"
            await in_thread(
                sorting.connection, _write, number_groups(sorting.in_packing_order(), packing.rule, groups), numbered
            )
            kept = {str(number): each for number, each in enumerate(groups) if grouped.add(each, packing)}
            wanted = to.number(grouped.rows, grouped.size_bytes)
            limits = (-(-each // max(wanted, 1)) for each in (grouped.rows, grouped.size_bytes))
            tables = cut_shards(_read(numbered, kept), kept.values(), *limits)
            grouped.shards, _ = await write_shards(tables, to.write, sorting.connection)
    grouped.excluded = dict(+excluded)
    return grouped


def _left_out(rows: str, packing: CompactOptions, archived: Path) -> Iterator[str]:
    """SQL for the `place` of the rows (a relation) that are left out, with the `name` of the reason."""
    by_rule = [
        f" OR starts_with(key, {quoted(rule.prefix)}) "
        f"AND last_modified < {int(rule.older_than * 1e6)} AND size_bytes < {rule.smaller_than_bytes}"
        for rule in packing.earlier_rules
        if not rule.tags  # tags show when an object is read
    ]
    yield from archived_rows_sql(rows, str(archived))
    yield f"""
        SELECT place, CASE WHEN is_delete_marker THEN 'delete_marker' WHEN false{"".join(by_rule)} THEN 'earlier_rule'
            WHEN size_bytes > {MEMBER_BYTES_MAX} THEN 'too_large' END AS name
        FROM {rows} ANTI JOIN left_out USING (place) WHERE name IS NOT NULL"""


async def _described(batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
    """The batches. Raises ManifestError for a row that does not say which content it has."""
    async for batch in batches:
        unknown = [pc.is_null(batch[name]) for name in ("size_bytes", "etag", "last_modified")]
        if pc.any(pc.and_not(pc.or_(pc.or_(*unknown[:2]), unknown[2]), batch["is_delete_marker"])).as_py():
            raise UNDESCRIBED
        yield batch


def _write(batches: Iterator[pa.RecordBatch], path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file:
        writer: pa.RecordBatchStreamWriter | None = None
        for batch in batches:
            writer = writer or pa.ipc.new_stream(file, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()


def _read(path: Path, kept: Mapping[str, Group]) -> Iterator[pa.RecordBatch]:
    """The rows of the kept groups."""
    if not kept:
        return
    numbers = pa.array(list(kept), pa.string())
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as batches:
        for batch in batches:
            yield batch.filter(pc.is_in(batch["archive"], numbers))


def forecast(grouped: Grouped, work: PricedWork, processes: int) -> Plan:
    """The plan of a compaction.

    Its dollars leave out `early_delete`, which only the expiry of the originals costs. They include
    one list of annotations for each member. What decides whether a group pays does not.
    """
    bill, packed = Bill(work, Histogram((), 0)), grouped.packed
    bill.add(Counter(list=packed.members * (work.annotations != SKIP_ANNOTATIONS)), size_bytes=packed.size_bytes)
    bill.requests.update(put=grouped.archives, part=packed.parts, get=packed.members)
    bill.dollars |= {"puts": packed.puts, "gets": packed.gets, "retrieval": packed.retrieval}
    bill.moved_bytes += packed.archive_bytes
    plan = Plan(
        rows=grouped.rows,
        size_bytes=grouped.size_bytes,
        shards=tuple(grouped.shards),
        excluded=grouped.excluded,
        savings=grouped.savings(),
    )
    return bill.of(plan, processes)
