"""Copies that are in archives (`jobs.runs.there`): a key is not missing where one holds its copy.

The next repair would copy each of them again.
"""

from __future__ import annotations

from contextlib import aclosing

import duckdb
import pyarrow as pa

from jobs.core.category import Category
from jobs.reconcile.rules import IN_ARCHIVE, UNPROVEN_IN_ARCHIVE
from jobs.runs.there import PackedCopies
from jobs.tables.duck import in_thread, quoted

_MISSING = f"SELECT code FROM verdicts WHERE category = {quoted(Category.MISSING.value)}"


async def judge_packed(connection: duckdb.DuckDBPyConnection, packed: PackedCopies, bucket: str) -> None:
    """Judge the missing keys in the table `joined` (see `jobs.reconcile.join`) by archives of what was in
    the bucket.

    Only an archive counts that is there as its index says, and only a member of the object's size.

    | the member's ETag                                                        | the key becomes |
    |--------------------------------------------------------------------------|-----------------|
    | the object's, an MD5                                                     | same            |
    | the object's, of an upload in parts                                      | unverifiable    |
    | another one, one of both is no MD5, and the copy was not older, as packed | unverifiable    |
    | any other                                                                | stays missing   |
    """
    missing = f"FROM joined WHERE code IN ({_MISSING})"
    await in_thread(connection, connection.execute, f"CREATE TEMP TABLE lacking AS SELECT DISTINCT joined {missing}")
    first, last = connection.execute("SELECT min(joined), max(joined) FROM lacking").fetchone() or (None, None)
    if first is None:
        return
    connection.execute("CREATE TEMP TABLE packed (key VARCHAR, size_bytes BIGINT, etag VARCHAR, modified_us BIGINT)")
    async with aclosing(packed.members(bucket, first, last)) as tables:
        async for table in tables:
            await in_thread(connection, _keep, connection, table)
    await in_thread(connection, connection.execute, _judge_sql(packed.is_sealed))


def _keep(connection: duckdb.DuckDBPyConnection, members: pa.Table) -> None:
    connection.register("members", members)
    connection.execute(
        "INSERT INTO packed SELECT key, size_bytes, etag, epoch_us(last_modified) FROM members "
        "WHERE key IN (SELECT joined FROM lacking)"
    )
    connection.unregister("members")


def _judge_sql(is_sealed: bool) -> str:
    no_md5 = "true" if is_sealed else "(contains(p.etag, '-') OR contains(j.source_etag, '-'))"
    return f"""
        UPDATE joined SET code = held.code FROM (
            SELECT j.joined, min(CASE WHEN p.etag = j.source_etag AND regexp_full_match(p.etag, '[0-9a-f]{{32}}')
                                      THEN {IN_ARCHIVE} ELSE {UNPROVEN_IN_ARCHIVE} END)::USMALLINT AS code
            FROM joined AS j JOIN packed AS p ON p.key = j.joined AND p.size_bytes = j.source_size_bytes
            WHERE j.code IN ({_MISSING}) AND j.at_source
                AND (p.etag = j.source_etag OR ({no_md5} AND p.modified_us >= j.source_modified_us))
            GROUP BY 1
        ) AS held
        WHERE joined.joined = held.joined AND joined.code IN ({_MISSING})"""
