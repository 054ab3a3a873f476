"""What a list of the destination, and of archives, shows of a plan's rows.

A row whose copy is listed is done: no request looks at it again. Its copy has the size and the MD5
ETag that the row names, and is not older than its source, whose metadata it else may lack. (An ETag
that has the form of an MD5 and is none, as with KMS, equals no other.) Not done are rows that a
verify run found wrong or damaged, and keys that have several rows where one copy of each is wanted.
Of all versions a key's are done together: both sides have the same ones in the same order.

Other ETags say nothing of bytes, as with KMS and uploads in parts. There the state says whether a look has proven the
two objects that are listed now: then the row is left out. What the state says makes no new verdict.

`expire` deletes hot copies that `compact` has packed. No list of the hot bucket shows them, so a run over the pair
would copy each again, or find it missing: a key is not missing where an archive of its pair has its copy.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, closing, suppress
from posixpath import commonprefix
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from jobs.archives.index import ArchiveIndex, Damage
from jobs.archives.unindexed import etags_of_archives
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.model import Location
from jobs.core.pricing import ALIKE, OTHER
from jobs.core.run import RunSpec, Side
from jobs.errors import Denied, Rejected, SealiftError
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import BAD, copy_key_sql, verdict_places
from jobs.ledger.state_files import state_relation, summary
from jobs.runs.request import listed_rows
from jobs.runs.sorting import SAME, Sorting
from jobs.s3.sessions import endpoint_of, open_side
from jobs.s3.store import Store
from jobs.tables.duck import Database, in_thread, parquet, quoted
from jobs.tables.rows import manifest_batch, manifest_schema

_COLUMNS = ["key", "is_latest", "is_delete_marker", "size_bytes", "etag", "last_modified"]
_MD5 = quoted("[0-9a-f]{32}")
_IS_SOUND = "condemned_etag IS NULL AND damaged_etag IS NULL"
_IS_SURE = f"regexp_full_match(etag, {_MD5}) AND {_IS_SOUND}"
_EQUAL = """(a.is_sure AND a.etag = b.etag AND a.size_bytes = b.size_bytes OR a.is_delete_marker AND b.is_delete_marker)
    AND b.last_modified >= a.last_modified"""
_MAY_BE_EQUAL = f"""a.is_delete_marker = b.is_delete_marker
    AND (a.size_bytes IS NULL OR a.size_bytes = b.size_bytes)
    AND (a.etag = b.etag
         OR NOT coalesce(regexp_full_match(a.etag, {_MD5}) AND regexp_full_match(b.etag, {_MD5}), false))"""
STATE_TIMES = 40
"""The state is read if it knows at most so many times the objects that may be there, which else take two HEADs each."""
_MEMBERS = pa.schema([manifest_schema().field(name) for name in ("key", "size_bytes", "etag")])


class PackedCopies(Struct, frozen=True):
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
        there, damage = await etags_of_archives(self.store, self.archives) or {}, Damage()
        records = (
            record
            for record in await self.index.records(self.archives, damage)
            if record.source_bucket == bucket and there.get(record.location) == record.etag
            if record.first_key <= last and first <= record.last_key
        )
        async with aclosing(self.index.tables_of(records, damage)) as tables:
            async for _, table in tables:
                yield table


class Copies(NamedTuple):
    """The run whose copies are looked for.

    `packed`: archives that hold copies as well. `is_done`: False for a run that looks at what is listed, too.
    `now`: S3's time in epoch seconds. `ledger`: its state may know copies. None: it is not asked.
    """

    run: RunSpec
    packed: PackedCopies | None = None
    is_done: bool = True
    now: Callable[[], float] = time.time
    ledger: Ledger | None = None


async def find_there(spec: RunSpec, sorting: Sorting) -> dict[str, int] | None:
    """Fill the table `seen` of a run's sorted rows.

    Returns how many objects (or versions) of the destination were `listed`, and how many rows are what. `same`:
    done, with their bytes and keys. `alike`: only a look can tell. `other`: a different object is there.

    None: the destination may not be listed, or it has so many pages that a look at each row costs less: a LIST is
    $5 a million, the two HEADs of a row $0.80, the two LISTs of all its versions $10.
    """
    connection, relation = sorting.connection, sorting.relation
    rows, first, last = await in_thread(connection, _extent, connection, copy_key_sql(spec), f"FROM {relation}")
    if not rows:
        return None
    all_versions = bool(spec.options.get("all_versions"))
    path, listed, pages = sorting.folder / "there.parquet", 0, 0
    with pq.ParquetWriter(path, manifest_batch(()).select(_COLUMNS).schema, compression="lz4") as writer:
        try:
            place = spec.destination.location._replace(key=commonprefix([first, last]))
            listing = listed_rows(spec.destination, [place], versions=all_versions)
            async with aclosing(listing) as batches:
                async for batch in batches:
                    writer.write_batch(batch.select(_COLUMNS))
                    listed, pages = listed + batch.num_rows, pages + 1
                    if pages > (rows if all_versions else max(1, rows // 6)):
                        return None
        except (Denied, Rejected):
            return None
    there = f"""(SELECT * REPLACE (epoch_us(last_modified) AS last_modified), file_row_number AS place
        FROM {parquet(path, "file_row_number = true")})"""
    sql = (_join_histories if all_versions else _join_objects)(relation, there, copy_key_sql(spec))
    return {"listed": listed, **await in_thread(connection, _fill, sorting, sql)}


def _extent(connection: Any, copy_key: str, of: str) -> tuple[int, str, str]:
    """The number of rows of a relation, and the first and the last key of their copies."""
    [(rows, first, last)] = connection.execute(f"SELECT count(*), min({copy_key}), max({copy_key}) {of}").fetchall()
    return rows, first, last


_SHOWN = "place, is_delete_marker, size_bytes, etag, last_modified"
"""The columns that are compared. Keys go by a SHA-256: joins of long texts spill too late for a
small limit of memory."""


def _join_objects(relation: str, listed: str, copy_key: str) -> str:
    repeated = f"SELECT hash(key) FROM {relation} GROUP BY 1 HAVING count(*) > 1"
    return f"""
        SELECT a.place, a.size_bytes AS seen_bytes, true AS is_first, CASE WHEN a.is_single AND {_EQUAL} THEN '{SAME}'
            WHEN {_MAY_BE_EQUAL} THEN '{ALIKE}' ELSE '{OTHER}' END AS there,
            CASE WHEN a.is_single AND a.is_sound THEN b.etag END AS copy_etag, b.last_modified // 1000000 AS copy_second
        FROM (SELECT {_SHOWN}, unhex(sha256({copy_key})) AS digest, {_IS_SURE} AS is_sure,
                     {_IS_SOUND} AS is_sound, hash(key) NOT IN ({repeated}) AS is_single
              FROM {relation} WHERE NOT is_delete_marker) AS a
        JOIN (SELECT {_SHOWN}, unhex(sha256(key)) AS digest FROM {listed}) AS b USING (digest)"""


def _join_histories(relation: str, listed: str, copy_key: str) -> str:
    numbered = """row_number() OVER (PARTITION BY digest
        ORDER BY is_latest DESC, last_modified DESC NULLS LAST, place) AS number,
        count(*) OVER (PARTITION BY digest) AS versions"""
    wanted = f"SELECT {_SHOWN}, is_latest, unhex(sha256({copy_key})) AS digest, {_IS_SURE} AS is_sure FROM {relation}"
    return f"""
        SELECT place, size_bytes AS seen_bytes, number = 1 AS is_first,
               CASE WHEN bool_and(is_equal) OVER key THEN '{SAME}'
               WHEN bool_and(may_be_equal) OVER key THEN '{ALIKE}' END AS there
        FROM (
            SELECT a.place, a.digest, a.size_bytes, a.number, coalesce({_EQUAL}, false) AS is_equal,
                   coalesce({_MAY_BE_EQUAL}, false) AS may_be_equal
            FROM (SELECT *, {numbered} FROM ({wanted})) AS a
            LEFT JOIN (SELECT *, {numbered}
                       FROM (SELECT {_SHOWN}, is_latest, unhex(sha256(key)) AS digest FROM {listed})) AS b
            USING (digest, number, versions))
        WINDOW key AS (PARTITION BY digest) QUALIFY there IS NOT NULL"""


def _fill(sorting: Sorting, sql: str) -> dict[str, int]:
    """Insert the joined rows into `seen` → how many are what."""
    sorting.connection.execute(f"INSERT INTO seen BY NAME ({sql})")
    [counts] = sorting.connection.execute(
        f"""
        SELECT count(*) FILTER (there = '{SAME}'), coalesce(sum(seen_bytes) FILTER (there = '{SAME}'), 0)::BIGINT,
               count(*) FILTER (there = '{SAME}' AND is_first), count(*) FILTER (there = '{ALIKE}'),
               count(*) FILTER (there = '{OTHER}')
        FROM seen
        """
    ).fetchall()
    return dict(zip(("same", "same_bytes", "same_keys", "alike", "other"), counts, strict=True))


async def leave_out_packed(packed: PackedCopies, spec: RunSpec, sorting: Sorting) -> int:
    """Leave out the rows that have a copy in an archive, and none that is listed (`Sorting.seen`) → how many.

    The member has the row's size and its ETag, an MD5. Rows of all versions stay: `seen` lacks some.
    """
    rows, connection = f"(SELECT *, {copy_key_sql(spec)} AS copy_key FROM {sorting.relation})", sorting.connection
    lacking = f"FROM {rows} ANTI JOIN seen USING (place)"
    open_rows, first, last = await in_thread(connection, _extent, connection, "copy_key", lacking)
    if not open_rows or spec.options.get("all_versions"):
        return 0
    path = sorting.folder / "members.parquet"
    with pq.ParquetWriter(path, _MEMBERS, compression="lz4") as writer:
        async with aclosing(packed.members(spec.destination.location.bucket, first, last)) as tables:
            async for table in tables:
                writer.write_table(table.select(_MEMBERS.names).cast(_MEMBERS))

    places = f"""SELECT place FROM (SELECT * {lacking} WHERE regexp_full_match(etag, '[0-9a-f]{{32}}')) AS r
        SEMI JOIN {parquet(path)} AS m ON m.key = r.copy_key AND m.etag = r.etag AND m.size_bytes = r.size_bytes"""
    return await in_thread(connection, sorting.leave_out, places)


async def leave_out_known(ledger: Ledger, spec: RunSpec, sorting: Sorting, alike: int) -> int:
    """Leave out rows that a look has compared with their copies, if the lists show the same two objects → how many.

    `alike`: how many rows may be there. Not left out: what was looked at within the second of its write, since that
    may have been the object before it, and at AWS a copy in parts, which may lack annotations. Nothing is left out
    if the state cannot be read, or is much larger than these rows.
    """
    if spec.options.get("all_versions"):
        return 0
    with suppress(SealiftError):
        if STATE_TIMES * alike < sum(place.objects for place in (await summary(ledger)).places):
            return 0
        database = Database(sorting.folder / "state")
        with closing(database.connection):
            state = await state_relation(ledger, database, only_open=False)
        if state is None:
            return 0
        is_at = " AND ".join(f"{name} = {value}" for name, value in verdict_places(spec).items())
        may_lack = spec.options.get("annotations") != SKIP_ANNOTATIONS and endpoint_of(spec.destination).partition
        pair, second = "unhex(sha256(strlen(key) || ':' || key || {}))".format, "epoch_us({}) // 1000000".format
        places = f"""
            SELECT DISTINCT place FROM (
                SELECT *, last_modified // 1000000 AS second, {pair(copy_key_sql(spec))} AS pair
                FROM {sorting.relation} JOIN (FROM seen WHERE there = '{ALIKE}') USING (place)) AS a
            JOIN (
                SELECT version_id, etag, copy_etag, {second("modified")} AS second,
                       {second("copy_modified")} AS copy_second, {pair("copy_key")} AS pair
                FROM {state} WHERE {is_at} AND NOT {BAD} AND NOT ({bool(may_lack)} AND contains(copy_etag, '-'))
                    AND {second("compared_at")} > greatest(second, copy_second)) AS s
            USING (pair, etag, second, copy_etag, copy_second)
            WHERE coalesce(a.version_id, s.version_id, '') = coalesce(s.version_id, a.version_id, '')"""
        return await in_thread(sorting.connection, sorting.leave_out, places)
    return 0
