"""Writes below the ledger: each asks the table whether it may replace anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.core.enums import Step
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import PreconditionFailed
from jobs.ledger.files import REPLACED_ALWAYS, REPLACED_BY_ETAG, ledger_guard
from jobs.ledger.tombstones import Tombstone, Tombstones
from jobs.s3.store import ABSENT, UNGUARDED, Guard
from tests.doubles.ledgers import LEDGER_FILES
from tests.doubles.memory_store import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
WRITES = re.compile(r"\bguard=(?!guard\b|ledger_guard\(|self\.guard\b)")
NOT_THE_LEDGER = {
    "jobs/doctor/probe.py": "the object of a probe, at a source",
    "jobs/expire/places.py": "documents of places",
    "jobs/inventory/write.py": "an inventory report, where the user asked for it",
    "jobs/restore/job.py": "restored members",
    "jobs/s3/condition_trial.py": "the objects of a trial",
    "jobs/s3/gated_store.py": "what other modules write at a destination",
    "jobs/s3/multipart_copy.py": "copies in parts",
}
"""Modules that write somewhere else than to the ledger."""


@pytest.mark.parametrize("pattern", [*LEDGER_FILES, "something/new.json"])
def test_the_guard_is_the_tables(pattern: str) -> None:
    name = pattern.replace("*", "a/b")
    assert ledger_guard(name) == (UNGUARDED if pattern in REPLACED_ALWAYS else ABSENT)
    if pattern == REPLACED_BY_ETAG:
        assert ledger_guard(name, "etag") == Guard(etag="etag")
    else:
        with pytest.raises(ValueError, match="never replaced"):
            ledger_guard(name, "etag")


def test_no_module_that_writes_to_the_ledger_chooses_a_guard_of_its_own() -> None:
    found: dict[str, list[str]] = {}
    for path in [*(ROOT / "jobs").rglob("*.py"), *(ROOT / "scheduler").rglob("*.py")]:
        name = str(path.relative_to(ROOT))
        if name not in ("jobs/s3/store.py", "jobs/ledger/files.py") and not name.startswith("jobs/local/"):
            lines = [line for line in path.read_text().splitlines() if WRITES.search(line) or "UNGUARDED" in line]
            found |= {name: lines} if lines else {}
    assert set(found) == set(NOT_THE_LEDGER), found


TOMBSTONE = Tombstone(0, "key", "v1", "e", 1, 1.0, Step.HIDE, "s3://b/k", None, None, "content")


async def test_a_tombstone_that_somebody_else_has_written_is_not_replaced() -> None:
    store = MemoryStore()
    store.create_bucket("ledger")
    stones = Tombstones(store, Location("ledger"), "source", "run")
    name = await stones.announce([TOMBSTONE])
    forged = f"tombstones/source/run/{name}-done.parquet"
    await store.put(ObjectRef("ledger", forged), b"forged", Attributes(), guard=ABSENT)
    with pytest.raises(PreconditionFailed):
        await stones.confirm(name, [TOMBSTONE])
