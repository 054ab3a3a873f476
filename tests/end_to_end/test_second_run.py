"""A run costs what changed: what is at the destination already is done with the plan."""

from __future__ import annotations

import json
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


def lose_one(replica: World) -> None:
    """Remove one copy. (A source that changes within the second of its copy needs a person.)"""
    replica.client.delete_object(Bucket=replica.destination, Key="copies/00")


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
    lose_one(replica)
    outcomes, more = requests_of(replica)
    assert outcomes == {"done": 1, "same": OBJECTS - 1}
    assert sum(more.values()) <= OVERHEAD + 1, more


def test_the_plan_says_what_is_there_and_prices_the_rest(replica: World) -> None:
    lose_one(replica)
    replica.client.put_object(Bucket=replica.destination, Key="copies/01", Body=b"of another size")
    replica.client.put_object(Bucket=replica.destination, Key="elsewhere/02", Body=b"nobody's")
    planned = replica.sealift("replicate", *sides(replica), "--dry-run", "--json").document
    there = {name: planned["there"][name] for name in ("listed", "same", "other", "shards")}
    assert there == {"listed": OBJECTS - 1, "same": OBJECTS - 2, "other": 1, "shards": 1}
    assert (planned["rows"], planned["requests"]) == (OBJECTS, {"copy": 3, "head": 2})
    assert f"{OBJECTS - 2} are the same already" in replica.sealift("replicate", *sides(replica), "--dry-run").stdout


def test_a_run_that_was_killed_before_its_report_is_only_folded(replica: World) -> None:
    lose_one(replica)
    run = replica.run("replicate", *sides(replica))
    replica.client.delete_object(Bucket=replica.ledger, Key=f"runs/runs/{run['run_id']}/report.json")
    again = replica.sealift("runs", "retry", run["run_id"], "--yes", "--json").document
    assert (again["run_id"], again["outcomes"]) == (run["run_id"], {"done": 1, "same": OBJECTS - 1})


def test_rows_that_were_there_are_found_again(replica: World) -> None:
    """By queries, and as the manifest of another run."""
    lose_one(replica)
    run_id = replica.run("replicate", *sides(replica))["run_id"]
    sql = "SELECT evidence, count(*) AS n FROM outcomes WHERE status = 'same' GROUP BY 1"
    answer = replica.sealift("query", sql, "--run", run_id, "--format", "json").stdout
    assert json.loads(answer) == [{"evidence": "md5_etag", "n": OBJECTS - 1}]
    assert replica.run("verify", "--manifest", f"proven:{run_id}", *sides(replica))["outcomes"] == {"verified": OBJECTS}
