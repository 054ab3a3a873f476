"""The shards of keys, as a plan of a run cuts them."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from jobs.runs.sharding import shard_sql


def hashes_of(keys: Sequence[str]) -> list[int]:
    """The hash of each of these keys."""
    return _of_each(keys, "hash(key)")


def shards_of(keys: Sequence[str], shard_count: int) -> list[int]:
    """The shard of each of these keys, none of which has a large object."""
    return _of_each(keys, shard_sql(shard_count))


def _of_each(keys: Sequence[str], sql: str) -> list[int]:
    with duckdb.connect(":memory:") as connection:
        connection.register("rows", pa.table({"key": pa.array(keys, pa.string())}))
        return [number for (number,) in connection.execute(f"SELECT {sql} FROM rows").fetchall()]
