"""What should be there: names and settings that terraform/ makes of a policy. Pure.

The comments name the file of terraform/ that says the same. A test compares both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jobs.core.enums import AnnotationRule, Deletes, Encryption, Notifications
from jobs.policy.model import Archive, Destination, Ledger, ObjectLock, Pair, Policy, Replica
from jobs.policy.words import minutes_of

FUNCTIONS = ("backup", "enqueue", "submit", "follow")
DIRECT_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*")
RULE_EVENTS = ("Object Created", "Object Deleted")
SAMPLE = "sealift-doctor"
"""The end of a sample key below a prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPlan:
    """A bucket of ours, as the policy wants it (storage.tf).

    `may_expire`: prefixes whose objects lifecycle rules may delete.
    """

    bucket: str
    region: str
    uses: frozenset[str]
    encryption: str
    kms_key: str | None
    lock: ObjectLock | None
    is_locked: bool
    noncurrent_days: int | None
    transitions: tuple[tuple[int, str], ...]
    may_expire: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A protected bucket (events.tf). `is_direct`: S3 sends to the queue itself.

    `prefixes`: keys that begin with one of these are protected.
    """

    bucket: str
    region: str
    prefixes: tuple[str, ...]
    is_ours: bool
    is_direct: bool
    is_foreign: bool


@dataclass(frozen=True, slots=True)
class RulePlan:
    """An EventBridge rule (events.tf). `goal`: a function's or queue's name, or `bus`.

    `samples`: events that it has to let through.
    """

    name: str
    region: str
    goal: str
    samples: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ReplicationPlan:
    """One rule of S3's own replication (replication.tf).

    `owner`: the other account that owns the hot bucket, with the rule, its role, its metrics and
    its alarms (other_accounts.tf). None: the system's.
    """

    rule_id: str
    prefix: str
    hot: str
    hot_region: str
    replica: str
    replica_region: str
    replicates_markers: bool
    replicates_annotations: bool
    needs_kms: bool
    seconds_max: float
    owner: str | None


@dataclass(frozen=True, slots=True)
class UndeliveredQueue:
    """A queue of events that were not delivered (events.tf, modules/other-account/main.tf).

    `account`: the other account that it is in, None: the system's.
    """

    name: str
    region: str
    account: str | None

    def text(self, home: str) -> str:
        """The name for people, of a system whose region is `home`."""
        place = f" in {self.region}" if self.account or self.region != home else ""
        return f"{self.name}{place}{f' of account {self.account}' if self.account else ''}"


@dataclass(frozen=True, slots=True)
class InventoryPlan:
    """One inventory (inventory.tf)."""

    bucket: str
    region: str
    reports: str
    prefix: str
    format: str


@dataclass(frozen=True, slots=True)
class JobQueuePlan:
    """A job queue (batch.tf). `kind`: of its compute environments, None where it is not ours."""

    use: str
    name: str
    kind: str | None
    max_vcpus: int


_KINDS: dict[str, dict[str, str]] = {
    "fargate_spot": {"spot": "FARGATE_SPOT", "on_demand": "FARGATE", "orchestrators": "FARGATE"},
    "fargate": {"spot": "FARGATE", "on_demand": "FARGATE", "orchestrators": "FARGATE"},
}
QUOTAS = {
    "FARGATE_SPOT": ("fargate", "L-36FBB829", "Fargate Spot vCPU resource count"),
    "FARGATE": ("fargate", "L-3032A538", "Fargate On-Demand vCPU resource count"),
    "SPOT": ("ec2", "L-34B43A08", "All Standard Spot Instance Requests"),
    "EC2": ("ec2", "L-1216C47A", "Running On-Demand Standard instances"),
}
"""Kind of compute environment → quota of its vCPUs: service, code, name."""


def bucket_plans(policy: Policy) -> list[BucketPlan]:
    """Every bucket that Sealift writes to, each once."""
    uses: dict[str, list[BucketPlan]] = {}
    for plan in _uses(policy):
        uses.setdefault(plan.bucket, []).append(plan)
    return [_merged(plans) for plans in uses.values()]


def _uses(policy: Policy) -> Iterator[BucketPlan]:
    for pair in policy.pairs:
        hot, replica, archive = pair.destination, pair.replica, pair.archive
        yield _plan(
            hot, "hot", hot.encryption, hot.kms_key, hot.object_lock,
            noncurrent_days=hot.noncurrent_days,
            transitions=tuple((int(each.days), str(each.storage_class)) for each in hot.transitions),
        )  # fmt: skip
        if replica:
            encryption = Encryption.KMS if replica.kms_key else Encryption.S3
            yield replace(
                _plan(replica, "replica", encryption, replica.kms_key, noncurrent_days=hot.noncurrent_days),
                is_locked=hot.object_lock is not None,  # S3 replicates a locked bucket to a locked one only
            )
        if archive:
            yield _plan(archive, "archive", archive.encryption, archive.kms_key, archive.object_lock)
    if policy.inventory:
        reports = (str(policy.inventory.prefix),)
        for region, bucket in policy.inventory.buckets.items():
            place = _Place(bucket, region)
            yield _plan(place, "inventory", Encryption.KMS, "create", may_expire=reports)
    ledger = policy.ledger
    scratch = tuple(f"{ledger.prefix}{folder}/" for folder in ("athena", "backlog", "removed"))
    yield _plan(ledger, "ledger", Encryption.KMS, "create", may_expire=scratch)


class _Place(NamedTuple):
    bucket: str
    region: str


def _plan(
    side: Destination | Replica | Archive | Ledger | _Place,
    use: str,
    encryption: str,
    kms_key: str | None,
    lock: ObjectLock | None = None,
    *,
    noncurrent_days: int | None = None,
    transitions: tuple[tuple[int, str], ...] = (),
    may_expire: tuple[str, ...] = (),
) -> BucketPlan:
    return BucketPlan(
        bucket=str(side.bucket),
        region=str(side.region),
        uses=frozenset({use}),
        encryption=str(encryption),
        kms_key=None if kms_key is None else str(kms_key),
        lock=lock,
        is_locked=lock is not None,
        noncurrent_days=None if noncurrent_days is None else int(noncurrent_days),
        transitions=transitions,
        may_expire=may_expire,
    )


def _merged(plans: list[BucketPlan]) -> BucketPlan:
    """A bucket of several uses, as the locals of storage.tf merge them."""
    days = [plan.noncurrent_days for plan in plans if plan.noncurrent_days is not None]
    return BucketPlan(
        bucket=plans[0].bucket,
        region=plans[0].region,
        uses=frozenset(use for plan in plans for use in plan.uses),
        encryption=next((plan.encryption for plan in plans if plan.encryption != "AES256"), "AES256"),
        kms_key=next((plan.kms_key for plan in plans if plan.kms_key), None),
        lock=next((plan.lock for plan in plans if plan.lock), None),
        is_locked=any(plan.is_locked for plan in plans),
        noncurrent_days=max(days) if days else None,
        transitions=next((plan.transitions for plan in plans if plan.transitions), ()),
        may_expire=tuple(dict.fromkeys(prefix for plan in plans for prefix in plan.may_expire)),
    )


def source_plans(policy: Policy) -> list[SourcePlan]:
    """Every protected bucket, each once."""
    plans = {}
    for pair in policy.pairs:
        bucket = pair.source.bucket
        of_bucket = [each.source for each in policy.pairs if each.source.bucket == bucket]
        prefixes = tuple(dict.fromkeys(str(prefix) for source in of_bucket for prefix in source.prefixes))
        is_ours = any(source.notifications is Notifications.REPLACE for source in of_bucket)
        region = str(pair.source.region)
        is_direct = is_ours and region == policy.ledger.region
        plans[bucket] = SourcePlan(str(bucket), region, prefixes, is_ours, is_direct, policy.is_foreign(pair.source))
    return list(plans.values())


def rule_plans(policy: Policy) -> list[RulePlan]:
    """The rules that objects, inventories, restores and jobs go through."""
    home = str(policy.ledger.region)
    plans: list[RulePlan] = []

    def add(key: str, regions: set[str], goal: str, *samples: Mapping[str, Any]) -> None:
        name = f"{policy.name}-{_rule_key(key)}"
        plans.append(RulePlan(name, home, goal, samples))
        plans.extend(RulePlan(name, region, "bus", samples) for region in sorted(regions - {home}))

    for source in source_plans(policy):
        if not source.is_direct:
            keys = [f"{prefix}{SAMPLE}" for prefix in source.prefixes]
            events = [_object_event(kind, source.bucket, key) for kind in RULE_EVENTS for key in keys]
            # a rule of its owners forwards what another account's bucket sends
            regions = {home if source.is_foreign else source.region}
            add(f"objects-{source.bucket}", regions, f"{policy.name}-objects", *events)
    if policy.inventory:
        folder = policy.inventory.prefix
        buckets = {str(region): str(bucket) for region, bucket in policy.inventory.buckets.items()}
        made = [
            _object_event("Object Created", bucket, f"{folder}{SAMPLE}/manifest.checksum")
            for bucket in buckets.values()
        ]
        add("inventory", set(buckets), f"{policy.name}-submit", *made)
    archives = [pair.archive for pair in policy.pairs if pair.archive]
    if archives:
        buckets_of_archives = dict.fromkeys(str(archive.bucket) for archive in archives)
        thawed = [_object_event("Object Restore Completed", bucket, SAMPLE) for bucket in buckets_of_archives]
        ours = {str(archive.region) for archive in archives if not policy.is_foreign(archive)}
        add("restored", ours, f"{policy.name}-follow", *thawed)
    for status in ("succeeded", "failed"):
        ended = [_job_event(queue.name, status.upper()) for queue in job_queue_plans(policy)]
        add(f"batch-{status}", {home}, f"{policy.name}-follow", *ended)
    return plans


def _rule_key(key: str) -> str:
    """The name of a rule without the system's: cut, and told apart by a hash, where it is long."""
    digest = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    return key if len(key) <= 38 else f"{key[:31]}-{digest[:6]}"


def _object_event(kind: str, bucket: str, key: str) -> dict[str, Any]:
    return {
        "source": "aws.s3",
        "detail-type": kind,
        "detail": {"bucket": {"name": bucket}, "object": {"key": key}},
    }


def _job_event(queue: str, status: str) -> dict[str, Any]:
    """`queue` is a name here. Who knows the queue's ARN puts it in its place."""
    return {
        "source": "aws.batch",
        "detail-type": "Batch Job State Change",
        "detail": {"jobQueue": queue, "status": status},
    }


def replication_plans(policy: Policy) -> list[ReplicationPlan]:
    """A rule for each prefix of each pair with a replica."""
    plans = []
    for pair in policy.pairs:
        if pair.replica is None:
            continue
        for number, prefix in enumerate(pair.source.prefixes):
            plans.append(
                ReplicationPlan(
                    rule_id=f"{pair.name}-{number}" if number else str(pair.name),
                    prefix=pair.copy_key(prefix),
                    hot=str(pair.destination.bucket),
                    hot_region=str(pair.destination.region),
                    replica=str(pair.replica.bucket),
                    replica_region=str(pair.replica.region),
                    replicates_markers=pair.replica.delete_markers,
                    replicates_annotations=pair.destination.annotations is not AnnotationRule.SKIP,
                    needs_kms=pair.replica.kms_key is not None,
                    seconds_max=pair.replica.lag_seconds,
                    owner=str(pair.destination.account) if policy.is_foreign(pair.destination) else None,
                )
            )
    return plans


def inventory_plans(policy: Policy) -> list[InventoryPlan]:
    """The inventories of sources, hot buckets and replicas, in regions that have a bucket for them."""
    inventory = policy.inventory
    if inventory is None:
        return []
    sides: dict[str, str] = {}
    for pair in policy.pairs:
        if pair.source.inventory:
            sides[str(pair.source.bucket)] = str(pair.source.region)
        sides[str(pair.destination.bucket)] = str(pair.destination.region)
        if pair.replica:
            sides[str(pair.replica.bucket)] = str(pair.replica.region)
    reports = {str(region): str(bucket) for region, bucket in inventory.buckets.items()}
    return [
        InventoryPlan(bucket, region, reports[region], str(inventory.prefix), str(inventory.format))
        for bucket, region in sides.items()
        if region in reports
    ]


def job_queue_plans(policy: Policy) -> list[JobQueuePlan]:
    """The job queues, each once."""
    batch = policy.batch
    kinds = _KINDS[str(batch.compute)]
    sizes = dict.fromkeys(kinds, int(batch.max_vcpus)) | {"orchestrators": (2 * len(policy.pairs) + 2) * batch.vcpus}
    plans: dict[str, JobQueuePlan] = {}
    for use, kind in kinds.items():
        name = f"{policy.name}-{use.replace('_', '-')}"
        plans.setdefault(name, JobQueuePlan(use, name, kind, sizes[use]))
    return list(plans.values())


def jobs(policy: Policy) -> list[str]:
    """The jobs that have a definition."""
    names = ["inventory", "replicate", "verify", "reconcile", "nightly", "backfill"]
    if any(pair.archive for pair in policy.pairs):
        names += ["compact", "restore"]
    if any(pair.archive and pair.archive.expire for pair in policy.pairs):
        names.append("expire")
    return names


def mirrors(pair: Pair) -> bool:
    """Whether deletes at the source become delete markers on copies."""
    return pair.deletes == Deletes.MIRROR


def environment(policy: Policy, use: str) -> dict[str, str]:
    """What functions (`orchestrators`) and jobs (`spot`) have to know (lambda.tf).

    `use` says which job queue they send to.
    """
    queues = {plan.use: plan.name for plan in job_queue_plans(policy)}
    return {
        "SEALIFT_LEDGER": policy.ledger.uri,
        "SEALIFT_POLICY": f"s3://{policy.ledger.bucket}/{policy.ledger.prefix}policy.yaml",
        "SEALIFT_SYSTEM": str(policy.name),
        "SEALIFT_EXECUTOR": "batch",
        "SEALIFT_BATCH_QUEUE": queues.get(use) or next(iter(queues.values())),
        "SEALIFT_BATCH_JOB_DEFINITION": f"{policy.name}-{{job}}",
    }


def far_regions(policy: Policy) -> list[str]:
    """Regions with a queue of what rules could not forward, and of alarms there (monitoring.tf)."""
    regions = {source.region for source in source_plans(policy) if not source.is_direct and not source.is_foreign}
    regions |= {str(region) for region in policy.inventory.buckets} if policy.inventory else set()
    archives = (pair.archive for pair in policy.pairs if pair.archive)
    regions |= {str(archive.region) for archive in archives if not policy.is_foreign(archive)}
    ours_too = [plan for plan in replication_plans(policy) if plan.owner is None]
    regions |= {region for plan in ours_too for region in (plan.hot_region, plan.replica_region)}
    return sorted(regions - {str(policy.ledger.region)})


def undelivered_queues(policy: Policy) -> list[UndeliveredQueue]:
    """Queues of events that no rule, schedule or call could deliver: at home, and where rules
    forward from.
    """
    name, home = f"{policy.name}-undelivered", str(policy.ledger.region)
    others: set[tuple[str, str]] = set()
    for pair in policy.pairs:
        sides = (pair.source, pair.archive)
        others |= {(str(side.account), str(side.region)) for side in sides if side and policy.is_foreign(side)}
    for plan in replication_plans(policy):
        if plan.owner is not None:
            others |= {(plan.owner, plan.hot_region), (plan.owner, plan.replica_region)}
    return [
        UndeliveredQueue(name, home, None),
        *(UndeliveredQueue(name, region, None) for region in far_regions(policy)),
        *(UndeliveredQueue(name, region, account) for account, region in sorted(others)),
    ]


def cron(pair: Pair) -> str:
    """The schedule of the pair's night, as events.tf writes it."""
    minutes = minutes_of(pair.nightly.hour)
    return f"cron({minutes % 60} {minutes // 60} * * ? *)"
