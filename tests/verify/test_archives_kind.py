"""Shards of a verification of archives: each archive whole in one, each row once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from jobs.archives.index_tables import to_batch
from jobs.archives.model import ArchiveRecord, Member
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location, ObjectVersion
from jobs.errors import DamagedArchive
from jobs.tables.rows import read_shard
from jobs.verify.archives_kind import _write_shards

COUNTS = {"a": 4, "b": 1, "damaged": 2, "c": 3}


class Index:
    """Archives of so many members. The index of one is damaged behind its first rows."""

    async def tables(self, archive: Location) -> AsyncIterator[pa.Table]:
        members = [
            Member(f"{archive.key}{n}", f"v{n}", True, 5, "e", 7.0, "STANDARD", {}, {}, {})
            for n in range(COUNTS[archive.key])
        ]
        yield pa.Table.from_batches([to_batch(members[:2])])
        if archive.key == "damaged":
            raise DamagedArchive("a page of the index")
        yield pa.Table.from_batches([to_batch(members[2:])])


def test_each_archive_is_whole_in_one_shard_and_each_row_is_there_once() -> None:
    records = [
        ArchiveRecord(
            Location("cold", name),
            ArchiveFormat.TAR,
            1,
            f"e{name}",
            None,
            "GLACIER",
            count,
            5 * count,
            "",
            "",
            "docs",
            0.0,
        )
        for name, count in COUNTS.items()
    ]
    shards: list[list[ObjectVersion]] = []

    async def write_shard(number: int, data: bytes) -> None:
        assert number == len(shards)
        shards.append([row for rows in read_shard(data) for row in rows])

    draft: Any = SimpleNamespace(write_shard=write_shard)
    settings: Any = SimpleNamespace(rows_per_shard=6, processes=1)
    index: Any = Index()
    summaries = asyncio.run(_write_shards(index, records, [Location("cold", "lost")], draft, settings))
    assert [row.row for rows in shards for row in rows] == list(range(15))
    assert [[row.archive for row in rows] for rows in shards] == [
        ["s3://cold/a"] * 5,
        ["s3://cold/b"] * 2 + ["s3://cold/damaged"] * 3,
        ["s3://cold/c"] * 4 + ["s3://cold/lost"],
    ]
    assert [row.key for row in shards[1]] == ["b0", "s3://cold/b", "damaged0", "damaged1", "s3://cold/damaged"]
    assert shards[1][1] == ObjectVersion(
        6, "s3://cold/b", None, etag="eb", storage_class="GLACIER", archive="s3://cold/b"
    )
    assert [(each.rows, each.size_bytes) for each in summaries] == [(5, 20), (5, 15), (5, 15)]
