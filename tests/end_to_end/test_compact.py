"""Compaction through the command line on a real server: what is packed is found again, bit by bit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.doubles.programs import need
from tests.end_to_end.conftest import World
from tests.end_to_end.packed import (
    ALL,
    archive_keys,
    compact,
    contents,
    fill,
)


def test_what_is_packed_is_read_again_and_by_stock_tar(world: World, tmp_path: Path) -> None:
    need("tar", "zstd")
    objects = fill(world)
    plan = compact(world, ALL, "--dry-run")
    assert (plan["savings"]["archives"], plan["savings"]["members"], plan["requests"]["get"]) == (1, 40, 40)
    assert world.keys(world.destination) == world.keys(world.ledger) == []
    report = compact(world, ALL)
    assert (report["code"], report["outcomes"]) == (0, {"done": 40})
    assert contents(world) == objects
    (key,) = archive_keys(world)
    assert key.startswith("packed/docs/")
    (tmp_path / "archive").write_bytes(world.read(world.destination, key))
    subprocess.run(["tar", "-xf", "archive"], cwd=tmp_path, check=True)
    for name, data in objects.items():
        assert (tmp_path / name).read_bytes() == data
    head = world.client.head_object(Bucket=world.destination, Key=key)
    assert head["StorageClass"] == "GLACIER_IR"
