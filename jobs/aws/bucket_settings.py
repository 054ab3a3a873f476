"""Settings of a bucket that may remove objects by themselves: lifecycle and replication rules.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree

from jobs.aws.clients import call, none_if_absent

_ACTIONS = {"Transition", "NoncurrentVersionTransition", "AbortIncompleteMultipartUpload"}
_HARMLESS = {
    "Rule": {"ID", "Status", "Prefix", "Filter", "Expiration"} | _ACTIONS,
    "Filter": {"Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan", "And"},
    "And": {"Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"},
    "Tag": {"Key", "Value"},
    "Expiration": {"ExpiredObjectDeleteMarker"},
    "Transition": {"Days", "Date", "StorageClass"},
    "NoncurrentVersionTransition": {"NoncurrentDays", "NewerNoncurrentVersions", "StorageClass"},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation"},
}
"""The elements of a lifecycle rule, and what is in them, that remove no object and no version:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRule.html
"""


class LifecycleRule(NamedTuple):
    """An enabled lifecycle rule. `removes`: its first element that removes objects or versions, or is unknown and so
    may do that, such as `Expiration/Days`. Empty: it has none.
    """

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
    """The enabled rules. `owner`: the account that must own the bucket. Raises StoreError, ConfigError, KeyError.

    They are read from the XML, since botocore leaves out elements that S3's API does not have, such as MinIO's
    AllVersionsExpiration.
    """
    owned, bodies = {"ExpectedBucketOwner": owner} if owner else {}, list[bytes]()
    client.meta.events.register("before-parse.s3", lambda response_dict, **_: bodies.append(response_dict["body"]))
    answer = none_if_absent(lambda: call(client, "GetBucketLifecycleConfiguration", bucket, Bucket=bucket, **owned))
    if answer is None or not answer["Rules"]:
        return []
    document = ElementTree.fromstring(bodies[-1])
    for element in document.iter():
        element.tag = element.tag.rpartition("}")[2]
    return [_lifecycle_rule(rule) for rule in document.iterfind("Rule") if rule.findtext("Status") != "Disabled"]


def replication_rules(client: Any, bucket: str) -> list[ReplicationRule]:
    """All rules, enabled or not. Raises StoreError, ConfigError."""
    answer = none_if_absent(lambda: call(client, "GetBucketReplication", bucket, Bucket=bucket))
    return [] if answer is None else [_replication_rule(rule) for rule in answer["ReplicationConfiguration"]["Rules"]]


def _lifecycle_rule(rule: ElementTree.Element) -> LifecycleRule:
    paths = [(parent.tag, each.tag) for parent in rule.iter() for each in parent]
    removes = [f"{parent}/{name}" for parent, name in paths if name not in _HARMLESS.get(parent, ())]
    prefixes = [each.text or "" for each in rule.iter("Prefix")]
    is_understood = len(prefixes) == 1 and not any(each.startswith(("Filter/", "And/")) for each in removes)
    return LifecycleRule(rule.findtext("ID", ""), prefixes[0] if is_understood else "", (removes or [""])[0])


def _replication_rule(rule: Mapping[str, Any]) -> ReplicationRule:
    chosen = rule.get("Filter") or {}
    return ReplicationRule(
        rule_id=rule.get("ID", ""),
        is_enabled=rule["Status"] == "Enabled",
        prefix=(chosen.get("And") or chosen).get("Prefix") or rule.get("Prefix") or "",
        destination=rule["Destination"]["Bucket"].rpartition(":")[2],
        replicates_markers="Filter" not in rule or rule.get("DeleteMarkerReplication", {}).get("Status") == "Enabled",
    )
