"""What a pair's last night and its backlog say: one rule for `sealift doctor` and `sealift status`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.doctor.model import Status
from jobs.doctor.pairs import judge_backlog, judge_night
from jobs.ledger.backlog import Waiting
from jobs.nights.summary import Ending
from tests.doubles.nights import summary
from tests.doubles.policies import policy_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NIGHT, AGAIN = "sealift nightly --pair docs", "sealift nightly --pair docs --again"
TO_STATUS, TO_DOCTOR = "See what is wrong, and what helps: sealift status", "See what is wrong with it: sealift doctor"
FINDINGS = {"exit_code": 3, "ending": Ending.FINDINGS}
COPY = "sealift replicate --pair docs --manifest"
MANIFEST, ADVICE = "s3://ledger/manifests/pair=docs/000001-0.csv", "sealift runs list"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", NOW.timestamp)


@pytest.mark.parametrize(
    ("enabled", "hours", "last", "status", "command"),
    [
        (True, None, {}, Status.WARNING, NIGHT),
        (False, None, {}, Status.UNCHECKED, NIGHT),
        (False, 25, {}, Status.OK, ""),
        (True, 25, {}, Status.OK, ""),
        (True, 27, {}, Status.FAILURE, NIGHT),
        (False, 27, {}, Status.UNCHECKED, NIGHT),
        (True, 25, {"exit_code": 3}, Status.WARNING, AGAIN),
        (False, 27, {"exit_code": 3}, Status.WARNING, AGAIN),
        (True, 25, FINDINGS | {"next_steps": [TO_STATUS]}, Status.WARNING, AGAIN),
        (True, 25, FINDINGS | {"next_steps": [TO_DOCTOR, TO_STATUS]}, Status.WARNING, "sealift doctor"),
    ],
)
def test_a_pair_needs_a_night_that_is_recent_and_well(
    *, enabled: bool, hours: int | None, last: dict[str, Any], status: Status, command: str
) -> None:
    """What a night advises is not what the person does already: to look at the status."""
    policy = policy_of("docs", nightly={"enabled": enabled})
    ended = NOW - timedelta(hours=hours or 0)
    night = summary(finished_at=ended, **last)
    found = judge_night(policy, policy.pairs[0], None if hours is None else night)
    assert (found.status, found.advice.rpartition(": ")[2]) == (status, command)
    assert found.since == (f"{ended:%FT%TZ}" if hours and status in (Status.WARNING, Status.FAILURE) else None)


@pytest.mark.parametrize(
    ("pair", "waiting", "status", "command"),
    [
        ("docs", [("a", 59)], Status.OK, ""),
        ("docs", [("a", 61), ("b", 1)], Status.FAILURE, ADVICE),
        ("docs", [(MANIFEST, 29)], Status.OK, ""),
        ("docs", [("a", 50), (MANIFEST, 31)], Status.FAILURE, f"{COPY} {MANIFEST}"),
        ("docs", [("a", 61), (MANIFEST, 1)], Status.FAILURE, ADVICE),
        ("gone", [("a", 0)], Status.FAILURE, "the policy has no such pair, add it"),
    ],
)
def test_a_run_takes_what_waits_within_half_an_hour(
    pair: str, waiting: list[tuple[str, int]], status: Status, command: str
) -> None:
    rows = [Waiting(name, NOW.timestamp() - 60 * minutes, 2, 9) for name, minutes in waiting]
    found = judge_backlog(pair, policy_of("docs").pair(pair), rows)
    assert (found.status, found.advice.rpartition(": ")[2]) == (status, command)
