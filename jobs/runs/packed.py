"""Copies that archives hold: a key is not missing where an archive of its pair has its copy.

`expire` deletes hot copies that `compact` has packed. No list of the hot bucket shows them, so a
run over the pair would copy each again, or find it missing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archives.files import list_archives
from jobs.archives.index import ArchiveIndex, DamagedIndex, collecting
from jobs.archives.unindexed import UNREADABLE
from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import copy_key_sql
from jobs.runs.sorting import Sorting
from jobs.s3.sessions import open_side
from jobs.s3.store import Store
from jobs.tables.duck import in_thread, parquet
from jobs.tables.rows import manifest_schema

_MEMBERS = pa.schema([manifest_schema().field(name) for name in ("key", "size_bytes", "etag")])


@dataclass(frozen=True, slots=True)
class PackedCopies:
    """Where archives are that hold copies. `is_sealed`: copies are encrypted with KMS."""

    index: ArchiveIndex
    store: Store
    archives: Location
    is_sealed: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any], ledger: Ledger) -> PackedCopies | None:
        """The archives of a pair's run (`jobs.policy.run_options.copy_options`). None: its copies do not expire."""
        if not (at := options.get("packed")):
            return None
        side = Side(Location.parse(at["uri"]), region=at["region"], owner=at["owner"])
        return cls(ArchiveIndex(ledger.store, ledger.location), open_side(side), side.location)

    async def members(self, bucket: str, first: str, last: str) -> AsyncGenerator[pa.Table, None]:
        """Members, with keys from `first` to `last` among them, of what was in a bucket.

        Only archives count that are there as their indexes say.
        """
        there, damage = dict[Location, str](), list[DamagedIndex]()
        with suppress(*UNREADABLE):
            there = {archive: etag async for archive, etag in list_archives(self.store, self.archives)}
        for record in await self.index.records(self.archives, damage):
            is_there = record.source_bucket == bucket and there.get(record.location) == record.etag
            if is_there and record.first_key <= last and first <= record.last_key:
                with collecting(damage, record.location):
                    async with aclosing(self.index.tables(record.location)) as tables:
                        async for table in tables:
                            yield table


async def leave_out_packed(packed: PackedCopies, spec: RunSpec, sorting: Sorting) -> int:
    """Leave out the rows whose copies are not listed (`Sorting.seen`) and in an archive → how many.

    The member has the row's size and its ETag, an MD5. Rows of all versions stay: `seen` lacks some.
    """
    rows, connection = f"(SELECT *, {copy_key_sql(spec)} AS copy_key FROM {sorting.relation})", sorting.connection
    lacking = f"FROM {rows} ANTI JOIN seen USING (place)"
    [(first, last)] = await in_thread(
        connection, lambda: connection.execute(f"SELECT min(copy_key), max(copy_key) {lacking}").fetchall()
    )
    if first is None or spec.options.get("all_versions"):
        return 0
    path = sorting.folder / "members.parquet"
    with pq.ParquetWriter(path, _MEMBERS, compression="lz4") as writer:
        async with aclosing(packed.members(spec.destination.location.bucket, first, last)) as tables:
            async for table in tables:
                writer.write_table(table.select(_MEMBERS.names).cast(_MEMBERS))

    def places(_: str) -> str:
        return f"""SELECT place FROM (SELECT * {lacking} WHERE regexp_full_match(etag, '[0-9a-f]{{32}}')) AS r
            SEMI JOIN {parquet(path)} AS m ON m.key = r.copy_key AND m.etag = r.etag AND m.size_bytes = r.size_bytes"""

    return await in_thread(connection, sorting.leave_out, places)
