"""The shards of keys, as a plan of a run cuts them."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from jobs.runs.sharding import shard_sql


def shards_of(keys: Sequence[str], shard_count: int) -> list[int]:
    """The shard of each of these keys, none of which has a large object."""
    with duckdb.connect(":memory:") as connection:
        connection.register("rows", pa.table({"key": pa.array(keys, pa.string())}))
        return [number for (number,) in connection.execute(f"SELECT {shard_sql(shard_count)} FROM rows").fetchall()]
