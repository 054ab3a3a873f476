"""Misconfigurations that people make, each with the one line of the doctor that has to name it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tests.doctor.account import CUSTOMS_KEY, DUBLIN, HOME, IAD, IMAGE, OBJECTS, arn, key_of, replication_rule
from tests.doctor.system import HOUR, POLICY, System


class Plant(NamedTuple):
    """A misconfiguration, and the line that names it: status, check, subject, words of what is said."""

    plant: Callable[[System], object]
    line: str


def setting(bucket: str, name: str, value: Any) -> Callable[[System], object]:
    return lambda system: system.account.buckets[bucket].update({name: value})


def lifecycle(bucket: str, rule: dict[str, Any]) -> Callable[[System], object]:
    return lambda system: system.account.buckets[bucket]["Lifecycle"]["Rules"].append({"Status": "Enabled"} | rule)


def inside(document: Any, *steps: Any, to: Any) -> None:
    for step in steps[:-1]:
        document = document[step]
    document[steps[-1]] = to


def change(part: str, *steps: Any, to: Any) -> Callable[[System], object]:
    return lambda system: inside(getattr(system.account, part), *steps, to=to)


def policy_of_queue(change_it: Callable[[list[dict[str, Any]]], object]) -> Callable[[System], object]:
    def plant(system: System) -> None:
        queue = system.account.queues["parcels-objects"]
        policy = json.loads(queue["Policy"])
        change_it(policy["Statement"])
        queue["Policy"] = json.dumps(policy)

    return plant


def pattern(region: str, name: str, *steps: Any, to: Any) -> Callable[[System], object]:
    def plant(system: System) -> None:
        rule = system.account.rules[region, name]
        document = json.loads(rule["EventPattern"])
        inside(document, *steps, to=to)
        rule["EventPattern"] = json.dumps(document)

    return plant


def refuse(role: str, action: str, resource: str = "*") -> Callable[[System], object]:
    return lambda system: system.account.refused.add((role, action, resource))


def replication(name: str, *steps: Any, to: Any) -> Callable[[System], object]:
    def plant(system: System) -> None:
        rules = system.account.buckets["example-hot-fra"]["Replication"]["ReplicationConfiguration"]["Rules"]
        inside(next(rule for rule in rules if rule["ID"] == name), *steps, to=to)

    return plant


def inventory(bucket: str, *steps: Any, to: Any) -> Callable[[System], object]:
    return change("buckets", bucket, "Inventory", "InventoryConfiguration", *steps, to=to)


def reserved_beyond(system: System) -> None:
    system.account.concurrency = 100
    inside(system.account.functions, "parcels-backup", "reserved", to=20)


def old_report(system: System) -> None:
    system.remove("example-inventory-fra", "inventory/example-scans/")
    system.put_report("example-inventory-fra", "example-scans", time.time() - 60 * HOUR)


def night_ago(system: System, days: int) -> str:
    return str(datetime.now(UTC).date() - timedelta(days=days))


def no_last_nights(system: System) -> None:
    for days in (1, 2, 3):
        system.remove("example-ledger", f"sealift/nights/scans/{night_ago(system, days)}")


def nights_without_proof(system: System) -> None:
    """Nights that end well, but whose verification was not complete."""
    for days in range(1, 20):
        night = datetime.now(UTC).date() - timedelta(days=days)
        system.remove("example-ledger", f"sealift/nights/customs/{night}")
        system.put_night("customs", night, exit_code=0, verdict="All is well.", state="planned")


def findings_last_night(system: System) -> None:
    night = datetime.now(UTC).date() - timedelta(days=1)
    system.remove("example-ledger", f"sealift/nights/tracking/{night}")
    system.put_night("tracking", night, exit_code=3, verdict="2 rows need attention: 2 mismatched.")


def older_than_the_rule(system: System) -> None:
    night = datetime.now(UTC).date() - timedelta(days=1)
    system.remove("example-ledger", f"sealift/nights/scans/{night}")
    system.put_night("scans", night, exit_code=0, verdict="All is well.", unreplicated=1234)


def replicas_never_compared(system: System) -> None:
    for days in range(1, 41):
        night = datetime.now(UTC).date() - timedelta(days=days)
        system.remove("example-ledger", f"sealift/nights/tracking/{night}")
        system.put_night("tracking", night, exit_code=0, verdict="All is well.", unreplicated=None)


def overruled(system: System) -> None:
    """Of two rules to one bucket S3 follows the one of the higher priority, wherever it stands."""
    rules = system.account.buckets["example-hot-fra"]["Replication"]["ReplicationConfiguration"]["Rules"]
    stray = replication_rule("stray", "delivery/scans/") | {"Priority": 99}
    rules.append(stray | {"DeleteMarkerReplication": {"Status": "Disabled"}})


AES = {
    "ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
}
OTHER_KEY = {
    "ServerSideEncryptionConfiguration": {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key_of(DUBLIN)}}]
    }
}
NOTIFIED = {
    "QueueArn": OBJECTS,
    "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"],
    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "scans/"}]}},
}
SIGNATURES = NOTIFIED | {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "signatures/"}]}}}
CREATED = NOTIFIED | {"Events": ["s3:ObjectCreated:*"]}
SPOT = arn("batch", "compute-environment/parcels-spot-1")

RETENTION = ("ObjectLock", "ObjectLockConfiguration", "Rule", "DefaultRetention")
VARIABLES = ("configuration", "Environment", "Variables")

PLANTS = [
    # credentials and clock
    Plant(lambda s: setattr(s.account, "skew_seconds", 600.0), "failure clock the account: ahead of S3's"),
    # buckets
    Plant(setting("example-hot-dub", "region", IAD), "failure region example-hot-dub: us-east-1"),
    Plant(
        setting("example-hot-fra", "Versioning", {"Status": "Suspended"}),
        "failure versioning example-hot-fra: suspended",
    ),
    Plant(setting("example-tracking", "Versioning", {}), "warning versioning example-tracking: keeps no versions"),
    Plant(setting("example-hot-fra", "Encryption", AES), "failure encryption example-hot-fra: AES256"),
    Plant(
        setting("example-customs-copies", "Encryption", OTHER_KEY),
        "failure kms-key example-customs-copies: the policy says",
    ),
    Plant(change("keys", CUSTOMS_KEY, to="PendingDeletion"), "failure kms-key example-customs-copies: PendingDeletion"),
    Plant(setting("example-customs-copies", "ObjectLock", None), "failure object-lock example-customs-copies: off"),
    Plant(
        change("buckets", "example-customs-copies", *RETENTION, "Mode", to="GOVERNANCE"),
        "failure object-lock example-customs-copies: GOVERNANCE",
    ),
    Plant(
        setting(
            "example-archives-fra",
            "OwnershipControls",
            {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}},
        ),
        "failure ownership example-archives-fra: ObjectWriter",
    ),
    Plant(
        setting(
            "example-archives-fra", "PublicAccessBlock", {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}}
        ),
        "failure public-access example-archives-fra: not blocked",
    ),
    Plant(
        lifecycle("example-hot-fra", {"ID": "clean", "Filter": {"Prefix": "delivery/"}, "Expiration": {"Days": 30}}),
        "failure lifecycle example-hot-fra: clean deletes objects below 'delivery/' after 30 days",
    ),
    Plant(
        lifecycle(
            "example-hot-fra", {"ID": "early", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 7}}
        ),
        "failure lifecycle example-hot-fra: 7 days after",
    ),
    Plant(
        lifecycle("example-ledger", {"ID": "runs", "Filter": {"Prefix": "sealift/runs/"}, "Expiration": {"Days": 30}}),
        "failure lifecycle example-ledger: sealift/runs/",
    ),
    # events
    Plant(
        setting("example-scans", "Notification", {"QueueConfigurations": [CREATED, SIGNATURES]}),
        "failure notifications example-scans: ObjectRemoved",
    ),
    Plant(setting("example-scans", "Notification", {}), "failure notifications example-scans: nobody"),
    Plant(setting("example-tracking", "Notification", {}), "failure notifications example-tracking: EventBridge"),
    Plant(policy_of_queue(lambda statements: statements.pop(1)), "failure queue-policy parcels-objects: example-scans"),
    Plant(
        policy_of_queue(
            lambda statements: inside(
                statements, 2, "Condition", "ArnEquals", "aws:SourceArn", to=["arn:aws:events:x:y:rule/z"]
            )
        ),
        "failure queue-policy parcels-objects: rule/parcels-objects-example",
    ),
    Plant(
        lambda s: s.account.key_policy["Statement"].pop(2), "failure queue-key parcels-objects: events.amazonaws.com"
    ),
    Plant(
        change("queues", "parcels-objects", "RedrivePolicy", to="{}"),
        "failure queue parcels-objects: no dead-letter queue",
    ),
    Plant(
        change("queues", "parcels-objects", "MessageRetentionPeriod", to="600"),
        "failure queue-retention parcels-objects: longer gets lost",
    ),
    Plant(
        change("queues", "parcels-objects-dead", "MessageRetentionPeriod", to="345600"),
        "warning queue-retention parcels-objects: before anybody reads it",
    ),
    Plant(
        change("queues", "parcels-objects", "VisibilityTimeout", to="30"),
        "warning queue-visibility parcels-objects: 30 s",
    ),
    Plant(change("mappings", 0, "State", to="Disabled"), "failure event-source parcels-objects: Disabled"),
    Plant(change("mappings", 0, "FunctionResponseTypes", to=[]), "failure event-source parcels-objects: deletes"),
    Plant(
        change("queues", "parcels-objects-dead", "ApproximateNumberOfMessages", to="7"),
        "failure dead-letters parcels-objects-dead: 7 dead letters",
    ),
    Plant(
        change("rules", (HOME, "parcels-objects-example-tracking"), "State", to="DISABLED"),
        f"failure rule parcels-objects-example-tracking in {HOME}: disabled",
    ),
    Plant(
        change("rules", (HOME, "parcels-inventory"), "targets", to=[]),
        f"failure rule parcels-inventory in {HOME}: nobody",
    ),
    Plant(
        change("rules", (IAD, "parcels-inventory"), "targets", 0, "DeadLetterConfig", to={}),
        f"warning rule-dead-letters parcels-inventory in {IAD}: no dead-letter queue",
    ),
    Plant(
        pattern(HOME, "parcels-objects-example-tracking", "detail", "object", "key", to=[{"prefix": "old/"}]),
        f"failure rule parcels-objects-example-tracking in {HOME}: events/",
    ),
    Plant(change("functions", "parcels-backup", "reserved", to=0), "failure function parcels-backup: never runs"),
    Plant(
        change("functions", "parcels-submit", "configuration", "DeadLetterConfig", to={}),
        "warning function-dead-letters parcels-submit: fails three times gets lost",
    ),
    Plant(
        change("functions", "parcels-enqueue", *VARIABLES, "SEALIFT_LEDGER", to="s3://old/"),
        "failure function parcels-enqueue: s3://old/",
    ),
    Plant(lambda s: setattr(s.account, "concurrency", 10), "warning lambda-quota the account: 10"),
    Plant(reserved_beyond, "warning lambda-quota the account: 20"),
    Plant(change("schedules", "night-customs", "State", to="DISABLED"), "failure schedule night-customs: off"),
    Plant(
        change("metrics", ("ApproximateAgeOfOldestMessage", "parcels-objects"), to=7200.0),
        "failure queue-age parcels-objects: waits for",
    ),
    Plant(
        change("queues", f"parcels-undelivered in {IAD}", "ApproximateNumberOfMessages", to="2"),
        f"failure dead-letters parcels-undelivered in {IAD}: 2 dead letters",
    ),
    Plant(
        lambda s: s.account.functions["parcels-submit"]["policy"]["Statement"].clear(),
        f"failure rule-permission parcels-inventory in {HOME}: does not let the rule call it",
    ),
    Plant(
        refuse("parcels-scheduler", "lambda:InvokeFunction", "*parcels-submit"),
        "failure role schedules: parcels-submit",
    ),
    Plant(
        change("metrics", ("Errors", "parcels-submit"), to=900.0),
        "failure function parcels-submit: all of its 900 calls",
    ),
    Plant(
        lambda s: s.put("example-ledger", "sealift/policy.yaml", POLICY.read_bytes().replace(b"1/30 ", b"1/31 ")),
        "failure policy-file s3://example-ledger/sealift/policy.yaml: another one than yours",
    ),
    # replication and inventories
    Plant(overruled, "failure replication example-hot-fra scans: stray leaves out delete"),
    Plant(
        replication("scans-1", "Destination", "Bucket", to="arn:aws:s3:::elsewhere"),
        "failure replication example-hot-fra scans-1: elsewhere",
    ),
    Plant(
        change("metrics", ("ReplicationLatency", "scans"), to=5000.0),
        "failure replication-backlog example-hot-fra scans: behind",
    ),
    Plant(inventory("example-scans", "IsEnabled", to=False), "failure inventory example-scans: disabled"),
    Plant(old_report, "failure inventory-age example-scans: 60 hours"),
    # Batch
    Plant(change("job_queues", "parcels-spot", "state", to="DISABLED"), "failure job-queue parcels-spot: DISABLED"),
    Plant(change("environments", SPOT, "state", to="DISABLED"), "failure compute-environment parcels-spot: DISABLED"),
    Plant(
        change("definitions", "parcels-nightly", "status", to="INACTIVE"),
        "failure job-definition parcels-nightly: no revision",
    ),
    Plant(lambda s: s.account.images.clear(), f"failure image {IMAGE}: not in its repository"),
    Plant(
        change("quotas", "L-3032A538", to=130.0), "warning vcpu-quota Fargate On-Demand vCPU resource count: 130 vCPUs"
    ),
    # roles
    Plant(refuse("parcels-job-verify", "s3:GetObject", "*example-hot-dub*"), "failure role job verify: s3:GetObject"),
    Plant(
        lambda s: s.account.allowed.add(("parcels-job-replicate", "s3:BypassGovernanceRetention")),
        "failure role job replicate: which no such role should",
    ),
    Plant(lambda s: s.account.gone_roles.add("parcels-job-expire"), "failure role job expire: does not exist"),
    Plant(
        refuse("parcels-execution", "ecr:BatchGetImage", "*repository/parcels"),
        "failure role start of jobs: ecr:BatchGetImage",
    ),
    # the work
    Plant(no_last_nights, "failure last-night pair scans: hours ago"),
    Plant(findings_last_night, "warning last-night pair tracking: 2 rows need attention"),
    Plant(older_than_the_rule, "failure replica pair scans: 1,234 objects are not"),
    Plant(replicas_never_compared, "warning replica pair tracking: no night has compared"),
    Plant(nights_without_proof, "warning proof pair customs: before the last night"),
    Plant(
        change("metrics", ("OldestUnhandledEventAge", "scans"), to=5000.0), "failure oldest-event pair scans: unhandled"
    ),
    Plant(change("metrics", ("BacklogAge", "scans"), to=90_000.0), "failure oldest-backlog pair scans: no run took it"),
]
