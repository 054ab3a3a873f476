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
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archives.index import ArchiveIndex, Damage, collecting
from jobs.archives.index_tables import INDEX_SCHEMA
from jobs.archives.model import ArchiveRecord
from jobs.core.model import Listed, Location
from jobs.core.pricing import RANGE_BYTES
from jobs.core.run import ShardSummary
from jobs.core.selection import is_sealift_object
from jobs.runs import sharding as shards
from jobs.s3.listing import list_all
from jobs.s3.lookup import key_history
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
from jobs.tables.duck import Database, in_thread, parquet, quoted, scratch_folder
from jobs.tables.rows import cut, expiry_schema, manifest_batch, manifest_schema, write_parquet

MEMORY_LIMIT = "256MB"
BATCH_ROWS = 10_000
FEW_KEYS = 1_000
"""Up to so many keys of a manifest are listed one by one, without the rest of their places."""
LISTS_AT_ONCE = 32
COLD = "('GLACIER', 'DEEP_ARCHIVE')"
"""Classes that cannot be read without a restore: a copy in another class comes first."""

WriteShard = Callable[[int, bytes], Awaitable[None]]

_NAMED = ("size_bytes", "etag", "last_modified", "storage_class", "version_id")
_COPY = {"place": pa.int32(), "copy_bucket": pa.string(), "copy_key": pa.string(), "copy_etag": pa.string()}
_COPY |= {"copy_class": pa.string(), "copied_at": pa.float64(), "copy_checksum": pa.string()}
_PLACED = ("sha256", "offset", "frame_start", "frame_offset", "frame_length")
_MAPS = ("headers", "metadata", "tags", "checksums")


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
    `packed`: the rows whose copy is in an archive. `reads`: storage class → GETs and bytes that the
    comparison takes. `excluded` counts what was left out, by code. `documents`: the keys of the
    documents of places in the listing of each place, and in the folders between it and few rows.
    `damage`: archives whose members cannot count.
    """

    prefix: Location
    rows: int = 0
    size_bytes: int = 0
    packed: int = 0
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
        with closing(database.connection) as connection:
            versions = await retry(lambda: scope.source.is_versioned(scope.source_at.bucket))
            search = _Search(scope, index, folder, connection, versions, wanted is not None)
            keys = None if wanted is None else await search.read_wanted(wanted)
            await search.list_originals(keys)
            await search.list_copies(keys)
            await in_thread(connection, search.choose)
            await search.weigh()
            await search.write(write_shard, rows_per_shard, processes)
            return search.found


class _Search:
    def __init__(
        self, scope: Scope, index: ArchiveIndex, folder: Path, connection: duckdb.DuckDBPyConnection,
        versions: bool, is_wanted: bool,
    ):  # fmt: skip
        self.scope, self.index, self.folder, self.connection = scope, index, folder, connection
        self.versions, self.is_wanted = versions, is_wanted
        self.found = Candidates(scope.source_at)
        self.listed = [0, 0]

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
        """The file `originals`: the listed versions that may be deleted."""
        documents = self.found.documents.setdefault(self.scope.source_at, [])

        def take(entry: Listed) -> Listed | None:
            why = self.scope.refuse(entry.key, entry.is_delete_marker)
            if why == "sealift_object" and entry.is_latest and not entry.is_delete_marker:
                documents.append(entry.key)
            if why and not self.is_wanted:
                self.found.excluded[why] += 1
            return None if why else self._counted(entry)

        await self._spool("originals", _pages(self.scope.source, self.scope.source_at, keys, self.versions), take)

    def _counted(self, entry: Listed) -> Listed:
        self.listed = [self.listed[0] + entry.is_latest, self.listed[1] + 1]
        return entry

    async def list_copies(self, keys: list[str] | None) -> None:
        """The files `copies-N`, by the names of their originals, and `members` of archives."""
        schema = pa.schema([*INDEX_SCHEMA, *(pa.field(name, kind) for name, kind in _COPY.items())])
        with pq.ParquetWriter(self._file("members"), schema, compression="lz4") as writer:
            for number, place in enumerate(self.scope.copies_at):
                for record, entry in await self._list_place(number, place, keys):
                    own = (
                        *(number, place.bucket, entry.key, entry.etag),
                        *(entry.storage_class, entry.last_modified, record.checksum),
                    )
                    with collecting(self.found.damage, record.location):
                        tables = self.index.tables(
                            record.location,
                            self.scope.source_at.key,
                            lambda group: _is_among(keys, group.first_key, group.last_key),
                        )
                        async with aclosing(tables):
                            async for table in tables:
                                for name, value in zip(_COPY, own, strict=True):
                                    table = table.append_column(name, pa.array([value] * table.num_rows, _COPY[name]))
                                writer.write_table(table.cast(schema))

    async def _list_place(
        self, number: int, place: Location, keys: list[str] | None
    ) -> list[tuple[ArchiveRecord, Listed]]:
        """List a place of copies. Returns the archives that are there as their indexes say."""
        source_at, documents = self.scope.source_at, self.found.documents.setdefault(place, [])
        records = {
            record.location.key: record
            for record in await self.index.records(place, self.found.damage)
            if record.source_bucket == source_at.bucket and _is_among(keys, record.first_key, record.last_key)
        }
        archives: list[tuple[ArchiveRecord, Listed]] = []

        def take(entry: Listed) -> Listed | None:
            if is_sealift_object(entry.key):
                documents.append(entry.key)
                return None
            record = records.get(entry.key)
            if record is not None and record.etag == entry.etag:
                archives.append((record, entry))
            return entry._replace(key=source_at.key + entry.key[len(place.key) :])

        names = None if keys is None else [*(place.key + key[len(source_at.key) :] for key in keys), *records]
        await self._spool(f"copies-{number}", _pages(self.scope.copies, place, names, versions=False), take)
        return archives

    async def _spool(
        self, name: str, pages: AsyncGenerator[list[Listed], None], take: Callable[[Listed], Listed | None]
    ) -> None:
        with pq.ParquetWriter(self._file(name), manifest_schema(), compression="lz4") as writer:
            async with aclosing(pages):
                async for page in pages:
                    if taken := [entry for entry in map(take, page) if entry is not None]:
                        writer.write_batch(manifest_batch(taken))

    def choose(self) -> None:
        """The table `chosen`: each row once, with one copy. `why`: the code of why it has none.

        A replica comes before a member of an archive, but not where other content is current at its
        key: the next replication puts that in its place. Of members, the one that was packed last
        comes first: without version ids, an earlier one is of an earlier write.
        """
        replicas = " UNION ALL BY NAME ".join(
            f"""SELECT id, false AS in_archive, {number} AS place, {quoted(place.bucket)} AS copy_bucket,
                {quoted(place.key)} || substr(key, {len(self.scope.source_at.key) + 1}) AS copy_key, NULL AS copy_etag,
                c.storage_class AS copy_class, epoch(c.last_modified) AS copied_at, c.size_bytes = listed_bytes AS fits
            FROM asked JOIN {self._parquet(f"copies-{number}")} AS c USING (key)"""
            for number, place in enumerate(self.scope.copies_at)
        )
        placed = ", ".join(f'm."{name}"' for name in (*_COPY, *_PLACED, *_MAPS))
        self.connection.execute(
            f"""
            CREATE TABLE asked AS {self._asked_sql()};
            CREATE TABLE chosen AS WITH options AS (
                {replicas} UNION ALL BY NAME
                SELECT id, true AS in_archive, true AS fits, epoch(m.last_modified) AS packed_at, {placed}
                FROM asked JOIN {self._parquet("members")} AS m ON m.key = asked.key AND m.etag = asked.etag
                    AND m.size_bytes = listed_bytes AND {_is_version("m.version_id", "asked.version_id")})
            SELECT asked.*, options.* EXCLUDE (id), is_superseded AND NOT in_archive AS is_lost,
                CASE WHEN listed_at IS NULL THEN 'not_listed' WHEN copy_key IS NULL THEN 'no_copy'
                     WHEN NOT fits THEN 'copy_has_other_size' END AS why
            FROM asked LEFT JOIN options USING (id)
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY fits DESC, is_lost,
                coalesce(copy_class, '') IN {COLD}, in_archive, place, packed_at DESC, copy_key, "offset") = 1
            """
        )
        if self.is_wanted:
            left_out = "why = 'not_listed'"
        else:
            left_out = "why <> ''"
            self.connection.execute("UPDATE chosen SET why = 'superseded' WHERE why IS NULL AND is_lost")
        sql = f"SELECT why, count(*) FROM chosen WHERE {left_out} GROUP BY 1"
        self.found.excluded.update(dict(self._all(sql)))
        self.connection.execute(f"DELETE FROM chosen WHERE {left_out}")

    def _asked_sql(self) -> str:
        """`hidden`: the newest version below a delete marker, which may be taken back. It is listed first."""
        rows, matched = "there", ""
        if self.is_wanted:
            rows = "rows"
            matched = f"""
                RIGHT JOIN {self._parquet("wanted")} AS rows
                    ON there.key = rows.key AND {_is_version("there.version_id", "rows.version_id")}
                    AND (rows.version_id IS NOT NULL OR rows.etag IS NULL OR there.etag = rows.etag)
                QUALIFY row_number() OVER (PARTITION BY rows.file_row_number
                    ORDER BY there.is_latest DESC NULLS LAST, there.last_modified DESC, there.file_row_number) = 1"""
        named = ", ".join(f"coalesce({rows}.{name}, there.{name}) AS {name}" for name in _NAMED)
        distinct = "QUALIFY row_number() OVER (PARTITION BY key, version_id, etag ORDER BY listed_at, size_bytes) = 1"
        return f"""
            SELECT row_number() OVER () AS id, * FROM (
                SELECT {rows}.key, {named}, coalesce(there.is_latest, {rows}.is_latest) AS is_latest,
                       there.size_bytes AS listed_bytes, epoch(there.last_modified) AS listed_at,
                       coalesce(coalesce(top.etag, hidden.etag) <> there.etag, false) AS is_superseded
                FROM {self._parquet("originals")} AS there LEFT JOIN {self._parquet("originals")} AS top
                    ON NOT there.is_latest AND top.is_latest AND top.key = there.key
                LEFT JOIN (SELECT key, arg_min(etag, file_row_number) AS etag FROM {self._parquet("originals")}
                    WHERE NOT is_latest GROUP BY key) AS hidden ON NOT there.is_latest AND hidden.key = there.key
                {matched}) {distinct if self.is_wanted else ""}"""

    async def weigh(self) -> None:
        """Count what goes of what is listed, and what is read for it.

        Rows of a manifest are weighed against the folder that holds all that may go. The listing of
        that ends where so much was seen that no share can be exceeded.
        """
        due = f"why IS NULL AND listed_at <= {self.scope.older_than!r}"
        goes = f"{due} AND copied_at <= {self.scope.older_than!r}"
        current, versions, first, last, self.found.packed = (
            await self._select(
                f"""SELECT count(*) FILTER ({goes} AND is_latest), count(*) FILTER ({goes}),
                min(key) FILTER (why IS NULL), max(key) FILTER (why IS NULL), count(*) FILTER (in_archive)
                FROM chosen"""
            )
        )[0]
        if self.is_wanted:
            self.found.prefix = _narrowed(self.scope.source_at, first, last)
            await self._count_enough(self.found.prefix, current, versions)
        self.found.current, self.found.versions = map(Share, (current, versions), self.listed)
        copy, original = ("false", "in_archive") if self.scope.by_checksum else ("true", "contains(etag, '-')")
        reads = await self._select(
            f"""
            SELECT coalesce(class, 'STANDARD'), sum(greatest(1, ceil(size_bytes / {RANGE_BYTES})))::BIGINT,
                   sum(size_bytes)::BIGINT
            FROM (SELECT copy_class AS class, size_bytes FROM chosen WHERE {due} AND {copy}
                  UNION ALL SELECT storage_class, size_bytes FROM chosen WHERE {due} AND {original})
            GROUP BY 1 ORDER BY 1"""
        )
        self.found.reads = {name: (gets, size_bytes) for name, gets, size_bytes in reads}

    async def _count_enough(self, prefix: Location, *eligible: int) -> None:
        self.listed = [0, 0]
        async with aclosing(list_all(self.scope.source, prefix, versions=self.versions)) as pages:
            async for page in pages:
                shares = list(map(Share, eligible, self.listed))
                if not any(each.listed < each.eligible or each.exceeds(self.scope.max_share) for each in shares):
                    break
                for entry in page:
                    if not self.scope.refuse(entry.key, entry.is_delete_marker):
                        self._counted(entry)

    async def write(self, write_shard: WriteShard, rows_per_shard: int, processes: int) -> None:
        """Write the rows as shards."""
        found = self.found
        [(rows, size_bytes)] = await self._select("SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM chosen")
        found.rows, found.size_bytes = rows, size_bytes
        wanted = shards.count_shards(rows, size_bytes, rows_per_shard=rows_per_shard, processes=processes)
        columns = ", ".join(f"{_VALUES.get(name, 'NULL')} AS {name}" for name in expiry_schema().names)
        relation: Any = await in_thread(self.connection, self.connection.sql, f"SELECT {columns} {_ORDERED}")
        tables = cut(relation.to_arrow_reader(BATCH_ROWS), max(1, -(-rows // max(wanted, 1))))
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
        return await in_thread(self.connection, self._all, sql)

    def _all(self, sql: str) -> list[Any]:
        rows: list[Any] = self.connection.execute(sql).fetchall()
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


def _is_version(version_id: str, wanted: str) -> str:
    """SQL that is true if a version is the wanted one. None wants any. A null version may have no id."""
    return f"({wanted} IS NULL OR coalesce({version_id}, 'null') = {wanted})"


def _narrowed(prefix: Location, first_key: str | None, last_key: str | None) -> Location:
    """The folder below the prefix that all keys between the two share."""
    if first_key is None or last_key is None:
        return prefix
    shared = 0
    while shared < min(len(first_key), len(last_key)) and first_key[shared] == last_key[shared]:
        shared += 1
    return prefix._replace(key=max(first_key[: first_key.rfind("/", 0, shared) + 1], prefix.key, key=len))


_JSON = {name: f"coalesce(nullif({name}, ''), '{{}}')::JSON" for name in _MAPS}
_SUMS = "[[to_json(n), sums -> n, to_json(contains(sums ->> n, '-'))] FOR n IN json_keys(sums)]"
_FIELDS = {name: f'"{name}"' for name in ("key", "size_bytes", "etag", *_PLACED)} | _JSON
_FIELDS |= {"last_modified": "packed_at", "checksums": _SUMS.replace("sums", _JSON["checksums"])}
_MEMBER = ", ".join(f"'{name}': {value}" for name, value in _FIELDS.items())
_VALUES = {name: name for name in ("key", "is_latest", *_NAMED)} | {
    "row": "row_number() OVER () - 1",
    "is_delete_marker": "false",
    "proof": f"""CASE WHEN why IS NULL THEN to_json({{'bucket': copy_bucket, 'key': copy_key, 'etag': copy_etag,
        'checksum': copy_checksum, 'member': CASE WHEN in_archive THEN to_json({{{_MEMBER}}}) END}}) END""",
}
"""SQL for the columns of a shard. `proof` is as `jobs.expire.rules.CopyAt.encode` writes it."""
_ORDERED = """FROM (FROM chosen ORDER BY in_archive NULLS FIRST, CASE WHEN in_archive THEN place END,
    CASE WHEN in_archive THEN copy_key END, coalesce(frame_offset, "offset"), "offset", key, version_id)"""
