"""The sample of a drill: a part chosen at random, and some of each kind beside it.

What is said of all objects comes from the random part alone. The rest is there to meet what chance leaves out: each
storage class and age, versions that are no longer current, the largest objects, and keys with odd characters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from jobs.archives.files import list_archives
from jobs.archives.index import ArchiveIndex
from jobs.archives.model import DamagedIndex
from jobs.archives.unindexed import find_unindexed
from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.drill.model import MOST, Asked, Leg, Sample
from jobs.errors import DamagedArchive
from jobs.ledger.ledger import Ledger
from jobs.manifests import open_manifest
from jobs.runs.planning import MEMORY_LIMIT, spool
from jobs.s3.listing import list_all
from jobs.s3.sessions import side_store
from jobs.tables.duck import connect, in_thread, parquet, quoted
from jobs.tables.rows import fill_batch, manifest_batch

pc: Any = pyarrow.compute  # its stubs know too few overloads
OF_EACH = 5
"""So many more of each kind."""
KEY_BYTES = 1024
"""The longest key that S3 takes."""
SHARE_OF_LARGEST = 20
"""An object that is larger than this part of all that may be restored is left out."""
_COLD = ", ".join(quoted(each) for each in sorted(ARCHIVE_CLASSES))
_OBJECTS = """
    CREATE TEMP TABLE objects AS
    SELECT place, size_bytes, luck, is_current, kind, storage_class IN ({cold}) AS is_cold,
           size_bytes > {largest} OR octet_length(encode(key)) > {longest} AS is_large
    FROM (
        SELECT *, hash(key, version_id, {seed}) AS luck,
               row_number() OVER (PARTITION BY key ORDER BY {newest} DESC, place) AS turn,
               turn = 1 AS is_current,
               {{'storage_class': storage_class, 'age': floor(log10(greatest(({at} - last_modified) / 864e8, 1))),
                 'is_odd': NOT regexp_full_match(key, '[A-Za-z0-9!_.*()/-]*')}} AS kind
        FROM {rows} WHERE last_modified <= {at} AND (key IN (FROM named) OR NOT {is_named})
    ) WHERE NOT is_delete_marker
"""
_CHOSEN = """
    WITH fit AS (FROM objects WHERE NOT is_cold AND NOT is_large),
    lots AS (
        SELECT unnest(arg_min(place, luck, {sample})) AS place, true AS is_random FROM fit WHERE is_current
        UNION ALL
        SELECT unnest(arg_min(place, luck, {each})), false FROM fit GROUP BY kind, is_current
        UNION ALL
        SELECT unnest(arg_max(place, size_bytes, {each})), false FROM fit
    ),
    drawn AS (
        SELECT rows.* REPLACE (is_current AS is_latest), is_random, luck
        FROM {rows} rows JOIN lots USING (place) JOIN objects USING (place)
        QUALIFY row_number() OVER (PARTITION BY key ORDER BY is_random DESC, luck) = 1
    )
    FROM drawn
    WINDOW in_order AS (ORDER BY is_random DESC, luck ROWS UNBOUNDED PRECEDING)
    QUALIFY sum(size_bytes) OVER in_order <= {most}
"""


async def draw(leg: Leg, asked: Asked, source: str, ledger: Ledger, folder: Path) -> tuple[Sample, Path]:
    """Choose objects of a leg, whose originals are in the bucket `source`. Returns what was chosen, and a manifest of
    it in `folder`. Raises ManifestError, DamagedArchive.
    """
    rows, chosen = folder / f"{leg.name}-all.parquet", folder / f"{leg.name}.parquet"
    listed = _members(leg, ledger) if leg.packed_from else _versions(leg)
    await spool(listed, Selection(exclude=leg.exclude, versions="all"), rows)
    named = list[str]()
    if asked.manifest:
        manifest = await open_manifest(asked.manifest, ledger.store, bucket=source)
        named = [leg.prefix + str(key) async for batch in manifest.batches for key in batch["key"].to_pylist()]
    place = asked.to.location.join(f"{leg.name}/").key
    how: dict[str, Any] = {
        "rows": parquet(rows),
        "cold": _COLD,
        "seed": asked.seed,
        "at": int(asked.at * 1e6),
        "sample": min(MOST, asked.sample),
        "is_named": asked.manifest is not None,
        # The latest version of a bucket may be the older one by its time: an upload in parts has that of its begin.
        # What an archive calls the latest was that when it was packed.
        "newest": "last_modified DESC, is_latest" if leg.packed_from else "is_latest DESC, last_modified",
        "each": OF_EACH,
        "most": asked.max_size,
        "largest": asked.max_size // SHARE_OF_LARGEST,
        "longest": KEY_BYTES - len(place.encode()) + len(leg.prefix.encode()),
    }

    def choose(connection: duckdb.DuckDBPyConnection) -> Sample:
        connection.register("names", pa.table({"key": pa.array(named, pa.string())}))
        connection.execute("CREATE TEMP TABLE named AS SELECT DISTINCT key FROM names")
        connection.execute(_OBJECTS.format(**how))
        table = connection.sql(_CHOSEN.format(**how)).to_arrow_table()
        counted: Any = connection.execute(
            "SELECT count(*) FILTER (is_current AND NOT is_cold AND NOT is_large), count(*) FILTER (is_cold), "
            "count(*) FILTER (is_large AND NOT is_cold), (SELECT count(*) FROM named) FROM objects"
        ).fetchone()
        batch = fill_batch({name: table[name] for name in table.column_names}, table.num_rows)
        pq.write_table(pa.Table.from_batches([batch]), chosen)
        size_bytes, random = (pc.sum(each).as_py() or 0 for each in (batch["size_bytes"], table["is_random"]))
        population, cold, large, keys = counted
        return Sample(table.num_rows, size_bytes, random, population, cold, large, max(0, keys - random))

    with closing(connect(folder, memory_limit=MEMORY_LIMIT)) as connection:
        return await in_thread(connection, choose, connection), chosen


async def _versions(leg: Leg) -> AsyncIterator[pa.RecordBatch]:
    """What the bucket of a leg has now."""
    async with side_store(leg.side) as store:
        for prefix in leg.prefixes:
            async with aclosing(list_all(store, Location(leg.side.location.bucket, prefix), versions=True)) as pages:
                async for page in pages:
                    yield manifest_batch(page)


async def _members(leg: Leg, ledger: Ledger) -> AsyncIterator[pa.RecordBatch]:
    """What archives hold by the ledger's index. Raises DamagedArchive for archives that it does not know."""
    index, damage, place = ArchiveIndex(ledger.store, ledger.location), list[DamagedIndex](), leg.side.location
    async with side_store(leg.side) as store:
        names = {archive async for archive, _ in list_archives(store, place)}
        every = await index.records(place, damage)
        damage += await find_unindexed(store, index, names - {each.location for each in every})

    def check() -> None:
        for each in damage:
            if each.source_bucket in (leg.packed_from, None):
                what = f"{each.archive} cannot be searched: {each.reason}"
                raise DamagedArchive(what, advice=f"rebuild the index: sealift archives reindex --source {place}")

    check()
    records = [each for each in every if each.source_bucket == leg.packed_from]
    for prefix in leg.prefixes:
        async with aclosing(index.tables_of(records, damage, prefix)) as tables:
            async for record, table in tables:
                columns = {name: table[name] for name in table.column_names}
                # An archive's own class says whether it can be read, not the class that a member had.
                yield fill_batch(columns | {"storage_class": [record.storage_class] * table.num_rows}, table.num_rows)
        check()
