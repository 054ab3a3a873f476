"""An AWS account as botocore sees it: raw answers to what the doctor asks, for policy.example.yaml.

Each client checks its requests and its answers against AWS's own service models, so that neither the doctor
nor this double can make up an operation, a parameter or a field. What a policy of a role allows, roles say by
a set of what they may not.
"""

# ruff: noqa: N803  the names of parameters are AWS's own

from __future__ import annotations

import json
import time
from collections import defaultdict
from datetime import UTC, datetime
from email.utils import formatdate
from fnmatch import fnmatchcase
from functools import cache
from types import SimpleNamespace
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

ACCOUNT = "123456789012"
HOME, DUBLIN, IAD = "eu-central-1", "eu-west-1", "us-east-1"
REGIONS = (HOME, DUBLIN, IAD)
IMAGE = f"{ACCOUNT}.dkr.ecr.{HOME}.amazonaws.com/parcels:1.4.0"
CUSTOMS_KEY = "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-4e5f-6789-abcd-ef0123456789"
OBJECTS = f"arn:aws:sqs:{HOME}:{ACCOUNT}:parcels-objects"
BUS = f"arn:aws:events:{HOME}:{ACCOUNT}:event-bus/default"
JOBS = ("inventory", "replicate", "verify", "reconcile", "nightly", "backfill", "compact", "restore", "expire")
FUNCTIONS = {"backup": 300, "enqueue": 300, "submit": 60, "follow": 60}
ABORT = {
    "ID": "abort-incomplete-uploads",
    "Status": "Enabled",
    "Filter": {},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}


def key_of(region: str) -> str:
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/of-{region}"


def arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:{HOME}:{ACCOUNT}:{name}"


def noncurrent(days: int) -> dict[str, Any]:
    return {"ID": "noncurrent", "Status": "Enabled", "Filter": {}} | {
        "NoncurrentVersionExpiration": {"NoncurrentDays": days},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }


def bucket(region: str, key: str | None = None, *rules: dict[str, Any], lock: tuple[str, int] | None = None) -> Any:
    """A bucket of ours. `key`: None for AES256."""
    algorithm = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key} if key else {"SSEAlgorithm": "AES256"}
    made: dict[str, Any] = {
        "region": region,
        "Versioning": {"Status": "Enabled"},
        "Encryption": {
            "ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": algorithm}]}
        },
        "OwnershipControls": {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
        "PublicAccessBlock": {
            "PublicAccessBlockConfiguration": dict.fromkeys(
                ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
            )
        },
        "Lifecycle": {"Rules": [dict(ABORT), *rules]},
        "Notification": {},
    }
    if lock:
        retention = {"DefaultRetention": {"Mode": lock[0], "Days": lock[1]}}
        made["ObjectLock"] = {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled", "Rule": retention}}
    return made


def expiring(name: str, prefix: str, days: int) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


def make_buckets() -> dict[str, Any]:
    gone = {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
    reports = [expiring("inventory-reports", "inventory/", 90) | gone]
    cool = {"ID": "cool", "Status": "Enabled", "Filter": {}} | {
        "Transitions": [{"Days": 180, "StorageClass": "GLACIER_IR"}]
    }
    buckets = {
        "example-scans": {"region": HOME, "Versioning": {"Status": "Enabled"}},
        "example-customs-us": {"region": IAD, "Versioning": {"Status": "Enabled"}},
        "example-tracking": {"region": HOME, "Versioning": {"Status": "Enabled"}},
        "example-hot-fra": bucket(HOME, key_of(HOME), noncurrent(90), cool, lock=("GOVERNANCE", 30)),
        "example-hot-dub": bucket(DUBLIN, key_of(DUBLIN), noncurrent(90)),
        "example-archives-fra": bucket(HOME, key_of(HOME)),
        "example-customs-copies": bucket(DUBLIN, CUSTOMS_KEY, lock=("COMPLIANCE", 2557)),
        "example-inventory-fra": bucket(HOME, key_of(HOME), *reports),
        "example-inventory-dub": bucket(DUBLIN, key_of(DUBLIN), *reports),
        "example-inventory-iad": bucket(IAD, key_of(IAD), *reports),
        "example-ledger": bucket(
            HOME,
            key_of(HOME),
            *(
                expiring(name, f"sealift/{name}/", days) | {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
                for name, days in (("athena", 30), ("backlog", 90), ("removed", 90))
            ),
        ),
    }
    enabled = {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}
    buckets["example-hot-dub"]["ObjectLock"] = enabled
    events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed"]
    buckets["example-scans"]["Notification"] = {
        "QueueConfigurations": [
            {
                "QueueArn": OBJECTS,
                "Events": events,
                "Filter": {"Key": {"FilterRules": [{"Name": "Prefix", "Value": prefix}]}},
            }
            for prefix in ("scans/", "signatures/")
        ]
    }
    for name in ("example-customs-us", "example-tracking"):
        buckets[name]["Notification"] = {"EventBridgeConfiguration": {}}
    buckets["example-hot-fra"]["Replication"] = {
        "ReplicationConfiguration": {
            "Role": f"arn:aws:iam::{ACCOUNT}:role/parcels-replication",
            "Rules": [
                replication_rule("scans", "delivery/scans/"),
                replication_rule("scans-1", "delivery/signatures/"),
                replication_rule("tracking", "tracking/events/"),
            ],
        }
    }
    inventoried = {"example-scans": "fra", "example-customs-us": "iad", "example-hot-fra": "fra"}
    for name, place in (inventoried | {"example-customs-copies": "dub", "example-hot-dub": "dub"}).items():
        buckets[name]["Inventory"] = {
            "InventoryConfiguration": {
                "Id": "parcels",
                "IsEnabled": True,
                "IncludedObjectVersions": "All",
                "Schedule": {"Frequency": "Daily"},
                "Destination": {
                    "S3BucketDestination": {
                        "Bucket": f"arn:aws:s3:::example-inventory-{place}",
                        "Format": "Parquet",
                        "Prefix": "inventory",
                    }
                },
            }
        }
    return buckets


def replication_rule(name: str, prefix: str) -> dict[str, Any]:
    return {
        "ID": name,
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": prefix},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
        "Destination": {
            "Bucket": "arn:aws:s3:::example-hot-dub",
            "Metrics": {"Status": "Enabled", "EventThreshold": {"Minutes": 15}},
        },
    }


def make_queues() -> dict[str, Any]:
    counts = {f"ApproximateNumberOfMessages{suffix}": "0" for suffix in ("", "NotVisible", "Delayed")}
    objects_policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": ["sqs:SendMessage", "sqs:ReceiveMessage"],
                "Resource": OBJECTS,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
            {
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": OBJECTS,
                "Condition": {
                    "ArnEquals": {"aws:SourceArn": ["arn:aws:s3:::example-scans"]},
                    "StringEquals": {"aws:SourceAccount": ACCOUNT},
                },
            },
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": OBJECTS,
                "Condition": {
                    "ArnEquals": {
                        "aws:SourceArn": [
                            arn("events", f"rule/parcels-objects-{name}")
                            for name in ("example-customs-us", "example-tracking")
                        ]
                    }
                },
            },
        ],
    }
    return {
        "parcels-objects": counts
        | {
            "QueueArn": OBJECTS,
            "VisibilityTimeout": "1800",
            "MessageRetentionPeriod": "604800",
            "KmsMasterKeyId": key_of(HOME),
            "Policy": json.dumps(objects_policy),
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": f"{OBJECTS}-dead", "maxReceiveCount": 8}),
        },
        "parcels-objects-dead": counts
        | {"QueueArn": f"{OBJECTS}-dead", "VisibilityTimeout": "30", "MessageRetentionPeriod": "1209600"},
        "parcels-undelivered": counts | {"QueueArn": arn("sqs", "parcels-undelivered"), "VisibilityTimeout": "30"},
        **{
            f"parcels-undelivered in {region}": counts
            | {"QueueArn": f"arn:aws:sqs:{region}:{ACCOUNT}:parcels-undelivered", "VisibilityTimeout": "30"}
            for region in (DUBLIN, IAD)
        },
    }


def make_rules() -> dict[tuple[str, str], Any]:
    def rule(pattern: dict[str, Any], target: str) -> dict[str, Any]:
        made: dict[str, Any] = {"Arn": target}
        made["DeadLetterConfig"] = {"Arn": arn("sqs", "parcels-undelivered")}
        if target == BUS:
            made["RoleArn"] = f"arn:aws:iam::{ACCOUNT}:role/parcels-events"
        return {"State": "ENABLED", "EventPattern": json.dumps(pattern), "targets": [made]}

    made = ["Object Created", "Object Deleted", "Object Restore Completed"]
    customs = {"source": ["aws.s3"], "detail-type": made, "detail": {"bucket": {"name": ["example-customs-us"]}}}
    tracking = {
        "source": ["aws.s3"],
        "detail-type": made,
        "detail": {"bucket": {"name": ["example-tracking"]}, "object": {"key": [{"prefix": "events/"}]}},
    }
    folders = [f"example-inventory-{place}" for place in ("fra", "dub", "iad")]
    reports = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": folders}, "object": {"key": [{"suffix": "/manifest.checksum"}]}},
    }
    restored = {
        "source": ["aws.s3"],
        "detail-type": ["Object Restore Completed"],
        "detail": {"bucket": {"name": ["example-archives-fra"]}},
    }
    rules = {
        (HOME, "parcels-objects-example-customs-us"): rule(customs, OBJECTS),
        (IAD, "parcels-objects-example-customs-us"): rule(customs, BUS),
        (HOME, "parcels-objects-example-tracking"): rule(tracking, OBJECTS),
        (HOME, "parcels-inventory"): rule(reports, arn("lambda", "function:parcels-submit")),
        (DUBLIN, "parcels-inventory"): rule(reports, BUS),
        (IAD, "parcels-inventory"): rule(reports, BUS),
        (HOME, "parcels-restored"): rule(restored, arn("lambda", "function:parcels-follow")),
    }
    for status in ("succeeded", "failed"):
        pattern = {
            "source": ["aws.batch"],
            "detail-type": ["Batch Job State Change"],
            "detail": {
                "jobQueue": [
                    arn("batch", f"job-queue/parcels-{use}") for use in ("spot", "on-demand", "orchestrators")
                ],
                "status": [status.upper()],
                "arrayProperties": {"index": [{"exists": False}]},
            },
        }
        rules[HOME, f"parcels-batch-{status}"] = rule(pattern, arn("lambda", "function:parcels-follow"))
    return rules


ENVIRONMENT = {
    "SEALIFT_LEDGER": "s3://example-ledger/sealift",
    "SEALIFT_POLICY": "s3://example-ledger/sealift/policy.yaml",
    "SEALIFT_EXECUTOR": "batch",
    "SEALIFT_SYSTEM": "parcels",
    "SEALIFT_BATCH_QUEUE": "parcels-spot",
    "SEALIFT_BATCH_QUEUE_ON_DEMAND": "parcels-on-demand",
    "SEALIFT_BATCH_JOB_DEFINITION": "parcels-{job}",
}


def invocation_policy(function: str) -> dict[str, Any]:
    rules = {"submit": ["inventory"], "follow": ["restored", "batch-succeeded", "batch-failed"]}
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": arn("lambda", f"function:parcels-{function}"),
    }
    return {
        "Version": "2012-10-17",
        "Statement": [
            statement
            | {"Sid": rule, "Condition": {"ArnLike": {"AWS:SourceArn": arn("events", f"rule/parcels-{rule}")}}}
            for rule in rules.get(function, [])
        ],
    }


def make_functions() -> dict[str, Any]:
    return {
        f"parcels-{name}": {
            "reserved": None,
            "policy": invocation_policy(name),
            "configuration": {
                "FunctionName": f"parcels-{name}",
                "FunctionArn": arn("lambda", f"function:parcels-{name}"),
                "State": "Active",
                "LastUpdateStatus": "Successful",
                "Role": f"arn:aws:iam::{ACCOUNT}:role/parcels-fn-{name}",
                "Timeout": seconds,
                "DeadLetterConfig": {"TargetArn": arn("sqs", "parcels-undelivered")},
                "Environment": {"Variables": ENVIRONMENT | {"SEALIFT_BATCH_QUEUE": "parcels-orchestrators"}},
            },
        }
        for name, seconds in FUNCTIONS.items()
    }


def make_schedules() -> dict[str, Any]:
    nights = {
        "scans": ("cron(30 3 * * ? *)", "Europe/Berlin"),
        "customs": ("cron(30 22 * * ? *)", "America/New_York"),
        "tracking": ("cron(30 3 * * ? *)", "Europe/Berlin"),
    }
    target = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/parcels-scheduler"}
    submit = target | {"Arn": arn("lambda", "function:parcels-submit")}
    schedules: dict[str, Any] = {
        f"night-{pair}": {
            "ScheduleExpression": when,
            "ScheduleExpressionTimezone": zone,
            "Target": submit | {"Input": json.dumps({"action": "nightly", "pair": pair, "scheduled_at": "<…>"})},
        }
        for pair, (when, zone) in nights.items()
    }
    enqueue = target | {"Arn": arn("lambda", "function:parcels-enqueue")}
    schedules["backlog"] = {
        "ScheduleExpression": "rate(5 minutes)",
        "ScheduleExpressionTimezone": "UTC",
        "Target": enqueue,
    }
    return {name: each | {"State": "ENABLED"} for name, each in schedules.items()}


def make_job_queues() -> tuple[dict[str, Any], dict[str, Any]]:
    queues, environments = {}, {}
    for name, kind, size in (
        ("spot", "FARGATE_SPOT", 128),
        ("on-demand", "FARGATE", 128),
        ("orchestrators", "FARGATE", 16),
    ):
        environment = arn("batch", f"compute-environment/parcels-{name}-1")
        queues[f"parcels-{name}"] = {
            "jobQueueName": f"parcels-{name}",
            "jobQueueArn": arn("batch", f"job-queue/parcels-{name}"),
            "state": "ENABLED",
            "status": "VALID",
            "priority": 1,
            "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": environment}],
        }
        environments[environment] = {
            "computeEnvironmentName": f"parcels-{name}-1",
            "computeEnvironmentArn": environment,
            "type": "MANAGED",
            "state": "ENABLED",
            "status": "VALID",
            "computeResources": {"type": kind, "maxvCpus": size, "subnets": ["subnet-1"]},
        }
    return queues, environments


def make_definitions() -> dict[str, Any]:
    return {
        f"parcels-{job}": {
            "jobDefinitionName": f"parcels-{job}",
            "jobDefinitionArn": arn("batch", f"job-definition/parcels-{job}:3"),
            "revision": 3,
            "status": "ACTIVE",
            "type": "container",
            "platformCapabilities": ["FARGATE"],
            "containerProperties": {
                "image": IMAGE,
                "jobRoleArn": f"arn:aws:iam::{ACCOUNT}:role/parcels-job-{job}",
                "executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/parcels-execution",
                "resourceRequirements": [{"type": "VCPU", "value": "2"}, {"type": "MEMORY", "value": "4096"}],
                "environment": [{"name": name, "value": value} for name, value in ENVIRONMENT.items()],
            },
        }
        for job in JOBS
    }


def key_policy() -> dict[str, Any]:
    use = ["kms:GenerateDataKey", "kms:Decrypt"]
    everything = {"Effect": "Allow", "Resource": "*"}
    s3 = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    events = {"ArnLike": {"kms:EncryptionContext:aws:sqs:arn": f"arn:aws:sqs:{HOME}:{ACCOUNT}:parcels-*"}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            everything | {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*"},
            everything | {"Principal": {"Service": "s3.amazonaws.com"}, "Action": use, "Condition": s3},
            everything | {"Principal": {"Service": "events.amazonaws.com"}, "Action": use, "Condition": events},
        ],
    }


class FakeAccount:
    """The state of an account. A test changes it. `client` answers from it."""

    def __init__(self) -> None:
        self.managed_keys: set[str] = set()
        """Keys of AWS's own."""
        self.buckets = make_buckets()
        self.queues = make_queues()
        self.rules = make_rules()
        self.functions = make_functions()
        self.schedules = make_schedules()
        self.job_queues, self.environments = make_job_queues()
        self.definitions = make_definitions()
        self.mappings = [
            {
                "State": "Enabled",
                "FunctionArn": arn("lambda", "function:parcels-backup"),
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
            }
        ]
        self.images = {IMAGE}
        self.quotas = {"L-36FBB829": 4000.0, "L-3032A538": 4000.0}
        self.concurrency = 1000
        self.keys = dict.fromkeys((*map(key_of, REGIONS), CUSTOMS_KEY), "Enabled")
        self.key_policy = key_policy()
        self.metrics: dict[tuple[str, str], float] = {
            ("BacklogAge", pair): 20.0 for pair in ("scans", "customs", "tracking")
        }
        for rule in ("scans", "scans-1", "tracking"):
            self.metrics |= {("ReplicationLatency", rule): 12.0, ("OperationsPendingReplication", rule): 3.0}
        self.metrics |= {("Invocations", f"parcels-{function}"): 900.0 for function in FUNCTIONS}
        self.metrics |= {("ApproximateAgeOfOldestMessage", "parcels-objects"): 2.0}
        self.refused: set[tuple[str, str, str]] = set()
        """(role, action, pattern of a resource): what a role may not do and should."""
        self.allowed: set[tuple[str, str]] = set()
        """(role, action): what a role may do and should not."""
        self.gone_roles: set[str] = set()
        self.denied: set[str] = set()
        """Operations that the doctor may not use."""
        self.errors: dict[str, Exception] = {}
        """Operation → the error that answers it."""
        self.is_flat = False
        """Whether the simulation answers each resource by a result of its own."""
        self.empty: set[str] = set()
        """Operations that are answered by nothing at all."""
        self.skew_seconds = 0.0
        self.asked: defaultdict[str, int] = defaultdict(int)

    def client(self, service: str, region: str) -> FakeClient:
        """In the place of `jobs.aws.clients.open_client`."""
        return FakeClient(self, service, region, service_model(service))


@cache
def service_model(service: str) -> ServiceModel:
    """AWS's own description of a service, as botocore has it."""
    return ServiceModel(create_loader().load_service_model(service, "service-2"), service)


@cache
def operations(model: ServiceModel) -> dict[str, str]:
    """Method of a client → operation."""
    return {xform_name(name): name for name in model.operation_names}


class FakeClient:
    """A client that answers from the account. It knows operations that have a method here."""

    def __init__(self, account: FakeAccount, service: str, region: str, model: ServiceModel):
        self._account, self._service, self._region, self._model = account, service, region, model
        self._operations = operations(model)
        self.meta = SimpleNamespace(endpoint_url=f"https://{service}.{region}.amazonaws.com")

    def __getattr__(self, name: str) -> Any:
        operation = self._operations[name]

        def ask(**request: Any) -> Any:
            self._account.asked[f"{self._service}:{operation}"] += 1
            model = self._model.operation_model(operation)
            if operation in self._account.denied:
                raise refused(operation, "AccessDeniedException", 403)
            if operation in self._account.errors:
                raise self._account.errors[operation]
            if model.input_shape is not None:
                self._check(request, model.input_shape)
            if operation in self._account.empty:
                return {"ResponseMetadata": {"HTTPHeaders": {}}}
            answer = getattr(self, f"_{name}")(**request)
            meta = answer.pop("ResponseMetadata", {"HTTPHeaders": {}})
            self._check(answer, model.output_shape, is_answer=True)
            return answer | {"ResponseMetadata": meta}

        return ask

    def _check(self, document: Any, shape: Any, *, is_answer: bool = False) -> None:
        """Whether a document is of its shape. AWS's answers do not keep the limits of lengths."""
        report = ParamValidator().validate(document, shape)
        errors = [
            error for error in report._errors if not (is_answer and error[0] in ("invalid range", "invalid length"))
        ]
        assert not errors, report.generate_report()

    # S3

    def _bucket(self, name: str, operation: str) -> Any:
        found = self._account.buckets.get(name)
        if found is None:
            raise refused(operation, "NoSuchBucket", 404)
        return found

    def _setting(self, bucket: str, name: str, code: str) -> Any:
        found = self._bucket(bucket, name).get(name)
        if found is None:
            raise refused(name, code, 404)
        return dict(found)

    def _head_bucket(self, Bucket: str) -> Any:
        if Bucket not in self._account.buckets:
            raise refused("HeadBucket", "404", 404)
        date = formatdate(time.time() - self._account.skew_seconds, usegmt=True)
        return {
            "BucketRegion": self._account.buckets[Bucket]["region"],
            "ResponseMetadata": {"HTTPHeaders": {"date": date}},
        }

    def _get_bucket_versioning(self, Bucket: str) -> Any:
        return dict(self._bucket(Bucket, "GetBucketVersioning").get("Versioning", {}))

    def _get_bucket_encryption(self, Bucket: str) -> Any:
        return self._setting(Bucket, "Encryption", "ServerSideEncryptionConfigurationNotFoundError")

    def _get_object_lock_configuration(self, Bucket: str) -> Any:
        return self._setting(Bucket, "ObjectLock", "ObjectLockConfigurationNotFoundError")

    def _get_bucket_ownership_controls(self, Bucket: str) -> Any:
        return self._setting(Bucket, "OwnershipControls", "OwnershipControlsNotFoundError")

    def _get_public_access_block(self, Bucket: str) -> Any:
        return self._setting(Bucket, "PublicAccessBlock", "NoSuchPublicAccessBlockConfiguration")

    def _get_bucket_lifecycle_configuration(self, Bucket: str) -> Any:
        return self._setting(Bucket, "Lifecycle", "NoSuchLifecycleConfiguration")

    def _get_bucket_replication(self, Bucket: str) -> Any:
        return self._setting(Bucket, "Replication", "ReplicationConfigurationNotFoundError")

    def _get_bucket_inventory_configuration(self, Bucket: str, Id: str) -> Any:
        found = self._setting(Bucket, "Inventory", "NoSuchConfiguration")
        if found["InventoryConfiguration"]["Id"] != Id:
            raise refused("GetBucketInventoryConfiguration", "NoSuchConfiguration", 404)
        return found

    def _get_bucket_notification_configuration(self, Bucket: str) -> Any:
        return dict(self._bucket(Bucket, "GetBucketNotificationConfiguration")["Notification"])

    # SQS, EventBridge, Scheduler

    def _get_queue_url(self, QueueName: str) -> Any:
        if self._queue(QueueName) not in self._account.queues:
            raise refused("GetQueueUrl", "AWS.SimpleQueueService.NonExistentQueue", 400)
        return {"QueueUrl": f"https://sqs.{self._region}.amazonaws.com/{ACCOUNT}/{QueueName}"}

    def _queue(self, name: str) -> str:
        return name if self._region == HOME else f"{name} in {self._region}"

    def _get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Any:
        assert AttributeNames == ["All"]
        return {"Attributes": dict(self._account.queues[self._queue(QueueUrl.rpartition("/")[2])])}

    def _describe_rule(self, Name: str) -> Any:
        found = self._account.rules.get((self._region, Name))
        if found is None:
            raise refused("DescribeRule", "ResourceNotFoundException", 400)
        rule = f"arn:aws:events:{self._region}:{ACCOUNT}:rule/{Name}"
        return {"Name": Name, "Arn": rule, "State": found["State"], "EventPattern": found["EventPattern"]}

    def _list_targets_by_rule(self, Rule: str) -> Any:
        targets = self._account.rules[self._region, Rule]["targets"]
        return {"Targets": [{"Id": str(number), **each} for number, each in enumerate(targets)]}

    def _get_schedule(self, GroupName: str, Name: str) -> Any:
        if GroupName != "parcels" or Name not in self._account.schedules:
            raise refused("GetSchedule", "ResourceNotFoundException", 404)
        return dict(self._account.schedules[Name])

    # Lambda

    def _function(self, name: str) -> Any:
        if name not in self._account.functions:
            raise refused("GetFunctionConfiguration", "ResourceNotFoundException", 404)
        return self._account.functions[name]

    def _get_function_configuration(self, FunctionName: str) -> Any:
        return dict(self._function(FunctionName)["configuration"])

    def _get_policy(self, FunctionName: str) -> Any:
        policy = self._function(FunctionName)["policy"]
        if not policy["Statement"]:
            raise refused("GetPolicy", "ResourceNotFoundException", 404)
        return {"Policy": json.dumps(policy)}

    def _get_function_concurrency(self, FunctionName: str) -> Any:
        reserved = self._function(FunctionName)["reserved"]
        return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    def _list_event_source_mappings(self, EventSourceArn: str) -> Any:
        return {"EventSourceMappings": self._account.mappings if EventSourceArn == OBJECTS else []}

    def _get_account_settings(self) -> Any:
        return {"AccountLimit": {"ConcurrentExecutions": self._account.concurrency}}

    # Batch, ECR, Service Quotas

    def _describe_job_queues(self, jobQueues: list[str]) -> Any:
        return {"jobQueues": [each for name, each in self._account.job_queues.items() if name in jobQueues]}

    def _describe_compute_environments(self, computeEnvironments: list[str]) -> Any:
        found = [each for name, each in self._account.environments.items() if name in computeEnvironments]
        return {"computeEnvironments": found}

    def _describe_job_definitions(self, jobDefinitionName: str, status: str) -> Any:
        found = self._account.definitions.get(jobDefinitionName)
        return {"jobDefinitions": [found] if found and found["status"] == status else []}

    def _describe_images(self, registryId: str, repositoryName: str, imageIds: list[dict[str, str]]) -> Any:
        name = f"{registryId}.dkr.ecr.{self._region}.amazonaws.com/{repositoryName}:{imageIds[0]['imageTag']}"
        if name not in self._account.images:
            raise refused("DescribeImages", "ImageNotFoundException", 400)
        return {"imageDetails": [{"repositoryName": repositoryName}]}

    def _get_service_quota(self, ServiceCode: str, QuotaCode: str) -> Any:
        assert ServiceCode == "fargate"
        return {"Quota": {"QuotaCode": QuotaCode, "Value": self._account.quotas[QuotaCode]}}

    # STS, KMS, IAM, CloudWatch

    def _get_caller_identity(self) -> Any:
        return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ops", "UserId": "AIDA"}

    def _describe_key(self, KeyId: str) -> Any:
        state = self._account.keys.get(KeyId)
        if state is None:
            raise refused("DescribeKey", "NotFoundException", 400)
        return {
            "KeyMetadata": {
                "KeyId": KeyId.rpartition("/")[2],
                "Arn": KeyId,
                "KeyState": state,
                "KeyManager": "AWS" if KeyId in self._account.managed_keys else "CUSTOMER",
            }
        }

    def _get_key_policy(self, KeyId: str, PolicyName: str) -> Any:
        return {"Policy": json.dumps(self._account.key_policy)}

    def _simulate_principal_policy(
        self, PolicySourceArn: str, ActionNames: list[str], ResourceArns: list[str], ContextEntries: list[Any]
    ) -> Any:
        role = PolicySourceArn.rpartition("/")[2]
        if role in self._account.gone_roles:
            raise refused("SimulatePrincipalPolicy", "NoSuchEntity", 404)
        results: list[dict[str, Any]] = []
        for action in ActionNames:
            answers = {each: "allowed" if self._may(role, action, each) else "implicitDeny" for each in ResourceArns}
            if len(answers) == 1 or self._account.is_flat:
                results += [
                    {"EvalActionName": action, "EvalResourceName": each, "EvalDecision": answer}
                    for each, answer in answers.items()
                ]
                continue
            parts = [{"EvalResourceName": each, "EvalResourceDecision": answer} for each, answer in answers.items()]
            first = {"EvalActionName": action, "EvalResourceName": ResourceArns[0], "EvalDecision": "allowed"}
            results.append(first | {"ResourceSpecificResults": parts})
        return {"EvaluationResults": results, "IsTruncated": False}

    def _may(self, role: str, action: str, resource: str) -> bool:
        dangerous = action in ("s3:BypassGovernanceRetention", "s3:DeleteObjectVersion")
        if (role, action) in self._account.allowed:
            return True
        if (dangerous and role != "parcels-job-expire") or resource.endswith("/policy.yaml"):
            return False
        return not any(
            (name, what) == (role, action) and fnmatchcase(resource, pattern)
            for name, what, pattern in self._account.refused
        )

    def _get_metric_statistics(self, **request: Any) -> Any:
        dimensions = {each["Name"]: each["Value"] for each in request["Dimensions"]}
        if request["Namespace"] == "AWS/S3":
            is_here = self._region == (HOME if request["MetricName"] == "OperationsFailedReplication" else DUBLIN)
            name = dimensions["RuleId"] if is_here else ""
        elif request["Namespace"] in ("AWS/Lambda", "AWS/SQS"):
            (name,) = dimensions.values()
        else:
            assert dimensions["System"] == "parcels"
            name = dimensions["Pair"]
        value = self._account.metrics.get((request["MetricName"], name))
        point = {"Timestamp": datetime.now(UTC), request["Statistics"][0]: value}
        return {"Label": request["MetricName"], "Datapoints": [] if value is None else [point]}


def refused(operation: str, code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)
