"""What tests of `sealift expire` do and look at."""

from __future__ import annotations

import time
from typing import Any

from jobs.core.selection import is_sealift_object
from tests.end_to_end.conftest import World

NOW = ("--grace", "0s", "--max-share", "100%")
DELETE = (*NOW, "--yes-delete")


def compact(world: World, *arguments: str) -> str:
    """Compact the whole source; the run's id."""
    given = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}/packed", "--pack-all"]
    report = world.sealift("compact", *given, "--storage-class", "STANDARD", *arguments, "--json").document
    assert set(report["outcomes"]) == {"done"}
    return str(report["run_id"])


def declare(world: World, *named: str, wait_seconds: float = 0.0) -> None:
    """Declare the places. A command in a process of its own takes them after 10 s."""
    done = world.sealift("expire", *(named or places(world)), "--declare", "--json")
    assert done.code == 0, done.stderr
    time.sleep(wait_seconds)


def places(world: World) -> list[str]:
    """Where this world's originals and copies are, as an operator says it."""
    return ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]


def expire(world: World, *arguments: str, **extra: str) -> dict[str, Any]:
    declare(world)
    result = world.sealift("expire", *places(world), *arguments, "--json", **extra)
    assert result.stdout, result.stderr
    return result.document | {"code": result.code, "said": result.stderr}


def keys(world: World, bucket: str | None = None) -> list[str]:
    return [key for key in world.keys(bucket or world.source) if not is_sealift_object(key)]


def reasons(report: dict[str, Any]) -> str:
    return " | ".join(each["reason"] for each in report["reasons"])


def fill(world: World, count: int = 6) -> list[str]:
    names = [f"docs/{n:02}.json" for n in range(count)]
    for name in names:
        world.put(name, f"content of {name}".encode() * 9)
    return names


def replicate(world: World, *arguments: str) -> str:
    report = world.run("replicate", *arguments)
    assert report["code"] == 0
    return str(report["run_id"])
