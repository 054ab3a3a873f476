"""What is left of a comparison's findings by now."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.errors import LedgerError
from jobs.ledger.ledger import DIFFERENCES
from jobs.reconcile.findings import first_findings
from jobs.reconcile.since_then import find_repaired
from jobs.reports.document import iso_time
from tests.doubles.ledgers import make_ledger
from tests.ledger.looks import BEGAN, Seen, tell

SPEC = RunSpec("r", "reconcile", 0.0, Side(Location("originals")), Side(Location("copies")), "m", {})
FOUND = ("gone", "late", "mended")
COUNTS = {"missing": {"rows": 3}, "unverifiable": {"rows": 1}}
REPORT = {"finished_at": iso_time(BEGAN + 20.0), "findings": 3, "categories": COUNTS}
MISSING = Seen("bad", 10, "listed", "copy_missing", copy_etag=None, copy_modified=None)
SEEN = [MISSING._replace(key=key) for key in FOUND]
SEEN += [Seen("unknown", 30, code="source_gone", key="gone"), Seen("good", 30, key="mended", copy_modified=25)]


@pytest.mark.parametrize(("run_id", "counts"), [("r", (2, 1)), ("another", (0, 3))])
def test_what_the_state_has_no_finding_of_is_repaired_or_gone(
    tmp_path: Path, *, run_id: str, counts: tuple[int, ...]
) -> None:
    """All are left if the state does not know the comparison."""
    ledger, file = make_ledger(), tmp_path / "differences.parquet"
    rows = [{"key": key, "destination_key": key, "category": "missing", "is_finding": True} for key in FOUND]
    rows.append({"key": "kms", "destination_key": "kms", "category": "unverifiable", "is_finding": False})
    pq.write_table(pa.Table.from_pylist(rows).append_column("version_id", pa.nulls(4, pa.string())), file)
    asyncio.run(ledger.write_file("r", DIFFERENCES, file, "application/vnd.apache.parquet"))
    asyncio.run(tell(ledger, run_id, *SEEN))
    repaired, left = asyncio.run(find_repaired(ledger, SPEC, REPORT, tmp_path))
    by_category = {"missing": dict(zip(("repaired", "left"), counts, strict=True))}
    assert repaired == {"rows": counts[0], "left": counts[1], "categories": by_category}
    assert [each["key"] for each in first_findings(left)] == (["late"] if run_id == "r" else [*FOUND])


def test_a_damaged_file_of_differences_is_named(tmp_path: Path) -> None:
    ledger = make_ledger()
    asyncio.run(ledger.write_file("r", DIFFERENCES, b"half", "application/vnd.apache.parquet"))
    asyncio.run(tell(ledger, "r", *SEEN))
    with pytest.raises(LedgerError, match=rf"runs/r/{DIFFERENCES} cannot be read"):
        asyncio.run(find_repaired(ledger, SPEC, REPORT, tmp_path))
