"""The index of all archives, in the ledger: the archives and their members.

    <ledger>/archives/
      <bucket>/<archive's key>.parquet   a row per member, the record in the footer. Written
                                         once, last: it is there = the archive is finished
      <bucket>.directory.json            all records, for look-ups. Derived: a reader that finds it
                                         stale writes it again

One key among 10⁸ takes a LIST, the directory, and a footer and a row group of each archive that can
hold it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import IO, Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from jobs.archives.files import read_own_index
from jobs.archives.index_tables import RECORD, SCHEMA, from_batch, own_groups, write_index
from jobs.archives.model import ArchiveRecord, DamagedIndex, Member
from jobs.core.model import Location, ObjectRef
from jobs.errors import DamagedArchive, LaterArchive, NotFound, PreconditionFailed, StoreError
from jobs.ledger.files import PARQUET, ledger_guard, list_files, read_file, write_file
from jobs.s3.retries import gather_bounded, once, retry
from jobs.s3.store import Store
from jobs.s3.uploads import ObjectUpload
from jobs.tables.ranged_parquet import RangedTable, holds_any, open_table, overlaps

FOLDER = "archives/"
SUFFIX = ".parquet"
DIRECTORY = ".directory.json"
READS_IN_FLIGHT = 64
PART_BYTES = 8 * 1024**2


class IndexedMember(NamedTuple):
    """A member, and the archive that holds it."""

    record: ArchiveRecord
    member: Member


Damage = list[DamagedIndex]
"""Collects the damaged indexes that a reader of many archives meets, so that it reads the others."""


class ArchiveIndex(Struct, frozen=True):
    """The index in the ledger at `location`. An archive is named by its own: `s3://bucket/key`."""

    store: Store
    location: Location

    async def publish(
        self, record: ArchiveRecord, own_index: IO[bytes], *, stale_etag: str | None = None
    ) -> ArchiveRecord:
        """Write an archive's index from the one inside the archive → the record that won.

        An existing index wins, unless it has `stale_etag`: this is replaced. Raises DamagedArchive
        where the server refuses that, as Ceph does.
        """
        place = self._place(record.location)
        guard = ledger_guard(_index_name(record.location), stale_etag)
        upload = ObjectUpload(self.store, ObjectRef(*place), PARQUET, PART_BYTES, guard)
        with tempfile.TemporaryFile() as file:
            await asyncio.to_thread(write_index, own_index, record, file)
            file.seek(0)
            try:
                while data := file.read(PART_BYTES):
                    await upload.write(data)
                await upload.finish()
            except PreconditionFailed as error:
                if stale_etag is not None and await self.etag(record.location) == stale_etag:
                    raise DamagedArchive(
                        f"the index of {record.location} is out of date, and this server does not replace it",
                        advice=f"delete {place}, then run: sealift archives reindex",
                    ) from error
                return await self.record(record.location) or record
            finally:
                await upload.abort()
        return record

    async def adopt(
        self, store: Store, archive: Location, stale_etag: str | None = None, earlier: ArchiveRecord | None = None
    ) -> ArchiveRecord:
        """Index an archive by the index inside it → the record that won, see `publish`.

        `earlier`: the record of the archive that this one is a copy of, which may have no metadata.
        Raises what `jobs.archives.files.read_own_index` raises.
        """
        record, own_index = await read_own_index(store, archive)
        record = completed(record, own_index)
        if earlier is not None:
            bucket, run_id = record.source_bucket or earlier.source_bucket, record.run_id or earlier.run_id
            record = replace(record, source_bucket=bucket, run_id=run_id)
        return await self.publish(record, io.BytesIO(own_index), stale_etag=stale_etag)

    async def etag(self, archive: Location) -> str | None:
        """The ETag of an archive's index. None: the archive has no index."""
        place = self._place(archive)
        try:
            return (await self.store.head(ObjectRef(place.bucket, place.key))).etag
        except NotFound:
            return None

    async def record(self, archive: Location) -> ArchiveRecord | None:
        """An archive's record. None for an archive that is not finished, or not indexed."""
        try:
            return _record(await self._open(archive), archive)
        except NotFound:
            return None

    async def records(self, archives: Location | None = None, damage: Damage | None = None) -> list[ArchiveRecord]:
        """The records of all archives below a location (None: everywhere), in the order of their
        names, without their `parts`, which are long.

        Damaged indexes are left out and added to `damage`. Without it the first one raises
        DamagedArchive. Indexes that lack members are returned, and added to `damage` as well.
        """
        by_bucket: dict[str, list[tuple[str, str]]] = {}
        root = self.location.join(FOLDER).key
        prefix = root if archives is None else f"{root}{archives.bucket}/{archives.join('').key}"
        async for entry in list_files(self.store, Location(self.location.bucket, prefix)):
            bucket, _, rest = entry.key[len(root) :].partition("/")
            if rest.endswith(SUFFIX):
                by_bucket.setdefault(bucket, []).append((rest.removesuffix(SUFFIX), entry.etag or ""))
        records: list[ArchiveRecord] = []
        for bucket, entries in by_bucket.items():
            is_whole = archives is None or not archives.key
            records += await self._records(bucket, entries, damage, is_whole=is_whole)
        if damage is not None:
            damage += [
                DamagedIndex(each.location, each.incomplete, each.source_bucket) for each in records if each.incomplete
            ]
        return records

    async def find(
        self, key: str, records: Iterable[ArchiveRecord], damage: Damage | None = None
    ) -> list[IndexedMember]:
        """All members of this key, the newest first.

        `records`: the archives to look into. Of versions of one time, that which was
        its key's latest when it was packed is the newest. `damage`: as for `records`.
        """
        candidates = [record for record in records if record.first_key <= key <= record.last_key]

        async def look(record: ArchiveRecord) -> list[IndexedMember]:
            found: list[IndexedMember] = []
            with collecting(damage, record.location):
                async with aclosing(self.members(record.location, keys=[key])) as parts:
                    found += [IndexedMember(record, member) async for part in parts for member in part]
            return found

        hits = [hit for part in await gather_bounded(look, candidates, READS_IN_FLIGHT) for hit in part]
        return sorted(hits, key=_newest_first)

    async def members(
        self, archive: Location, prefix: str = "", keys: Sequence[str] | None = None
    ) -> AsyncGenerator[list[Member], None]:
        """An archive's members whose keys begin with the prefix, in its order, one row group at a
        time. `keys` (in order): only these.

        Raises NotFound for an archive that is not indexed.
        """
        async with aclosing(self.tables(archive, prefix, keys)) as tables:
            async for table in tables:
                yield list(from_batch(table))

    async def tables(
        self, archive: Location, prefix: str = "", keys: Sequence[str] | None = None
    ) -> AsyncGenerator[pa.Table, None]:
        """`members` as tables in `index_tables.INDEX_SCHEMA`."""
        table, begins = await self._open(archive), overlaps(prefix)
        async with aclosing(
            table.scan(lambda each: begins(each) and holds_any(keys, each.first_key, each.last_key))
        ) as groups:
            async for group in groups:
                taken = group.filter(pc.starts_with(_keys(group), prefix)) if prefix else group
                if keys is not None:
                    named = [holds_any(keys, key, key) for key in _keys(taken).to_pylist()]
                    taken = taken.filter(pa.array(named, pa.bool_()))
                if taken.num_rows:
                    yield taken

    async def tables_of(
        self, records: Iterable[ArchiveRecord], damage: Damage, prefix: str = "", keys: Sequence[str] | None = None
    ) -> AsyncGenerator[tuple[ArchiveRecord, pa.Table], None]:
        """`tables` of archives, one after the other, for `aclosing`. Damaged ones are added to `damage`."""
        for record in records:
            if holds_any(keys, record.first_key, record.last_key):
                with collecting(damage, record.location):
                    async with aclosing(self.tables(record.location, prefix, keys)) as tables:
                        async for table in tables:
                            yield record, table

    async def _records(
        self, bucket: str, entries: list[tuple[str, str]], damage: Damage | None, *, is_whole: bool
    ) -> list[ArchiveRecord]:
        """The records of archives (key, ETag of its index), from the directory if it has them.

        The directory also keeps the record of an index that was damaged later.
        """
        known = await self._directory(bucket)
        sources = {key: record.source_bucket for (key, _), record in known.items()}
        records = {name: known[name] for name in entries if name in known}

        async def read(name: tuple[str, str]) -> None:
            archive = Location(bucket, name[0])
            with collecting(damage, archive, sources.get(name[0])):
                records[name] = replace(_record(await self._open(archive), archive), parts=())

        await gather_bounded(read, [name for name in entries if name not in known], READS_IN_FLIGHT)
        unread = {name[0] for name in entries if name not in records}
        kept = {name: each for name, each in known.items() if not is_whole or name[0] in unread} | records
        if kept.keys() != known.keys():
            await self._write_directory(bucket, kept)
        return [records[name] for name in entries if name in records]

    async def _directory(self, bucket: str) -> dict[tuple[str, str], ArchiveRecord]:
        try:
            lines = msgspec.json.decode(await read_file(self.store, self.location, _directory_name(bucket)))
            known = {(key, etag): ArchiveRecord.from_dict(record) for key, etag, record in lines}
            return {name: record for name, record in known.items() if record.location == Location(bucket, name[0])}
        except (NotFound, ValueError, TypeError, KeyError, RecursionError, DamagedArchive):
            return {}  # it is derived: whatever is wrong with it, the indexes have the same records

    async def _write_directory(self, bucket: str, known: Mapping[tuple[str, str], ArchiveRecord]) -> None:
        lines = [[key, etag, known[key, etag].to_dict()] for key, etag in sorted(known)]
        with contextlib.suppress(StoreError):  # a caller that may only read looks longer next time
            data = msgspec.json.encode(lines)
            await write_file(self.store, self.location, _directory_name(bucket), data, tries=once)

    async def _open(self, archive: Location) -> RangedTable:
        place = self._place(archive)
        return await retry(lambda: open_table(self.store, ObjectRef(place.bucket, place.key)))

    def _place(self, archive: Location) -> Location:
        return self.location.join(_index_name(archive))


def completed(record: ArchiveRecord, own_index: bytes) -> ArchiveRecord:
    """A record with the counts of the archive's own index, see
    `jobs.archives.files.read_own_index`.

    Raises DamagedArchive for an index that cannot be read.
    """
    table = pa.concat_tables([SCHEMA.empty_table(), *own_groups(io.BytesIO(own_index), record.location)])
    keys = _keys(table)
    return replace(
        record,
        members=table.num_rows,
        member_bytes=pc.sum(table["size_bytes"]).as_py() or 0,
        first_key=pc.min(keys).as_py() or "",
        last_key=pc.max(keys).as_py() or "",
    )


async def read_own_groups(store: Store, archive: Location, version_id: str | None) -> list[pa.Table]:
    """An archive's own index, by row groups. Raises what `jobs.archives.files.read_own_index` raises."""
    _, own_index = await retry(lambda: read_own_index(store, archive, version_id))
    return [*own_groups(io.BytesIO(own_index), archive)]


def members_of(groups: Iterable[pa.Table], keys: Sequence[str]) -> list[Member]:
    """The members of these keys."""
    return [each for group in groups for each in from_batch(group.filter(pc.field("key").isin(keys)))]


@contextlib.contextmanager
def collecting(damage: Damage | None, archive: Location, source_bucket: str | None = None) -> Iterator[None]:
    """Add a DamagedArchive of the block to `damage` instead of raising it, if there is such a list."""
    try:
        yield
    except DamagedArchive as error:
        if damage is None:
            raise
        damage.append(DamagedIndex(archive, str(error), source_bucket))


def _keys(table: pa.Table) -> Any:
    try:
        keys: Any = table["key"].cast(pa.string())
        keys.validate(full=True)  # that they are UTF-8
        return keys
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DamagedArchive(
            f"the keys of an index cannot be read ({error})", advice="sealift archives reindex"
        ) from error


def _index_name(archive: Location) -> str:
    return f"{FOLDER}{archive.bucket}/{archive.key}{SUFFIX}"


def _directory_name(bucket: str) -> str:
    return f"{FOLDER}{bucket}{DIRECTORY}"


def _newest_first(hit: IndexedMember) -> tuple[float, bool, Location, str]:
    member = hit.member
    return -member.last_modified, not member.is_latest, hit.record.location, member.version_id or ""


def _record(table: RangedTable, archive: Location) -> ArchiveRecord:
    """The record in an index. Raises DamagedArchive for the record of another archive.

    Members are read from the location in the record, so it has to be this archive.
    """
    try:
        record = ArchiveRecord.from_dict(msgspec.json.decode((table.footer.metadata or {})[RECORD]))
    except LaterArchive:
        raise
    except (KeyError, ValueError, RecursionError, DamagedArchive) as error:
        raise DamagedArchive(f"{table.ref} is not an index of an archive: {error!r}") from error
    if record.location != archive:
        raise DamagedArchive(f"{table.ref} is the index of {record.location}, not of {archive}: it was altered")
    return record
