"""Warnings: what a policy may say, and loses something by."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from jobs.policy.model import Alarms, Expire, Nightly, Policy
from jobs.policy.reader import parse_policy, read_policy
from jobs.policy.rules import find_refusals, find_warnings

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = [ROOT / "policy.example.yaml", *(ROOT / "terraform" / "examples").glob("*/policy.yaml")]


def policy_at(hour: str, zone: str, *, enabled: bool = True) -> Policy:
    policy = read_policy(str(EXAMPLES[0]))
    nightly = Nightly(hour=hour, time_zone=zone, enabled=enabled)
    return replace(policy, pairs=(replace(policy.pairs[0], nightly=nightly),))


@pytest.mark.parametrize(
    ("hour", "zone", "day"),
    [
        ("02:00", "Europe/Berlin", "2027-03-28"),
        ("02:59", "Europe/Berlin", "2027-03-28"),
        ("01:30", "Europe/London", "2027-03-28"),
        ("02:30", "America/New_York", "2027-03-14"),
        ("00:30", "Africa/Cairo", "2027-04-30"),
        ("01:59", "Europe/Berlin", None),
        ("03:00", "Europe/Berlin", None),  # clocks show it, at the moment of the jump
        ("03:30", "America/New_York", None),
        ("02:00", "UTC", None),
        ("02:30", "Asia/Tokyo", None),
    ],
)
def test_a_night_at_a_time_that_a_day_does_not_have_is_told(hour: str, zone: str, day: str | None) -> None:
    found = list(find_warnings(policy_at(hour, zone), date(2026, 11, 27)))
    assert [finding.steps for finding in found] == ([("pairs", 0, "nightly", "hour")] if day else [])
    assert all(f"{zone} skips it on {day}" in finding.expected for finding in found)
    assert list(find_warnings(policy_at(hour, zone, enabled=False), date(2026, 11, 27))) == []


@pytest.mark.parametrize(
    ("side", "expires", "has_nights", "is_warned"),
    [
        ("destination", True, True, True),
        ("destination", True, False, False),
        ("destination", False, True, False),
        ("source", True, True, False),
    ],
)
def test_nights_that_miss_what_expires_are_told(side: str, expires: bool, has_nights: bool, is_warned: bool) -> None:
    policy = policy_at("03:30", "UTC", enabled=has_nights)
    archive = policy.pairs[0].archive
    assert archive is not None
    archive = replace(archive, side=side, expire=Expire() if expires else None)
    policy = replace(policy, pairs=(replace(policy.pairs[0], archive=archive),))
    found = list(find_warnings(policy, date(2026, 11, 27)))
    assert [finding.steps for finding in found] == ([("pairs", 0, "archive", "side")] if is_warned else [])
    assert all("as missing" in finding.expected for finding in found)


@pytest.mark.parametrize(
    ("alarms", "is_warned"),
    [
        (Alarms(), True),
        (Alarms(emails=("a@example.com",)), False),
        (Alarms(topic="arn:aws:sns:eu-central-1:123456789012:pages"), False),
    ],
)
def test_alarms_that_reach_nobody_are_told(alarms: Alarms, is_warned: bool) -> None:
    policy = replace(policy_at("03:30", "UTC"), alarms=alarms)
    found = [finding.steps for finding in find_warnings(policy, date(2026, 11, 27))]
    assert found == ([("alarms", "emails")] if is_warned else [])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_and_defaults_lose_no_night(path: Path) -> None:
    """In whatever zone of a pair's that has such jumps. Who starts the acceptance watches it, without emails."""
    content = yaml.safe_load(path.read_text())
    if path.parent.name == "acceptance":
        content["alarms"] = {"emails": ["who.starts.it@example.com"]}
    policy = parse_policy(yaml.safe_dump(content).encode(), "p")
    assert list(find_warnings(policy, date(2026, 11, 27))) == []
    for section in (content.get("defaults") or {}, *content["pairs"]):
        section["nightly"] = {"time_zone": "Europe/Berlin"}
    for zone in ("Europe/Berlin", "Europe/London", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe"):
        text = yaml.safe_dump(content).replace("Europe/Berlin", zone)
        assert list(find_warnings(parse_policy(text.encode(), "p"), date(2026, 11, 27))) == []


def test_each_prefix_in_a_policy_of_a_role_is_refused_if_iam_does_not_take_it() -> None:
    text = """
    version: 1
    name: example
    ledger: {bucket: example-ledger, region: eu-west-1, prefix: Ā-ledger/}
    inventory: {buckets: {eu-west-1: example-inventory}, prefix: Ā-inventory/}
    pairs:
      - name: scans
        source: {bucket: example-scans, region: eu-west-1, prefixes: [ÿ/, Ā/], exclude: [Ā/drafts/]}
        destination: {bucket: example-hot, region: eu-west-1, prefix: Ā-hot/}
        archive:
          bucket: example-archives
          region: eu-west-1
          prefix: Ā-archives/
          rules:
            - name: old
              prefix: Ā/old/
              older_than: 30d
              smaller_than: 1MiB
              target_size: 1GiB
              storage_class: GLACIER_IR
              tags: {prefix: Ā}
    """
    found = [finding.steps for finding in find_refusals(parse_policy(text.encode(), "p"))]
    assert sorted(found, key=str) == [
        ("inventory", "prefix"),
        ("ledger", "prefix"),
        ("pairs", 0, "archive", "prefix"),
        ("pairs", 0, "archive", "rules", 0, "prefix"),
        ("pairs", 0, "destination", "prefix"),
        ("pairs", 0, "source", "prefixes", 1),
    ]
