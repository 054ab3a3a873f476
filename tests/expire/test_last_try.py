"""Expire where S3 never answers for one object: the outcomes of the others are true."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.core.model import ObjectRef
from jobs.core.outcome import PartlyDone, Status
from jobs.errors import Interrupted, Unavailable
from jobs.expire.undo import unhide
from tests.doubles.memory_store import Request
from tests.expire.scene import Shop, job, shop

BAD = "k1"


def fail(store: Shop, at: str, bad: frozenset[str] | set[str] = frozenset({BAD}), status: int = 500) -> None:
    """From now on the server fails at each request of one kind, such as `get copies`, for these objects."""
    operation, bucket = at.split()

    async def sick(request: Request) -> Any:
        if request.place.bucket == bucket and request.place.key in bad:
            raise Unavailable(operation, str(request.place), "InternalError", status=status)
        return await request()

    store.hook(**{operation: sick})


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


@pytest.mark.parametrize("at", ["delete docs", "head docs", "head copies", "get copies"])
@pytest.mark.parametrize(("versioned", "hidden"), [(True, False), (True, True), (False, False)])
def test_what_is_told_of_each_row_is_what_became_of_its_object(at: str, versioned: bool, hidden: bool) -> None:
    store = shop(versioned=versioned)
    rows = store.originals(4)
    if hidden:
        for row in rows:
            asyncio.run(store.delete("docs", row.key))
    fail(store, at)
    made = job(store)
    told = {each.key: each.status for each in asyncio.run(made.process_last(rows))}
    there = {key for key, _ in store.contents()} if hidden else set(store.current())
    assert there == {BAD}
    assert told == {row.key: Status.BLOCKED if row.key == BAD else Status.DONE for row in rows}
    store.hook(head=None, delete=None)
    if at == "delete docs" and versioned and not hidden:
        assert asyncio.run(unhide(store, made.tombstones)).markers == 3


def test_a_delete_without_an_answer_fails_alone() -> None:
    store = shop()
    rows = store.originals(4)
    fail(store, "delete docs", status=0)
    told = asyncio.run(job(store).process_last(rows))
    assert [each.status for each in told] == [Status.DONE, Status.BLOCKED, Status.DONE, Status.DONE]


def test_a_stop_at_the_last_try_keeps_the_outcomes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = shop()
    rows = store.originals(4)
    fail(store, "delete docs")
    sick = store.delete

    async def stop(bucket: str, key: str, **more: Any) -> Any:
        if key in ("k2", "k3"):
            raise Interrupted("stopped before a delete")
        return await sick(bucket, key, **more)

    monkeypatch.setattr(store, "delete", stop)
    with pytest.raises(PartlyDone) as stopped:
        asyncio.run(job(store).process_last(rows))
    assert [(each.key, each.status) for each in stopped.value.outcomes] == [("k0", Status.DONE)]


def test_what_may_pass_is_tried_again_as_a_whole() -> None:
    store = shop(versioned=False)
    row = store.original(BAD)
    fail(store, "head docs")
    with pytest.raises(Unavailable):
        asyncio.run(job(store).process([row]))
    assert list(store.contents()) == [(BAD, "null")]
    assert asyncio.run(store.get(ObjectRef("docs", BAD))).data == b"content"
