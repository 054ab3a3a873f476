"""Compaction through the command line on a real server: what is packed is found again, bit by bit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

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


def test_the_plan_says_what_it_saves_before_anything_is_written(world: World) -> None:
    for n in range(20):
        world.put(f"k{n}", b"x" * 60_000)
    plan = compact(world, "--storage-class", "DEEP_ARCHIVE", ALL, "--dry-run")
    savings = plan["savings"]
    assert (savings["archives"], savings["members"]) == (1, 20)
    assert savings["monthly_after"] < savings["monthly_before"]
    assert savings["break_even_months"] == pytest.approx(
        savings["cost"] / (savings["monthly_before"] - savings["monthly_after"])
    )
    assert plan["requests"]["get"] == 20
    text = world.sealift(
        "compact", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}/p", "--dry-run"
    ).stdout
    assert "a month" in text
    assert archive_keys(world) == []
    assert world.keys(world.ledger) == []
