"""The summary of a night in the ledger: the first writer decides, and what Sealift does not write is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import json, to_builtins

from jobs.errors import LedgerError
from jobs.nights.summary import Night, Summary, ended_nights, last_summary
from tests.doubles.ledgers import make_ledger
from tests.doubles.nights import summary

SUMMARY = summary(pair="p")


def test_the_first_summary_of_a_night_counts() -> None:
    async def write(night: Night) -> Summary | None:
        assert await night.read() is None
        for code in (3, 0):
            await night.write(".json", json.encode(to_builtins(SUMMARY) | {"exit_code": code}))
        return await night.read()

    first = asyncio.run(write(Night(make_ledger(), "p", "2026-11-25")))
    assert first is not None
    assert first.exit_code == 3


def test_a_file_whose_name_is_no_day_is_named() -> None:
    night = Night(make_ledger(), "p", "2026-02-30")
    asyncio.run(night.write(".json", json.encode(to_builtins(SUMMARY) | {"night": "2026-02-30"})))
    with pytest.raises(LedgerError, match=r"nights/p/2026-02-30\.json"):
        asyncio.run(last_summary(night.ledger, "p"))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document | {"exit_code": -1},
        lambda document: {name: value for name, value in document.items() if name != "known"},
        lambda document: document | {"night_version": 99},
        lambda document: document | {"night": "2026-11-26"},
    ],
)
def test_a_document_that_was_altered_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    async def read(night: Night, document: Any) -> Summary | None:
        await night.write(".json", json.encode(document))
        return await night.read()

    document = to_builtins(SUMMARY)
    found = asyncio.run(read(Night(make_ledger(), "p", "2026-11-25"), document | {"added_later": 1}))
    assert json.encode(found) == json.encode(SUMMARY)
    with pytest.raises(LedgerError, match=r"nights/p/2026-11-25\.json"):
        asyncio.run(read(Night(make_ledger(), "p", "2026-11-25"), change(document)))


def test_nights_come_the_latest_first_and_a_second_check_after_the_first() -> None:
    place = make_ledger()
    labels = ["2026-11-25", "2026-11-24", "2026-11-25-02", "2026-11-25-100", "2026-11-25-99", "2026-11-26"]

    async def write() -> list[str]:
        for label in labels:
            await Night(place, "p", label).write(".json", json.encode(to_builtins(SUMMARY) | {"night": label[:10]}))
        await Night(place, "p", "2026-11-25/claims/1").write(".json", b"{}")
        await Night(place, "q", "2026-11-27").write(".json", b"{}")
        return [night.label for night in await ended_nights(place, "p", before="2026-11-25~")]

    assert asyncio.run(write()) == [labels[3], labels[4], labels[2], labels[0], labels[1]]
    last = asyncio.run(last_summary(place, "p"))
    assert last is not None
    assert last.night == "2026-11-26"
