"""The ledger: written once, published last, and its names carry the counts."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.errors import ConfigError, LedgerError, PreconditionFailed
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.run_ids import run_job
from jobs.ledger.views import open_views
from jobs.runs.request import new_run_id
from jobs.runs.summaries import summarize_run, summarize_runs
from tests.doubles.ledgers import make_ledger
from tests.doubles.lost_answers import LostAnswers

SPEC = RunSpec(
    "19700101T000001Z-verify-800abc",
    "verify",
    1.5,
    Side(Location("aaa", "x/")),
    Side(Location("bbb"), "http://e", "r", "p"),
    "listing",
    {"deep": True},
    None,
    "0.1.0",
)
PLAN = Plan(
    3, 30, (ShardSummary(1, 10), ShardSummary(2, 20)), {"include": 1}, {"copy": 3}, {"copy": 0.1}, "prices", 2.0
)


async def test_spec_and_plan_come_back_as_they_were() -> None:
    ledger = make_ledger()
    await ledger.create(SPEC)
    await ledger.publish_plan(SPEC.run_id, PLAN)
    assert await ledger.spec(SPEC.run_id) == SPEC
    assert await ledger.plan(SPEC.run_id) == PLAN
    assert await ledger.run_ids() == [SPEC.run_id]
    assert await ledger.report(SPEC.run_id) is None


@pytest.mark.parametrize("rows", [0, 3])
async def test_a_comparison_that_was_killed_before_its_report_was_never_planned(rows: int) -> None:
    """Its plan is written before its report, and no retry can make that: `status` called it at work for ever."""
    ledger = make_ledger()
    options = {"destination_manifest": "s3://b/manifest.json"}
    spec = replace(SPEC, run_id="19700101T000001Z-reconcile-800abc", job="reconcile", options=options)
    await ledger.create(spec)
    await ledger.publish_plan(spec.run_id, Plan(rows, 30, ()))
    with pytest.raises(LedgerError, match="planning did not finish, start a new run"):
        await ledger.plan(spec.run_id)
    assert (await summarize_run(ledger, spec.run_id))["state"] == "unplanned"
    await ledger.publish_report(spec.run_id, {"state": "complete"})
    assert await ledger.plan(spec.run_id) == Plan(rows, 30, ())


async def test_runs_of_one_second_are_listed_in_the_order_in_which_they_began() -> None:
    """A retry within the second of its verification came before it: `latest` was the verification."""
    ledger, ids = make_ledger(), []
    for job, at in [("verify", 0.2), ("replicate", 0.4), ("reconcile", 0.6), ("expire", 0.8)]:
        ids.append(new_run_id(job, SPEC.created_at + at))
        await ledger.create(replace(SPEC, run_id=ids[-1], job=job, created_at=SPEC.created_at + at))
    assert await ledger.run_ids() == ids


async def test_a_run_whose_outcomes_are_expired_is_as_it_ended() -> None:
    ledger = make_ledger()
    await ledger.create(SPEC)
    await ledger.publish_plan(SPEC.run_id, PLAN)
    ended = {"state": "complete", "rows": 3, "seconds": 1.0, "bytes": 9, "outcomes": {"missing": 3}, "failures": 3}
    await ledger.publish_report(SPEC.run_id, ended)
    run = await summarize_run(ledger, SPEC.run_id)
    assert (run["state"], run["accounted"], run["failures"]) == ("complete", 3, 3)
    async with open_views(ledger, ["runs", "outcomes"], None, summarize_runs) as database:
        sql = "SELECT state, failures FROM runs ANTI JOIN outcomes USING (run_id)"
        await database.select(sql)
        assert list(database.rows()) == [{"state": "complete", "failures": 3}]


async def test_the_first_report_stands() -> None:
    ledger = make_ledger()
    await ledger.publish_report("run", {"state": "complete"})
    await ledger.publish_report("run", {"state": "other"})
    assert (await ledger.report("run") or {})["state"] == "complete"


@pytest.mark.parametrize(
    "forged",
    [{"job": "replicate"}, {"run_id": "19700101T000001Z-verify-800abd"}, {"manifest": 5}, {"created_at": 1e300}],
)
async def test_a_spec_that_is_not_the_runs_is_refused(forged: dict[str, Any]) -> None:
    ledger = make_ledger()
    document = SPEC.to_dict() | forged
    await ledger.write_document(SPEC.run_id, "spec.json", document)
    with pytest.raises(LedgerError, match=r"spec\.json is not what Sealift writes"):
        await ledger.spec(SPEC.run_id)


@pytest.mark.parametrize(
    ("run_id", "job"),
    [(SPEC.run_id, "verify"), ("x", None), ("20261125T000000Z-Verify-1f3a02", None), (f"../{SPEC.run_id}", None),
     ("20261325T000000Z-verify-1f3a02", None), (f"{SPEC.run_id}\n", None)],
)  # fmt: skip
def test_the_id_of_a_run_names_its_job(run_id: str, job: str | None) -> None:
    assert run_job(run_id) == job


async def test_a_shard_written_twice_or_altered_is_an_error() -> None:
    ledger = make_ledger()
    await ledger.write_shard("run", 0, b"1")
    await ledger.write_shard("run", 0, b"1")
    with pytest.raises(PreconditionFailed):
        await ledger.write_shard("run", 0, b"2")
    for digest in ("", hashlib.sha256(b"1").hexdigest()):
        assert await ledger.shard("run", 0, Plan(1, 1, (ShardSummary(1, 1, digest),))) == b"1"
    with pytest.raises(LedgerError, match="not the one that was planned"):
        await ledger.shard("run", 0, Plan(1, 1, (ShardSummary(1, 1, "other"),)))
    with pytest.raises(LedgerError, match="no shards/00005"):
        await ledger.shard("run", 5, PLAN)


@given(*[st.integers(0, 10**15)] * 5)
def test_a_checkpoints_name_carries_its_counts(shard: int, number: int, rows: int, bad_rows: int, size: int) -> None:
    checkpoint = Checkpoint(shard, "001a2b3c", number, rows, bad_rows, size)
    assert Checkpoint.parse(shard, checkpoint.name) == checkpoint


@pytest.mark.parametrize("name", ["x.parquet", "a-1-2-3.parquet", "a-1-2-3-x.parquet", ""])
def test_a_foreign_file_among_the_outcomes_is_named(name: str) -> None:
    with pytest.raises(LedgerError, match="not a checkpoint"):
        Checkpoint.parse(0, name)


async def test_runs_are_listed_by_one_request_and_a_missing_bucket_is_named() -> None:
    listings = LostAnswers(0)
    ledger = make_ledger(on={"list_objects": listings})
    with pytest.raises(ConfigError, match="the ledger's bucket none does not exist"):
        await Ledger(ledger.store, Location("none", "")).run_ids()
    before = listings.requests
    assert (await ledger.run_ids(), listings.requests - before) == ([], 1)
