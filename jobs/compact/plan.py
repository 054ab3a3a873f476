"""Plan of a compaction: rows in packing order, cut into archives, spread over shards.

Groups stay whole: a shard holds one group after the other, as `jobs.compact.packing` finds them
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.archives.index import ArchiveIndex, Damage
from jobs.compact.archived import SCHEMA as ARCHIVED_SCHEMA
from jobs.compact.archived import archived_rows_sql, archived_versions, renew_indexes
from jobs.compact.grouping import Group, count_lookups, group_rows
from jobs.compact.job import CompactOptions
from jobs.compact.packing import EarlierRule, PackingRule
from jobs.compact.savings import Economy, Savings, refusal
from jobs.config import ROWS_PER_SHARD, Settings
from jobs.core import pricing
from jobs.core.display import Display
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.part_sizes import COPY_LIMIT_BYTES, PREFERRED_PART_BYTES
from jobs.core.pricing import PricedWork, PriceTable, own_prices
from jobs.core.reasons import Cause, Reason
from jobs.core.run import Plan, ShardSummary
from jobs.core.selection import Selection
from jobs.ledger.ledger import Ledger
from jobs.runs import sharding as shards
from jobs.runs.planning import MEMORY_LIMIT, spool, write_shards
from jobs.runs.request import Planned, Request, check_sides, drafting, manifest_rows
from jobs.runs.sorting import Sorting
from jobs.runs.there import WriteShard
from jobs.s3.sessions import open_side
from jobs.tables.duck import in_thread, scratch_folder


async def plan_run(
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
    *,
    earlier_rules: tuple[EarlierRule, ...] = (),
) -> Planned:
    """Read and filter the manifest, cut it into archives, weigh them.

    `earlier_rules`: those of the policy without tags that take rows before this one. Raises
    ManifestError, ConfigError, …
    """
    with drafting(request) as draft:
        source, description, batches = await manifest_rows(request, ledger, draft)
        source, draft.destination = await check_sides(source, draft.destination, destination_name="archives")
        prices = own_prices()
        asked = request.options
        economy = Economy.of(prices, asked["storage_class"], draft.started, asked["payback_months"])
        packing = msgspec.convert({**asked, "economy": msgspec.to_builtins(economy)}, CompactOptions)
        damage: Damage = []
        index = ArchiveIndex(ledger.store, ledger.location)
        place = request.destination
        store = open_side(place, max_in_flight=16)
        archived = archived_versions(
            index, place.location, source.location._replace(key=request.selection.prefix), packing.storage, damage,
            store=store,
        )  # fmt: skip
        spec = draft.spec(description, msgspec.to_builtins(packing) | draft.ways(source), source)
        try:
            damage += await renew_indexes(index, place.location, store, source.location.bucket)
            grouped = await plan_groups(
                rows_left_by(earlier_rules, batches) if earlier_rules else batches,
                request.selection,
                packing.rule,
                economy,
                archived=archived,
                write_shard=draft.write_shard,
                scratch_directory=draft.scratch,
                rows_per_shard=settings.rows_per_shard,
                processes=settings.processes,
            )
        finally:
            await store.close()
        if grouped.unknown_sizes:
            display.say(
                f"{grouped.unknown_sizes:,} rows have no size in the manifest: each is looked up when it is packed, "
                "and this plan counts no bytes of it"
            )
        for each in damage:
            display.say(
                f"{each.archive} was not looked into, what it holds is packed again: {each.reason}. To rebuild its "
                f"index, or see why not: sealift archives reindex --source {place.location}"
            )
        work = PricedWork.of(spec, is_copying=True)
        plan = forecast(grouped, work, settings.processes, prices, has_old_versions=draft.has_old_versions)
        return draft.planned(spec, plan)


@dataclass(slots=True)
class Grouped:
    """A manifest cut into archives. `left_alone` counts the rows that are not packed, by reason.

    `lookups`: rows that S3 is asked of before they are packed.
    """

    rows: int = 0
    size_bytes: int = 0
    shards: Sequence[ShardSummary] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)
    archives: int = 0
    unknown_sizes: int = 0
    lookups: int = 0
    packed: Savings = field(default_factory=Savings)
    left_alone: Counter[str] = field(default_factory=Counter)

    def cut(
        self, batches: Iterator[pa.RecordBatch], rule: PackingRule, economy: Economy, limit: ShardSummary
    ) -> Iterator[pa.Table]:
        """A table for each shard: at least one group, and further ones while it is below the limit.

        `batches`: rows in packing order, which are cut into groups, and counted.
        """
        pending: list[pa.Table] = []
        rows = size_bytes = 0
        for table, groups in group_rows(batches, rule, economy):
            start = end = 0
            self.lookups += count_lookups(table)
            for group in groups:
                self._count(group, economy)
                end += group.rows
                rows += group.rows
                size_bytes += group.size_bytes
                if rows >= limit.rows or size_bytes >= limit.size_bytes > 0:
                    yield pa.concat_tables([*pending, table.slice(start, end - start)])
                    pending, start = [], end
                    rows = size_bytes = 0
            if start < end:
                pending.append(table.slice(start))
        if rows:
            yield pa.concat_tables(pending)

    def _count(self, group: Group, economy: Economy) -> None:
        self.unknown_sizes += group.unknown_sizes
        cause = None if group.unknown_sizes else refusal(group.savings, economy)
        if group.archive.part_bytes() is None:
            cause = Cause(Reason.TOO_LARGE)
        if cause is not None:
            self.left_alone[cause.reason] += group.rows
            return
        self.archives += 1
        self.packed = self.packed.plus(group.savings)

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
    rule: PackingRule,
    economy: Economy,
    *,
    archived: AsyncIterator[pa.Table],
    write_shard: WriteShard,
    scratch_directory: Path,
    rows_per_shard: int = ROWS_PER_SHARD,
    processes: int = 1,
) -> Grouped:
    """Take the selected rows of `batches` (in `manifest_schema()`) and write them as shards of
    whole groups.

    `archived`: versions that archives hold (in `jobs.compact.archived.SCHEMA`), which are left out.
    `write_shard(number, parquet)` is awaited once for each shard, in order from 0, none of them
    empty. Raises ConfigError when the scratch directory cannot hold the rows.
    """
    grouped = Grouped()
    with scratch_folder(scratch_directory, "planning-", "sort the manifest") as folder:
        excluded, _ = await spool(batches, selection, folder / "rows.parquet")
        sorting = Sorting(folder, COPY_LIMIT_BYTES, PREFERRED_PART_BYTES, MEMORY_LIMIT)
        try:
            known = folder / "archived.parquet"
            await _spool_archived(archived, known)
            already_archived = await in_thread(
                sorting.connection, sorting.leave_out, partial(archived_rows_sql, members=str(known))
            )
            rows, size_bytes, duplicates = await in_thread(sorting.connection, sorting.count)
            shard_count = max(
                shards.count_shards(rows, size_bytes, rows_per_shard=rows_per_shard, processes=processes), 1
            )
            limit = ShardSummary(-(-rows // shard_count), -(-size_bytes // shard_count))
            tables = grouped.cut(sorting.in_packing_order(), rule, economy, limit)
            grouped.shards, _ = await write_shards(tables, write_shard, sorting.connection)
        finally:
            sorting.connection.close()
    grouped.rows, grouped.size_bytes = rows, size_bytes
    grouped.excluded = dict(excluded) | {
        name: count for name, count in (("already_archived", already_archived), ("duplicate", duplicates)) if count
    }
    return grouped


async def _spool_archived(archived: AsyncIterator[pa.Table], path: Path) -> None:
    with pq.ParquetWriter(path, ARCHIVED_SCHEMA, compression="lz4") as writer:
        async for table in archived:
            writer.write_table(table)


async def rows_left_by(
    earlier_rules: Sequence[EarlierRule], batches: AsyncIterator[pa.RecordBatch]
) -> AsyncIterator[pa.RecordBatch]:
    """The rows (in `manifest_schema()`) that no earlier rule takes: the first rule that matches,
    wins.
    """
    async for batch in batches:
        left = batch
        for rule in earlier_rules:
            modified: Any = left["last_modified"]
            is_old = pc.less(modified, pa.scalar(int(rule.older_than * 1e6), pa.int64()).cast(modified.type))
            is_small = pc.less(left["size_bytes"], pa.scalar(rule.smaller_than_bytes, pa.int64()))
            begins: Any = pc.starts_with(left["key"], rule.prefix)
            taken: Any = pc.and_kleene(pc.and_kleene(begins, is_old), is_small)
            left = left.filter(pc.invert(pc.fill_null(taken, False)))
        yield left


def forecast(
    grouped: Grouped, work: PricedWork, processes: int, prices: PriceTable, *, has_old_versions: bool = False
) -> Plan:
    """The plan of a compaction.

    Its dollars leave out `early_delete`, which only the expiry of the originals costs. They include
    one list of annotations for each member. What decides whether a group pays does not.
    `has_old_versions`: the versions of each member's key are listed as well.
    """
    packed = grouped.packed
    lists = packed.members * ((work.annotations != SKIP_ANNOTATIONS) + has_old_versions)
    requests = {
        "put": grouped.archives,
        "part": packed.parts,
        "get": packed.members,
        "head": grouped.lookups,
        "list": lists,
    }
    dollars = {
        "puts": packed.puts,
        "gets": packed.gets,
        "lists": lists * prices.list_per_1000 / 1000,
        "retrieval": packed.retrieval,
        "transfer": packed.size_bytes / pricing.GIB * pricing.far_per_gib(work, prices),
    }
    return Plan(
        rows=grouped.rows,
        size_bytes=grouped.size_bytes,
        shards=tuple(grouped.shards),
        excluded=grouped.excluded,
        requests={kind: count for kind, count in requests.items() if count},
        dollars={item: amount for item, amount in dollars.items() if amount},
        price_table=prices.name,
        seconds=pricing.estimate_seconds(requests, packed.size_bytes + packed.archive_bytes, processes),
        savings=grouped.savings(),
    )
