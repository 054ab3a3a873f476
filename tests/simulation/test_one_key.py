"""One key, exhaustively: see `one_key` for the bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation.breaks import WITHOUT_IF_MATCH, WITHOUT_IF_NONE_MATCH, WITHOUT_SOURCE_PINS, WITHOUT_VERSION_ID
from tests.simulation.one_key import Explorer, Scene, Setting, scenes

CURRENT, ALL = Setting(all_versions=False), Setting(all_versions=True)
OTHERS = [
    Setting(all_versions=False, overwrite=overwrite, is_versioned=is_versioned, is_suspended=is_suspended)
    for is_versioned, is_suspended in ((True, False), (False, False), (True, True))
    for overwrite in ("older", "always", "never")
][1:]
PARTS = 8


def test_current_versions() -> None:
    explorer = Explorer(CURRENT).explore(scenes())
    assert explorer.violations == []
    assert explorer.plays > 30_000


def test_all_versions_of_two_a_side() -> None:
    explorer = Explorer(ALL).explore(scenes(2))
    assert explorer.violations == []
    assert explorer.plays > 9_000


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_all_versions_of_three_a_side(part: int) -> None:
    assert Explorer(ALL).explore(scenes()[part::PARTS]).violations == []


@pytest.mark.slow
@pytest.mark.parametrize("setting", OTHERS, ids=str)
def test_current_versions_by_other_rules_and_buckets(setting: Setting) -> None:
    assert Explorer(setting).explore(scenes()).violations == []


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", ["always", "never"])
def test_all_versions_by_other_rules(overwrite: str) -> None:
    assert Explorer(Setting(all_versions=True, overwrite=overwrite)).explore(scenes()[::PARTS]).violations == []


@pytest.mark.parametrize(
    ("broken", "setting", "promise"),
    [
        (WITHOUT_IF_MATCH, CURRENT, "guarded"),
        (WITHOUT_IF_NONE_MATCH, CURRENT, "guarded"),
        (WITHOUT_SOURCE_PINS, ALL, "idempotent"),
    ],
)
def test_a_server_that_ignores_what_a_copy_demands_is_noticed(
    broken: Callable[[Any], Any], setting: Setting, promise: str
) -> None:
    assert promise in dict(Explorer(setting, broken).explore(scenes(1)).violations)


def test_a_server_that_ignores_version_ids_is_noticed() -> None:
    """A copy by ETag fails there. A HEAD of A shows B, so that the second copy of B passes for A's."""
    assert "proven" in dict(Explorer(ALL, WITHOUT_VERSION_ID).explore([Scene("AB", "BB", is_newer=True)]).violations)
