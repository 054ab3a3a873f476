"""`sealift status`: never green where something is wrong or not known, and since when."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Result, World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.scenes import settle

EARLIER, LATER = (datetime.now(UTC).date() - timedelta(days=ago) for ago in (2, 1))
"""Two nights in a row, so of slices in a row. Both have begun at any time of the day, and neither is old."""


@pytest.fixture
def policy(world: World, tmp_path: Path) -> str:
    return write_policy(world, tmp_path)


def status(world: World, policy: str, **extra: str) -> Result:
    return world.sealift("status", "--json", SEALIFT_POLICY=policy, **extra)


def night(world: World, policy: str, *more: str, of: date = LATER) -> dict[str, Any]:
    """Without a date, the hour would choose: until the pair's hour the last night to begin is yesterday's."""
    settle()
    command = ["nightly", "--pair", "docs", "--night", f"{of}", "--margin", "0s", "--json", *more]
    result = world.sealift(*command, SEALIFT_POLICY=policy)
    assert result.code in (0, 3), result.stderr
    return result.document


def copied(world: World, *names: str) -> None:
    for name in names:
        world.put(f"docs/{name}", name.encode())
        world.client.put_object(Bucket=world.destination, Key=f"copies/docs/{name}", Body=name.encode())


def docs(result: Result) -> dict[str, Any]:
    return next(each for each in result.document["pairs"] if each["pair"] == "docs")


def unknown(result: Result) -> dict[str, str]:
    return {each["what"]: each["why"] for each in result.document["not_known"]}


def problems(result: Result) -> dict[str, str | None]:
    return {each["problem"]: each["since"] for each in result.document["problems"]}


def publish_manifest(world: World, number: int, names: list[str], since: float) -> str:
    """A manifest of the backlog of `docs`, as `enqueue` publishes it."""
    folder = "runs/manifests/pair=docs/"
    rows = "".join(f"{world.source},docs/{name}\n" for name in names)
    key = f"{folder}{number:06d}-0123456789ab.csv"
    uri = f"s3://{world.ledger}/{key}"
    document = {
        "version": 2,
        "pair": "docs",
        "number": number,
        "manifest": uri,
        "rows": len(names),
        "size_bytes": 0,
        "created_at": since,
        "taken_before": 0,
        "taken": [],
    }
    world.client.put_object(Bucket=world.ledger, Key=key, Body=rows.encode())
    body = json.dumps(document).encode()
    world.client.put_object(Bucket=world.ledger, Key=f"{folder}{number:06d}.json", Body=body)
    return uri


def test_a_pair_without_a_night_is_not_known(world: World, policy: str) -> None:
    result = status(world, policy)
    assert (result.code, result.document["state"]) == (3, "wrong")
    assert (docs(result)["night"], docs(result)["backlog"]["rows"]) == (None, 0)
    assert problems(result)["pair docs: no night has ended yet. Start one: sealift nightly --pair docs"] is None
    text = world.sealift("status", SEALIFT_POLICY=policy).stdout
    assert "  last night  none has ended yet\n" in text
    assert "  ! pair docs: no night has ended yet. Start one: sealift nightly --pair docs\n" in text
    problems_found, unknown_found = len(result.document["problems"]), len(result.document["not_known"])
    assert unknown_found
    assert text.startswith(f"{problems_found} problems, {unknown_found} not known\n")
    assert (
        f"\npair docs  s3://{world.source}/docs/, s3://{world.source}/drafts/ → s3://{world.destination}/copies/\n"
        in text
    )
    assert "All is well" not in text


def test_a_queue_that_nobody_can_look_at_is_never_well(world: World, tmp_path: Path) -> None:
    """The server here has no SQS: what it answers says nothing of dead letters."""
    policy = write_policy(world, tmp_path)
    copied(world, "a")
    world.put("logs/b")
    world.client.put_object(Bucket=world.destination, Key="elsewhere/logs/b", Body=b"content")
    assert night(world, policy)["exit_code"] == 0
    settle()
    logs = ["nightly", "--pair", "logs", "--night", f"{LATER}", "--margin", "0s"]
    assert world.sealift(*logs, SEALIFT_POLICY=policy).code == 0
    result = status(world, policy)
    assert (result.code, result.document["state"], problems(result)) == (3, "not_known", {})
    assert "what is in sealift-objects" in unknown(result)
    text = world.sealift("status", SEALIFT_POLICY=policy).stdout
    assert text.startswith("Nothing wrong was found, but ")
    assert "? what is in sealift-objects is not known: " in text


def test_a_manifest_of_the_backlog_whose_run_was_refused_is_not_forgotten(versioned: World, tmp_path: Path) -> None:
    """Its rows wait in no backlog any more, and status said that nothing was wrong."""
    world = versioned
    policy = write_policy(world, tmp_path, docs={"limits": {"max_objects": 1}})
    copied(world, "a", "b")
    now = time.time()
    old, young = publish_manifest(world, 1, ["a", "b"], now - 7200), publish_manifest(world, 2, ["a"], now)
    backfill = ["replicate", "--pair", "docs", "--yes", "--manifest", old]
    refused = world.sealift(*backfill, SEALIFT_POLICY=policy)
    assert (refused.code, "max-objects" in refused.stderr) == (2, True), refused.stderr
    command = f"sealift replicate --pair docs --manifest {old}"
    wrong = f"pair docs: no run has taken the 2 rows of manifest 1 of the backlog: {command}"
    found = problems(status(world, policy))
    assert found[wrong] == datetime.fromtimestamp(int(now - 7200), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert not any(young in each for each in found)
    write_policy(world, tmp_path)
    assert world.sealift(*backfill, SEALIFT_POLICY=policy).code == 0
    assert wrong not in problems(status(world, policy))
