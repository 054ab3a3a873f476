"""What is left of a comparison's findings by now."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.ledger.state import STATE_TYPES
from jobs.reconcile.since_then import _repaired
from tests.doubles import one_duckdb

SPEC = RunSpec("r", "reconcile", 0.0, Side(Location("originals")), Side(Location("copies")), "m", {})
FOUND = ("gone", "late", "mended")


@pytest.mark.parametrize(("knows", "counts"), [(True, (2, 1)), (False, (0, 3))])
def test_what_the_state_has_no_finding_of_is_repaired_or_gone(
    tmp_path: Path, *, knows: bool, counts: tuple[int, ...]
) -> None:
    differences = tmp_path / "differences.parquet"
    names = {"version_id": None, "category": "missing", "reason": "copy_missing", "detail": "", "is_finding": True}
    rows = [{"key": key, "destination_key": key, **names} for key in FOUND]
    schema = pa.schema([(name, pa.string()) for name in rows[0] if name != "is_finding"] + [("is_finding", pa.bool_())])
    pq.write_table(pa.Table.from_pylist(rows, schema), differences)
    with one_duckdb.connect_unlocked(":memory:") as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in STATE_TYPES.items())
        connection.execute(f"CREATE TABLE findings ({columns})")
        connection.execute(
            "INSERT INTO findings (source_bucket, copy_bucket, key, copy_key, finding, found_depth, blocked) VALUES "
            "('originals', 'copies', 'gone', 'gone', 'copy_missing', 'listed', 'source_gone'), "
            "('originals', 'copies', 'late', 'late', 'copy_missing', 'listed', NULL)"
        )
        repaired, left = _repaired(connection, SPEC, differences, knows)
    assert (repaired["rows"], repaired["left"]) == counts
    assert [each["key"] for each in left] == (["late"] if knows else [*FOUND])
