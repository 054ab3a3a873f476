"""One key, exhaustively: see `one_key` for the bound."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation import one_key
from tests.simulation.breaks import Broken, WithoutIfMatch, WithoutIfNoneMatch, WithoutSourcePins, WithoutVersionId

PARTS = 4


@pytest.fixture(autouse=True)
def without_collection() -> Iterator[None]:
    """Seldom: a play leaves much, and each takes less than a millisecond."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    yield
    gc.set_threshold(*usual)


@pytest.mark.parametrize("part", range(PARTS))
def test_current_versions(part: int) -> None:
    scenes = list(one_key.scenes(all_versions=False))[part::PARTS]
    assert len(scenes) > 300
    assert [found for scene in scenes for world in one_key.plays(scene) for found in world.violations] == []


@pytest.mark.parametrize("part", range(PARTS))
def test_all_versions_of_two_a_side(part: int) -> None:
    scenes = list(one_key.scenes(2, all_versions=True))[part::PARTS]
    assert len(scenes) > 10
    assert [found for scene in scenes for world in one_key.plays(scene) for found in world.violations] == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_one_in_sixteen_of_all_versions_of_three_a_side(part: int) -> None:
    scenes = list(one_key.scenes(all_versions=True))[part :: 16 * PARTS]
    assert [found for scene in scenes for world in one_key.plays(scene) for found in world.violations] == []


OTHERS = [
    {"overwrite": "always"},
    {"overwrite": "never"},
    {"is_versioned": False},
    {"is_versioned": False, "overwrite": "always"},
    {"is_versioned": False, "overwrite": "never"},
    {"is_suspended": True},
    {"is_suspended": True, "overwrite": "always"},
    {"is_suspended": True, "overwrite": "never"},
]


@pytest.mark.slow
@pytest.mark.parametrize("others", OTHERS, ids=str)
def test_one_in_sixteen_of_current_versions_by_other_rules_and_buckets(others: dict[str, Any]) -> None:
    scenes = [replace(scene, **others) for scene in one_key.scenes(all_versions=False)][::16]
    assert [found for scene in scenes for world in one_key.plays(scene) for found in world.violations] == []


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", ["always", "never"])
def test_one_in_sixteen_of_all_versions_by_other_rules(overwrite: str) -> None:
    scenes = [replace(scene, overwrite=overwrite) for scene in one_key.scenes(all_versions=True)][:: 16 * PARTS]
    assert [found for scene in scenes for world in one_key.plays(scene) for found in world.violations] == []


def is_noticed(broken: type[Broken], promise: str, scenes: Iterable[one_key.Scene]) -> bool:
    """Whether a play finds a promise broken with a store that is not as S3 is."""
    worlds = (world for scene in scenes for world in one_key.plays(scene, broken))
    return any(promise == found for world in worlds for found, _ in world.violations)


@pytest.mark.parametrize("broken", [WithoutIfMatch, WithoutIfNoneMatch])
def test_a_server_that_ignores_a_condition_is_noticed(broken: type[Broken]) -> None:
    assert is_noticed(broken, "guarded", one_key.scenes(1, all_versions=False))


def test_a_server_that_copies_another_version_is_noticed() -> None:
    assert is_noticed(WithoutSourcePins, "proven", one_key.scenes(1, all_versions=False))


def test_a_server_that_ignores_version_ids_is_noticed() -> None:
    """A copy by ETag fails there. A HEAD of A shows B, so that the second copy of B passes for A's."""
    assert is_noticed(WithoutVersionId, "proven", [one_key.Scene("AB", "BB", is_newer=True, all_versions=True)])
