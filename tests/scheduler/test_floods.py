"""Floods: many events of one key, of one object or of nobody's cost few requests each, and end right."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from jobs.backup.events import parse_document
from scheduler import removed_versions
from scheduler.backup import handle
from tests.scheduler.event_samples import batch, notification, record
from tests.scheduler.test_backup_batches import Scene

MANY = 60


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def put_many(scene: Scene) -> list[dict[str, Any]]:
    events = [scene.put("k", b"%08d" % number) for number in range(MANY)]
    scene.store.calls.clear()
    return events


def check_all_stored(scene: Scene) -> None:
    stored = [version.data for version in scene.store._buckets.named["hotter"].versions["k"]]
    assert {b"%08d" % number for number in range(MANY)} <= set(stored)
    assert stored[-1] == b"%08d" % (MANY - 1)
    assert len(stored) <= 1.2 * MANY


def test_each_event_at_once_costs_nine_requests_with_its_journal(scene: Scene) -> None:
    for number in range(MANY):
        told = scene.put("k", b"%08d" % number)
        scene.store.calls.clear()
        assert scene.invoke(batch(told)) == []
        assert len(scene.store.calls) <= 9
    check_all_stored(scene)


def test_hundreds_of_versions_in_one_batch_cost_three_requests_each(scene: Scene) -> None:
    """More than eleven of one key ended as "others kept changing this key"."""
    events = put_many(scene)
    assert scene.invoke(batch(*events)) == []
    assert len(scene.store.calls) <= 3 * MANY + 6
    assert scene.store.calls.count("list_versions") == 2
    check_all_stored(scene)


def test_functions_that_work_on_one_key_at_once_do_not_multiply_its_requests(scene: Scene) -> None:
    events, chance = put_many(scene), random.Random(1)
    waiting = [events[start : start + 10] for start in range(0, MANY, 10)]
    failed: list[Any] = []
    scene.store.slow = lambda operation, arguments: chance.random() * 0.002

    async def function() -> None:
        while waiting:
            answer = await handle(scene.runtime, batch(*waiting.pop(0)), 600.0, "request")
            failed.extend(answer["batchItemFailures"])

    async def functions() -> None:
        await asyncio.gather(*(function() for _ in range(5)))

    scene.runtime.run(functions())
    assert failed == []
    assert len(scene.store.calls) <= 20 * MANY
    check_all_stored(scene)


@pytest.mark.parametrize("version_id", [None, "v"])
def test_a_removal_among_thousands_of_its_key_is_found_by_one_list(scene: Scene, version_id: str | None) -> None:
    def told(name: str, sequencer: int, version: str | None) -> Any:
        thing = {"versionId": version} if version else {}
        return parse_document(notification(record("source", "k", name, sequencer=f"{sequencer:016X}", **thing)))[0]

    async def look_up() -> list[bool]:
        for number in range(0, 3_000, 2):
            version = None if version_id is None else f"{version_id}{number}"
            await removed_versions.remember(scene.runtime, told("ObjectRemoved:Delete", number, version))
        scene.store.calls.clear()
        asked = [told("ObjectCreated:Put", number, version_id and f"{version_id}{number}") for number in (2_001, 2_998)]
        return [await removed_versions.is_known(scene.runtime, event) for event in asked]

    expected = [True, False] if version_id is None else [False, True]
    assert scene.runtime.run(look_up()) == expected
    assert scene.store.calls == ["list_objects"] * 2
