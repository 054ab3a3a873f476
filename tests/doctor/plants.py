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

    name: str
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


def drop(part: str, key: Any) -> Callable[[System], object]:
    return lambda system: getattr(system.account, part).pop(key)


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


def incomplete_report(system: System) -> None:
    """S3 writes manifest.checksum last: without it a report is not complete."""
    for bucket, key, _ in system.versions():
        if key.startswith("inventory/example-scans/") and key.endswith("manifest.checksum"):
            system.remove(bucket, key)


def night_ago(system: System, days: int) -> str:
    return str(datetime.now(UTC).date() - timedelta(days=days))


def no_last_nights(system: System) -> None:
    for days in (1, 2, 3):
        system.remove("example-ledger", f"sealift/nights/scans/{night_ago(system, days)}")


def gap_of_nights(system: System) -> None:
    for days in range(3, 35):
        system.remove("example-ledger", f"sealift/nights/customs/{night_ago(system, days)}")


def nights_without_proof(system: System) -> None:
    """Nights that end well, but whose verification was not complete."""
    for days in range(1, 20):
        night = datetime.now(UTC).date() - timedelta(days=days)
        system.remove("example-ledger", f"sealift/nights/customs/{night}")
        system.put_night("customs", night, exit_code=0, verdict="All is well.", state="planned")


def key_of_aws(system: System) -> None:
    system.account.queues["parcels-objects"]["KmsMasterKeyId"] = "alias/aws/sqs"
    system.account.keys["alias/aws/sqs"] = "Enabled"
    system.account.managed_keys.add("alias/aws/sqs")


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
KMS = {
    "ServerSideEncryptionConfiguration": {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
    }
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
NARROW = NOTIFIED | {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "scans/2026/"}]}}}
SUFFIX = [{"Name": "prefix", "Value": "scans/"}, {"Name": "suffix", "Value": ".jpg"}]
JPEGS = NOTIFIED | {"Filter": {"Key": {"FilterRules": SUFFIX}}}
CREATED = NOTIFIED | {"Events": ["s3:ObjectCreated:*"]}
SPOT = arn("batch", "compute-environment/parcels-spot-1")
DEFINITION = ("definitions", "parcels-replicate", "containerProperties")

PLANTS = [
    # credentials and clock
    Plant("clock", lambda s: setattr(s.account, "skew_seconds", 600.0), "failure clock the account: ahead of S3's"),
    Plant("clock, a bit", lambda s: setattr(s.account, "skew_seconds", -90.0), "warning clock the account: behind"),
    # buckets
    Plant("another region", setting("example-hot-dub", "region", IAD), "failure region example-hot-dub: us-east-1"),
    Plant(
        "suspended",
        setting("example-hot-fra", "Versioning", {"Status": "Suspended"}),
        "failure versioning example-hot-fra: suspended",
    ),
    Plant(
        "never versioned",
        setting("example-ledger", "Versioning", {}),
        "failure versioning example-ledger: never enabled",
    ),
    Plant(
        "MFA only",
        setting("example-archives-fra", "Versioning", {"MFADelete": "Disabled"}),
        "failure versioning example-archives-fra: never",
    ),
    Plant(
        "source without versions",
        setting("example-tracking", "Versioning", {}),
        "warning versioning example-tracking: keeps no versions",
    ),
    Plant("AES256", setting("example-hot-fra", "Encryption", AES), "failure encryption example-hot-fra: AES256"),
    Plant("AWS's key", setting("example-hot-fra", "Encryption", KMS), "failure encryption example-hot-fra: AWS's own"),
    Plant(
        "another key",
        setting("example-customs-copies", "Encryption", OTHER_KEY),
        "failure kms-key example-customs-copies: the policy says",
    ),
    Plant(
        "key to be deleted",
        change("keys", CUSTOMS_KEY, to="PendingDeletion"),
        "failure kms-key example-customs-copies: PendingDeletion",
    ),
    Plant(
        "no lock",
        setting("example-customs-copies", "ObjectLock", None),
        "failure object-lock example-customs-copies: off",
    ),
    Plant(
        "lock without retention",
        setting("example-hot-fra", "ObjectLock", {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}),
        "failure object-lock example-hot-fra: no retention",
    ),
    Plant(
        "weaker lock",
        change(
            "buckets",
            "example-customs-copies",
            "ObjectLock",
            "ObjectLockConfiguration",
            "Rule",
            "DefaultRetention",
            "Mode",
            to="GOVERNANCE",
        ),
        "failure object-lock example-customs-copies: GOVERNANCE",
    ),
    Plant(
        "shorter lock",
        change(
            "buckets",
            "example-customs-copies",
            "ObjectLock",
            "ObjectLockConfiguration",
            "Rule",
            "DefaultRetention",
            "Days",
            to=30,
        ),
        "failure object-lock example-customs-copies: 30 days",
    ),
    Plant(
        "foreign owners",
        setting(
            "example-archives-fra",
            "OwnershipControls",
            {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}},
        ),
        "failure ownership example-archives-fra: ObjectWriter",
    ),
    Plant(
        "public",
        setting(
            "example-archives-fra", "PublicAccessBlock", {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}}
        ),
        "failure public-access example-archives-fra: not blocked",
    ),
    Plant(
        "copies expire",
        lifecycle("example-hot-fra", {"ID": "clean", "Filter": {"Prefix": "delivery/"}, "Expiration": {"Days": 30}}),
        "failure lifecycle example-hot-fra: clean deletes objects below 'delivery/' after 30 days",
    ),
    Plant(
        "copies with a tag expire",
        lifecycle(
            "example-hot-dub",
            {"ID": "tagged", "Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 1}},
        ),
        "failure lifecycle example-hot-dub: tagged",
    ),
    Plant(
        "on a day",
        lifecycle(
            "example-archives-fra",
            {"ID": "day", "Prefix": "", "Expiration": {"Date": datetime(2027, 1, 1, tzinfo=UTC)}},
        ),
        "failure lifecycle example-archives-fra: on 2027-01-01",
    ),
    Plant(
        "versions expire early",
        lifecycle(
            "example-hot-fra", {"ID": "early", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 7}}
        ),
        "failure lifecycle example-hot-fra: 7 days after",
    ),
    Plant(
        "archived versions expire",
        lifecycle(
            "example-archives-fra", {"ID": "old", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 365}}
        ),
        "failure lifecycle example-archives-fra: for ever",
    ),
    Plant(
        "runs expire",
        lifecycle("example-ledger", {"ID": "runs", "Filter": {"Prefix": "sealift/runs/"}, "Expiration": {"Days": 30}}),
        "failure lifecycle example-ledger: sealift/runs/",
    ),
    Plant(
        "the ledger freezes",
        lifecycle(
            "example-ledger", {"ID": "cold", "Filter": {}, "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}]}
        ),
        "failure lifecycle example-ledger: GLACIER after 30 days",
    ),
    Plant(
        "versions freeze",
        lifecycle(
            "example-hot-fra",
            {
                "ID": "deep",
                "Filter": {},
                "NoncurrentVersionTransitions": [{"NoncurrentDays": 1, "StorageClass": "DEEP_ARCHIVE"}],
            },
        ),
        "failure lifecycle example-hot-fra: moves versions to DEEP_ARCHIVE after 1 days",
    ),
    Plant(
        "uploads stay",
        change("buckets", "example-hot-fra", "Lifecycle", "Rules", 0, "Status", to="Disabled"),
        "warning lifecycle example-hot-fra: uploads",
    ),
    # events
    Plant(
        "another prefix",
        setting("example-scans", "Notification", {"QueueConfigurations": [NARROW, SIGNATURES]}),
        "failure notifications example-scans: 'scans/'",
    ),
    Plant(
        "a suffix",
        setting("example-scans", "Notification", {"QueueConfigurations": [JPEGS, SIGNATURES]}),
        "failure notifications example-scans: 'scans/'",
    ),
    Plant(
        "no deletes",
        setting("example-scans", "Notification", {"QueueConfigurations": [CREATED, SIGNATURES]}),
        "failure notifications example-scans: ObjectRemoved",
    ),
    Plant(
        "another queue",
        setting("example-scans", "Notification", {"QueueConfigurations": [NOTIFIED | {"QueueArn": OBJECTS + "-dead"}]}),
        "failure notifications example-scans: parcels-objects-dead",
    ),
    Plant("replaced", setting("example-scans", "Notification", {}), "failure notifications example-scans: nobody"),
    Plant(
        "no bridge",
        setting("example-tracking", "Notification", {}),
        "failure notifications example-tracking: EventBridge",
    ),
    Plant(
        "queue refuses S3",
        policy_of_queue(lambda statements: statements.pop(1)),
        "failure queue-policy parcels-objects: example-scans",
    ),
    Plant(
        "queue denies",
        policy_of_queue(
            lambda statements: statements.append(
                {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
            )
        ),
        "failure queue-policy parcels-objects: refuses",
    ),
    Plant(
        "queue of another account",
        policy_of_queue(
            lambda statements: inside(
                statements, 1, "Condition", "StringEquals", "aws:SourceAccount", to="210987654321"
            )
        ),
        "failure queue-policy parcels-objects: example-scans",
    ),
    Plant(
        "queue refuses a rule",
        policy_of_queue(
            lambda statements: inside(
                statements, 2, "Condition", "ArnEquals", "aws:SourceArn", to=["arn:aws:events:x:y:rule/z"]
            )
        ),
        "failure queue-policy parcels-objects: rule/parcels-objects-example",
    ),
    Plant(
        "rules bring no account",
        policy_of_queue(
            lambda statements: inside(
                statements, 2, "Condition", "StringEquals", to={"aws:SourceAccount": "123456789012"}
            )
        ),
        "failure queue-policy parcels-objects: rule/",
    ),
    Plant(
        "a condition that nobody knows",
        policy_of_queue(
            lambda statements: inside(statements, 1, "Condition", "IpAddress", to={"aws:SourceIp": "10.0.0.0/8"})
        ),
        "warning queue-policy parcels-objects: IpAddress",
    ),
    Plant(
        "key refuses EventBridge",
        lambda s: s.account.key_policy["Statement"].pop(2),
        "failure queue-key parcels-objects: events.amazonaws.com",
    ),
    Plant(
        "no dead letters",
        change("queues", "parcels-objects", "RedrivePolicy", to="{}"),
        "failure queue parcels-objects: no dead-letter queue",
    ),
    Plant(
        "events are kept for minutes",
        change("queues", "parcels-objects", "MessageRetentionPeriod", to="600"),
        "failure queue-retention parcels-objects: longer gets lost",
    ),
    Plant(
        "dead letters go first",
        change("queues", "parcels-objects-dead", "MessageRetentionPeriod", to="345600"),
        "warning queue-retention parcels-objects: before anybody reads it",
    ),
    Plant(
        "short visibility",
        change("queues", "parcels-objects", "VisibilityTimeout", to="30"),
        "warning queue-visibility parcels-objects: 30 s",
    ),
    Plant(
        "mapping off", change("mappings", 0, "State", to="Disabled"), "failure event-source parcels-objects: Disabled"
    ),
    Plant(
        "mapping deletes failures",
        change("mappings", 0, "FunctionResponseTypes", to=[]),
        "failure event-source parcels-objects: deletes",
    ),
    Plant(
        "mapping with a filter",
        change("mappings", 0, "FilterCriteria", to={"Filters": [{"Pattern": '{"body": {"Records": []}}'}]}),
        "failure event-source parcels-objects: filter",
    ),
    Plant(
        "mapping with a filter that nobody can read",
        change("mappings", 0, "FilterCriteriaError", to={"ErrorCode": "KMSAccessDenied", "Message": "no"}),
        "failure event-source parcels-objects: filter",
    ),
    Plant(
        "a second reader",
        lambda s: s.account.mappings.append({"State": "Enabled", "FunctionArn": arn("lambda", "function:spy")}),
        "failure event-source parcels-objects: spy",
    ),
    Plant(
        "dead letters",
        change("queues", "parcels-objects-dead", "ApproximateNumberOfMessages", to="7"),
        "failure dead-letters parcels-objects-dead: 7 dead letters",
    ),
    Plant(
        "undelivered",
        change("queues", "parcels-undelivered", "ApproximateNumberOfMessagesNotVisible", to="1"),
        "failure dead-letters parcels-undelivered: 1 dead",
    ),
    Plant(
        "rule off",
        change("rules", (HOME, "parcels-objects-example-tracking"), "State", to="DISABLED"),
        f"failure rule parcels-objects-example-tracking in {HOME}: disabled",
    ),
    Plant(
        "rule gone",
        drop("rules", (IAD, "parcels-objects-example-customs-us")),
        f"failure rule parcels-objects-example-customs-us in {IAD}: no such rule",
    ),
    Plant(
        "rule to nobody",
        change("rules", (HOME, "parcels-inventory"), "targets", to=[]),
        f"failure rule parcels-inventory in {HOME}: nobody",
    ),
    Plant(
        "rule to another queue",
        change("rules", (HOME, "parcels-objects-example-tracking"), "targets", to=[{"Arn": OBJECTS + "-dead"}]),
        f"failure rule parcels-objects-example-tracking in {HOME}: -dead",
    ),
    Plant(
        "rule without dead letters",
        change("rules", (IAD, "parcels-inventory"), "targets", 0, "DeadLetterConfig", to={}),
        f"warning rule-dead-letters parcels-inventory in {IAD}: no dead-letter queue",
    ),
    Plant(
        "rule sends a part of the event",
        change("rules", (HOME, "parcels-objects-example-tracking"), "targets", 0, "InputPath", to="$.detail"),
        f"failure rule parcels-objects-example-tracking in {HOME}: another input",
    ),
    Plant(
        "rule sends a test event",
        change("rules", (HOME, "parcels-inventory"), "targets", 0, "Input", to='{"Event": "s3:TestEvent"}'),
        f"failure rule parcels-inventory in {HOME}: another input",
    ),
    Plant(
        "rule of another prefix",
        pattern(HOME, "parcels-objects-example-tracking", "detail", "object", "key", to=[{"prefix": "old/"}]),
        f"failure rule parcels-objects-example-tracking in {HOME}: events/",
    ),
    Plant(
        "rule without deletes",
        pattern(IAD, "parcels-objects-example-customs-us", "detail-type", to=["Object Created"]),
        f"failure rule parcels-objects-example-customs-us in {IAD}: Object Deleted",
    ),
    Plant(
        "rule of one queue",
        pattern(HOME, "parcels-batch-failed", "detail", "jobQueue", to=[arn("batch", "job-queue/parcels-spot")]),
        f"failure rule parcels-batch-failed in {HOME}: parcels-on-demand",
    ),
    Plant(
        "a pattern that nobody knows",
        pattern(HOME, "parcels-restored", "detail", "bucket", "name", to=[{"cidr": "10.0.0.0/8"}]),
        f"warning rule parcels-restored in {HOME}: cidr",
    ),
    Plant(
        "function stopped",
        change("functions", "parcels-backup", "reserved", to=0),
        "failure function parcels-backup: never runs",
    ),
    Plant(
        "function without dead letters",
        change("functions", "parcels-submit", "configuration", "DeadLetterConfig", to={}),
        "warning function-dead-letters parcels-submit: fails three times gets lost",
    ),
    Plant(
        "function failed",
        change("functions", "parcels-follow", "configuration", "State", to="Failed"),
        "failure function parcels-follow: Failed",
    ),
    Plant(
        "another ledger",
        change(
            "functions",
            "parcels-enqueue",
            "configuration",
            "Environment",
            "Variables",
            "SEALIFT_LEDGER",
            to="s3://old/",
        ),
        "failure function parcels-enqueue: s3://old/",
    ),
    Plant("few functions", lambda s: setattr(s.account, "concurrency", 10), "warning lambda-quota the account: 10"),
    Plant("few functions beside reserved ones", reserved_beyond, "warning lambda-quota the account: 20"),
    Plant(
        "night off", change("schedules", "night-customs", "State", to="DISABLED"), "failure schedule night-customs: off"
    ),
    Plant(
        "night in another zone",
        change("schedules", "night-scans", "ScheduleExpressionTimezone", to="UTC"),
        "failure schedule night-scans: UTC",
    ),
    Plant(
        "night begins later",
        change("schedules", "night-scans", "StartDate", to=datetime(2199, 1, 1, tzinfo=UTC)),
        "failure schedule night-scans: nothing before 2199-01-01",
    ),
    Plant(
        "night has ended",
        change("schedules", "night-scans", "EndDate", to=datetime(2026, 1, 1, tzinfo=UTC)),
        "failure schedule night-scans: end",
    ),
    Plant(
        "backlog calls another",
        change("schedules", "backlog", "Target", "Arn", to=arn("lambda", "function:parcels-follow")),
        "failure schedule backlog: parcels-follow",
    ),
    Plant(
        "AWS's key of the queue",
        key_of_aws,
        "failure queue-key parcels-objects: AWS's own",
    ),
    Plant(
        "old events",
        change("metrics", ("ApproximateAgeOfOldestMessage", "parcels-objects"), to=7200.0),
        "failure queue-age parcels-objects: waits for",
    ),
    Plant(
        "events that nobody measures",
        lambda s: (
            s.account.metrics.pop(("ApproximateAgeOfOldestMessage", "parcels-objects")),
            s.account.queues["parcels-objects"].update(ApproximateNumberOfMessages="5"),
        ),
        "warning queue-age parcels-objects: 5 events wait",
    ),
    Plant(
        "undelivered elsewhere",
        change("queues", f"parcels-undelivered in {IAD}", "ApproximateNumberOfMessages", to="2"),
        f"failure dead-letters parcels-undelivered in {IAD}: 2 dead letters",
    ),
    Plant(
        "function refuses a rule",
        lambda s: s.account.functions["parcels-submit"]["policy"]["Statement"].clear(),
        f"failure rule-permission parcels-inventory in {HOME}: does not let the rule call it",
    ),
    Plant(
        "rule without a role",
        lambda s: [rule["targets"][0].pop("RoleArn", None) for rule in s.account.rules.values()],
        "failure role rules of other regions: no role",
    ),
    Plant(
        "cannot forward",
        refuse("parcels-events", "events:PutEvents"),
        "failure role rules of other regions: events:PutEvents",
    ),
    Plant(
        "schedules cannot call",
        refuse("parcels-scheduler", "lambda:InvokeFunction", "*parcels-submit"),
        "failure role schedules: parcels-submit",
    ),
    Plant(
        "night of another pair",
        change("schedules", "night-scans", "Target", "Input", to='{"action": "nightly", "pair": "customs"}'),
        "failure schedule night-scans: not for a night of scans",
    ),
    Plant(
        "every call fails",
        change("metrics", ("Errors", "parcels-submit"), to=900.0),
        "failure function parcels-submit: all of its 900 calls",
    ),
    Plant(
        "some calls fail",
        change("metrics", ("Errors", "parcels-follow"), to=3.0),
        "warning function parcels-follow: 3 of its 900 calls",
    ),
    Plant(
        "function of another queue",
        change(
            *("functions", "parcels-submit", "configuration", "Environment", "Variables"),
            "SEALIFT_BATCH_QUEUE",
            to="parcels-spot",
        ),
        "failure function parcels-submit: parcels-orchestrators",
    ),
    Plant(
        "another policy",
        lambda s: s.put("example-ledger", "sealift/policy.yaml", POLICY.read_bytes().replace(b"1/30 ", b"1/31 ")),
        "failure policy-file s3://example-ledger/sealift/policy.yaml: another one than yours",
    ),
    # replication and inventories
    Plant("overruled", overruled, "failure replication example-hot-fra scans: stray leaves out delete"),
    Plant(
        "rule disabled",
        replication("scans", "Status", to="Disabled"),
        "failure replication example-hot-fra scans: disabled",
    ),
    Plant(
        "only tagged",
        replication("scans", "Filter", to={"And": {"Prefix": "delivery/scans/", "Tags": [{"Key": "a", "Value": "b"}]}}),
        "failure replication example-hot-fra scans: tags",
    ),
    Plant(
        "narrower",
        replication("tracking", "Filter", "Prefix", to="tracking/events/2026/"),
        "failure replication example-hot-fra tracking: tracking/events/",
    ),
    Plant(
        "another twin",
        replication("scans-1", "Destination", "Bucket", to="arn:aws:s3:::elsewhere"),
        "failure replication example-hot-fra scans-1: elsewhere",
    ),
    Plant(
        "no KMS",
        replication("scans", "SourceSelectionCriteria", to={}),
        "failure replication example-hot-fra scans: KMS",
    ),
    Plant(
        "no markers",
        replication("scans", "DeleteMarkerReplication", "Status", to="Disabled"),
        "failure replication example-hot-fra scans: delete markers",
    ),
    Plant(
        "behind",
        change("metrics", ("ReplicationLatency", "scans"), to=5000.0),
        "failure replication-backlog example-hot-fra scans: behind",
    ),
    Plant(
        "gave up",
        change("metrics", ("OperationsFailedReplication", "scans-1"), to=4.0),
        "failure replication-backlog example-hot-fra scans-1: could not replicate 4",
    ),
    Plant(
        "silent",
        drop("metrics", ("ReplicationLatency", "tracking")),
        "warning replication-backlog example-hot-fra tracking: no latency",
    ),
    Plant(
        "inventory off", inventory("example-scans", "IsEnabled", to=False), "failure inventory example-scans: disabled"
    ),
    Plant(
        "reports elsewhere",
        inventory("example-hot-fra", "Destination", "S3BucketDestination", "Bucket", to="arn:aws:s3:::elsewhere"),
        "failure inventory example-hot-fra: elsewhere",
    ),
    Plant(
        "current versions only",
        inventory("example-hot-dub", "IncludedObjectVersions", to="Current"),
        "failure inventory example-hot-dub: leave",
    ),
    Plant("old report", old_report, "failure inventory-age example-scans: 60 hours"),
    Plant("incomplete report", incomplete_report, "warning inventory-age example-scans: no complete report"),
    # Batch
    Plant(
        "job queue off",
        change("job_queues", "parcels-spot", "state", to="DISABLED"),
        "failure job-queue parcels-spot: DISABLED",
    ),
    Plant(
        "job queue invalid",
        change("job_queues", "parcels-on-demand", "status", to="INVALID"),
        "failure job-queue parcels-on-demand: INVALID",
    ),
    Plant(
        "a fair queue without shares",
        change("job_queues", "parcels-orchestrators", "schedulingPolicyArn", to=arn("batch", "scheduling-policy/fair")),
        "failure job-queue parcels-orchestrators: name no share",
    ),
    Plant(
        "environment off",
        change("environments", SPOT, "state", to="DISABLED"),
        "failure compute-environment parcels-spot: DISABLED",
    ),
    Plant(
        "environment invalid",
        change("environments", SPOT, "status", to="INVALID"),
        "failure compute-environment parcels-spot: INVALID",
    ),
    Plant(
        "not Spot",
        change("environments", SPOT, "computeResources", "type", to="FARGATE"),
        "failure compute-environment parcels-spot: FARGATE_SPOT",
    ),
    Plant(
        "few vCPUs",
        change("environments", SPOT, "computeResources", "maxvCpus", to=4),
        "warning compute-environment parcels-spot: 4 vCPUs",
    ),
    Plant(
        "definition inactive",
        change("definitions", "parcels-nightly", "status", to="INACTIVE"),
        "failure job-definition parcels-nightly: no revision",
    ),
    Plant(
        "small worker",
        change(*DEFINITION, "resourceRequirements", 0, "value", to="1"),
        "warning job-definition parcels-replicate: 1 vCPUs",
    ),
    Plant(
        "worker of another ledger",
        change(*DEFINITION, "environment", 0, "value", to="s3://old"),
        "failure job-definition parcels-replicate: s3://old",
    ),
    Plant("image gone", lambda s: s.account.images.clear(), f"failure image {IMAGE}: not in its repository"),
    Plant(
        "image elsewhere",
        change(*DEFINITION, "image", to="docker.io/sealift:1"),
        "warning image docker.io/sealift:1: no registry",
    ),
    Plant(
        "quota",
        change("quotas", "L-3032A538", to=130.0),
        "warning vcpu-quota Fargate On-Demand vCPU resource count: 130 vCPUs",
    ),
    # roles
    Plant(
        "cannot read",
        refuse("parcels-job-verify", "s3:GetObject", "*example-hot-dub*"),
        "failure role job verify: s3:GetObject",
    ),
    Plant(
        "cannot decrypt",
        refuse("parcels-fn-backup", "kms:GenerateDataKey", key_of(HOME)),
        "failure role function backup: kms:GenerateDataKey",
    ),
    Plant(
        "cannot start",
        refuse("parcels-fn-submit", "batch:SubmitJob", "*parcels-nightly"),
        "failure role function submit: parcels-nightly",
    ),
    Plant(
        "cannot tag jobs",
        refuse("parcels-fn-submit", "batch:TagResource"),
        "failure role function submit: batch:TagResource",
    ),
    Plant(
        "cannot follow jobs",
        refuse("parcels-job-nightly", "batch:DescribeJobs"),
        "failure role job nightly: batch:DescribeJobs",
    ),
    Plant(
        "cannot list versions",
        refuse("parcels-job-verify", "s3:ListBucketVersions", "*example-customs-us"),
        "failure role job verify: s3:ListBucketVersions",
    ),
    Plant(
        "cannot keep tags",
        refuse("parcels-fn-backup", "s3:PutObjectTagging", "*example-hot-fra/tracking/*"),
        "failure role function backup: s3:PutObjectTagging",
    ),
    Plant(
        "cannot see locks",
        refuse("parcels-job-expire", "s3:GetObjectRetention"),
        "failure role job expire: s3:GetObjectRetention",
    ),
    Plant(
        "bypasses locks",
        lambda s: s.account.allowed.add(("parcels-job-replicate", "s3:BypassGovernanceRetention")),
        "failure role job replicate: which no such role should",
    ),
    Plant(
        "role gone", lambda s: s.account.gone_roles.add("parcels-job-expire"), "failure role job expire: does not exist"
    ),
    Plant(
        "another role",
        change(*DEFINITION, "jobRoleArn", to="arn:aws:iam::123456789012:role/admin"),
        "warning role job replicate: admin",
    ),
    Plant(
        "no role",
        lambda s: s.account.definitions["parcels-compact"]["containerProperties"].pop("jobRoleArn"),
        "failure role job compact: no role",
    ),
    Plant(
        "cannot pull",
        refuse("parcels-execution", "ecr:BatchGetImage", "*repository/parcels"),
        "failure role start of jobs: ecr:BatchGetImage",
    ),
    Plant(
        "cannot replicate",
        refuse("parcels-replication", "s3:ReplicateObject", "*example-hot-dub/tracking/*"),
        "failure role replication: s3:ReplicateObject",
    ),
    # the work
    Plant("no nights", no_last_nights, "failure last-night pair scans: hours ago"),
    Plant("findings", findings_last_night, "warning last-night pair tracking: 2 rows need attention"),
    Plant("older than the rule", older_than_the_rule, "failure replica pair scans: 1,234 objects are not"),
    Plant("replicas never compared", replicas_never_compared, "warning replica pair tracking: no night has compared"),
    Plant("slices left out", gap_of_nights, "warning proof pair customs: days before the last night"),
    Plant("nights without proof", nights_without_proof, "warning proof pair customs: before the last night"),
    Plant(
        "stuck event",
        change("metrics", ("OldestUnhandledEventAge", "scans"), to=5000.0),
        "failure oldest-event pair scans: unhandled",
    ),
    Plant(
        "stuck backlog",
        change("metrics", ("BacklogAge", "scans"), to=90_000.0),
        "failure oldest-backlog pair scans: no run took it",
    ),
    Plant(
        "unmeasured backlog", drop("metrics", ("BacklogAge", "customs")), "warning oldest-backlog pair customs: nobody"
    ),
]
