"""`replicate --dry-run --look`: a forecast that knows what is at the destination."""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.conftest import World

OBJECTS = 12


@pytest.fixture
def replica(world: World) -> World:
    """A replica of which one copy is lost, one has another size, and one has other bytes of the same size."""
    for number in range(OBJECTS):
        world.put(f"docs/{number:02d}", b"%06d" % number)
    assert world.sealift("replicate", *sides(world), "--json").document["outcomes"] == {"copied": OBJECTS}
    return world


def sides(world: World) -> list[str]:
    return ["--source", f"s3://{world.source}/docs/", "--destination", f"s3://{world.destination}/copies/"]


def plan(world: World, *more: str) -> dict[str, Any]:
    result = world.sealift("replicate", *sides(world), "--dry-run", "--json", *more)
    assert result.code == 0, result.stderr
    return result.document


def test_what_is_there_already_is_no_copy_of_the_forecast(replica: World) -> None:
    blind = plan(replica)
    assert blind["requests"] == {"copy": OBJECTS}
    whole = plan(replica, "--look")
    assert whole["look"] == {"listed": OBJECTS, "same": OBJECTS, "other": 0, "absent": 0}
    assert whole["requests"] == {"copy": OBJECTS, "head": 2 * OBJECTS}  # three requests each, as the run takes
    assert "not looked at" not in whole["assumes"][0]

    replica.client.delete_object(Bucket=replica.destination, Key="copies/00")
    replica.client.put_object(Bucket=replica.destination, Key="copies/01", Body=b"of another size")
    replica.client.put_object(Bucket=replica.destination, Key="copies/02", Body=b"000-02")
    replica.client.put_object(Bucket=replica.destination, Key="elsewhere/03", Body=b"nobody's")
    looked = plan(replica, "--look")
    assert looked["look"] == {"listed": OBJECTS - 1, "same": OBJECTS - 3, "other": 2, "absent": 1}
    assert looked["requests"] == {"copy": OBJECTS, "head": 2 * (OBJECTS - 3)}
    assert (looked["rows"], looked["excluded"], looked["shard_count"]) == (OBJECTS, {}, blind["shard_count"])
