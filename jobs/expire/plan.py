"""Plan of an expire run: the places, the candidates that are listed there, the shares, the price.

Originals are what a listing of the source has now. A copy is the current object at the mapped name
in a listing of a place of copies, or a member of an archive that such a listing shows with the ETag
in its index. A copy is chosen for each row, and nothing here proves it: the job compares the bytes.
Members of one archive come together, in the archive's order, so that they are read together.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import commonprefix
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from jobs.archives.index import ArchiveIndex, Damage, collecting
from jobs.archives.index_tables import from_batch
from jobs.archives.model import ArchiveRecord
from jobs.config import Settings
from jobs.core import pricing
from jobs.core.display import Display
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.model import Listed, Location
from jobs.core.pricing import Bill, Group, Histogram, PricedWork
from jobs.core.run import Plan
from jobs.core.selection import is_sealift_object
from jobs.errors import ConfigError, UsageError
from jobs.expire.copy_columns import MEMBER, SCHEMA
from jobs.expire.places import (
    Place,
    find_policy,
    find_warnings,
    foreign_places,
    read_places,
    refuse_lifecycle,
    refuse_mirrors,
)
from jobs.ledger.ledger import Ledger
from jobs.manifests import open_manifest
from jobs.policy.model import Policy
from jobs.runs.planning import check_share, cut_shards, exceeds
from jobs.runs.request import Draft, Planned, Request, check_apart, drafting
from jobs.s3.listing import list_all
from jobs.s3.lookup import key_history
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.sessions import are_apart, side_store
from jobs.s3.store import Store
from jobs.tables.duck import connect, in_thread, parquet, scratch_folder
from jobs.tables.ranged_parquet import holds_any
from jobs.tables.rows import batch_of, fill_batch, manifest_schema

MEMORY_LIMIT = "256MB"
FEW_KEYS = 1_000
"""Up to so many keys of a manifest are listed one by one, without the rest of their places."""
LISTS_AT_ONCE = 32

_ROW = SCHEMA.remove(0)
_LISTED = _ROW.append(pa.field("place", pa.int32()))
"""What is there: originals (place 0) and, by their keys, what is current in each place of copies, and members of
archives there. Time and class of a member are its archive's."""


@dataclass(slots=True)
class Candidates:
    """The search for the rows of an expire run.

    `places`: that of the originals first. `keeps_versions`: their bucket does. `options`: the
    request's. `is_own`: which keys of the source belong to the pair of the run. None: all.

    `excluded` counts what was left out, by code. `damage`: archives that cannot be read.
    Their members do not count.
    """

    source: Store
    copies: Store
    places: Sequence[Place]
    index: ArchiveIndex
    keeps_versions: bool
    options: Mapping[str, Any]
    draft: Draft
    is_own: Callable[[str], bool] | None = None
    excluded: Counter[str] = field(default_factory=Counter)
    damage: Damage = field(default_factory=list)
    _is_wanted: bool = False
    _folder: Path = field(init=False)
    _connection: Any = field(init=False)

    @property
    def source_at(self) -> Location:
        """Where the originals are."""
        return self.places[0].location

    async def find(self, wanted: AsyncIterator[pa.RecordBatch] | None, settings: Settings) -> Plan:
        """Find the rows, weigh them, and write them as shards of the draft.

        `wanted`: rows of a manifest. Those that are listed are written, without a copy where none
        was found. None: what is listed and has a copy. A row without a version id is the newest
        version of its key, and of its ETag if it has one. The plan's `expiry` has both shares, the prefix
        that they are of, and what is read. Raises ConfigError when the scratch directory cannot hold the rows,
        and for the document of another place in a listing, or in the folders between a place and few rows.
        """
        with (
            scratch_folder(self.draft.scratch, "expiring-", "sort the rows") as self._folder,
            closing(connect(self._folder, memory_limit=MEMORY_LIMIT)) as self._connection,
        ):
            self._is_wanted = wanted is not None
            await self._list_places(None if wanted is None else await self._read_wanted(wanted))
            await self._choose()
            plan = await self._weigh(settings.processes)
            # Members of an archive come together, in its order.
            in_order = self._connection.sql(
                """
                FROM chosen ORDER BY in_archive NULLS FIRST, CASE WHEN in_archive THEN place END,
                    CASE WHEN in_archive THEN copy_key END, coalesce(copy_member.frame_offset, copy_member.offset),
                    copy_member.offset, key, version_id
                """
            )
            where, to = (self._connection, in_order), self.draft.shards(settings)
            shards = await cut_shards(*where, plan.rows, plan.size_bytes, to, SCHEMA)
        return replace(plan, shards=shards, excluded=dict(self.excluded))

    def _refuse(self, key: str, is_delete_marker: bool = False) -> str:
        """The code of why a key is never deleted. Empty: it may be."""
        if is_sealift_object(key):
            return "sealift_object"
        if not key.startswith(self.source_at.key):
            return "outside_source"
        if self.is_own is not None and not self.is_own(key):
            return "other_pair"
        # SeaweedFS has that for a control character where it lists versions: it encodes no keys there, as AWS does.
        if "\ufffd" in key and self.keeps_versions and not self.source.heeds_conditions:
            return "name_unclear"
        return "delete_marker" if is_delete_marker else ""

    async def _read_wanted(self, wanted: AsyncIterator[pa.RecordBatch]) -> list[str] | None:
        """Keep the rows that may be deleted. Returns their keys, in order, if they are few."""
        few: set[str] = set()
        with self._writer("wanted", manifest_schema()) as writer:
            async for batch in wanted:
                keys: list[Any] = batch["key"].to_pylist()
                markers: list[Any] = batch["is_delete_marker"].to_pylist()
                whys = list(map(self._refuse, keys, markers))
                self.excluded.update(filter(None, whys))
                writer.write_batch(batch.filter(pa.array([not why for why in whys], pa.bool_())))
                if len(few) <= FEW_KEYS:
                    few |= {key for key, why in zip(keys, whys, strict=True) if not why}
        return sorted(few) if len(few) <= FEW_KEYS else None

    async def _list_places(self, keys: list[str] | None) -> None:
        """Write the file `listed`: what is in all places now, and in archives there.

        `keys`: only what belongs to these.
        """
        source = self.source_at.key
        with self._writer("listed", _LISTED) as listed:
            for number, place in enumerate(self.places):
                at, store = place.location, self.copies if number else self.source
                records = await self._records(at, keys) if number else {}
                names = None if keys is None else [*(at.key + key[len(source) :] for key in keys), *records]
                archives: dict[str, Listed] = {}
                async for page in _pages(store, at, names, self.keeps_versions and not number):
                    current = (each.key for each in page if each.is_latest and not each.is_delete_marker)
                    if foreign := foreign_places(current, place, self.places[0]):
                        raise ConfigError(
                            f"{at} holds another place, by its document {foreign[0]}",
                            advice="name places that have no key in common, or delete that document",
                        )
                    there = (each for each in page if each.key in records)
                    archives |= {each.key: each for each in there if each.etag == records[each.key].etag}
                    rows = [
                        (*each._replace(key=source + each.key[len(at.key) :]), number, at.bucket, each.key)
                        for each in (page if number else self._take(page))
                    ]
                    listed.write_batch(batch_of(rows, (*Listed._fields, "place", "copy_bucket", "copy_key"), _LISTED))
                tables = self.index.tables_of(map(records.__getitem__, archives), self.damage, source, keys)
                async with aclosing(tables):
                    async for record, table in tables:
                        with collecting(self.damage, record.location):
                            await asyncio.to_thread(from_batch, table)  # raises for what no worker could read
                            listed.write_batch(_members(table, number, record, archives[record.location.key]))

    def _take(self, page: Sequence[Listed]) -> list[Listed]:
        """The originals that may be deleted, and the markers above them."""
        whys = [self._refuse(entry.key, entry.is_delete_marker) for entry in page]
        if not self._is_wanted:
            self.excluded.update(filter(None, whys))
        return [entry for entry, why in zip(page, whys, strict=True) if why in ("", "delete_marker")]

    async def _records(self, place: Location, keys: list[str] | None) -> dict[str, ArchiveRecord]:
        return {
            record.location.key: record
            for record in await self.index.records(place, self.damage)
            if record.source_bucket == self.source_at.bucket and holds_any(keys, record.first_key, record.last_key)
        }

    async def _choose(self) -> None:
        """The table `chosen`: each row once, with one copy. `why`: the code of why it has none.

        A replica comes before a member of an archive, but not where another version is newer at its
        key: the next replication puts that in its place. Of members, the one that was packed last
        comes first: without version ids, an earlier one is of an earlier write. A copy in a class
        that cannot be read without a restore comes last.
        """
        listed = self._parquet("listed")
        await self._select(
            f"""
            CREATE TABLE there AS SELECT * EXCLUDE (is_delete_marker) FROM (
                SELECT file_row_number AS id, key, size_bytes, etag, last_modified, storage_class, version_id,
                    is_latest, is_delete_marker, epoch(last_modified) AS listed_at,
                    lag(epoch(last_modified)) OVER newest_first AS hidden_at,
                    coalesce(bool_or(NOT is_delete_marker) OVER above, false) AS is_superseded
                FROM {listed} WHERE place = 0
                WINDOW newest_first AS (PARTITION BY key
                    ORDER BY is_latest DESC, last_modified DESC, file_row_number),
                    above AS (newest_first ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))
            WHERE NOT is_delete_marker
            """
        )
        asked = ""
        if self._is_wanted:
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
            SELECT there.*, place, copy_bucket, copy_key, copy_checksum, copy_member,
                epoch(copies.last_modified) AS copied_at, copies.storage_class AS copy_class,
                copy_member IS NOT NULL AS in_archive,
                CASE WHEN copy_key IS NULL THEN 'no_copy'
                     WHEN copy_member IS NULL AND copies.size_bytes IS DISTINCT FROM there.size_bytes
                     THEN 'copy_has_other_size'
                     WHEN copy_member IS NULL AND is_superseded THEN 'superseded' END AS why
            FROM there {asked} LEFT JOIN (FROM {listed} WHERE place > 0) AS copies ON there.key = copies.key
                AND (copy_member IS NULL OR (copies.etag = there.etag AND copies.size_bytes = there.size_bytes
                    AND (there.version_id IS NULL OR coalesce(copies.version_id, 'null') = there.version_id)))
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY
                why IS NOT DISTINCT FROM 'copy_has_other_size', why IS NOT NULL,
                coalesce(copy_class, '') IN ('GLACIER', 'DEEP_ARCHIVE'), in_archive, place,
                copy_member.last_modified DESC, copy_key, copy_member.offset) = 1
            """
        )
        sql = "SELECT why, count(*) FROM chosen WHERE why <> '' GROUP BY 1"
        if self._is_wanted:
            sql = f"SELECT 'not_listed', (SELECT count(*) FROM {self._parquet('wanted')}) - count(*) FROM asked"
        self.excluded += Counter(dict(await self._select(sql)))
        if not self._is_wanted:
            await self._select("DELETE FROM chosen WHERE why <> ''")

    async def _weigh(self, processes: int) -> Plan:
        """The plan: what goes now of what is listed, and the requests, dollars and seconds for it, at most.

        Rows of a manifest are weighed against the folder that holds all that may go. The listing of
        that ends where so much was seen that no share can be exceeded. The listings of the plan are done.
        """
        older_than = self.draft.started - self.options["grace_seconds"]
        due = f"(why IS NULL AND greatest(listed_at, coalesce(hidden_at, 0)) <= {older_than!r})"
        goes = f"{due} AND copied_at <= {older_than!r}"
        [(rows, size_bytes, current, versions, first, last, hidden)] = await self._select(
            f"""
            SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT, count(*) FILTER ({goes} AND is_latest),
                count(*) FILTER ({goes}), min(key) FILTER (why IS NULL), max(key) FILTER (why IS NULL),
                count(*) FILTER (NOT is_latest)
            FROM chosen
            """
        )
        within = self.source_at
        if self._is_wanted:
            shared = commonprefix([first or "", last or ""])
            within = within._replace(key=max(shared[: shared.rfind("/") + 1], within.key, key=len))
            listed = await self._count_enough(within, current, versions)
        else:
            [listed] = await self._select("SELECT count(*) FILTER (is_latest), count(*) FROM there")
        by_checksum, deletes = self.options["by_checksum"], self.options["delete"]
        looks = 1 + deletes  # at both sides, before bytes are read, and before the delete
        asked = "in_archive" if by_checksum else "contains(etag, '-')"
        # what is too new takes one HEAD, and a row of a comparison is priced as two
        groups = await self._select(
            f"""
            SELECT coalesce(class, 'STANDARD'), false, true, false, ceil(sum(heads) / 2)::BIGINT,
                sum(size_bytes)::BIGINT,
                sum(if(heads > 0, 0, greatest(1, ceil(size_bytes / {pricing.RANGE_BYTES}))))::BIGINT
            FROM (SELECT copy_class AS class, if({due}, 2 * {looks}, 1) + if(is_latest, 0, {looks}) AS heads,
                    0 AS size_bytes FROM chosen
                UNION ALL SELECT copy_class, 0, size_bytes FROM chosen WHERE {due} AND NOT {by_checksum}
                UNION ALL SELECT storage_class, 0, size_bytes FROM chosen WHERE {due} AND {asked})
            GROUP BY 1 ORDER BY 1
            """
        )
        read = tuple(Group(*each) for each in groups)
        lists_annotations = self.source.keeps_annotations and self.options["annotations"] != SKIP_ANNOTATIONS
        lists = looks * hidden + versions * lists_annotations  # a plan cannot know how many there are
        expiry = {
            "current": {"eligible": current, "listed": listed[0]},  # few rows: at least so many are listed
            "versions": {"eligible": versions, "listed": listed[1]},
            "prefix": str(within),
            "reads": [{"storage_class": each.storage_class, "bytes": each.size_bytes} for each in read if each.parts],
        }
        work = PricedWork(is_copying=False, deep=True, sides_read=1)
        bill = Bill(work, Histogram(read, 0), list=lists, delete=versions * deletes)
        return bill.of(Plan(rows, size_bytes, (), expiry=expiry), processes)

    async def _count_enough(self, within: Location, *eligible: int) -> list[int]:
        """Count the current objects and all versions in a folder, until no share can be exceeded."""
        listed, limit = [0, 0], self.options["max_share"]
        async with aclosing(list_all(self.source, within, versions=self.keeps_versions)) as pages:
            async for page in pages:
                shares = zip(eligible, listed, strict=True)
                if not any(seen < going or exceeds(going, seen, limit) for going, seen in shares):
                    break
                latest = [each.is_latest for each in page if not self._refuse(each.key, each.is_delete_marker)]
                listed = [listed[0] + sum(latest), listed[1] + len(latest)]
        return listed

    def _writer(self, name: str, schema: pa.Schema) -> pq.ParquetWriter:
        return pq.ParquetWriter(self._folder / f"{name}.parquet", schema, compression="lz4")

    def _parquet(self, name: str) -> str:
        return parquet(self._folder / f"{name}.parquet", "file_row_number = true")

    async def _select(self, sql: str) -> list[Any]:
        rows: list[Any] = await in_thread(self._connection, lambda: self._connection.execute(sql).fetchall())
        return rows


def _members(table: pa.Table, place: int, record: ArchiveRecord, archive: Listed) -> pa.RecordBatch:
    """Members of an archive at a place."""
    rows, at = table.num_rows, record.location
    members: Any = table.select([each.name for each in MEMBER]).cast(pa.schema(list(MEMBER)))
    copy = {"place": place, "copy_bucket": at.bucket, "copy_key": at.key, "copy_checksum": record.checksum}
    copy |= {"storage_class": archive.storage_class}
    columns: dict[str, Any] = {name: table[name] for name in ("key", "version_id", "etag", "size_bytes")}
    columns |= {name: [value] * rows for name, value in copy.items()} | {"copy_member": members.to_struct_array()}
    return fill_batch(columns | {"last_modified": [round(archive.last_modified * 1e6)] * rows}, rows, _LISTED)


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


async def plan_run(
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
    is_own: Callable[[str], bool] | None = None,
    policy: Policy | None = None,
) -> Planned:
    """Check the places, list them, weigh what would go, and cut it into shards.

    `is_own`: which keys belong to the pair of the run. None: all, there is no pair. A pair of
    `policy`, or of the ledger's, must not mirror deletes to the copies. Raises ConfigError,
    UsageError, LimitExceeded, StoreError.
    """
    source, destination, options = request.source, request.destination, request.options
    if source is None:
        raise UsageError("nothing to expire", advice="give --source s3://bucket/prefix")
    check_apart(source, None, ledger.location)
    copies_at = [Location.parse(uri) for uri in options["copies"]]
    for each in (policy, await find_policy(ledger, is_given=policy is not None)):
        if each is not None:
            refuse_mirrors(each, copies_at)
    await refuse_lifecycle(copies_at, destination)
    async with side_store(source, max_in_flight=16) as originals, side_store(destination, max_in_flight=16) as copies:
        origin, others = await read_places(originals, copies, source, destination, copies_at, options["grace_seconds"])
        keeps_versions = await retry(lambda: originals.is_versioned(source.location.bucket))
        with drafting(request) as draft:
            wanted = None
            if request.manifest is not None:
                manifest = await open_manifest(request.manifest, ledger.store, bucket=source.location.bucket)
                wanted = draft.noting(manifest.batches, says_latest=True)
            places, index = [origin, *others], ArchiveIndex(ledger.store, ledger.location)
            found = Candidates(originals, copies, places, index, keeps_versions, options, draft, is_own)
            plan = await found.find(wanted, settings)
            for damaged in found.damage:
                lacks = "its index is damaged, and nothing that it lacks counts as a copy"
                display.say(f"{damaged.archive}: {lacks}: {damaged.reason}")
            for what, share in (("current objects", "current"), ("object versions", "versions")):
                counted = plan.expiry[share]["eligible"], plan.expiry[share]["listed"]
                goes, say = f"{what} in {plan.expiry['prefix']} would go", None if options["delete"] else display.say
                check_share(*counted, goes, options["max_share"], say)
            expiry = {
                "source": source.to_dict(),
                "destination": destination.to_dict(),
                "copies": options["copies"],
                "warnings": await find_warnings(copies, copies_at),
                "places": msgspec.to_builtins(places, enc_hook=str),  # a bucket of a policy is a kind of str
            }
            extra = {"apart": are_apart(source, destination), "keeps_versions": keeps_versions}
            spec = draft.spec(request.manifest or f"listing of {source.location}", extra, source)
            return draft.planned(spec, replace(plan, expiry={**plan.expiry, **expiry}))
