"""Copies that are in archives (`jobs.runs.there`): a key is not missing where one holds its copy.

The next repair would copy each of them again.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import aclosing

import duckdb
import pyarrow as pa

from jobs.core.category import Category
from jobs.reconcile.rules import IN_ARCHIVE, UNPROVEN_IN_ARCHIVE, atoms_of, content_sql
from jobs.runs.there import PackedCopies
from jobs.tables.duck import in_thread

_OF = "IN (SELECT code FROM verdicts WHERE category = '{}')".format


async def judge_packed(connection: duckdb.DuckDBPyConnection, packed: PackedCopies, bucket: str) -> None:
    """Judge the missing keys in the table `joined` (see `jobs.reconcile.join`) by archives of what was in
    the bucket.

    Only an archive counts that is there as its index says, and only a member of the object's size.

    | `compare` says of object and member | and                               | the key becomes |
    |-------------------------------------|-----------------------------------|-----------------|
    | same                                |                                   | same            |
    | nothing                             | their ETags are equal             | unverifiable    |
    | nothing                             | the copy was not older, as packed | unverifiable    |
    | any other                           |                                   | stays missing   |

    An ETag of a sealed copy that equals the object's is an MD5: KMS makes none twice.
    """
    missing = f"FROM joined WHERE code {_OF(Category.MISSING)}"
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
    source = defaultdict(lambda: "NULL", etag="source_etag")
    copy = defaultdict(lambda: "NULL", etag="p.etag", is_sealed=f"({is_sealed} AND p.etag <> source_etag)")
    return ";".join(
        f"""UPDATE joined SET code = {code} FROM packed AS p
            WHERE p.key = joined.joined AND p.size_bytes = source_size_bytes AND code {_OF(Category.MISSING)}
                AND at_source AND {content_sql(atoms_of(source, copy))} {_OF(category)}
                AND (p.etag = source_etag OR p.modified_us >= source_modified_us)"""
        for category, code in ((Category.SAME, IN_ARCHIVE), (Category.UNVERIFIABLE, UNPROVEN_IN_ARCHIVE))
    )
