"""What a list of the destination shows of a plan's rows.

A row whose copy is listed is done: no request looks at it again. Its copy has the size and the MD5
ETag that the row names, and is not older than its source, whose metadata it else may lack. (An ETag
that has the form of an MD5 and is none, as with KMS, equals no other.) Not done are rows that a
verify run found wrong or damaged, and keys that have several rows where one copy of each is wanted.
Of all versions a key's are done together: both sides have the same ones in the same order.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from posixpath import commonprefix
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from jobs.core.model import Listed
from jobs.core.pricing import ALIKE, OTHER
from jobs.core.run import RunSpec
from jobs.errors import Denied, Rejected
from jobs.ledger.state import copy_key_sql
from jobs.runs.sorting import SAME, Sorting
from jobs.s3.listing import list_all
from jobs.s3.sessions import open_side
from jobs.tables.duck import in_thread, parquet, quoted
from jobs.tables.rows import manifest_batch

if TYPE_CHECKING:
    from jobs.runs.packed import PackedCopies

_COLUMNS = ["key", "is_latest", "is_delete_marker", "size_bytes", "etag", "last_modified"]
_MD5 = quoted("[0-9a-f]{32}")
_IS_SURE = f"regexp_full_match(etag, {_MD5}) AND condemned_etag IS NULL AND damaged_etag IS NULL"
_EQUAL = """(a.is_sure AND a.etag = b.etag AND a.size_bytes = b.size_bytes OR a.is_delete_marker AND b.is_delete_marker)
    AND b.last_modified >= a.last_modified"""
_MAY_BE_EQUAL = f"""a.is_delete_marker = b.is_delete_marker
    AND (a.size_bytes IS NULL OR a.size_bytes = b.size_bytes)
    AND (a.etag = b.etag
         OR NOT coalesce(regexp_full_match(a.etag, {_MD5}) AND regexp_full_match(b.etag, {_MD5}), false))"""


WriteShard = Callable[[int, bytes], Awaitable[None]]


class Copies(NamedTuple):
    """The run whose copies are looked for.

    `packed`: archives that hold copies as well. `is_done`: False for a run that looks at what is listed, too.
    `now`: S3's time in epoch seconds.
    """

    run: RunSpec
    packed: PackedCopies | None = None
    is_done: bool = True
    now: Callable[[], float] = time.time


class There(NamedTuple):
    """How many objects (or versions) of the destination were listed, and how many rows are what.

    `same`: done, with their bytes and keys. `alike`: only a look can tell. `other`: a different
    object is there.
    """

    listed: int
    same: int
    same_bytes: int
    same_keys: int
    alike: int
    other: int


async def list_destination(spec: RunSpec, prefix: str) -> AsyncGenerator[list[Listed], None]:
    """The pages of the destination's objects below a prefix, or of its versions where all are wanted."""
    store = open_side(spec.destination)
    try:
        place, versions = spec.destination.location._replace(key=prefix), bool(spec.options.get("all_versions"))
        async with aclosing(list_all(store, place, versions=versions)) as listing:
            async for page in listing:
                yield page
    finally:
        await store.close()


async def find_there(spec: RunSpec, sorting: Sorting) -> There | None:
    """Fill the table `seen` of a run's sorted rows.

    None: the destination may not be listed, or it has more pages than there are rows, so that a
    look at each row takes fewer requests.
    """
    connection, relation = sorting.connection, sorting.relation
    rows, first, last = await in_thread(connection, _extent, sorting, copy_key_sql(spec))
    if not rows:
        return None
    path, listed, pages = sorting.folder / "there.parquet", 0, 0
    with pq.ParquetWriter(path, manifest_batch(()).select(_COLUMNS).schema, compression="lz4") as writer:
        try:
            async with aclosing(list_destination(spec, commonprefix([first, last]))) as listing:
                async for page in listing:
                    writer.write_batch(manifest_batch(page).select(_COLUMNS))
                    listed, pages = listed + len(page), pages + 1
                    if pages > rows:
                        return None
        except (Denied, Rejected):
            return None
    join = _join_histories if spec.options.get("all_versions") else _join_objects
    there = f"""(SELECT * REPLACE (epoch_us(last_modified) AS last_modified), file_row_number AS place
        FROM {parquet(path, "file_row_number = true")})"""
    sql = join(relation, there, copy_key_sql(spec))
    return There(listed, *await in_thread(connection, _fill, sorting, sql))


def _extent(sorting: Sorting, copy_key: str) -> tuple[int, str, str]:
    """The number of rows, and the first and the last key of their copies."""
    [(rows, first, last)] = sorting.connection.execute(
        f"SELECT count(*), min({copy_key}), max({copy_key}) FROM {sorting.relation}"
    ).fetchall()
    return rows, first, last


_SHOWN = "place, is_delete_marker, size_bytes, etag, last_modified"
"""The columns that are compared. Keys go by a SHA-256: joins of long texts spill too late for a
small limit of memory."""


def _join_objects(relation: str, listed: str, copy_key: str) -> str:
    repeated = f"SELECT hash(key) FROM {relation} GROUP BY 1 HAVING count(*) > 1"
    return f"""
        SELECT a.place, a.size_bytes AS seen_bytes, true AS is_first, CASE WHEN a.is_single AND {_EQUAL} THEN '{SAME}'
            WHEN {_MAY_BE_EQUAL} THEN '{ALIKE}' ELSE '{OTHER}' END AS there
        FROM (SELECT {_SHOWN}, unhex(sha256({copy_key})) AS digest, {_IS_SURE} AS is_sure,
                     hash(key) NOT IN ({repeated}) AS is_single
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


def _fill(sorting: Sorting, sql: str) -> tuple[int, int, int, int, int]:
    """Insert the joined rows into `seen` → same rows, their bytes and keys, alike rows, others."""
    sorting.connection.execute(f"INSERT INTO seen BY NAME ({sql})")
    [counts] = sorting.connection.execute(
        f"""
        SELECT count(*) FILTER (there = '{SAME}'), coalesce(sum(seen_bytes) FILTER (there = '{SAME}'), 0)::BIGINT,
               count(*) FILTER (there = '{SAME}' AND is_first), count(*) FILTER (there = '{ALIKE}'),
               count(*) FILTER (there = '{OTHER}')
        FROM seen
        """
    ).fetchall()
    return counts
