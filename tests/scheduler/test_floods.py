"""Floods: many events of one key, of one object or of nobody's cost few requests each, and end right."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from scheduler.backup import handle
from tests.doubles.hooks import names, watch
from tests.doubles.memory_store import OPERATIONS
from tests.scheduler.event_samples import batch
from tests.scheduler.scene import Scene, slow

MANY = 60


def put_many(scene: Scene) -> list[dict[str, Any]]:
    return [scene.put("k", b"%08d" % number) for number in range(MANY)]


def check_all_stored(scene: Scene) -> None:
    stored = scene.copies()
    assert {b"%08d" % number for number in range(MANY)} <= set(stored)
    assert stored[-1] == b"%08d" % (MANY - 1)
    assert len(stored) <= 1.2 * MANY


def test_each_event_at_once_costs_nine_requests_with_its_journal(scene: Scene) -> None:
    for number in range(MANY):
        event, requests = scene.put("k", b"%08d" % number), watch(scene.store)
        assert scene.handle(event) == []
        assert len(requests) <= 9
    check_all_stored(scene)


def test_hundreds_of_versions_in_one_batch_cost_three_requests_each(scene: Scene) -> None:
    """More than eleven of one key ended as "others kept changing this key"."""
    events, requests = put_many(scene), watch(scene.store)
    assert scene.handle(*events) == []
    assert len(requests) <= 3 * MANY + 6
    assert names(requests).count("list_versions") == 2
    check_all_stored(scene)


def test_functions_that_work_on_one_key_at_once_do_not_multiply_its_requests(scene: Scene) -> None:
    events, chance, requests = put_many(scene), random.Random(1), watch(scene.store)
    waiting = [events[start : start + 10] for start in range(0, MANY, 10)]
    failed: list[Any] = []
    scene.store.hook(**dict.fromkeys(OPERATIONS, slow(lambda request: chance.random() * 0.002)))

    async def function() -> None:
        while waiting:
            answer = await handle(scene.runtime, batch(*waiting.pop(0)), 600.0, "request")
            failed.extend(answer["batchItemFailures"])

    async def functions() -> None:
        await asyncio.gather(*(function() for _ in range(5)))

    scene.runtime.run(functions())
    assert failed == []
    assert len(requests) <= 20 * MANY
    check_all_stored(scene)
