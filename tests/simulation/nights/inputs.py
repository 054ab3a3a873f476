"""What the functions of the nights are given: the policy, events, and what makes no sense."""

from __future__ import annotations

from functools import cache
from typing import Any

from jobs.policy.model import Policy
from jobs.policy.reader import parse_policy
from tests.simulation.copies.schedule import LEDGER

POLICY = f"""
version: 1
name: sealift
ledger: {{bucket: {LEDGER}, region: us-east-1, prefix: l/}}
inventory: {{buckets: {{us-east-1: {LEDGER}}}}}
pairs:
  - name: east
    source: {{bucket: east-source, region: us-east-1, prefixes: [a/]}}
    destination: {{bucket: east-hot, region: us-east-1}}
    nightly: {{hour: "07:30", time_zone: Asia/Tokyo}}
    thresholds: {{backlog_rows: 4, backlog_age: 1h}}
  - name: west
    source: {{bucket: west-source, region: us-east-1, prefixes: [a/]}}
    destination: {{bucket: west-hot, region: us-east-1}}
    nightly: {{hour: "17:30", time_zone: America/New_York}}
    thresholds: {{backlog_rows: 4, backlog_age: 1h}}
"""
NONSENSE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("submit", {"action": "nightly", "pair": "north"}),
    ("submit", {"action": "manifest", "pair": "east"}),
    ("submit", {"action": "manifest", "pair": "east", "number": "seven"}),
    ("submit", {"action": "dance", "pair": "east"}),
    ("submit", {"action": "nightly", "pair": "east", "scheduled_at": "tomorrow"}),
    ("submit", {"action": "nightly", "pair": "east", "scheduled_at": 17}),
    ("submit", {"action": "backfill", "pair": "east", "max": 1}),
    ("submit", {}),
    ("submit", {"action": "backfill"}),
    ("submit", {"Records": []}),
    ("enqueue", {"pair": "north", "now": True}),
    ("enqueue", {"pair": "north", "keys": ["a/1"]}),
    ("enqueue", {"keys": ["a/1"]}),
    ("enqueue", {"pair": "east", "keys": ["z/1"]}),
    ("enqueue", {"pair": "east", "keys": 5}),
    ("enqueue", {"pair": "east", "keys": "a/1"}),
    ("enqueue", {"pair": "east", "rows": ["a/1"]}),
    ("enqueue", {"pair": "east", "prefixes": "a/"}),
    ("follow", {}),
    ("follow", {"detail-type": "Batch Job State Change"}),
    ("follow", {"detail-type": "Batch Job State Change", "detail": {"status": "FAILED"}}),
    ("follow", {"detail-type": "Object Restore Completed", "source": "aws.s3", "detail": []}),
)
"""What makes no sense, by the function that it is sent to: refused as a mistake of whoever sends it."""


@cache
def read_policy() -> Policy:
    """The policy of all schedules."""
    return parse_policy(POLICY.encode(), "policy.yaml")


def s3_event(name: str, bucket: str, key: str) -> dict[str, Any]:
    """What S3 says, in EventBridge's shape."""
    thing = {"key": key, "version-id": "v1", "size": 5, "etag": "e"}
    detail = {"version": "0", "bucket": {"name": bucket}, "object": thing}
    return {"detail-type": name, "source": "aws.s3", "time": "2023-11-15T00:00:00Z", "detail": detail}
