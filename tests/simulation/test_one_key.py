"""One key, exhaustively: see `one_key` for the bound."""

from __future__ import annotations

import pytest

from tests.simulation import one_key
from tests.simulation.breaks import WithoutIfMatch, WithoutIfNoneMatch

PARTS = 4


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
@pytest.mark.parametrize("part", range(2 * PARTS))
def test_all_versions_of_three_a_side(part: int) -> None:
    scenes = list(one_key.scenes(all_versions=True))[part :: 2 * PARTS]
    assert [found for scene in scenes for world in one_key.plays(scene) for found in world.violations] == []


@pytest.mark.parametrize("broken", [WithoutIfMatch, WithoutIfNoneMatch])
def test_a_server_that_ignores_a_condition_is_noticed(broken: type) -> None:
    scenes = one_key.scenes(1, all_versions=False)
    found = {promise for scene in scenes for world in one_key.plays(scene, broken) for promise, _ in world.violations}
    assert "guarded" in found
