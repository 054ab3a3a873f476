"""The function writes to no server that ignores conditions. It tries them once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import Request
from tests.scheduler.scene import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.store.heeds_conditions = False
    return made


def test_events_fail_where_a_condition_is_ignored(scene: Scene) -> None:
    async def ignore(request: Request) -> Any:
        request.arguments["guard"] = UNGUARDED
        return await request()

    scene.store.hook(copy=ignore)
    assert scene.handle(scene.put("k")) == ["m0"]
    assert scene.store._buckets.named["hotter"].versions == {}


def test_conditions_are_tried_once_a_process(scene: Scene) -> None:
    sweeps: list[str] = []

    async def note(request: Request) -> Any:
        if ".sealift/trial-" in (prefix := request.arguments["prefix"]):
            sweeps.append(prefix)
        return await request()

    scene.store.hook(list_versions=note)
    assert scene.handle(scene.put("a"), scene.put("b")) == []
    assert len(sweeps) == 1
    assert scene.handle(scene.put("c")) == []
    assert len(sweeps) == 1
    assert set(scene.store._buckets.named["hotter"].versions) == {"a", "b", "c"}
