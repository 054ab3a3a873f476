"""Submitting the same run again, at once, or after lost answers; which shards are left; what a failure means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.aws.batch import Batch, ChildFailure, JobState
from jobs.aws.batch_arrays import Placement, Submission, make_submission
from jobs.core.outcome import Outcome, Status
from jobs.core.run import Plan, ShardSummary
from jobs.errors import ConfigError, LedgerError, Rejected, Unavailable
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.runs.batch_executor import (
    Submitted,
    cancel,
    exit_codes,
    find_failures,
    find_jobs,
    last_submission,
    read_submission,
    send,
)
from jobs.runs.progress import unfinished_shards
from jobs.tables.rows import write_outcomes
from tests.doubles.batch.account import Puppets, await_value, make_client, register
from tests.doubles.batch.runners import OUT_OF_MEMORY, Exit
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.examples import examples
from tests.doubles.ledgers import make_ledger

RUN = "20261125T003345Z-replicate-1f3a2b"
PLACEMENT = Placement("spot", "sealift")


@dataclass
class Site:
    server: BatchServer
    ledger: Ledger
    runner: Puppets

    def send(self, of: Submission) -> Submitted:
        """As another process does: with a client of its own."""
        return asyncio.run(send(self.ledger, Batch(), of))

    def jobs(self, of: Submission) -> dict[str, JobState]:
        return asyncio.run(find_jobs(Batch(), of))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    runner = Puppets()
    with batch_server(runner, max_running=1) as server:
        variables = {
            "AWS_ENDPOINT_URL_BATCH": server.endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        server.add_queue("spot")
        register(make_client(server))
        yield Site(server, make_ledger("sealift"), runner)


def submission(shards: int = 3, number: int = 0) -> Submission:
    return make_submission(RUN, number, PLACEMENT, range(shards), "s3://ledger/sealift")


def test_jobs_get_only_the_failure_limit_of_the_submitting_process(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.send(submission(number=0))
    monkeypatch.setenv("SEALIFT_TUNING", "processes=2 max_failed_percent=5 rows_per_shard=100")
    site.send(submission(number=1))
    overrides = [job.request["containerOverrides"] for job in map(site.server.job, site.server.names())]
    assert [each.get("environment") for each in overrides] == [None] * 2 + [
        [{"name": "SEALIFT_TUNING", "value": "max_failed_percent=5"}]
    ] * 2


def test_a_second_submission_finds_the_first_whatever_shards_it_asks_for(site: Site) -> None:
    first = site.send(submission())
    second = site.send(submission())
    placement = submission().placement
    third = site.send(make_submission(RUN, 0, placement, range(9), "s3://ledger/sealift"))
    assert first == second == third
    assert site.server.names() == [f"{RUN}-000-work", f"{RUN}-000-report"]
    assert asyncio.run(last_submission(site.ledger, RUN)) == first.submission


def test_submissions_at_once_leave_one_run_at_work(site: Site) -> None:
    async def race() -> list[Any]:
        return list(await asyncio.gather(*(send(site.ledger, Batch(), submission()) for _ in range(4))))

    results = asyncio.run(race())
    assert len({tuple(result.job_ids.items()) for result in results}) == 1
    stands = set(results[0].job_ids.values())
    for job in [job for job in site.server.engine.jobs.values() if job.index is None and job.id not in stands]:
        await_value(lambda: job.has_ended)  # noqa: B023  called at once
        assert all(child.status == "FAILED" for child in job.children)


@pytest.mark.parametrize("lost", [1, 3])
def test_a_lost_answer_makes_no_second_job(site: Site, lost: int) -> None:
    site.server.lose["SubmitJob"] = lost
    site.send(submission())
    assert site.server.names() == [f"{RUN}-000-work", f"{RUN}-000-report"]


@pytest.mark.parametrize("known", [[], ["work"]])
def test_a_submitter_that_died_is_gone_on_with(site: Site, known: list[str]) -> None:
    """Its document is there, and so many of its jobs."""
    original, sent = Batch.submit, list[str]()

    def die(batch: Batch, request: Any, *, is_new: bool) -> str:
        if len(sent) == len(known):
            raise RuntimeError("killed")
        sent.append(request["jobName"])
        return original(batch, request, is_new=is_new)

    with mock.patch.object(Batch, "submit", die), pytest.raises(RuntimeError):
        site.send(submission())
    assert site.server.names() == [f"{RUN}-000-{stage}" for stage in known]
    site.send(submission())
    assert site.server.names() == [f"{RUN}-000-work", f"{RUN}-000-report"]


def test_a_refusal_is_raised_and_leaves_a_submission_without_jobs(site: Site) -> None:
    site.server.queues["spot"].state = "DISABLED"
    with pytest.raises(Rejected, match="not in ENABLED state"):
        site.send(submission())
    assert site.jobs(submission()) == {}


def test_batch_that_cannot_be_reached_is_unavailable_and_no_credentials_are_a_setting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.server.throttle["SubmitJob"] = 100
    with pytest.raises(Unavailable, match="TooManyRequestsException"):
        site.send(submission())
    site.server.throttle["SubmitJob"] = 0
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="credentials"):
        Batch().check_queue("spot")


def test_ten_thousand_shards_are_one_call_a_stage(site: Site) -> None:
    began = time.perf_counter()
    site.send(submission(10_000))
    print(f"10,000 shards submitted in {time.perf_counter() - began:.2f} s")
    assert site.server.calls["SubmitJob"] == 2
    assert site.server.job(f"{RUN}-000-work").size == 10_000
    jobs = site.jobs(submission(10_000))
    assert sum(jobs["work"].children.values()) == 10_000
    assert site.server.calls["DescribeJobs"] == 1
    assert asyncio.run(read_submission(site.ledger, RUN, 0)).shards_of(9_999) == [9_999]


def test_failures_of_a_large_array_take_a_few_calls_never_one_a_child(site: Site) -> None:
    site.server.engine.max_running = 1_000
    site.runner.script = lambda child: Exit(137, OUT_OF_MEMORY)
    site.send(submission(2_500))
    await_value(lambda: site.server.job(f"{RUN}-000-work").has_ended)
    jobs = site.jobs(submission(2_500))
    before = dict(site.server.calls)
    failures = asyncio.run(find_failures(Batch(), jobs))
    assert len(failures) == 100
    assert (failures[0].index, failures[0].exit_code, failures[0].reason) == (0, 137, OUT_OF_MEMORY)
    assert failures[0].log_stream.startswith("sealift/default/")
    assert [site.server.calls[name] - before.get(name, 0) for name in ("ListJobs", "DescribeJobs")] == [1, 1]


def test_cancelling_ends_every_stage_by_one_call_each(site: Site) -> None:
    site.send(submission(50))
    await_value(lambda: site.runner.started)
    asyncio.run(cancel(site.ledger, RUN))
    await_value(lambda: all(site.server.job(name).has_ended for name in site.server.names()))
    assert site.server.calls["TerminateJob"] == 2
    assert site.jobs(submission(50))["work"].children == {"FAILED": 50}


EXITED = "Essential container in task exited"


@pytest.mark.parametrize(
    ("status_reason", "reason", "exit_code", "code"),
    [
        (EXITED, OUT_OF_MEMORY, 137, 10),
        ("Task failed to start", "CannotPullContainerError: denied", None, 10),
        *((EXITED, "", code, code) for code in (10, 1, 75, 137)),
        ("Job attempt duration exceeded timeout", "", 75, 75),
        ("Job attempt duration exceeded timeout", "", 143, 75),
        ("Dependent Job failed", "", None, 75),
        ("Host EC2 (instance i-0) terminated.", "", None, 75),
    ],
)
def test_what_a_failure_means_for_the_run(status_reason: str, reason: str, exit_code: int | None, code: int) -> None:
    child = ChildFailure(4, "job:4", status_reason, reason, exit_code, "log", 1)
    assert exit_codes({"work": JobState("job", "name", "FAILED")}, [child]) == {4: code}


def test_a_failed_array_of_which_nothing_more_is_known_is_not_taken_for_a_success() -> None:
    assert [exit_codes({"work": JobState("job", "name", each)}, []) for each in ("FAILED", "SUCCEEDED")] == [
        {0: 75},
        {},
    ]


@settings(deadline=None, max_examples=examples(25))
@given(st.lists(st.lists(st.sets(st.integers(0, 5), min_size=1), max_size=3), min_size=1, max_size=3))
def test_shards_are_left_until_each_of_their_rows_has_an_outcome(attempts: list[list[set[int]]]) -> None:
    """`attempts`: for each shard of six rows, the rows that each of its attempts wrote, overlapping as they like."""

    async def scenario() -> list[int]:
        ledger = make_ledger("sealift")
        for shard, written in enumerate(attempts):
            for number, rows in enumerate(written):
                outcomes = [Outcome(shard * 6 + row, f"k{row}", None, Status.DONE) for row in sorted(rows)]
                checkpoint = Checkpoint(shard, f"attempt{number}", 0, len(outcomes), 0, 0)
                await ledger.write_checkpoint(RUN, checkpoint, write_outcomes(outcomes))
        plan = Plan(rows=6 * len(attempts), size_bytes=0, shards=(ShardSummary(6, 0),) * len(attempts))
        return await unfinished_shards(ledger, RUN, plan)

    expected = [shard for shard, written in enumerate(attempts) if len(set().union(*written)) < 6]
    assert asyncio.run(scenario()) == expected


def test_a_submission_that_there_is_not_is_an_error_of_the_ledger(site: Site) -> None:
    with pytest.raises(ConfigError, match=r"there is no batch/007.json of run"):
        asyncio.run(read_submission(site.ledger, RUN, 7))
    assert asyncio.run(last_submission(site.ledger, RUN)) is None


@pytest.mark.parametrize(
    "forged", [{"ledger": "s3://evil/runs"}, {"run_id": RUN.replace("replicate", "expire")}, {"shards": [[0, 10**12]]}]
)
def test_a_forged_submission_sends_nothing(site: Site, forged: dict[str, Any]) -> None:
    write(site, forged)
    with pytest.raises(LedgerError, match="altered"):
        site.send(submission())
    assert site.server.names() == []


def test_where_a_run_goes_is_not_the_documents_affair(site: Site) -> None:
    write(site, {"placement": {"queue": "calm", "job_definition": "sealift-expire", "system": None}})
    site.send(submission())
    sent = [site.server.job(name).request for name in site.server.names()]
    assert [(each["jobQueue"], each["jobDefinition"]) for each in sent] == [tuple(PLACEMENT)[:2]] * 2


def write(site: Site, forged: dict[str, Any]) -> None:
    """Write the document of a submission as somebody does who may write to the ledger."""
    asyncio.run(site.ledger.write_document(RUN, "batch/000.json", submission().to_dict() | forged))
