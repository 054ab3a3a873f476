"""Payloads against botocore's own model of SubmitJob and the documented rules; shards and children by properties."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.aws.batch_arrays import (
    CHILDREN_MAX,
    REPORT,
    STAGES,
    WORK,
    Placement,
    Submission,
    make_submission,
    payload,
    retry_strategy,
)
from jobs.errors import ExitCode, UsageError
from tests.doubles.batch.rules import check_shape, check_submission, model

RUN = "20261125T003345Z-replicate-1f3a2b"
LEDGER = "s3://ledger/sealift"
PLACEMENT = Placement("spot", "sealift:7")

placements = st.builds(
    Placement,
    queue=st.sampled_from(["spot", "arn:aws:batch:us-east-1:123456789012:job-queue/spot"]),
    job_definition=st.sampled_from(["sealift", "sealift:3"]),
    system=st.none() | st.just("parcels"),
)
shard_lists = st.lists(st.integers(0, 30_000), min_size=1, max_size=60, unique=True)


def submission(count: int, **extra: Any) -> Submission:
    return make_submission(RUN, 0, PLACEMENT, range(count), LEDGER, **extra)


@given(placements, shard_lists, st.integers(0, 30), st.booleans())
def test_every_payload_is_of_botocore_s_shape_and_within_batch_s_rules(
    placement: Placement, shards: list[int], number: int, after: bool
) -> None:
    sent = make_submission(RUN, number, placement, shards, LEDGER, "planning-job" if after else None)
    for stage in STAGES:
        request = payload(sent, stage, "work-job")
        check_shape(request, model().operation_model("SubmitJob").input_shape, stage)
        check_submission(request)


@given(st.integers(1, 35_000))
def test_children_are_as_many_as_an_array_takes_and_share_all_shards(count: int) -> None:
    sent = submission(count)
    assert 1 <= sent.children <= CHILDREN_MAX
    assert sent.per_child == -(-count // CHILDREN_MAX)
    taken = [shard for child in range(sent.children) for shard in sent.shards_of(child)]
    assert taken == list(range(count))
    assert all(sent.shards_of(child) for child in range(sent.children))


@given(placements, shard_lists, st.integers(0, 999))
def test_a_submission_survives_json(placement: Placement, shards: list[int], number: int) -> None:
    sent = make_submission(RUN, number, placement, shards, LEDGER, "a")
    again = Submission.from_dict(json.loads(json.dumps(sent.to_dict())))
    assert again == sent
    assert again.shards == sorted(shards)


@pytest.mark.parametrize(("count", "size"), [(1, None), (2, 2), (10_000, 10_000), (10_001, 5_001)])
def test_one_shard_is_a_plain_job_and_more_are_an_array(count: int, size: int | None) -> None:
    assert payload(submission(count), WORK).get("arrayProperties") == (size and {"size": size})
    assert submission(count).to_dict()["shards"] == [[0, count - 1]]


def test_the_work_in_full_and_the_report_that_waits_for_all_of_it() -> None:
    placement = Placement("spot", "sealift", "parcels")
    assert payload(make_submission(RUN, 3, placement, [4, 5], LEDGER, "planning-job"), WORK) == {
        "jobName": f"{RUN}-003-work",
        "jobQueue": "spot",
        "jobDefinition": "sealift",
        "arrayProperties": {"size": 2},
        "containerOverrides": {"command": ["worker", RUN, "--submission", "3", "--ledger", LEDGER]},
        "retryStrategy": retry_strategy(5),
        "dependsOn": [{"jobId": "planning-job"}],
        "tags": {"sealift:system": "parcels", "sealift:run": RUN, "sealift:stage": "work"},
        "propagateTags": True,
    }
    report = payload(submission(5), REPORT, "the-array")
    assert report["dependsOn"] == [{"jobId": "the-array"}]
    assert report["containerOverrides"] == {"command": ["worker", RUN, "--report", "--ledger", LEDGER]}
    assert "arrayProperties" not in report


def test_what_a_worker_cannot_help_is_retried_and_of_exit_codes_only_the_transient_one() -> None:
    *rules, last = retry_strategy(4)["evaluateOnExit"]
    assert (len(rules) < 5, retry_strategy(4)["attempts"]) == (True, 4)
    assert last == {"onReason": "*", "action": "EXIT"}  # what matches no rule is retried
    assert {rule["action"] for rule in rules} == {"RETRY"}
    assert [rule["onExitCode"] for rule in rules if "onExitCode" in rule] == [str(int(ExitCode.TRANSIENT))]
    patterns = [rule["onStatusReason"] for rule in rules if "onStatusReason" in rule]
    host = "Host EC2 (instance i-0a1b2c3d4e5f60718) terminated."
    for reason in (host, "Your Spot Task was interrupted.", "Task failed to start"):
        assert any(fnmatch(reason, pattern) for pattern in patterns)


def test_a_command_that_ecs_does_not_take_is_refused_with_the_jobs_name() -> None:
    """Batch itself would take it, and the job would never start."""
    assert payload(make_submission(RUN, 0, PLACEMENT, [0], f"s3://ledger/{'x' * 7_900}"), WORK)
    with pytest.raises(UsageError, match=rf"{RUN}-000-work have 8,\d\d\d characters"):
        payload(make_submission(RUN, 0, PLACEMENT, [0], f"s3://ledger/{'x' * 8_100}"), WORK)


def test_no_shards_are_no_submission_and_no_child_is_beyond_the_last() -> None:
    with pytest.raises(UsageError, match="no shards left"):
        make_submission(RUN, 0, PLACEMENT, [], LEDGER)
    for child in (5, -1):
        with pytest.raises(UsageError, match=f"has 5 children, none is {child}"):
            submission(5).shards_of(child)
