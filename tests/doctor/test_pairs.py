"""What a pair's last night and its backlog say: one rule for `sealift doctor` and `sealift status`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.doctor.model import Status
from jobs.doctor.pairs import judge_backlog, judge_night
from jobs.ledger.backlog import Waiting
from jobs.policy.model import Policy
from jobs.policy.reader import parse_policy
from tests.doubles.nights import summary

POLICY = """
version: 1
ledger: {{bucket: ledger, region: us-east-1}}
alarms: {{night_hours: 26}}
pairs:
- name: docs
  source: {{bucket: source, region: us-east-1}}
  destination: {{bucket: hot, region: us-east-1}}
  thresholds: {{backlog_age: 30m}}
  nightly: {{enabled: {enabled}}}
"""
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NIGHT, AGAIN = "sealift nightly --pair docs", "sealift nightly --pair docs --again"
TO_STATUS, TO_DOCTOR = "See what is wrong, and what helps: sealift status", "See what is wrong with it: sealift doctor"
MANIFEST, ADVICE = "s3://ledger/manifests/pair=docs/000001-0.csv", "sealift runs list"


def policy_of(*, enabled: bool) -> Policy:
    return parse_policy(POLICY.format(enabled=str(enabled).lower()).encode(), "policy.yaml")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", NOW.timestamp)


@pytest.mark.parametrize(
    ("enabled", "hours", "last", "status", "command"),
    [
        (True, None, {}, Status.WARNING, NIGHT),
        (False, None, {}, Status.OK, ""),
        (True, 25, {}, Status.OK, ""),
        (True, 27, {}, Status.FAILURE, NIGHT),
        (False, 27, {}, Status.OK, ""),
        (True, 25, {"exit_code": 3}, Status.WARNING, AGAIN),
        (False, 27, {"exit_code": 3}, Status.WARNING, AGAIN),
        (True, 25, {"exit_code": 3, "next_steps": [TO_STATUS]}, Status.WARNING, AGAIN),
        (True, 25, {"exit_code": 3, "next_steps": [TO_DOCTOR, TO_STATUS]}, Status.WARNING, "sealift doctor"),
    ],
)
def test_a_pair_needs_a_night_that_is_recent_and_well(
    *, enabled: bool, hours: int | None, last: dict[str, Any], status: Status, command: str
) -> None:
    """What a night advises is not what the person does already: to look at the status."""
    policy = policy_of(enabled=enabled)
    ended = NOW - timedelta(hours=hours or 0)
    night = summary(finished_at=ended, **last)
    found = judge_night(policy, policy.pairs[0], None if hours is None else night)
    assert (found.status, found.advice.rpartition(": ")[2]) == (status, command)
    assert found.since == (None if status == Status.OK or hours is None else ended.timestamp())


@pytest.mark.parametrize(
    ("waiting", "status", "command"),
    [
        ([], Status.OK, ""),
        ([("a", 59)], Status.OK, ""),
        ([("a", 61), ("b", 1)], Status.FAILURE, ADVICE),
        ([(MANIFEST, 29)], Status.OK, ""),
        ([(MANIFEST, 31)], Status.FAILURE, f"sealift replicate --pair docs --manifest {MANIFEST}"),
        ([("a", 70), (MANIFEST, 61)], Status.FAILURE, f"sealift replicate --pair docs --manifest {MANIFEST}"),
    ],
)
def test_a_run_takes_what_waits_within_half_an_hour(
    waiting: list[tuple[str, int]], status: Status, command: str
) -> None:
    rows = [Waiting(name, NOW.timestamp() - 60 * minutes, 2, 9) for name, minutes in waiting]
    found = judge_backlog("docs", policy_of(enabled=True).pairs[0], rows)
    assert (found.status, found.advice.rpartition(": ")[2]) == (status, command)
    assert f"{2 * len(rows)} objects" in found.says or not rows


def test_what_waits_for_a_pair_that_the_policy_does_not_have_is_wrong_at_once() -> None:
    assert judge_backlog("gone", None, [Waiting("a", NOW.timestamp(), 1, 9)]).status == Status.FAILURE
