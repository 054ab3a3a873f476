"""Files of the ledger: written once whatever answers are lost, read, and listed over several pages."""

from __future__ import annotations

import pytest

from jobs.core.model import Location
from jobs.errors import PreconditionFailed, Unavailable
from jobs.ledger.files import list_files, list_names, read_file, write_file, write_once
from jobs.s3.retries import once
from tests.doubles.lost_answers import LostAnswers
from tests.doubles.memory_store import MemoryStore

PLACE = Location("ledger", "here")
NAME = "told/a.json"


def losing(answers: LostAnswers) -> MemoryStore:
    store = MemoryStore(on={"put": answers})
    store.create_bucket("ledger")
    return store


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


async def test_the_same_bytes_are_an_earlier_try() -> None:
    store = losing(answers := LostAnswers())
    await write_file(store, PLACE, NAME, b"1")
    assert answers.requests == 2
    assert await read_file(store, PLACE, NAME) == b"1"


async def test_other_bytes_are_never_replaced() -> None:
    store = losing(LostAnswers(0))
    assert [await write_once(store, PLACE, NAME, data) for data in (b"1", b"2", b"1")] == [True, False, True]
    with pytest.raises(PreconditionFailed):
        await write_file(store, PLACE, NAME, b"2")
    assert await read_file(store, PLACE, NAME) == b"1"


async def test_one_try_is_one_request() -> None:
    store = losing(answers := LostAnswers())
    with pytest.raises(Unavailable):
        await write_file(store, PLACE, NAME, b"1", tries=once)
    assert answers.requests == 1


async def test_a_listing_goes_over_all_pages() -> None:
    store = losing(LostAnswers(0))
    names = [f"{number:04d}.json" for number in range(1003)]
    for name in names:
        await write_file(store, PLACE, f"told/{name}", b"{}")
    await write_file(store, PLACE, "runs/x", b"{}")
    assert await list_names(store, PLACE.join("told/")) == names
    assert [entry.key async for entry in list_files(store, PLACE.join("told/1"))] == [
        "here/told/1000.json",
        "here/told/1001.json",
        "here/told/1002.json",
    ]
