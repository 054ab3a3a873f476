"""Ledgers in memory."""

from __future__ import annotations

from typing import Any

from jobs.core.model import Location
from jobs.ledger.files import REPLACED_ALWAYS, REPLACED_BY_ETAG
from jobs.ledger.ledger import Ledger
from tests.doubles.memory_store import MemoryStore

_FOLDERS = ["runs", "tombstones", "state", "nights", "drills"]
_FOLDERS += ["journal", "backlog", "manifests", "starts", "told", "thawing"]
LEDGER_FILES = [*(f"{folder}/*" for folder in _FOLDERS), REPLACED_BY_ETAG, *REPLACED_ALWAYS]
"""All that a ledger holds, as patterns."""


def make_ledger(prefix: str = "", **store: Any) -> Ledger:
    """An empty ledger. `store`: settings of its MemoryStore."""
    return Ledger(MemoryStore(**store, buckets=["ledger"]), Location("ledger", prefix))
