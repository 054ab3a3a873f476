"""The rows of a manifest as a run's worker gets them."""

from __future__ import annotations

import io

from jobs.core.model import ObjectVersion
from jobs.manifests import read_csv
from jobs.tables.rows import read_shard, shard_schema, write_parquet


def rows_of_csv(data: bytes) -> list[ObjectVersion]:
    """The rows of a CSV, numbered in their order, after a journey through a shard's file."""
    import pyarrow as pa

    rows: list[ObjectVersion] = []
    for _, batch, _ in read_csv("the manifest", io.BytesIO(data)):
        numbers = pa.array(range(len(rows), len(rows) + batch.num_rows), pa.int64())
        shard = pa.RecordBatch.from_arrays([numbers, *batch.columns], schema=shard_schema())
        rows += [row for part in read_shard(write_parquet(shard)) for row in part]
    return rows
