"""The function writes to no server that ignores conditions. It tries them once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.hooks import ignore_guards, watch
from tests.scheduler.scene import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.store.heeds_conditions = False
    return made


def test_events_fail_where_a_condition_is_ignored(scene: Scene) -> None:
    scene.store.hook(copy=ignore_guards)
    assert scene.handle(scene.put("k")) == ["m0"]
    assert scene.store._buckets.named["hotter"].versions == {}


def test_conditions_are_tried_once_a_process(scene: Scene) -> None:
    seen = watch(scene.store)

    def sweeps() -> int:
        listed = [each.arguments["prefix"] for each in seen if each.operation == "list_versions"]
        return sum(".sealift/trial-" in prefix for prefix in listed)

    assert (scene.handle(scene.put("a"), scene.put("b")), sweeps()) == ([], 1)
    assert (scene.handle(scene.put("c")), sweeps()) == ([], 1)
    assert set(scene.store._buckets.named["hotter"].versions) == {"a", "b", "c"}
