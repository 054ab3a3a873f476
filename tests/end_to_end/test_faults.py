"""A real server behind a network that fails: what is said at the end is true, whatever happened on the way."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.end_to_end.conftest import SMALL_PARTS, World

MIB = 1 << 20
STORM = {"slow_down": 0.30, "refuse": 0.02, "lose": 0.03, "cut": 0.03, "stall": 0.02}
QUICK = {"checkpoint_rows": "20", "rows_per_shard": "60"}
STARTS_MAX = 6


def fill(world: World, small: int, large: int) -> dict[str, bytes]:
    dice = random.Random(7)
    objects = {f"small/{n:03}": dice.randbytes(dice.randrange(1, 6000)) for n in range(small)}
    objects |= {f"large/{n}": dice.randbytes(9 * MIB + n) for n in range(large)}
    for key, body in objects.items():
        world.put(key, body, Metadata={"name": key[:3]})
    return objects


def to_its_end(world: World, *command: str, **extra: str) -> dict[str, Any]:
    """What a command comes to when what it says is done for as long as it is not done; never exit code 1."""
    for _ in range(STARTS_MAX):
        result = world.sealift(*command, "--json", **extra)
        if result.code == 75 and result.has_no_answer:  # no report could be made: it says how to go on, if it began
            advice = re.search(r"sealift (runs retry \S+)", result.stderr)
            command = tuple(advice[1].split()) if advice else command
            continue
        assert result.code in (0, 3, 75), result.stderr
        document = result.document
        if document["state"] == "complete":
            return document
        command = ("runs", "retry", document["run_id"])
    raise AssertionError(f"not done after {STARTS_MAX} starts: {result.stderr}")


def copies(world: World) -> dict[str, bytes]:
    pages = world.client.get_paginator("list_objects_v2").paginate(Bucket=world.destination)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: world.copy_of(key) for key in keys if ".sealift/trial-" not in key}  # what a trial could not remove


@pytest.mark.slow
def test_copies_through_a_storm_are_made_and_every_row_is_told_truly(world: World) -> None:
    objects = fill(world, 150, 1)
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    with fault_proxy(world.server.endpoint, Faults(STORM, seed=1)) as proxy:
        extra = {"AWS_ENDPOINT_URL_S3": proxy.endpoint} | QUICK
        report = to_its_end(world, "replicate", *sides, **extra, **SMALL_PARTS)
        assert sum(report["outcomes"].values()) == report["accounted"] == len(objects)
        proof = to_its_end(world, "verify", *sides, "--deep", **extra)
        assert set(proxy.done) == set(STORM)
    made = copies(world)
    assert {key: made[key] for key in made} == {key: objects[key] for key in made}
    well = report["outcomes"].get("done", 0) + report["outcomes"].get("same", 0)
    assert len(made) >= well
    assert proof["outcomes"].get("verified", 0) <= len(made)
    assert set(proof["outcomes"]) <= {"verified", "missing", "blocked"}
    again = world.run("replicate")
    assert set(again["outcomes"]) <= {"done", "same"}
    assert copies(world) == objects


@pytest.mark.slow
def test_a_run_whose_rows_all_fail_ends_early_and_goes_on_when_the_cause_is_mended(world: World) -> None:
    for number in range(600):
        world.put(f"k{number:03}", b"x")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", "--json"]
    faults = Faults({"deny": 1.0}, seed=1)
    extra = {"processes": "1", "rows_per_shard": "300", "in_flight": "16"}
    with fault_proxy(world.server.endpoint, faults) as proxy:
        extra |= {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
        result = world.sealift("replicate", *sides, **extra)
    assert result.code == 10
    report = result.document
    run_id = report["run_id"]
    assert report["state"] == "failed"
    denied = report["outcomes"]["blocked"]
    assert 200 <= denied <= 232
    assert "200 rows one after another failed alike" in report["errors"][0]
    assert f"sealift runs retry {run_id}" in result.stderr
    del extra["AWS_ENDPOINT_URL_S3"]
    rest = world.sealift("runs", "retry", run_id, "--json", **extra)
    assert rest.code == 3
    assert rest.document["outcomes"] == {"done": 600 - denied, "blocked": denied}
    assert world.sealift("runs", "retry", run_id, "--json", **extra).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["out", "in"])
def test_streamed_copies_never_land_bytes_that_the_network_has_altered(world: World, way: str) -> None:
    objects = fill(world, 60, 2)
    contents = tuple(
        f"/{bucket}/{folder}/" for bucket in (world.source, world.destination) for folder in ("small", "large")
    )
    with fault_proxy(world.server.endpoint, Faults({"alter": 0.25, "cut": 0.05}, 3, altered=contents)) as proxy:
        side = "--source-endpoint" if way == "out" else "--destination-endpoint"
        sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
        report = to_its_end(world, "replicate", *sides, side, proxy.endpoint, **QUICK)
        assert proxy.done["alter"] > 5
    made = copies(world)
    assert made == {key: objects[key] for key in made}
    # a copy whose answer was cut each time is there, and its row is told as failed
    failed = {row["key"] for row in world.failed_rows(report)} if report["failures_manifest"] else set()
    assert len(made.keys() - failed) == sum(report["outcomes"].get(status, 0) for status in ("done", "same"))
    assert sum(report["outcomes"].values()) == len(objects)
