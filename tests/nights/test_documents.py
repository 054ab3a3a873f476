"""The documents of a night: the first writer decides, and what Sealift does not write is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from msgspec import json, to_builtins

from jobs.core.model import Attributes, Location
from jobs.errors import LedgerError
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import Claim, Night, StageResult
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore

CLAIM = Claim(night="2026-11-25", began_at=1.0, margin_seconds=None, slice=(1, 30), deep=None, places=[])


def night() -> Night:
    store = MemoryStore()
    store.create_bucket("ledger")
    return Night(Ledger(store, Location("ledger")), "p", date(2026, 11, 25))


def test_the_first_writer_of_a_document_decides() -> None:
    async def write(place: Night) -> None:
        first, second = StageResult(stage="repair", run_id="a"), StageResult(stage="repair", refused="too dear")
        assert await place.read("/repair-1.json", StageResult) is None
        assert await place.write("/repair-1.json", first) == first
        assert await place.write("/repair-1.json", second) == first

    asyncio.run(write(night()))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document | {"margin_seconds": -1},
        lambda document: {name: value for name, value in document.items() if name != "places"},
        lambda document: document | {"night_version": 99},
    ],
)
def test_a_document_that_was_altered_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    async def read(place: Night, document: Any) -> Claim | None:
        name = f"{place.name}/claim.json"
        await place.ledger.store.put("ledger", name, json.encode(document), Attributes(), guard=UNGUARDED)
        return await place.read("/claim.json", Claim)

    document = to_builtins(CLAIM)
    assert asyncio.run(read(night(), document | {"added_later": 1})) == CLAIM
    with pytest.raises(LedgerError, match=r"nights/p/2026-11-25/claim\.json"):
        asyncio.run(read(night(), change(document)))
