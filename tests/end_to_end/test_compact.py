"""Compaction through the command line on a real server: what is packed is found again, bit by bit."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.programs import need
from tests.doubles.servers import REGION
from tests.end_to_end.conftest import World
from tests.end_to_end.packed import (
    ALL,
    archive_keys,
    compact,
    contents,
    fill,
)
from tests.end_to_end.pair_policy import write_policy


def test_what_is_packed_is_read_again_and_by_stock_tar(world: World, tmp_path: Path) -> None:
    need("tar", "zstd")
    objects = fill(world)
    report = compact(world, ALL)
    assert (report["code"], report["outcomes"]) == (0, {"done": 40})
    assert contents(world) == objects
    (key,) = archive_keys(world)
    assert key.startswith("packed/docs/")
    (tmp_path / "archive").write_bytes(world.client.get_object(Bucket=world.destination, Key=key)["Body"].read())
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
    assert "Contents" not in world.client.list_objects_v2(Bucket=world.ledger)


def rule_of(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "older_than": "0s", "format": "tar", "storage_class": "STANDARD"} | more


@pytest.mark.slow
def test_a_rule_of_the_policy_says_what_is_packed_and_where(world: World, tmp_path: Path) -> None:
    rules = [rule_of("tiny", smaller_than="10 B", prefix="docs/"), rule_of("others", smaller_than="1 KiB")]
    archive = {"bucket": world.destination, "region": REGION, "prefix": "packed/", "rules": rules}
    policy = write_policy(world, tmp_path, docs={"archive": archive})
    for key in ("docs/tiny", "docs/larger", "docs/tmp/left-out", "drafts/tiny", "logs/another-pair"):
        world.put(key, b"1" if key.endswith("tiny") else b"1" * 100)
    world.put("docs/big", b"2" * 2000)
    given = ["--policy", policy, "--pair", "docs", ALL, "--json"]
    first = world.sealift("compact", "--rule", "tiny", *given)
    assert first.document["outcomes"] == {"done": 1}, first.stderr
    second = world.sealift("compact", "--rule", "others", *given)
    assert second.document["outcomes"] == {"done": 2}, second.stderr
    assert sorted(contents(world)) == ["docs/larger", "docs/tiny", "drafts/tiny"]
    wrong = world.sealift("compact", "--rule", "none", *given)
    assert (wrong.code, "only: tiny, others" in wrong.stderr) == (2, True)
    doubled = world.sealift("compact", "--rule", "tiny", "--max-size", "5B", *given)
    assert (doubled.code, "--max-size" in doubled.stderr) == (2, True)
