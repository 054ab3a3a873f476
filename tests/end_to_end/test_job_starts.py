"""A job that was started by name: of two that run, as Batch may come to have, one does the work."""

from __future__ import annotations

import json

from tests.end_to_end.conftest import World

NAME = "sealift-scans-nightly-2026-11-25"
RECORD = f"runs/starts/{NAME}.submitted.json"


def begin(world: World, job_id: str) -> tuple[int, str]:
    """A verb that writes to the ledger, as a job of that name; its exit code and what it says."""
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    extra = {"AWS_BATCH_JOB_ID": job_id, "SEALIFT_START": NAME}
    result = world.sealift("replicate", *sides, "--json", **extra)
    return result.code, result.stderr


def record(world: World) -> str:
    body = world.client.get_object(Bucket=world.ledger, Key=RECORD)["Body"].read()
    return str(json.loads(body)["job_id"])


def runs(world: World) -> int:
    return len(world.sealift("runs", "list", "--json").document["runs"])


def test_the_first_job_of_a_name_works_and_the_second_does_nothing(world: World) -> None:
    world.put("a")
    assert begin(world, "first")[0] == 0
    assert (record(world), runs(world)) == ("first", 1)
    code, said = begin(world, "second")
    assert (code, len(said.splitlines())) == (2, 1)
    assert f"{NAME} was already started as first: this duplicate (second) did nothing" in said
    assert (record(world), runs(world)) == ("first", 1)
