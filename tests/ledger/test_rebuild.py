"""The catalog beside damaged outcomes: the other files count, and what these may have disproved does not."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.core.model import ObjectRef
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import LedgerError
from jobs.ledger.catalog import Generation, rebuild_catalog
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.tables.rows import shard_schema, write_outcomes, write_parquet
from tests.ledger.test_damaged_files import overwrite
from tests.ledger.test_views import ask, ledger

BEGINNING = 1_800_000_000
LATER = itertools.count(BEGINNING + 1_000_000)


class Ran(NamedTuple):
    """A complete run of one shard."""

    run_id: str
    outcomes_name: str
    shard_name: str


def run(made: Ledger, hour: int, *found: tuple[str, Status], evidence: Evidence = Evidence.CHECKSUM) -> Ran:
    """Write a verification that began at an hour, took one, and found this of keys."""
    run_id, began = f"20270115T{hour:02d}0000Z-verify-00000{hour}", BEGINNING + 3600 * hour
    spec = {
        "job": "verify",
        "created_at": began,
        "source": {"uri": "s3://originals"},
        "destination": {"uri": "s3://copies"},
    }
    report = {"state": "complete", "rows": len(found), "failures": 0, "seconds": 3600.0}
    outcomes = [
        Outcome(
            row, key, "v1", status, "", evidence, 1, "e1", finished_at=began + 3600.0 * (row + 1) / len(found),
            attempt="a"
        )
        for row, (key, status) in enumerate(found)
    ]  # fmt: skip
    bad_rows = sum(status is not Status.VERIFIED for _, status in found)
    rows = [
        {"row": row, "key": key, "version_id": "v1", "etag": "e1", "is_latest": True, "is_delete_marker": False}
        for row, (key, _) in enumerate(found)
    ]
    checkpoint = Checkpoint(0, "a", 0, len(found), bad_rows, len(found))
    ran = Ran(run_id, f"runs/{run_id}/outcomes/00000/{checkpoint.name}", f"runs/{run_id}/shards/00000.parquet")
    overwrite(made, f"runs/{run_id}/spec.json", json.dumps(spec).encode())
    overwrite(made, f"runs/{run_id}/report.json", json.dumps(report).encode())
    overwrite(made, ran.outcomes_name, write_outcomes(outcomes))
    overwrite(made, ran.shard_name, write_parquet(pa.Table.from_pylist(rows, shard_schema())))
    return ran


def rebuild(made: Ledger) -> tuple[Generation, list[tuple[str, str]]]:
    """Rebuild the catalog. Returns the key and the run of each proof in it."""
    generation = asyncio.run(rebuild_catalog(made, float(next(LATER))))
    rows = ask(made, "SELECT key, run_id FROM catalog ORDER BY key, run_id")
    assert generation.rows == len(rows)
    return generation, [(row["key"], row["run_id"]) for row in rows]


def read(made: Ledger, ran: Ran) -> bytes:
    return asyncio.run(made.store.get(ObjectRef("ledger", f"here/{ran.outcomes_name}"))).data


@pytest.mark.parametrize("kind", ["cut", "lacking"])
def test_a_damaged_file_with_good_outcomes_leaves_the_proofs_of_other_runs(kind: str) -> None:
    made = ledger()
    first = run(made, 1, ("a", Status.VERIFIED), ("b", Status.VERIFIED))
    second = run(made, 3, ("b", Status.VERIFIED), ("c", Status.VERIFIED))
    data = read(made, second)
    lacking = write_parquet(pq.read_table(io.BytesIO(data)).drop_columns(["status"]))
    overwrite(made, second.outcomes_name, lacking if kind == "lacking" else data[:100])
    generation, proofs = rebuild(made)
    assert proofs == [("a", first.run_id), ("b", first.run_id)]
    [(place, reason, _)] = generation.damaged
    assert (str(place), bool(reason)) == (f"s3://ledger/here/{second.outcomes_name}", True)


def test_files_with_other_kinds_of_damage_are_all_left_out() -> None:
    made = ledger()
    first = run(made, 1, ("a", Status.VERIFIED))
    for hour, data in ((3, b""), (5, write_parquet(pa.table({"row": [0]})))):
        overwrite(made, run(made, hour, ("a", Status.VERIFIED)).outcomes_name, data)
    generation, proofs = rebuild(made)
    assert (len(generation.damaged), proofs) == (2, [("a", first.run_id)])


def test_what_damaged_outcomes_may_have_disproved_is_not_in_the_catalog() -> None:
    made = ledger()
    first = run(made, 1, ("a", Status.VERIFIED), ("b", Status.VERIFIED), ("c", Status.VERIFIED))
    wrong = run(made, 3, ("b", Status.MISMATCHED), ("c", Status.VERIFIED))
    overwrite(made, wrong.outcomes_name, b"")
    assert rebuild(made)[1] == [("a", first.run_id)]
    run(made, 5, ("b", Status.VERIFIED))  # says nothing against what bytes may have shown
    assert rebuild(made)[1] == [("a", first.run_id)]
    last = run(made, 7, ("b", Status.VERIFIED), evidence=Evidence.CONTENT)
    assert rebuild(made)[1] == [("a", first.run_id), ("b", last.run_id)]


def retyped(name: str, kind: pa.DataType, values: list[Any] | None = None) -> Callable[[pa.Table], pa.Table]:
    """What gives a table's column another type, and other values."""

    def change(table: pa.Table) -> pa.Table:
        column = table[name].cast(kind) if values is None else pa.array(values, kind)
        return table.set_column(table.schema.get_field_index(name), name, column)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda table: table.slice(0, 0), id="no rows"),
        pytest.param(lambda table: table.slice(1), id="some rows"),
        pytest.param(lambda table: table.append_column("filename", table["key"]), id="another column"),
        retyped("finished_at", pa.int64()),
        retyped("finished_at", pa.string(), ["x", "y"]),
        retyped("finished_at", pa.timestamp("us", "UTC"), [None, None]),
        retyped("key", pa.binary()),
        retyped("status", pa.string(), [None, None]),
        lambda table: retyped("status", pa.string(), ["Mismatched", "verified"])(table).cast(table.schema),
    ],
)
def test_altered_outcomes_with_a_disproof_void_what_they_may_have_disproved(
    change: Callable[[pa.Table], pa.Table],
) -> None:
    made = ledger()
    first = run(made, 1, ("a", Status.VERIFIED), ("b", Status.VERIFIED))
    wrong = run(made, 3, ("b", Status.MISMATCHED), ("c", Status.VERIFIED))
    overwrite(made, wrong.outcomes_name, write_parquet(change(pq.read_table(io.BytesIO(read(made, wrong))))))
    generation, proofs = rebuild(made)
    assert proofs == [("a", first.run_id)]
    assert [str(each.location) for each in generation.damaged] == [f"s3://ledger/here/{wrong.outcomes_name}"]


def test_outcomes_whose_name_hides_a_disproof_void_it_all_the_same() -> None:
    made = ledger()
    first = run(made, 1, ("a", Status.VERIFIED), ("b", Status.VERIFIED))
    wrong = run(made, 3, ("b", Status.MISMATCHED), ("c", Status.VERIFIED))
    disproof = read(made, wrong)
    asyncio.run(made.store.delete("ledger", f"here/{wrong.outcomes_name}"))
    overwrite(made, wrong.outcomes_name.replace("-2-1-2", "-2-0-2"), disproof)
    generation, proofs = rebuild(made)
    assert (proofs, len(generation.damaged)) == ([("a", first.run_id)], 1)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 1e300, 1e15, None])
def test_a_run_that_ended_nobody_knows_when_voids_at_any_time(seconds: float | None) -> None:
    made = ledger()
    wrong = run(made, 3, ("b", Status.MISMATCHED))
    later = run(made, 5, ("a", Status.VERIFIED), ("b", Status.VERIFIED), evidence=Evidence.CONTENT)
    overwrite(made, wrong.outcomes_name, b"")
    report = {"state": "complete", "rows": 1, "failures": 1, "seconds": seconds}
    overwrite(made, f"runs/{wrong.run_id}/report.json", json.dumps(report).encode())
    assert rebuild(made)[1] == [("a", later.run_id)]


def test_nothing_is_written_where_nobody_knows_what_may_be_disproved() -> None:
    made = ledger()
    run(made, 1, ("a", Status.VERIFIED))
    wrong = run(made, 3, ("a", Status.MISMATCHED))
    overwrite(made, wrong.outcomes_name, b"")
    overwrite(made, wrong.shard_name, b"")
    with pytest.raises(LedgerError, match=rf"{wrong.shard_name} cannot be read"):
        rebuild(made)
    assert ask(made, "SELECT * FROM catalog") == []
