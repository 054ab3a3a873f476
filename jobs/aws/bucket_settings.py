"""Settings of an S3 bucket: versioning, encryption, lock, lifecycle, replication, notifications.

Each method asks one question and changes nothing. None: the bucket has no such setting.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote_plus

from jobs.aws.clients import Clients, call
from jobs.aws.readings import none_if_absent
from jobs.errors import NotFound

_FILTER = re.compile(r"(?:[A-Za-z0-9!*'()._~/+-]|%[0-9A-Fa-f]{2})*")
"""A filter of notifications in which every special character is written as S3 wants it."""


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """Where a bucket is. `region` is None where the server does not say."""

    region: str | None


@dataclass(frozen=True, slots=True)
class BucketEncryption:
    """The default encryption. `key`: the KMS key by the bucket's name for it. None is AWS's own."""

    algorithm: str
    key: str | None


@dataclass(frozen=True, slots=True)
class BucketLock:
    """Object Lock with its default retention. `days` is None where new versions get none."""

    mode: str | None
    days: int | None


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """An enabled lifecycle rule. `is_partial`: it also asks for tags or sizes.

    `expires`: when current versions go, in S3's words. `noncurrent_days`: when noncurrent ones go.
    `transitions` and `noncurrent_transitions`: after how many days which of them move to a class.
    """

    rule_id: str
    prefix: str
    is_partial: bool
    expires: str | None
    noncurrent_days: int | None
    transitions: tuple[tuple[int, str], ...]
    noncurrent_transitions: tuple[tuple[int, str], ...]
    abort_days: int | None


@dataclass(frozen=True, slots=True)
class ReplicationRule:
    """A replication rule, and the role of all of them.

    `is_partial`: it also asks for tags, so it leaves objects out. `priority`: of rules to one
    bucket, S3 follows the one with the highest.
    """

    role: str
    rule_id: str
    is_enabled: bool
    priority: int
    prefix: str
    is_partial: bool
    destination: str
    replicates_markers: bool
    replicates_kms: bool
    has_metrics: bool


@dataclass(frozen=True, slots=True)
class InventorySetting:
    """An inventory configuration: where its reports go, and what is in them."""

    is_enabled: bool
    bucket: str
    prefix: str
    format: str
    frequency: str
    versions: str
    filter_prefix: str


@dataclass(frozen=True, slots=True)
class QueueNotification:
    """Events that S3 sends to a queue. Empty `prefix` and `suffix`: of all keys.

    `prefix` is as keys have it. None: as the filter writes it, no key has it.
    """

    queue_arn: str
    events: frozenset[str]
    prefix: str | None
    suffix: str


@dataclass(frozen=True, slots=True)
class Notifications:
    """Where a bucket's events go: queues, and EventBridge."""

    queues: tuple[QueueNotification, ...]
    has_event_bridge: bool


class BucketSettings:
    """Reads settings of buckets in one region. Methods raise StoreError and ConfigError."""

    def __init__(self, clients: Clients | Mapping[str, Any]):
        self._clients = clients

    @property
    def _client(self) -> Any:
        return self._clients["s3"]

    def find(self, bucket: str) -> BucketPlace | None:
        """The region of the bucket. None if no bucket has this name."""
        try:
            answer = call(self._client, "HeadBucket", bucket, Bucket=bucket)
        except NotFound:
            return None
        said = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return BucketPlace(said)

    def clock_skew_seconds(self, bucket: str) -> float:
        """How much this machine's clock is ahead of S3's."""
        answer = call(self._client, "HeadBucket", bucket, Bucket=bucket)
        return time.time() - parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

    def versioning(self, bucket: str) -> str:
        """Enabled, Suspended, or an empty text if it was never enabled."""
        return str(call(self._client, "GetBucketVersioning", bucket, Bucket=bucket).get("Status", ""))

    def encryption(self, bucket: str) -> BucketEncryption | None:
        """The default encryption."""
        answer = self._ask("GetBucketEncryption", bucket)
        if answer is None:
            return None
        default = answer["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]
        return BucketEncryption(default["SSEAlgorithm"], default.get("KMSMasterKeyID"))

    def lock(self, bucket: str) -> BucketLock | None:
        """Object Lock, None where it is off."""
        answer = self._ask("GetObjectLockConfiguration", bucket)
        setting = (answer or {}).get("ObjectLockConfiguration", {})
        if setting.get("ObjectLockEnabled") != "Enabled":
            return None
        default = setting.get("Rule", {}).get("DefaultRetention", {})
        days = default.get("Days") or (365 * default["Years"] if default.get("Years") else None)
        return BucketLock(default.get("Mode"), days)

    def ownership(self, bucket: str) -> str | None:
        """BucketOwnerEnforced, BucketOwnerPreferred or ObjectWriter."""
        answer = self._ask("GetBucketOwnershipControls", bucket)
        return None if answer is None else str(answer["OwnershipControls"]["Rules"][0]["ObjectOwnership"])

    def blocks_public(self, bucket: str) -> bool:
        """Whether all four kinds of public access are blocked."""
        answer = self._ask("GetPublicAccessBlock", bucket)
        names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        return answer is not None and all(answer["PublicAccessBlockConfiguration"].get(name) for name in names)

    def lifecycle(self, bucket: str, owner: str | None = None) -> tuple[LifecycleRule, ...]:
        """The enabled rules. `owner`: the account that must own the bucket."""
        owned = {"ExpectedBucketOwner": owner} if owner else {}
        answer = self._ask("GetBucketLifecycleConfiguration", bucket, **owned)
        rules = [] if answer is None else answer["Rules"]
        return tuple(_lifecycle_rule(rule) for rule in rules if rule["Status"] == "Enabled")

    def replication(self, bucket: str) -> tuple[ReplicationRule, ...]:
        """All rules, enabled or not."""
        answer = self._ask("GetBucketReplication", bucket)
        if answer is None:
            return ()
        setting = answer["ReplicationConfiguration"]
        return tuple(_replication_rule(rule, setting["Role"]) for rule in setting["Rules"])

    def inventory(self, bucket: str, name: str) -> InventorySetting | None:
        """The inventory configuration of this name."""
        answer = self._ask("GetBucketInventoryConfiguration", bucket, Id=name)
        if answer is None:
            return None
        setting = answer["InventoryConfiguration"]
        place = setting["Destination"]["S3BucketDestination"]
        return InventorySetting(
            is_enabled=setting["IsEnabled"],
            bucket=place["Bucket"].rpartition(":")[2],
            prefix=place.get("Prefix", ""),
            format=place["Format"],
            frequency=setting["Schedule"]["Frequency"],
            versions=setting["IncludedObjectVersions"],
            filter_prefix=setting.get("Filter", {}).get("Prefix", ""),
        )

    def notifications(self, bucket: str) -> Notifications:
        """Where the bucket's events go."""
        answer = call(self._client, "GetBucketNotificationConfiguration", bucket, Bucket=bucket)
        queues = answer.get("QueueConfigurations", [])
        return Notifications(tuple(map(_queue_notification, queues)), "EventBridgeConfiguration" in answer)

    def _ask(self, operation: str, bucket: str, **more: str) -> Any:
        return none_if_absent(lambda: call(self._client, operation, bucket, Bucket=bucket, **more))


def _filtered(rule: Mapping[str, Any]) -> tuple[str, bool]:
    """(prefix, whether anything else narrows it) of a lifecycle or replication rule."""
    chosen = rule.get("Filter") or {}
    joined = chosen.get("And") or chosen
    prefix = joined.get("Prefix") or rule.get("Prefix") or ""
    return prefix, any(name not in ("Prefix", "And") for name in joined)


def _lifecycle_rule(rule: Mapping[str, Any]) -> LifecycleRule:
    prefix, is_partial = _filtered(rule)
    expiration = rule.get("Expiration", {})
    expires = f"after {expiration['Days']} days" if "Days" in expiration else None
    if "Date" in expiration:
        expires = f"on {expiration['Date']:%Y-%m-%d}"
    transitions = [(each.get("Days", 0), str(each["StorageClass"])) for each in rule.get("Transitions", [])]
    noncurrent = rule.get("NoncurrentVersionTransitions", [])
    replaced = rule.get("NoncurrentVersionExpiration")  # SeaweedFS and MinIO take it without days
    return LifecycleRule(
        rule_id=rule.get("ID", ""),
        prefix=prefix,
        is_partial=is_partial,
        expires=expires,
        noncurrent_days=None if replaced is None else replaced.get("NoncurrentDays", 0),
        transitions=tuple(sorted(transitions)),
        noncurrent_transitions=tuple(
            sorted((each["NoncurrentDays"], str(each["StorageClass"])) for each in noncurrent)
        ),
        abort_days=rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    )


def _replication_rule(rule: Mapping[str, Any], role: str) -> ReplicationRule:
    prefix, is_partial = _filtered(rule)
    place = rule["Destination"]
    encrypted = rule.get("SourceSelectionCriteria", {}).get("SseKmsEncryptedObjects", {})
    return ReplicationRule(
        role=role,
        rule_id=rule.get("ID", ""),
        is_enabled=rule["Status"] == "Enabled",
        priority=rule.get("Priority", 0),
        prefix=prefix,
        is_partial=is_partial,
        destination=place["Bucket"].rpartition(":")[2],
        replicates_markers=rule.get("DeleteMarkerReplication", {}).get("Status") == "Enabled",
        replicates_kms=encrypted.get("Status") == "Enabled",
        has_metrics=place.get("Metrics", {}).get("Status") == "Enabled",
    )


def _queue_notification(each: Mapping[str, Any]) -> QueueNotification:
    rules = each.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    filters = {rule["Name"].lower(): rule["Value"] for rule in rules}
    events = frozenset(map(str, each["Events"]))
    prefix = _decoded_filter(filters.get("prefix", ""))
    return QueueNotification(each["QueueArn"], events, prefix, filters.get("suffix", ""))


def _decoded_filter(text: str) -> str | None:
    """The prefix of keys that a notification filter selects.

    S3 wants a space as `+` and other special characters percent-encoded. None where one is there as
    it is: S3 takes such a filter, and notifies nobody.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
    """
    return unquote_plus(text) if _FILTER.fullmatch(text) else None
