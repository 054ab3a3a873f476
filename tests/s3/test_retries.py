"""Work at once, as much as the pace allows, less after SlowDown; nobody is forgotten."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from jobs.core.pace import Pace
from jobs.errors import Denied, Throttled, Unavailable
from jobs.s3.retries import PacedGate, persist, retry


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


def test_no_more_runs_at_once_than_the_pace_allows_and_all_of_it_runs() -> None:
    pace = Pace(8)
    gate = PacedGate(pace, clock=lambda: 0.0)
    running = most = 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert running <= pace.in_flight
        await asyncio.sleep(0)
        running -= 1
        return number

    async def run() -> list[int]:
        return await asyncio.gather(*(gate.run(partial(work, number)) for number in range(100)))

    assert asyncio.run(run()) == list(range(100))
    assert most == 8


def test_slow_down_is_tried_again_and_heeded() -> None:
    pace = Pace(64)
    gate = PacedGate(pace, clock=lambda: 10.0)
    left = [2]

    async def work() -> str:
        if left[0]:
            left[0] -= 1
            raise Throttled("PutObject", "k", "SlowDown", "", 503)
        return "done"

    before = pace.in_flight
    assert asyncio.run(gate.run(work)) == "done"
    assert pace.in_flight < before
    assert pace.throttled == 2


def test_whoever_fails_or_is_cancelled_lets_the_next_go() -> None:
    async def run() -> list[Any]:
        gate = PacedGate(Pace(1), clock=lambda: 0.0)
        never = asyncio.Event()

        async def refuse() -> None:
            raise Denied("PutObject", "k", "AccessDenied", "", 403)

        async def succeed() -> str:
            return "done"

        stuck = asyncio.create_task(gate.run(never.wait))
        await asyncio.sleep(0)
        others = [asyncio.create_task(gate.run(work)) for work in (refuse, succeed, succeed)]
        await asyncio.sleep(0)
        others[1].cancel()
        stuck.cancel()
        return await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)

    refused, cancelled, done = asyncio.run(run())
    assert isinstance(refused, Denied)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert done == "done"


@pytest.mark.parametrize("how", [retry, persist])
def test_each_retry_waits_as_the_backoff_says(how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: attempt + 0.5 + 0 * jitter)
    monkeypatch.setattr("jobs.s3.retries.asyncio.sleep", sleep)
    work = AsyncMock(side_effect=[*[Unavailable("GetObject", "k", "InternalError", "", 500)] * 3, "done"])
    assert asyncio.run(how(work)) == "done"
    assert waits == [1.5, 2.5, 3.5]


@pytest.mark.parametrize(("healed_after", "is_answered"), [(120.0, True), (240.0, True), (3600.0, False)])
def test_what_persists_outlives_a_failure_of_minutes(
    healed_after: float, is_answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that takes hours asks for its pages so. Only the waits move the clock."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += 1

    monkeypatch.setattr("jobs.s3.retries.asyncio.sleep", sleep)
    monkeypatch.setattr("jobs.s3.retries.asyncio.get_running_loop", lambda: SimpleNamespace(time=lambda: now[0]))

    async def request() -> str:
        if now[0] < healed_after:
            raise Unavailable("ListObjectsV2", "bucket", "Busy", "", 503)
        return "page"

    asked = persist(request)
    with pytest.raises(StopIteration if is_answered else Unavailable):
        asked.send(None)
    assert now[0] >= min(healed_after, 300.0)


@pytest.mark.parametrize(("code", "status", "asked"), [("ReadTimeout", 0, 2), ("InternalError", 500, 8)])
def test_a_server_without_a_word_is_not_asked_for_many_minutes(
    code: str, status: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    async def request() -> None:
        now[0] += 40
        raise Unavailable("PutObject", "ledger", code, "", status)

    monkeypatch.setattr("jobs.s3.retries.asyncio.get_running_loop", lambda: SimpleNamespace(time=lambda: now[0]))
    with pytest.raises(Unavailable):
        asyncio.run(retry(request))
    assert now[0] == 40 * asked
