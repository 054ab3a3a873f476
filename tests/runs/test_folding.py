"""The fold in DuckDB takes the same outcome as the fold in `core`, and counts each row once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import GOOD, Evidence, Outcome, Status, fold
from jobs.core.run import Plan, ShardSummary
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.runs.folding import Folded, ReasonCount, _add_shapes, fold_run
from jobs.tables.rows import manifest_schema, shard_schema, write_outcomes, write_parquet
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore

ROWS = 6
KEYS = [f"k{row}" for row in range(ROWS)]
PLAN = Plan(ROWS, 0, (ShardSummary(ROWS, 0),))

attempts = st.lists(
    st.lists(
        st.builds(
            Outcome,
            row=st.integers(0, ROWS - 1),
            key=st.just("k"),
            version_id=st.none(),
            status=st.sampled_from(Status),
            reason=st.sampled_from(["", "why"]),
            evidence=st.sampled_from(Evidence),
            size_bytes=st.integers(0, 9),
            destination_etag=st.sampled_from(["d1", "d2"]),
            finished_at=st.sampled_from([1.0, 2.5]),
            attempt=st.sampled_from(["a", "b"]),
        ),
        max_size=5,
        unique_by=lambda outcome: outcome.row,  # as a worker writes them
    ),
    max_size=4,
)


async def folded(checkpoints: list[list[Outcome]], keys: Sequence[str] = KEYS, prefix: str = "") -> Folded:
    store = MemoryStore()
    store.create_bucket("ledger")
    ledger = Ledger(store, Location("ledger", "here"))
    rows = [ObjectVersion(row, key, f"v{row}", etag="e") for row, key in enumerate(keys)]
    names = shard_schema().names
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    import pyarrow as pa

    await ledger.write_shard("run", 0, write_parquet(pa.table(columns, schema=shard_schema())))
    for number, outcomes in enumerate(checkpoints):
        if outcomes:
            bad_rows = sum(each.status not in GOOD for each in outcomes)
            checkpoint = Checkpoint(0, "attempt", number, len(outcomes), bad_rows, 0)
            await ledger.write_checkpoint("run", checkpoint, write_outcomes(outcomes))
    return await fold_run(ledger, "run", PLAN, prefix)


@settings(deadline=None, max_examples=examples(10))
@given(attempts)
def test_both_folds_agree(checkpoints: list[list[Outcome]]) -> None:
    expected = fold(outcome for outcomes in checkpoints for outcome in outcomes)
    result = asyncio.run(folded(checkpoints))
    counted: dict[str, int] = {}
    for outcome in expected.values():
        counted[outcome.status] = counted.get(outcome.status, 0) + 1
    assert result.rows == len(expected)
    assert result.outcomes == counted
    bad = {row: outcome for row, outcome in expected.items() if outcome.status not in GOOD}
    assert result.failures == len(bad)
    if bad:
        failures = pq.read_table(io.BytesIO(result.failures_parquet))
        assert set(manifest_schema().names) <= set(failures.schema.names)
        assert failures["key"].to_pylist() == [f"k{row}" for row in sorted(bad)]
        condemned = failures["condemned_etag"].to_pylist()
        assert [etag is not None for etag in condemned] == [bad[row].status is Status.MISMATCHED for row in sorted(bad)]


def test_a_mismatch_condemns_exactly_the_etag_that_was_seen() -> None:
    outcome = Outcome(
        3, "k", None, Status.MISMATCHED, "MD5 differs", destination_etag="d7", finished_at=1.0, attempt="a"
    )
    result = asyncio.run(folded([[outcome]]))
    [row] = pq.read_table(io.BytesIO(result.failures_parquet)).to_pylist()
    assert (row["key"], row["condemned_etag"], row["reason"]) == ("k3", "d7", "MD5 differs")
    assert b"MD5 differs" in result.failures_csv


def test_a_damaged_source_condemns_no_copy_and_is_named_by_its_etag() -> None:
    damaged = Outcome(
        3, "k", None, Status.DAMAGED, "why", etag="e9", destination_etag="d7", finished_at=1.0, attempt="a"
    )
    mismatched = damaged._replace(status=Status.MISMATCHED, attempt="b")
    result = asyncio.run(folded([[mismatched], [damaged]]))
    [row] = pq.read_table(io.BytesIO(result.failures_parquet)).to_pylist()
    assert (row["condemned_etag"], row["etag"], row["damaged_etag"]) == (None, "e9", "e9")
    assert ObjectVersion(0, **{name: row[name] for name in manifest_schema().names}).is_found_damaged


def test_failed_versions_of_a_key_stand_as_in_a_listing_the_newest_first() -> None:
    """Where their times are equal a retry took them the other way round: a deletion ended over what came after it."""
    failed = [
        Outcome(row, "", None, Status.FAILED, "why", finished_at=1.0, attempt="a") for row in range(ROWS) if row != 3
    ]
    result = asyncio.run(folded([failed], ["b", "b", "b", "a", "a", "c"]))
    failures = pq.read_table(io.BytesIO(result.failures_parquet))
    assert failures["version_id"].to_pylist() == ["v2", "v1", "v0", "v4", "v5"]


def _fold_failed(reasons: Sequence[str], keys: Sequence[str], prefix: str = "") -> Folded:
    failed = [
        Outcome(row, key, f"version-{row}", Status.FAILED, why, etag=f"{row:032x}", finished_at=1.0, attempt="a")
        for row, (key, why) in enumerate(zip(keys, reasons, strict=True))
    ]
    return asyncio.run(folded([failed], [*keys, "k", "k", "k", "k"], prefix))


def _failed(reasons: Sequence[str], keys: Sequence[str], prefix: str = "") -> list[ReasonCount]:
    return _fold_failed(reasons, keys, prefix).reasons


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (
            "HeadObject s3://dst/copies/a b: SlowDown: Please 1",
            "HeadObject s3://dst/copies/c: d: SlowDown: Please 2",
            "SlowDown on HeadObject s3://dst/…: Please …",
        ),
        (
            'AccessDenied on resource "arn:aws:s3:::dst/in/a b" of 77 bytes',
            'AccessDenied on resource "arn:aws:s3:::dst/in/c: d" of 8 bytes',
            'AccessDenied on resource "arn:aws:s3:::dst/…" of … bytes',
        ),
        ("no: <Key>in/a%20b</Key>", "no: <Key>in/c%3A%20d</Key>", "no: <Key>…</Key>"),
        ("no: <Key>in/a+b</Key>", "no: <Key>in/c%3A+d</Key>", "no: <Key>…</Key>"),
        ("no: <Key>in%2Fa%20b</Key>", "no: <Key>in%2Fc%3A%20d</Key>", "no: <Key>…</Key>"),
        (f"had {0:032x}, version-0 has {5:032x}-12", f"had {1:032x}, version-1 has {6:032x}", "had …, … has …"),
        ("retained until 2026-01-01T00:00:00Z", "retained until 2027-02-01T00:00:00Z", "retained until …"),
    ],
)
def test_reasons_that_differ_in_what_is_the_rows_own_are_one(one: str, other: str, reason: str) -> None:
    keys = ["in/a b", "in/c: d"]
    assert _failed([one, other], keys, "in/") == [ReasonCount("failed", reason, 2, keys[0], keys)]


def test_a_listed_failure_has_its_own_reason() -> None:
    """The page said "size differs: … bytes at the source, … at the destination" of each row."""
    reasons = [f"size differs: {size} bytes at the source, 24 at the destination" for size in (7, 8)]
    result = _fold_failed(reasons, ["a", "b"])
    assert [(row["key"], row["reason"]) for row in result.listed] == list(zip(["a", "b"], reasons, strict=True))
    shape = "size differs: … bytes at the source, … at the destination"
    assert result.reasons == [ReasonCount("failed", shape, 2, "a", ["a", "b"])]


def test_a_reason_that_all_rows_share_stays_as_it_is_and_others_stay_apart() -> None:
    kept = "in the grace period: written less than 30 days ago, SHA256 and s3://cold/ agree"
    assert _failed([kept, kept], ["a", "s"]) == [ReasonCount("failed", kept, 2, keys=["a", "s"])]
    both = _failed(["MD5 differs", "SHA256 differs"], ["a", "D"])
    assert both == [
        ReasonCount("failed", "MD5 differs", 1, keys=["a"]),
        ReasonCount("failed", "SHA256 differs", 1, keys=["D"]),
    ]


def test_a_reason_names_the_keys_of_its_first_five_rows_once() -> None:
    """Two rows are versions of one key."""
    keys = ["a", "a", "b", "c", "d", "e"]
    rows = [
        Outcome(row, key, f"version-{row}", Status.FAILED, "gone", finished_at=1.0, attempt="a")
        for row, key in enumerate(keys)
    ]
    (counted,) = asyncio.run(folded([rows], keys)).reasons
    assert (counted.rows, counted.keys) == (6, ["a", "b", "c", "d"])


def test_the_sql_of_a_shape_has_the_reason_once() -> None:
    """Each step had the one before it twice: 300,000 characters, which took DuckDB 0.7 s of each report."""
    connection = duckdb.connect()
    names = ("key", "version_id", "etag", "destination_etag", "destination_version_id", "reason", "detail")
    columns = [f"'' AS {each}" for each in names]
    connection.execute(f"CREATE TABLE folded AS SELECT {', '.join(columns)}")
    _add_shapes(connection, "docs/")
    [(sql,)] = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'shaped'").fetchall()
    assert sql.count("reason") == 1
