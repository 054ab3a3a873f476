"""Rows of a verification of archives, where there is no room for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jobs.archives.index import ArchiveIndex
from jobs.core.model import Location
from jobs.errors import ConfigError
from jobs.verify.archives_rows import plan_archives
from tests.doubles.memory_store import MemoryStore


def test_a_scratch_folder_without_room_is_named(tmp_path: Path) -> None:
    async def write_shard(number: int, data: bytes) -> None:
        raise AssertionError("nothing was planned")

    index = ArchiveIndex(MemoryStore(), Location("ledger"))
    planning = plan_archives(index, [], [], write_shard=write_shard, scratch_directory=tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"cannot sort the rows in .*gone: .*; free space there or set TMPDIR"):
        asyncio.run(planning)
