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
    return {key: world.copy_of(key) for key in world.own_keys(world.destination)}


@pytest.mark.slow
def test_copies_through_a_storm_are_made_and_every_row_is_told_truly(world: World) -> None:
    objects = fill(world, 150, 1)
    with fault_proxy(world.server.endpoint, Faults(STORM, seed=1)) as proxy:
        extra = {"AWS_ENDPOINT_URL_S3": proxy.endpoint} | QUICK
        report = to_its_end(world, "replicate", *world.sides, **extra, **SMALL_PARTS)
        assert sum(report["outcomes"].values()) == report["accounted"] == len(objects)
        proof = to_its_end(world, "verify", *world.sides, "--deep", **extra)
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
