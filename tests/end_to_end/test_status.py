"""`sealift status`: never green where something is wrong or not known, and since when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Result, World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.scenes import settle

LAST_NIGHT = datetime.now(UTC).date() - timedelta(days=1)
"""A night that has begun at any time of the day, and is not old."""


@pytest.fixture
def policy(world: World, tmp_path: Path) -> str:
    return write_policy(world, tmp_path)


def status(world: World, policy: str, **extra: str) -> Result:
    return world.sealift("status", "--json", SEALIFT_POLICY=policy, **extra)


def night(world: World, policy: str) -> dict[str, Any]:
    """Without a date, the hour would choose: until the pair's hour the last night to begin is yesterday's."""
    settle()
    command = ["nightly", "--pair", "docs", "--night", f"{LAST_NIGHT}", "--margin", "0s", "--json"]
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


def test_a_pair_needs_a_night_and_a_queue_that_nobody_can_look_at_is_never_well(world: World, policy: str) -> None:
    """The server here has no SQS: what it answers says nothing of dead letters."""
    result = status(world, policy)
    assert (result.code, result.document["state"], docs(result)["night"]) == (3, "wrong", None)
    problem = "pair docs: no night has ended yet: play one by hand: sealift nightly --pair docs"
    assert problems(result)[problem] is None
    text = world.sealift("status", SEALIFT_POLICY=policy).stdout
    assert text.startswith(f"{len(problems(result))} problems, {len(unknown(result))} not known\n")
    assert f"\n  ! {problem}\n" in text
    copied(world, "a")
    world.put("logs/b")
    world.client.put_object(Bucket=world.destination, Key="elsewhere/logs/b", Body=b"content")
    assert night(world, policy)["exit_code"] == 0
    settle()
    logs = ["nightly", "--pair", "logs", "--night", f"{LAST_NIGHT}", "--margin", "0s"]
    assert world.sealift(*logs, SEALIFT_POLICY=policy).code == 0
    result = status(world, policy)
    assert (result.code, result.document["state"], problems(result)) == (3, "not_known", {})
    assert "sealift-objects" in unknown(result)
    text = world.sealift("status", SEALIFT_POLICY=policy).stdout
    assert text.startswith("Nothing wrong was found, but ")
    assert "\n  ? not known: sealift-objects: " in text
