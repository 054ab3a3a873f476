"""The fold in DuckDB takes the same outcome as the fold in `core`, and counts each row once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import GOOD, Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.errors import LedgerError
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.views import open_views
from jobs.runs import folding
from jobs.runs.folding import Folded, fold_run, write_late_verdicts
from jobs.runs.progress import RunProgress, find_progress
from jobs.tables.rows import batch_of, manifest_schema, shard_schema, write_outcomes, write_parquet
from tests.doubles.examples import examples
from tests.doubles.ledgers import make_ledger
from tests.doubles.plain_fold import fold

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
            reason=st.sampled_from(["", Reason.RACED]),
            evidence=st.sampled_from(Evidence),
            size_bytes=st.integers(0, 9),
            destination_etag=st.sampled_from(["d1", "d2"]),
            source_modified=st.none(),
            copy_modified=st.none(),
            at=st.sampled_from([1.0, 2.5]),
            attempt=st.sampled_from(["a", "b"]),
        ),
        max_size=5,
        unique_by=lambda outcome: outcome.row,  # as a worker writes them
    ),
    max_size=4,
)


async def fold_of(checkpoints: list[list[Outcome]], keys: Sequence[str] = KEYS) -> Folded:
    return await folded(await written(checkpoints, keys))


async def folded(ledger: Ledger, spec: RunSpec | None = None) -> Folded:
    return await fold_run(ledger, "run", PLAN, await ledger.checkpoints("run", plan=PLAN), spec)


async def written(checkpoints: list[list[Outcome]], keys: Sequence[str] = KEYS) -> Ledger:
    ledger = make_ledger("here")
    rows = [ObjectVersion(row, key, f"v{row}", etag="e") for row, key in enumerate(keys)]
    await ledger.write_shard("run", 0, write_parquet(batch_of(rows, ObjectVersion._fields, shard_schema())))
    for number, outcomes in enumerate(checkpoints):
        if outcomes:
            bad_rows = sum(each.status not in GOOD for each in outcomes)
            checkpoint = Checkpoint(0, "attempt", number, len(outcomes), bad_rows, 0)
            await ledger.write_checkpoint("run", checkpoint, write_outcomes(outcomes))
    return ledger


@settings(deadline=None, max_examples=examples(10))
@given(attempts)
def test_both_folds_agree(checkpoints: list[list[Outcome]]) -> None:
    expected = fold(outcome for outcomes in checkpoints for outcome in outcomes)
    result = asyncio.run(fold_of(checkpoints))
    counted: dict[str, int] = {}
    for outcome in expected.values():
        counted[outcome.status] = counted.get(outcome.status, 0) + 1
    assert result.rows == len(expected)
    assert result.sums["outcomes"] == counted
    bad = {row: outcome for row, outcome in expected.items() if outcome.status not in GOOD}
    assert bool(result.failures_parquet) == bool(bad)
    if bad:
        failures = pq.read_table(io.BytesIO(result.failures_parquet))
        assert set(manifest_schema().names) <= set(failures.schema.names)
        assert failures["key"].to_pylist() == [f"k{row}" for row in sorted(bad)]
        condemned = failures["condemned_etag"].to_pylist()
        assert [etag is not None for etag in condemned] == [bad[row].status is Status.DIFFERENT for row in sorted(bad)]


def test_progress_names_the_row_that_ended_badly_last() -> None:
    first = Outcome(0, "k0", None, Status.BLOCKED, Reason.DENIED, at=1.0, attempt="a")
    last = Outcome(3, "k3", None, Status.DIFFERENT, Reason.SIZE_DIFFERS, at=3.0, attempt="a")
    good = Outcome(4, "k4", None, Status.DONE, at=4.0, attempt="a")

    async def look() -> RunProgress:
        return await find_progress(await written([[first], [last, good]]), "run", PLAN)

    assert asyncio.run(look()) == (3, 2, 0, "k3: the sizes differ")


def test_a_mismatch_condemns_exactly_the_etag_that_was_seen() -> None:
    outcome = Outcome(3, "k", None, Status.DIFFERENT, Reason.SIZE_DIFFERS, destination_etag="d7", at=1.0, attempt="a")
    result = asyncio.run(fold_of([[outcome]]))
    [row] = pq.read_table(io.BytesIO(result.failures_parquet)).to_pylist()
    assert (row["key"], row["condemned_etag"], row["reason"]) == ("k3", "d7", Reason.SIZE_DIFFERS)
    assert b"the sizes differ" in result.failures_csv


def test_a_damaged_source_condemns_no_copy_and_is_named_by_its_etag() -> None:
    damaged = Outcome(
        3, "k", None, Status.DAMAGED, Reason.DAMAGED, etag="e9", destination_etag="d7", at=1.0, attempt="a"
    )
    mismatched = damaged._replace(status=Status.DIFFERENT, attempt="b")
    result = asyncio.run(fold_of([[mismatched], [damaged]]))
    [row] = pq.read_table(io.BytesIO(result.failures_parquet)).to_pylist()
    assert (row["condemned_etag"], row["etag"], row["damaged_etag"]) == (None, "e9", "e9")


def test_failed_versions_of_a_key_stand_as_in_a_listing_the_newest_first() -> None:
    """Where their times are equal a retry took them the other way round: a deletion ended over what came after it."""
    failed = [
        Outcome(row, "", None, Status.BLOCKED, Reason.REFUSED, at=1.0, attempt="a") for row in range(ROWS) if row != 3
    ]
    result = asyncio.run(fold_of([failed], ["b", "b", "b", "a", "a", "c"]))
    failures = pq.read_table(io.BytesIO(result.failures_parquet))
    assert failures["version_id"].to_pylist() == ["v2", "v1", "v0", "v4", "v5"]


def _fold_failed(*causes: tuple[Reason, str]) -> Folded:
    failed = [
        Outcome(row, key, None, Status.BLOCKED, reason, detail=detail, at=1.0, attempt="a")
        for row, (key, (reason, detail)) in enumerate(zip("abc", causes, strict=False))
    ]
    return asyncio.run(fold_of([failed], [*"abc", "k", "k", "k"]))


def test_rows_are_counted_by_reason_and_detail() -> None:
    denied, other = (Reason.DENIED, "CopyObject: AccessDenied"), (Reason.DENIED, "HeadObject: AccessDenied")
    assert _fold_failed(denied, other, denied).sums["reasons"] == [
        {"status": "blocked", "reason": denied[0], "rows": 2, "detail": denied[1], "keys": ["a", "c"]},
        {"status": "blocked", "reason": other[0], "rows": 1, "detail": other[1], "keys": ["b"]},
    ]


def test_many_details_of_a_reason_are_counted_as_one_and_stay_with_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "DETAILS", 1)
    result = _fold_failed((Reason.CONTENT_DIFFERS, "7"), (Reason.CONTENT_DIFFERS, "8"))
    assert result.sums["reasons"] == [{"status": "blocked", "reason": "content_differs", "rows": 2, "keys": ["a", "b"]}]
    assert [(row["key"], row["detail"]) for row in result.listed] == [("a", "7"), ("b", "8")]
    assert b"the bytes differ (7)" in result.failures_csv
    assert _fold_failed((Reason.CONTENT_DIFFERS, "7")).sums["reasons"][0]["detail"] == "7"


def test_a_reason_names_the_keys_of_its_first_five_rows_once() -> None:
    """Two rows are versions of one key."""
    keys = ["a", "a", "b", "c", "d", "e"]
    rows = [
        Outcome(row, key, f"version-{row}", Status.BLOCKED, Reason.REFUSED, at=1.0, attempt="a")
        for row, key in enumerate(keys)
    ]
    (counted,) = asyncio.run(fold_of([rows], keys)).sums["reasons"]
    assert (counted["rows"], counted["keys"]) == (6, ["a", "b", "c", "d"])


def test_what_a_complete_run_says_is_in_the_state_and_what_came_late_as_well() -> None:
    spec = RunSpec("run", "verify", 0.0, Side(Location("originals")), Side(Location("copies")), "")
    good = Outcome(0, "a", "v", Status.VERIFIED, evidence=Evidence.CHECKSUM, etag="e", at=1.0, attempt="a")
    found = [good._replace(row=row, key=key) for row, key in enumerate(KEYS)]
    wrong = good._replace(key="k0", status=Status.DIFFERENT, reason=Reason.SIZE_DIFFERS, at=3.0, attempt="b")

    async def play() -> list[list[tuple[Any, ...]]]:
        ledger, seen = await written([found[:5]]), []
        await folded(ledger, spec)
        seen.append(await asked(ledger))
        await ledger.write_checkpoint("run", Checkpoint(0, "attempt", 1, 1, 0, 0), write_outcomes(found[5:]))
        await folded(ledger, spec)
        seen.append(await asked(ledger))
        late = Checkpoint(0, "b", 0, 1, 1, 0)
        await ledger.write_checkpoint("run", late, write_outcomes([wrong]))
        await write_late_verdicts(ledger, spec, [late])
        return [*seen, await asked(ledger)]

    async def asked(ledger: Ledger) -> list[tuple[Any, ...]]:
        async with open_views(ledger, ["state"]) as database:
            return database.connection.execute("SELECT key, finding FROM state ORDER BY key").fetchall()

    unfinished, ended, later = asyncio.run(play())
    assert unfinished == []
    assert ended == [(key, None) for key in KEYS]
    assert later == [("k0", "size_differs"), *ended[1:]]


@pytest.mark.parametrize("data", [b"", b"PAR1 junk", b"PAR1" + bytes(100) + b"PAR1"])
def test_outcomes_that_somebody_has_altered_end_with_an_error_of_the_ledger(data: bytes) -> None:
    async def fold_altered() -> None:
        ledger = await written([])
        await ledger.write_checkpoint("run", Checkpoint(0, "attempt", 0, 1, 0, 0), data)
        await folded(ledger)

    with pytest.raises(LedgerError, match="altered"):
        asyncio.run(fold_altered())
