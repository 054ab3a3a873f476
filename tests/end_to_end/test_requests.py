"""The requests that runs really send, by their log: what a plan says, and what a user pays."""

from __future__ import annotations

import re
from collections import Counter

from tests.end_to_end.conftest import Result, World

OBJECTS, CHANGED = 20, 2
KINDS = {"replicate": {"CopyObject": OBJECTS}, "verify": {"HeadObject": 2 * OBJECTS}}
OVERHEAD = {"replicate": 48, "verify": 3}
"""What a run asks about its two buckets, whatever it has to do. All but four are its trial, none at AWS."""


def asked(world: World, *arguments: str) -> tuple[Result, Counter[str]]:
    """A command, and the operations that it asked of buckets other than the ledger's."""
    result = world.sealift("--debug", *arguments, "--yes", "--json")
    assert result.code == 0, result.stderr
    log = re.findall(r"Z (\w+) (\S+): \d+.* in \d+ ms, id ", result.stderr)
    return result, Counter(operation for operation, target in log if world.ledger not in target)


def test_a_run_sends_the_requests_that_its_plan_says_and_a_second_one_only_lists(world: World) -> None:
    for number in range(OBJECTS):
        world.put(f"docs/{number:03d}", b"%d" % number)
    sides = ["--source", f"s3://{world.source}/docs/", "--destination", f"s3://{world.destination}/copies/"]
    for verb, kinds in KINDS.items():
        planned = world.sealift(verb, *sides, "--dry-run", "--json").document["requests"]
        assert planned == {{"CopyObject": "copy", "HeadObject": "head"}[name]: count for name, count in kinds.items()}
        sent = asked(world, verb, *sides)[1]
        assert all(sent[name] >= count for name, count in kinds.items()), sent
        assert sent.total() - sum(planned.values()) <= OVERHEAD[verb], sent
    again, sent = asked(world, "replicate", *sides)
    assert (again.document["outcomes"], sent) == ({"same": OBJECTS}, {"ListObjectsV2": 4})


def test_a_run_over_finished_copies_copies_as_many_objects_as_changed(versioned: World) -> None:
    sides = ["--source", f"s3://{versioned.source}/docs/", "--destination", f"s3://{versioned.destination}/copies/"]
    sent = list[Counter[str]]()
    for body, several in ((b"new", OBJECTS), (b"changed", CHANGED)):
        for number in range(several):
            versioned.put(f"docs/{number:03d}", body)
        done, asked_now = asked(versioned, "replicate", *sides)
        assert done.document["outcomes"]["done"] == several
        sent.append(asked_now)
    whole, rest = sent
    # S3 needs two HEADs a key. SeaweedFS does not say which version it copied: then both sides are looked at again.
    rest.subtract(whole)  # the trial is the same
    assert (rest["CopyObject"], rest["HeadObject"] <= 4 * CHANGED) == (CHANGED - OBJECTS, True)
