"""A run costs what changed: what is at the destination already is done with the plan."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.doubles.request_counter import request_counter
from tests.end_to_end.conftest import World

OBJECTS = 60
OVERHEAD = 35
"""What a run that copies asks about its two buckets, whatever it has to do. All but six are trials of conditions."""


@pytest.fixture
def replica(world: World) -> World:
    """A replica of some objects."""
    for number in range(OBJECTS):
        world.put(f"docs/{number:02d}", b"%06d" % number)
    assert world.run("replicate", *sides(world))["outcomes"] == {"done": OBJECTS}
    return world


def sides(world: World) -> list[str]:
    return ["--source", f"s3://{world.source}/docs/", "--destination", f"s3://{world.destination}/copies/"]


def requests_of(world: World, *more: str) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """A run's outcomes, and the requests that it sent for objects."""
    with request_counter(world.server.endpoint, {world.ledger}) as counter:
        result = world.sealift("replicate", *sides(world), "--yes", "--json", *more, AWS_ENDPOINT_URL_S3=counter.url)
    assert result.code == 0, result.stderr
    del counter.kinds["ledger"]
    return result.document["outcomes"], counter.kinds


def test_a_second_run_asks_for_no_object_and_accounts_for_each(replica: World) -> None:
    outcomes, requests = requests_of(replica)
    assert outcomes == {"same": OBJECTS}
    assert requests == {"list": 4}
    replica.client.delete_object(Bucket=replica.destination, Key="copies/00")
    outcomes, more = requests_of(replica)
    assert outcomes == {"done": 1, "same": OBJECTS - 1}
    assert sum(more.values()) <= OVERHEAD + 1, more
