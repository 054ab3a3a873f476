"""The requests that runs really send, counted before a server: what a plan says, and what a user pays."""

from __future__ import annotations

from tests.doubles.request_counter import request_counter
from tests.end_to_end.conftest import World

OBJECTS = 20
OVERHEAD = {"replicate": 48, "verify": 3}
"""What a run asks about its two buckets, whatever it has to do. All but four are its trial, none at AWS."""


def test_a_run_sends_the_requests_that_its_plan_says_and_a_second_one_only_lists(world: World) -> None:
    for number in range(OBJECTS):
        world.put(f"docs/{number:03d}", b"%d" % number)
    sides = ["--source", f"s3://{world.source}/docs/", "--destination", f"s3://{world.destination}/copies/"]
    for verb in ("replicate", "verify"):
        planned = world.sealift(verb, *sides, "--dry-run", "--json").document["requests"]
        with request_counter(world.server.endpoint, {world.ledger}) as counter:
            result = world.sealift(verb, *sides, "--yes", "--json", AWS_ENDPOINT_URL_S3=counter.url)
        assert result.code == 0, result.stderr
        assert planned == {"replicate": {"copy": OBJECTS}, "verify": {"head": 2 * OBJECTS}}[verb]
        assert all(counter.kinds[kind] >= count for kind, count in planned.items()), counter.kinds
        others = counter.kinds.total() - counter.kinds["ledger"] - sum(planned.values())
        assert others <= OVERHEAD[verb], counter.kinds
    with request_counter(world.server.endpoint, {world.ledger}) as counter:
        again = world.sealift("replicate", *sides, "--yes", "--json", AWS_ENDPOINT_URL_S3=counter.url)
    del counter.kinds["ledger"]
    assert (again.document["outcomes"], counter.kinds) == ({"same": OBJECTS}, {"list": 4})
