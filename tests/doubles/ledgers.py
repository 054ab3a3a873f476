"""Ledgers in memory."""

from __future__ import annotations

from typing import Any

from jobs.core.model import Location
from jobs.ledger.ledger import Ledger
from tests.doubles.memory_store import MemoryStore


def make_ledger(prefix: str = "", **store: Any) -> Ledger:
    """An empty ledger. `store`: settings of its MemoryStore."""
    return Ledger(MemoryStore(**store, buckets=["ledger"]), Location("ledger", prefix))
