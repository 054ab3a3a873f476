"""Candidates of an expire run: listed originals, and where listings and indexes say that a copy is.

Originals are what a listing of the source has now. A copy is the current object at the mapped name
in a listing of a place of copies, or a member of an archive that such a listing shows with the ETag
in its index. A copy is chosen for each row, and nothing here proves it: the job compares the bytes.
Members of one archive come together, in the archive's order, so that they are read together.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import commonprefix
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archives.index import ArchiveIndex, Damage, collecting
from jobs.archives.index_tables import SCHEMA as INDEX_FIELDS
from jobs.archives.model import ArchiveRecord
from jobs.archives.spans import GAP_BYTES, SPAN_BYTES
from jobs.core.model import Listed, Location
from jobs.core.pricing import RANGE_BYTES
from jobs.core.run import ShardSummary
from jobs.core.selection import is_sealift_object
from jobs.runs import sharding as shards
from jobs.s3.listing import list_all
from jobs.s3.lookup import key_history
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
from jobs.tables.duck import Database, in_thread, parquet, scratch_folder
from jobs.tables.rows import cut, expiry_schema, manifest_batch, manifest_schema, write_parquet

MEMORY_LIMIT = "256MB"
BATCH_ROWS = 10_000
FEW_KEYS = 1_000
"""Up to so many keys of a manifest are listed one by one, without the rest of their places."""
LISTS_AT_ONCE = 32

WriteShard = Callable[[int, bytes], Awaitable[None]]

_MEMBER: list[pa.Field[Any]] = [each.with_nullable(True) for each in INDEX_FIELDS]
_TEXTS = ("copy_class", "bucket", "copy_key", "copy_etag", "checksum")
_COPY_TYPES: dict[str, pa.DataType] = {"key": pa.string(), "copy_bytes": pa.int64(), "copied_at": pa.float64()}
_COPY_TYPES |= {"place": pa.int32(), **dict.fromkeys(_TEXTS, pa.string()), "member": pa.struct(_MEMBER)}
_COPIES = pa.schema(_COPY_TYPES)
"""Copies by the keys of their originals: replicas, and members of archives (`copy_…` is the archive's)."""


class Share(NamedTuple):
    """The number of versions that would go, and how many there are. Few rows: at least so many."""

    eligible: int = 0
    listed: int = 0

    def exceeds(self, limit: float) -> bool:
        """Return True if it is more than this part of all. 1.0 allows everything."""
        return limit < 1.0 and self.eligible > limit * self.listed


NOTHING = Share()


class Scope(NamedTuple):
    """Where originals and copies are, and the terms of the run.

    `is_own`: which keys of the source belong to the pair of the run. None: all. `older_than`: epoch seconds
    before which an original and its copy must be written to count for a share. `by_checksum`: the
    job reads no bytes where S3 keeps checksums.
    """

    source: Store
    copies: Store
    source_at: Location
    copies_at: Sequence[Location]
    is_own: Callable[[str], bool] | None = None
    older_than: float = 0.0
    max_share: float = 1.0
    by_checksum: bool = False
    deletes: bool = True

    def refuse(self, key: str, is_delete_marker: bool = False) -> str:
        """The code of why a key is never deleted. Empty: it may be."""
        if is_sealift_object(key):
            return "sealift_object"
        if not key.startswith(self.source_at.key):
            return "outside_source"
        if self.is_own is not None and not self.is_own(key):
            return "other_pair"
        return "delete_marker" if is_delete_marker else ""


@dataclass(slots=True)
class Candidates:
    """The rows of an expire run, and their shares.

    `current` and `versions`: the shares of the current objects and of all versions below `prefix`.
    `heads`, `lists`: requests of the looks. `reads`: storage class → GETs and bytes that the
    comparison takes. `excluded` counts what was left out, by code. `documents`: the keys of the
    documents of places in the listing of each place, and in the folders between it and few rows.
    `damage`: archives whose members cannot count.
    """

    prefix: Location
    rows: int = 0
    size_bytes: int = 0
    heads: int = 0
    lists: int = 0
    current: Share = NOTHING
    versions: Share = NOTHING
    shards: list[ShardSummary] = field(default_factory=list)
    reads: dict[str, tuple[int, int]] = field(default_factory=dict)
    excluded: Counter[str] = field(default_factory=Counter)
    documents: dict[Location, list[str]] = field(default_factory=dict)
    damage: Damage = field(default_factory=list)


async def plan_candidates(
    scope: Scope,
    index: ArchiveIndex,
    wanted: AsyncIterator[pa.RecordBatch] | None,
    *,
    write_shard: WriteShard,
    scratch_directory: Path,
    rows_per_shard: int,
    processes: int,
) -> Candidates:
    """Write the shards of a run's rows, and say what they are.

    `wanted`: rows of a manifest. Those that are listed are written, without a proof where no copy
    was found. None: what is listed and has a copy. A row without a version id is the
    newest version of its key, and of its ETag if it has one. `write_shard(number, parquet)` is
    awaited for each shard, in order. Raises ConfigError when the scratch directory cannot hold the
    rows.
    """
    with scratch_folder(scratch_directory, "expiring-", "sort the rows") as folder:
        database = Database(folder, memory_limit=MEMORY_LIMIT)
        with closing(database.connection):
            versions = await retry(lambda: scope.source.is_versioned(scope.source_at.bucket))
            search = _Search(scope, index, folder, database.connection, versions, wanted is not None)
            keys = None if wanted is None else await search.read_wanted(wanted)
            await search.list_originals(keys)
            await search.list_copies(keys)
            await search.choose()
            await search.weigh()
            await search.write(write_shard, rows_per_shard, processes)
            return search.found


@dataclass(slots=True)
class _Search:
    scope: Scope
    index: ArchiveIndex
    folder: Path
    connection: Any
    versions: bool
    is_wanted: bool
    found: Candidates = field(init=False)
    listed: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.found = Candidates(self.scope.source_at)

    async def read_wanted(self, wanted: AsyncIterator[pa.RecordBatch]) -> list[str] | None:
        """Keep the rows that may be deleted. Returns their keys, in order, if they are few."""
        few: set[str] = set()
        with pq.ParquetWriter(self._file("wanted"), manifest_schema(), compression="lz4") as writer:
            async for batch in wanted:
                keys: list[Any] = batch["key"].to_pylist()
                markers: list[Any] = batch["is_delete_marker"].to_pylist()
                whys = list(map(self.scope.refuse, keys, markers))
                self.found.excluded.update(filter(None, whys))
                writer.write_batch(batch.filter(pa.array([not why for why in whys], pa.bool_())))
                if len(few) <= FEW_KEYS:
                    few |= {key for key, why in zip(keys, whys, strict=True) if not why}
        return sorted(few) if len(few) <= FEW_KEYS else None

    async def list_originals(self, keys: list[str] | None) -> None:
        """The file `originals`: the listed versions that may be deleted, and the markers above them."""
        documents = self.found.documents.setdefault(self.scope.source_at, [])
        with pq.ParquetWriter(self._file("originals"), manifest_schema(), compression="lz4") as writer:
            async for page in _pages(self.scope.source, self.scope.source_at, keys, self.versions):
                whys = [self.scope.refuse(entry.key, entry.is_delete_marker) for entry in page]
                taken = [entry for entry, why in zip(page, whys, strict=True) if why in ("", "delete_marker")]
                documents += [entry.key for entry in page if _is_document(entry)]
                self._count(taken)
                if not self.is_wanted:
                    self.found.excluded.update(filter(None, whys))
                if taken:
                    writer.write_batch(manifest_batch(taken))

    def _count(self, entries: Iterable[Listed]) -> None:
        latest = [entry.is_latest for entry in entries if not entry.is_delete_marker]
        self.listed = [self.listed[0] + sum(latest), self.listed[1] + len(latest)]

    async def list_copies(self, keys: list[str] | None) -> None:
        """The file `copies`: what is current in the places of copies, and what their archives hold."""
        source_at = self.scope.source_at
        with pq.ParquetWriter(self._file("copies"), _COPIES, compression="lz4") as writer:
            for number, place in enumerate(self.scope.copies_at):
                own = {"place": number, "bucket": place.bucket}
                records = await self._records(place, keys)
                names = None if keys is None else [place.key + key[len(source_at.key) :] for key in keys] + [*records]
                archives: list[tuple[ArchiveRecord, Listed]] = []
                documents = self.found.documents.setdefault(place, [])
                async for page in _pages(self.scope.copies, place, names, versions=False):
                    documents += [entry.key for entry in page if _is_document(entry)]
                    copies = [entry for entry in page if not is_sealift_object(entry.key)]
                    there = [(records[entry.key], entry) for entry in copies if entry.key in records]
                    archives += [(record, entry) for record, entry in there if record.etag == entry.etag]
                    columns = {
                        "key": [source_at.key + entry.key[len(place.key) :] for entry in copies],
                        "copy_bytes": [entry.size_bytes for entry in copies],
                        "copied_at": [entry.last_modified for entry in copies],
                        "copy_class": [entry.storage_class for entry in copies],
                        "copy_key": [entry.key for entry in copies],
                    }
                    writer.write_table(_table(columns, len(copies), own))
                for record, entry in archives:
                    own |= {"copy_key": entry.key, "copy_etag": entry.etag, "checksum": record.checksum}
                    own |= {"copy_class": entry.storage_class, "copied_at": entry.last_modified}
                    await self._write_members(writer, record, keys, own)

    async def _records(self, place: Location, keys: list[str] | None) -> dict[str, ArchiveRecord]:
        return {
            record.location.key: record
            for record in await self.index.records(place, self.found.damage)
            if record.source_bucket == self.scope.source_at.bucket
            and _is_among(keys, record.first_key, record.last_key)
        }

    async def _write_members(
        self, writer: pq.ParquetWriter, record: ArchiveRecord, keys: list[str] | None, own: dict[str, Any]
    ) -> None:
        tables = self.index.tables(
            record.location,
            self.scope.source_at.key,
            lambda group: _is_among(keys, group.first_key, group.last_key),
        )
        with collecting(self.found.damage, record.location):
            async with aclosing(tables):
                async for table in tables:
                    members: Any = table.select(INDEX_FIELDS.names).cast(pa.schema(_MEMBER))
                    columns = {"key": table["key"], "member": members.to_struct_array()}
                    writer.write_table(_table(columns, table.num_rows, own))

    async def choose(self) -> None:
        """The table `chosen`: each row once, with one copy. `why`: the code of why it has none.

        A replica comes before a member of an archive, but not where other content is newest at its
        key: the next replication puts that in its place. Of members, the one that was packed last
        comes first: without version ids, an earlier one is of an earlier write. A copy in a class
        that cannot be read without a restore comes last.
        """
        await self._select(
            f"""
            CREATE TABLE there AS SELECT * EXCLUDE (is_delete_marker) FROM (
                SELECT file_row_number AS id, key, size_bytes, etag, last_modified, storage_class, version_id,
                    is_latest, is_delete_marker, epoch(last_modified) AS listed_at,
                    coalesce(min(epoch(last_modified)) FILTER (NOT coalesce(regexp_matches(etag, '-[0-9]+$'), false))
                        OVER above, lag(epoch(last_modified)) OVER newest_first) AS hidden_at,
                    first_value(etag IGNORE NULLS) OVER newest_first <> etag AS is_superseded
                FROM {self._parquet("originals")}
                WINDOW newest_first AS (PARTITION BY key
                    ORDER BY is_latest DESC, last_modified DESC, file_row_number),
                    above AS (newest_first ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))
            WHERE NOT is_delete_marker
            """
        )
        asked = ""
        if self.is_wanted:
            asked = "SEMI JOIN asked USING (id)"
            await self._select(
                f"""
                CREATE TABLE asked AS
                SELECT first(there.id ORDER BY there.is_latest DESC, there.last_modified DESC, there.id) AS id
                FROM there JOIN {self._parquet("wanted")} AS wanted
                    ON there.key = wanted.key AND (wanted.etag IS NULL OR there.etag = wanted.etag)
                    AND (wanted.version_id IS NULL OR coalesce(there.version_id, 'null') = wanted.version_id)
                GROUP BY wanted.file_row_number
                """
            )
        await self._select(
            f"""
            CREATE TABLE chosen AS
            SELECT there.*, copies.* EXCLUDE (key), member IS NOT NULL AS in_archive,
                CASE WHEN copy_key IS NULL THEN 'no_copy'
                     WHEN member IS NULL AND copy_bytes IS DISTINCT FROM there.size_bytes THEN 'copy_has_other_size'
                     WHEN member IS NULL AND is_superseded THEN 'superseded' END AS why
            FROM there {asked} LEFT JOIN {self._parquet("copies")} AS copies ON there.key = copies.key
                AND (member IS NULL OR (member.etag = there.etag AND member.size_bytes = there.size_bytes
                    AND (there.version_id IS NULL OR coalesce(member.version_id, 'null') = there.version_id)))
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY
                why IS NOT DISTINCT FROM 'copy_has_other_size', why IS NOT NULL,
                coalesce(copy_class, '') IN ('GLACIER', 'DEEP_ARCHIVE'), in_archive, place,
                member.last_modified DESC, copy_key, member.offset) = 1
            """
        )
        why = (
            f"(SELECT count(*) FROM {self._parquet('wanted')}) - (SELECT count(*) FROM asked)" if self.is_wanted else ""
        )
        sql = f"SELECT 'not_listed', {why}" if why else "SELECT why, count(*) FROM chosen WHERE why <> '' GROUP BY 1"
        self.found.excluded += Counter(dict(await self._select(sql)))
        if not self.is_wanted:
            await self._select("DELETE FROM chosen WHERE why <> ''")

    async def weigh(self) -> None:
        """Count what goes now of what is listed, and the requests and bytes for it.

        Rows of a manifest are weighed against the folder that holds all that may go. The listing of
        that ends where so much was seen that no share can be exceeded.
        """
        found, older_than = self.found, self.scope.older_than
        due = f"(why IS NULL AND greatest(listed_at, coalesce(hidden_at, 0)) <= {older_than!r})"
        goes = f"{due} AND copied_at <= {older_than!r}"
        hidden, replica, again = "(NOT is_latest)::INT", "(NOT in_archive)::INT", int(self.scope.deletes)
        looks = f"1 + {hidden} + {due}::INT * ({replica} + {again} * (1 + {hidden} + {replica}))"
        [(found.rows, found.size_bytes, current, versions, first, last, found.heads, found.lists)] = await self._select(
            f"""
            SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT, count(*) FILTER ({goes} AND is_latest),
                count(*) FILTER ({goes}), min(key) FILTER (why IS NULL), max(key) FILTER (why IS NULL),
                coalesce(sum({looks}), 0)::BIGINT, coalesce(sum({hidden} * (1 + {again} * {due}::INT)), 0)::BIGINT
            FROM chosen
            """
        )
        if self.is_wanted and first is not None:
            shared = commonprefix([first, last])
            found.prefix = found.prefix._replace(key=max(shared[: shared.rfind("/") + 1], found.prefix.key, key=len))
        if self.is_wanted:
            await self._count_enough(found.prefix, current, versions)
        found.current, found.versions = map(Share, (current, versions), self.listed)
        ranges = f"sum(greatest(1, ceil(size_bytes / {RANGE_BYTES})))::BIGINT AS gets, sum(size_bytes)::BIGINT AS bytes"
        reads = await self._select(
            f"""
            WITH due AS (FROM chosen WHERE {due}),
                frames AS (SELECT copy_class, bucket, copy_key, coalesce(member.frame_offset, member.offset) AS start,
                    max(coalesce(member.frame_length, member.size_bytes)) AS length, sum(size_bytes) AS content
                    FROM due WHERE in_archive GROUP BY ALL),
                spans AS (SELECT *, coalesce(start - lag(start + length) OVER
                    (PARTITION BY bucket, copy_key ORDER BY start) > {GAP_BYTES}, true) AS is_apart FROM frames)
            SELECT coalesce(class, 'STANDARD'), sum(gets)::BIGINT, sum(bytes)::BIGINT FROM (
                SELECT copy_class AS class, {ranges} FROM due WHERE NOT in_archive AND NOT {self.scope.by_checksum}
                GROUP BY 1 UNION ALL BY NAME
                SELECT copy_class AS class, count(*) FILTER (is_apart) + sum(length + content) // {SPAN_BYTES} AS gets,
                    sum(length) AS bytes FROM spans WHERE NOT {self.scope.by_checksum} GROUP BY 1 UNION ALL BY NAME
                SELECT storage_class AS class, {ranges} FROM due
                WHERE {"in_archive" if self.scope.by_checksum else "contains(etag, '-')"} GROUP BY 1)
            GROUP BY 1 ORDER BY 1
            """
        )
        found.reads = {name: (gets, size_bytes) for name, gets, size_bytes in reads}

    async def _count_enough(self, prefix: Location, *eligible: int) -> None:
        self.listed = [0, 0]
        async with aclosing(list_all(self.scope.source, prefix, versions=self.versions)) as pages:
            async for page in pages:
                shares = list(map(Share, eligible, self.listed))
                if not any(each.listed < each.eligible or each.exceeds(self.scope.max_share) for each in shares):
                    break
                self._count(entry for entry in page if not self.scope.refuse(entry.key, entry.is_delete_marker))

    async def write(self, write_shard: WriteShard, rows_per_shard: int, processes: int) -> None:
        """Write the rows as shards."""
        found = self.found
        wanted = shards.count_shards(found.rows, found.size_bytes, rows_per_shard=rows_per_shard, processes=processes)
        columns = ", ".join(f"{_VALUES.get(name, 'NULL')} AS {name}" for name in expiry_schema().names)
        relation: Any = await in_thread(self.connection, self.connection.sql, f"SELECT {columns} {_ORDERED}")
        tables = cut(relation.to_arrow_reader(BATCH_ROWS), max(1, -(-found.rows // max(wanted, 1))))
        while (table := await in_thread(self.connection, next, tables, None)) is not None:
            data = write_parquet(table.cast(expiry_schema()))
            await write_shard(len(found.shards), data)
            own_bytes = sum(size or 0 for size in table["size_bytes"].to_pylist())
            found.shards.append(ShardSummary(table.num_rows, own_bytes, hashlib.sha256(data).hexdigest()))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def _parquet(self, name: str) -> str:
        return parquet(self._file(name), "file_row_number = true")

    async def _select(self, sql: str) -> list[Any]:
        rows: list[Any] = await in_thread(self.connection, lambda: self.connection.execute(sql).fetchall())
        return rows


async def _pages(
    store: Store, place: Location, keys: Sequence[str] | None, versions: bool
) -> AsyncGenerator[list[Listed], None]:
    """All entries of a place, or those of these keys, and of documents in the folders above them."""
    if keys is None:
        async with aclosing(list_all(store, place, versions=versions)) as pages:
            async for page in pages:
                yield page
        return

    async def of_key(key: str) -> list[Listed]:
        if versions:
            return (await retry(lambda: key_history(store, place.bucket, key)))[::-1]
        page = await retry(lambda: store.list_objects(place.bucket, key, max_keys=1))
        return [entry for entry in page.entries if entry.key == key]

    async def of_folder(folder: str) -> list[Listed]:
        return (await retry(lambda: store.list_objects(place.bucket, f"{folder}.sealift/place-"))).entries

    folders = {key[: at + 1] for key in keys for at in range(len(place.key), len(key)) if key[at] == "/"}
    for look, names in ((of_folder, sorted(folders | {place.key})), (of_key, keys)):
        for page in await gather_bounded(look, names, LISTS_AT_ONCE):
            yield page


def _is_among(keys: list[str] | None, first_key: str | None, last_key: str | None) -> bool:
    """True if one of the keys is between these. `keys`: in order. None: any."""
    if keys is None or first_key is None or last_key is None:
        return True
    at = bisect_left(keys, first_key)
    return at < len(keys) and keys[at] <= last_key


def _is_document(entry: Listed) -> bool:
    return is_sealift_object(entry.key) and entry.is_latest and not entry.is_delete_marker


def _table(columns: dict[str, Any], rows: int, own: dict[str, Any]) -> pa.Table:
    """Rows of `copies`: these columns, and the values that all of them share."""
    shared = {each.name: pa.repeat(pa.scalar(own.get(each.name), each.type), rows) for each in _COPIES}
    return pa.table(shared | columns, schema=_COPIES)


_MAP = "coalesce(nullif(member.{}, ''), '{{}}')::JSON"
_SUMS = "to_json([json_array(n, sums ->> n, contains(sums ->> n, '-')) FOR n IN json_keys(sums)])"
_FIELDS = {name: _MAP.format(name) for name in ("headers", "metadata", "tags")}
_FIELDS |= {"checksums": _SUMS.replace("sums", _MAP.format("checksums"))}
_FIELDS |= {"last_modified": "epoch(member.last_modified)"}
_VALUES = {name: name for name in ("key", "is_latest", "size_bytes", "etag", "last_modified", "storage_class")}
_VALUES |= {"version_id": "version_id", "row": "row_number() OVER () - 1", "is_delete_marker": "false"}
_VALUES["proof"] = f"""CASE WHEN copy_key IS NOT NULL THEN to_json({{'bucket': bucket, 'key': copy_key,
    'etag': copy_etag, 'checksum': checksum, 'member': CASE WHEN in_archive THEN
    json_array({", ".join(_FIELDS.get(name, f'member."{name}"') for name in INDEX_FIELDS.names)}) END}}) END"""
"""SQL for the columns of a shard. `proof` is a `jobs.expire.rules.CopyAt` as JSON, a member the array of its fields."""
_ORDERED = """FROM (FROM chosen ORDER BY in_archive NULLS FIRST, CASE WHEN in_archive THEN place END,
    CASE WHEN in_archive THEN copy_key END, coalesce(member.frame_offset, member.offset), member.offset, key,
    version_id)"""
