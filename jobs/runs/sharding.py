"""Sharding: how the rows of a manifest are spread over shards.

All versions of a key are in one shard. The hash of a key decides its shard, so that every shard
meets every prefix. Keys of big objects are spread by bytes instead (`sorting`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from jobs.config import ROWS_PER_SHARD

MAX_SHARDS = 10_000
"""The largest array job: https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html"""

BYTES_PER_SHARD = 1024**4
"""A shard of big objects is cut at 1 TiB: about an hour at 300 MB/s."""

SPLIT_ROWS = 2_000
SPLIT_BYTES = 1024**3
"""Fewer rows or bytes than these are not worth a second process."""


WriteShard = Callable[[int, bytes], Awaitable[None]]


class Shards(NamedTuple):
    """Where a plan's shards go, and how large they are. `write` is awaited once for each, with its number and its
    file, in order from 0, none of them empty. `folder`: for the files of who plans.
    """

    write: WriteShard
    folder: Path
    rows_each: int = ROWS_PER_SHARD
    processes: int = 1

    def number(self, rows: int, size_bytes: int) -> int:
        """The number of shards for so many rows and bytes: 0 for no rows, at most `MAX_SHARDS` and
        `rows`.

        From `SPLIT_ROWS` rows or `SPLIT_BYTES` bytes on, each of the processes gets one.
        """
        by_rows = -(-rows // self.rows_each)
        by_bytes = -(-size_bytes // BYTES_PER_SHARD)
        is_worth_splitting = rows >= SPLIT_ROWS or size_bytes >= SPLIT_BYTES
        wanted = max(by_rows, by_bytes, self.processes if is_worth_splitting else 1)
        return min(wanted, rows, MAX_SHARDS)


def shard_sql(shard_count: int) -> str:
    """The shard of a key without big objects, as SQL over `key`.

    DuckDB's hash may be another one in its next release. The shards of a run are cut once, by one
    process.
    """
    return f"(hash(key) % {max(shard_count, 1)})::INTEGER"
