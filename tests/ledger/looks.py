"""Verdicts for tests, in short."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.ledger.ledger import Ledger
from jobs.ledger.state import DEPTHS, VERDICT_TYPES
from jobs.ledger.state_files import write_delta

BEGAN = 1_800_000_000
SCHEMA = pa.schema(
    [(name, pa.string() if kind == "VARCHAR" else pa.timestamp("us", "UTC")) for name, kind in VERDICT_TYPES.items()]
)


class Seen(NamedTuple):
    """A verdict about a key's object and its copy. Times are seconds after the beginning."""

    verdict: str
    at: int
    depth: str | None = "stored"
    code: str = ""
    version_id: str | None = None
    etag: str | None = "e"
    modified: int | None = 0
    copy_id: str | None = None
    copy_etag: str | None = "e"
    copy_modified: int | None = 1
    run_id: str = "run"
    key: str = "key"
    detail: str = ""

    @property
    def strength(self) -> int:
        return DEPTHS.index(self.depth) if self.depth else -1

    @property
    def copy(self) -> tuple[object, ...]:
        return self.copy_id, self.copy_etag, self.copy_modified

    @property
    def order(self) -> tuple[object, ...]:
        return self.at, self.strength, self.code, self.run_id


def verdicts(*all_seen: Seen) -> pa.Table:
    def time(seconds: int | None) -> datetime | None:
        return None if seconds is None else datetime.fromtimestamp(BEGAN + seconds, UTC)

    rows = [
        {
            "source_service": "", "source_bucket": "originals", "key": each.key, "version_id": each.version_id,
            "etag": each.etag, "modified": time(each.modified), "copy_service": "", "copy_bucket": "copies",
            "copy_key": each.key, "copy_version_id": each.copy_id, "copy_etag": each.copy_etag,
            "copy_modified": time(each.copy_modified), "at": time(each.at), "depth": each.depth,
            "verdict": each.verdict, "code": each.code, "detail": each.detail, "run_id": each.run_id,
        }
        for each in all_seen
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SCHEMA)


async def tell(ledger: Ledger, name: str, *seen: Seen) -> None:
    """Add verdicts to the ledger's state, as a run of this name does."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "delta.parquet")
        pq.write_table(verdicts(*sorted(seen, key=lambda each: each.key)), path)
        await write_delta(ledger, name, path)
