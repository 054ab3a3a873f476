"""Rollbacks through the command line on a real server: a bucket goes back in place, and what that did is taken back."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobs.core.model import Listed
from jobs.reports.document import iso_time
from tests.end_to_end.conftest import Result, World
from tests.end_to_end.scenes import kill

KEPT, LOST, HARMED, NEW, ODD = "docs/kept", "docs/deleted", "docs/harmed", "docs/new", "docs/a b+é%2F"
SLOW = {"checkpoint_rows": "10", "in_flight": "1"}


def rollback(world: World, *arguments: str, **extra: str) -> Result:
    source = () if "--source" in arguments else ("--source", f"s3://{world.source}/docs/")
    return world.sealift("rollback", *source, *arguments, "--yes", "--json", **extra)


def report(result: Result) -> dict[str, Any]:
    assert not result.has_no_answer, result.stderr
    return result.document | {"code": result.code}


def histories(world: World) -> dict[str, list[tuple[str | None, bool, str | None]]]:
    def line(version: Listed) -> tuple[str | None, bool, str | None]:
        return version.version_id, version.is_delete_marker, version.etag

    pages = world.client.get_paginator("list_object_versions").paginate(Bucket=world.source, Prefix="docs/")
    keys = {each["Key"] for page in pages for kind in ("Versions", "DeleteMarkers") for each in page.get(kind, ())}
    return {key: [line(each) for each in world.history(world.source, key)] for key in sorted(keys)}


def harm(world: World) -> str:
    """Objects and their copies, a time, and what somebody did since. Returns the time."""
    for key in (KEPT, LOST, HARMED, ODD):
        world.put(key, key.encode(), Metadata={"who": "me"}, Tagging="class=scan", ContentType="text/plain")
    world.run("replicate")
    time.sleep(1.1)
    at = iso_time(time.time())
    time.sleep(1.1)
    for key in (HARMED, ODD, NEW):
        world.put(key, b"encrypted")
    world.client.delete_object(Bucket=world.source, Key=LOST)
    return at


def test_a_prefix_goes_back_in_place_and_the_undo_gives_the_first_state_version_by_version(versioned: World) -> None:
    world, at = versioned, harm(versioned)
    world.put("other/new", b"not below the prefix")
    first = histories(world)
    plan = report(rollback(world, "--as-of", at, "--dry-run"))
    assert (plan["code"], plan["rollback"]) == (0, {"keys": 5, "copy": 2, "hide": 1, "unhide": 1})
    assert plan["requests"]["copy"] == 2
    assert histories(world) == first

    refused = rollback(world, "--as-of", at)
    assert (refused.code, refused.document["error"]["code"]) == (2, "LimitExceeded")
    done = report(rollback(world, "--as-of", at, "--max-share", "100%"))
    assert (done["code"], done["outcomes"]) == (0, {"done": 4})
    assert sorted(world.keys(world.source)) == sorted([ODD, LOST, HARMED, KEPT, "other/new"])
    for key in (KEPT, LOST, HARMED, ODD):
        assert world.read(world.source, key) == key.encode()
        head = world.client.head_object(Bucket=world.source, Key=key)
        assert (head["Metadata"], head["ContentType"]) == ({"who": "me"}, "text/plain")
        tags = world.client.get_object_tagging(Bucket=world.source, Key=key)["TagSet"]
        assert tags == [{"Key": "class", "Value": "scan"}]

    again = report(rollback(world, "--as-of", at, "--max-share", "100%"))
    assert (again["code"], again["outcomes"]) == (0, {"same": 2})

    undone = report(rollback(world, "--undo", done["run_id"]))
    assert (undone["code"], undone["outcomes"]) == (0, {"done": 4})
    now = histories(world)
    assert now.pop(LOST)[0] == first[LOST][0]
    assert [each[1] for each in histories(world)[LOST]] == [False, True]
    assert now == {key: versions for key, versions in first.items() if key != LOST}
    twice = report(rollback(world, "--undo", done["run_id"]))
    assert (twice["code"], twice["outcomes"]) == (0, {"same": 4})
    assert f"--undo {done['run_id']}" in world.sealift("runs", "show", done["run_id"]).stdout


def test_a_killed_command_is_gone_on_with_and_taken_back_exactly(versioned: World) -> None:
    world, keys = versioned, [f"docs/{number:03}" for number in range(120)]
    for key in keys:
        world.put(key, key.encode())
    time.sleep(1.1)
    at = iso_time(time.time())
    time.sleep(1.1)
    for key in keys:
        world.put(key, b"encrypted")
    first = histories(world)
    process = world.start(
        "rollback", "--source", f"s3://{world.source}/docs/", "--as-of", at, "--max-share", "100%", "--yes", "--json",
        **SLOW,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while sum(len(world.history(world.source, key)) == 3 for key in keys[:20]) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(process)
    assert process.returncode == -9, "it was done before"
    [run] = world.sealift("runs", "list", "--json").document["runs"]
    early = rollback(world, "--undo", run["run_id"])
    assert (early.code, early.document["error"]["code"]) == (10, "ConfigError")
    retried = world.sealift("runs", "retry", run["run_id"], "--json")
    assert (retried.code, retried.document["outcomes"]) == (0, {"done": 120}), retried.stderr
    assert all(len(versions) == 3 for versions in histories(world).values())
    undone = report(rollback(world, "--undo", run["run_id"]))
    assert (undone["code"], undone["outcomes"]) == (0, {"done": 120})
    assert histories(world) == first


@pytest.mark.parametrize(
    ("arguments", "code", "error", "says"),
    [
        (["--as-of", "2001-01-01"], 2, "UsageError", "before the first version"),
        (["--undo", "20261201T004105Z-rollback-9b02"], 10, "LedgerError", "no run"),
        (["--source", "s3://SOURCE/nothing/", "--as-of", "1d"], 10, "ConfigError", "has no versions"),
        (["--source", "s3://LEDGER/", "--as-of", "1d"], 2, "UsageError", "overlap"),
        (["--source", "s3://nobody-has-this/", "--as-of", "1d"], 10, "ConfigError", "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(
    versioned: World, arguments: list[str], code: int, error: str, says: str
) -> None:
    world = versioned
    world.put("docs/a")
    named = [each.replace("SOURCE", world.source).replace("LEDGER", world.ledger) for each in arguments]
    result = rollback(world, *named)
    assert (result.code, result.document["error"]["code"]) == (code, error), result.stdout
    assert says in result.document["error"]["message"]
    assert len(world.history(world.source, "docs/a")) == 1
    assert world.keys(world.ledger) == []


@pytest.mark.parametrize("statuses", [[], ["Enabled", "Suspended"]])
def test_a_bucket_that_keeps_no_versions_now_is_refused(world: World, statuses: list[str]) -> None:
    world.put("docs/a")
    for status in statuses:
        world.client.put_bucket_versioning(Bucket=world.source, VersioningConfiguration={"Status": status})
    result = rollback(world, "--as-of", "1d")
    document = result.document["error"]
    assert (result.code, document["code"]) == (10, "ConfigError")
    assert "off or suspended" in document["message"]


def test_a_run_of_another_verb_or_bucket_is_not_taken_back(versioned: World) -> None:
    world, at = versioned, harm(versioned)
    replicated = world.run("replicate")
    done = report(rollback(world, "--as-of", at, "--max-share", "100%"))
    undone = report(rollback(world, "--undo", done["run_id"]))
    for arguments in (
        ["--undo", replicated["run_id"]],
        ["--undo", undone["run_id"]],
        ["--undo", done["run_id"], "--source", f"s3://{world.destination}/"],
    ):
        refused = rollback(world, *arguments)
        assert (refused.code, refused.document["error"]["code"]) == (2, "UsageError")
    for run_id in (undone["run_id"], done["run_id"]):
        again = world.sealift("runs", "retry", run_id, "--json")
        assert again.code == 0  # it has no failed rows
    worker = world.sealift("worker", undone["run_id"], "--shard", "0")
    assert worker.code == 2


def test_what_no_version_has_comes_back_from_the_copies(versioned: World) -> None:
    """By the commands of docs/rollback.md. What came on top meanwhile stays."""
    world, at = versioned, harm(versioned)
    for key in (LOST, HARMED, ODD):
        then = world.history(world.source, key)[0].version_id
        world.client.delete_object(Bucket=world.source, Key=key, VersionId=then)
    assert report(rollback(world, "--as-of", at, "--max-share", "100%"))["outcomes"] == {"done": 3}
    world.put(ODD, b"newer")
    sides = ("--source", f"s3://{world.destination}/docs/", "--destination", f"s3://{world.source}/docs/")
    restored = report(world.sealift("restore", *sides, "--as-of", at, "--json"))
    assert (restored["code"], restored["outcomes"]) == (3, {"same": 1, "done": 2, "blocked": 1})
    contents = [world.read(world.source, key) for key in (KEPT, LOST, HARMED, ODD)]
    assert contents == [KEPT.encode(), LOST.encode(), HARMED.encode(), b"newer"]
