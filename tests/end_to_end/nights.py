"""What tests of nights do and look at."""

from __future__ import annotations

from typing import Any

from tests.end_to_end.conftest import World
from tests.end_to_end.scenes import NOW, settle

NIGHT = "2026-11-20"


HASTY = {"patience_seconds": "2"}


def command(policy: str, *arguments: str, pair: str = "docs") -> list[str]:
    night = [] if "--night" in arguments else ["--night", NIGHT]
    return ["nightly", "--pair", pair, "--policy", policy, *NOW, *night, *arguments, "--json"]


def nightly(world: World, policy: str, *arguments: str, pair: str = "docs", **extra: str) -> dict[str, Any]:
    settle()
    result = world.sealift(*command(policy, *arguments, pair=pair), **HASTY | extra)
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


def stage(summary: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in summary["stages"] if each["stage"] == name)
    return found


def counted(summary: dict[str, Any], name: str) -> dict[str, int]:
    return {what: count for what, count in stage(summary, name)["counts"].items() if count}
