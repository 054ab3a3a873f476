"""A dry run that keeps its plan, and `sealift apply`, which starts exactly that plan."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.end_to_end.conftest import Result, World
from tests.end_to_end.pair_policy import keys


def save(world: World, job: str = "replicate", *arguments: str) -> dict[str, str]:
    places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    result = world.sealift(job, *places, "--dry-run", "--save", "--json", *arguments)
    assert result.code == 0, result.stderr
    document: dict[str, str] = result.document
    return document


def refused(result: Result, code: int, words: str) -> None:
    assert (result.code, result.has_no_answer) == (code, True), result.stdout
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def run_of(world: World, run_id: str) -> dict[str, object]:
    [run] = [run for run in world.sealift("runs", "list", "--json").document["runs"] if run["run_id"] == run_id]
    return dict(run)


def test_a_saved_plan_is_started_once_and_takes_the_rows_that_it_was_made_of(world: World) -> None:
    for key in ("a", "b"):
        world.put(key)
    plan = save(world)
    run_id = plan["run_id"]
    assert run_of(world, run_id)["state"] == "planned"
    assert keys(world, world.destination) == []
    for command in (["runs", "retry"], ["runs", "watch"], ["runs", "report"]):
        refused(world.sealift(*command, run_id), 2, f"sealift apply {run_id}")
    assert f"sealift apply {run_id}" in world.sealift("runs", "show", run_id).stdout
    world.put("c")
    applied = world.sealift("apply", "latest", "--sha256", plan["sha256"], "--json")
    assert (applied.code, applied.document["run_id"]) == (0, run_id), applied.stderr
    assert applied.document["outcomes"] == {"copied": 2}
    assert keys(world, world.destination) == ["a", "b"]
    refused(world.sealift("apply", run_id), 2, "was started already")


def test_a_dry_run_says_how_its_plan_starts(world: World) -> None:
    world.put("a")
    places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    assert (
        "  dry run   nothing was started. --save keeps this plan"
        in world.sealift("verify", *places, "--dry-run").stdout
    )
    text = world.sealift("verify", *places, "--dry-run", "--save").stdout
    assert "nothing was started" not in text
    found = re.search(r"sealift (apply \S+ --sha256 [0-9a-f]{64})", text)
    assert found, text
    applied = world.sealift(*found[1].split(), "--json")
    assert (applied.code, applied.document["outcomes"]) == (3, {"missing": 1})
    refused(world.sealift("verify", *places, "--save"), 2, "--dry-run")


def test_two_who_apply_one_plan_at_once_start_it_once(world: World) -> None:
    world.put("a")
    run_id = save(world)["run_id"]
    with ThreadPoolExecutor(2) as pool:
        codes = sorted(pool.map(lambda _: world.sealift("apply", run_id, "--json").code, range(2)))
    assert codes == [0, 2]


@pytest.mark.parametrize("file", ["plan.json", "shards/00000.parquet"])
def test_a_plan_that_was_altered_is_not_started(world: World, file: str) -> None:
    for key in ("a", "b"):  # of one size, so that only the digests tell their plans apart
        world.put(key)
    plan, other = save(world, "replicate", "--include", "a"), save(world, "replicate", "--include", "b")
    names = [f"runs/runs/{each['run_id']}/{file}" for each in (plan, other)]
    if file == "plan.json":
        names[1] = names[1].replace(other["run_id"], save(world)["run_id"])
    foreign = world.client.get_object(Bucket=world.ledger, Key=names[1])["Body"].read()
    world.client.put_object(Bucket=world.ledger, Key=names[0], Body=foreign)
    result = world.sealift("apply", plan["run_id"], "--sha256", plan["sha256"], "--json")
    assert result.code == 10, result.stdout
    assert "altered" in result.stdout + result.stderr
    assert keys(world, world.destination) == []


def test_a_plan_of_yesterday_and_a_run_that_is_no_plan_are_refused(world: World) -> None:
    world.put("a")
    ran = world.run("replicate")
    refused(world.sealift("apply", ran["run_id"]), 2, "is no saved plan")
    plan = save(world)
    old = time.time() - 25 * 3600
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(old))
    old_id = stamp + plan["run_id"][len(stamp) :]
    for entry in world.client.list_objects_v2(Bucket=world.ledger, Prefix=f"runs/runs/{plan['run_id']}")["Contents"]:
        body = world.client.get_object(Bucket=world.ledger, Key=entry["Key"])["Body"].read()
        if entry["Key"].endswith("spec.json"):
            body = json.dumps(json.loads(body) | {"run_id": old_id, "created_at": old}).encode()
        world.client.put_object(Bucket=world.ledger, Key=entry["Key"].replace(plan["run_id"], old_id), Body=body)
    refused(world.sealift("apply", old_id), 2, "Plan again")


def test_what_a_saved_plan_finds_is_not_answered_by_a_run_that_came_before(world: World) -> None:
    world.put("a")
    world.run("replicate")
    plan = save(world, "verify")
    assert world.run("verify")["code"] == 0
    world.client.delete_object(Bucket=world.destination, Key="a")
    assert world.sealift("apply", plan["run_id"], "--json").document["outcomes"] == {"missing": 1}
    status = world.sealift("status")
    assert (status.code, f"run {plan['run_id']}: 1 of 1 row needs attention" in status.stdout) == (3, True)
