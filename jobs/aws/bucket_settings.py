"""Settings of a bucket that may remove objects by themselves: lifecycle and replication rules.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jobs.aws.clients import call, none_if_absent


class LifecycleRule(NamedTuple):
    """An enabled lifecycle rule. `removes`: when current versions go, else when replaced ones go. Empty: never."""

    rule_id: str
    prefix: str
    removes: str


class ReplicationRule(NamedTuple):
    """A replication rule. `destination`: the bucket. A rule of version 1, which has no filter, carries delete markers:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-add-config.html
    """

    rule_id: str
    is_enabled: bool
    prefix: str
    destination: str
    replicates_markers: bool


def lifecycle_rules(client: Any, bucket: str, owner: str | None = None) -> list[LifecycleRule]:
    """The enabled rules. `owner`: the account that must own the bucket. Raises StoreError, ConfigError."""
    owned = {"ExpectedBucketOwner": owner} if owner else {}
    operation = "GetBucketLifecycleConfiguration"
    answer = none_if_absent(lambda: call(client, operation, bucket, Bucket=bucket, **owned))
    rules = [] if answer is None else answer["Rules"]
    return [_lifecycle_rule(rule) for rule in rules if rule["Status"] == "Enabled"]


def replication_rules(client: Any, bucket: str) -> list[ReplicationRule]:
    """All rules, enabled or not. Raises StoreError, ConfigError."""
    answer = none_if_absent(lambda: call(client, "GetBucketReplication", bucket, Bucket=bucket))
    return [] if answer is None else [_replication_rule(rule) for rule in answer["ReplicationConfiguration"]["Rules"]]


def _prefix(rule: Mapping[str, Any]) -> str:
    chosen = rule.get("Filter") or {}
    return str((chosen.get("And") or chosen).get("Prefix") or rule.get("Prefix") or "")


def _lifecycle_rule(rule: Mapping[str, Any]) -> LifecycleRule:
    expiration, replaced = rule.get("Expiration", {}), rule.get("NoncurrentVersionExpiration")
    # SeaweedFS and MinIO take the second without days
    removes = "" if replaced is None else f"{replaced.get('NoncurrentDays', 0)} days after they are replaced"
    if "Days" in expiration:
        removes = f"after {expiration['Days']} days"
    if "Date" in expiration:
        removes = f"on {expiration['Date']:%Y-%m-%d}"
    return LifecycleRule(rule.get("ID", ""), _prefix(rule), removes)


def _replication_rule(rule: Mapping[str, Any]) -> ReplicationRule:
    return ReplicationRule(
        rule_id=rule.get("ID", ""),
        is_enabled=rule["Status"] == "Enabled",
        prefix=_prefix(rule),
        destination=rule["Destination"]["Bucket"].rpartition(":")[2],
        replicates_markers="Filter" not in rule or rule.get("DeleteMarkerReplication", {}).get("Status") == "Enabled",
    )
