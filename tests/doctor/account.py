"""An AWS account as botocore sees it: raw answers to what the doctor asks, for policy.example.yaml.

Each client checks its requests and its answers against AWS's own service models, so that neither the doctor
nor this double can make up an operation, a parameter or a field. What a policy of a role allows, roles say by
a set of what they may not.
"""

# ruff: noqa: N803  the names of parameters are AWS's own

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
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
DIGEST = f"sha256:{'0' * 64}"
IMAGE = f"{ACCOUNT}.dkr.ecr.{HOME}.amazonaws.com/parcels@{DIGEST}"
OBJECTS = f"arn:aws:sqs:{HOME}:{ACCOUNT}:parcels-objects"
JOBS = ("replicate", "verify", "nightly", "backfill", "compact", "restore", "expire")
FUNCTIONS = ("backup", "enqueue", "submit", "follow")


def arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:{HOME}:{ACCOUNT}:{name}"


def make_buckets() -> dict[str, Any]:
    regions = {
        "example-scans": HOME, "example-customs-us": IAD, "example-tracking": HOME,
        "example-hot-fra": HOME, "example-hot-dub": DUBLIN, "example-archives-fra": HOME,
        "example-customs-copies": DUBLIN, "example-ledger": HOME,
        "example-inventory-fra": HOME, "example-inventory-dub": DUBLIN, "example-inventory-iad": IAD,
    }  # fmt: skip
    buckets: dict[str, Any] = {}
    for name, region in regions.items():
        buckets[name] = {"region": region, "Versioning": {"Status": "Enabled"}, "Notification": {}}
    queue = {"QueueArn": OBJECTS, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    buckets["example-scans"]["Notification"] = {"QueueConfigurations": [queue]}
    for name in ("example-customs-us", "example-tracking"):
        buckets[name]["Notification"] = {"EventBridgeConfiguration": {}}
    return buckets


def make_job_queues() -> tuple[dict[str, Any], dict[str, Any]]:
    queues, environments = {}, {}
    for name in ("workers", "orchestrators"):
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
            "state": "ENABLED",
            "status": "VALID",
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
            "containerProperties": {"image": IMAGE, "jobRoleArn": f"arn:aws:iam::{ACCOUNT}:role/parcels-job-{job}"},
        }
        for job in JOBS
    }


def make_functions() -> dict[str, Any]:
    return {
        f"parcels-{name}": {"State": "Active", "LastUpdateStatus": "Successful"}
        | {"Role": f"arn:aws:iam::{ACCOUNT}:role/parcels-fn-{name}"}
        for name in FUNCTIONS
    }


class FakeAccount:
    """The state of an account. A test changes it. `client` answers from it."""

    def __init__(self) -> None:
        self.buckets = make_buckets()
        names = ("parcels-objects", "parcels-objects-dead", "parcels-undelivered")
        self.queues = dict.fromkeys((*names, *(f"parcels-undelivered in {region}" for region in (DUBLIN, IAD))), 0)
        """Queue → messages that wait."""
        self.functions = make_functions()
        self.job_queues, self.environments = make_job_queues()
        self.definitions = make_definitions()
        self.images = {DIGEST}
        self.quotas = {"L-36FBB829": 4000.0, "L-3032A538": 4000.0}
        self.concurrency = 1000
        self.metrics: dict[tuple[str, str], float] = {("ApproximateAgeOfOldestMessage", "parcels-objects"): 2.0}
        self.subscribers: dict[str, str] | None = {"storage-oncall@example.com": arn("sns", "parcels-alarms:1")}
        """Endpoint → ARN of its subscription. None: there is no topic."""
        self.refused: set[tuple[str, str, str]] = set()
        """(role, action, pattern of a resource): what a role may not do and should."""
        self.allowed: set[tuple[str, str]] = set()
        """(role, action): what a role may do and should not."""
        self.denied: set[str] = set()
        """Operations that the doctor may not use."""
        self.errors: dict[str, Exception] = {}
        """Operation → the error that answers it."""
        self.empty: set[str] = set()
        """Operations that are answered by nothing at all."""
        self.asked: defaultdict[str, int] = defaultdict(int)

    def client(self, service: str, region: str, tries: int = 1) -> FakeClient:
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

    def _head_bucket(self, Bucket: str) -> Any:
        if Bucket not in self._account.buckets:
            raise refused("HeadBucket", "404", 404)
        return {"BucketRegion": self._account.buckets[Bucket]["region"]}

    def _get_bucket_versioning(self, Bucket: str) -> Any:
        return dict(self._bucket(Bucket, "GetBucketVersioning").get("Versioning", {}))

    def _get_bucket_notification_configuration(self, Bucket: str) -> Any:
        return dict(self._bucket(Bucket, "GetBucketNotificationConfiguration")["Notification"])

    # SQS, SNS

    def _get_queue_url(self, QueueName: str) -> Any:
        if self._queue(QueueName) not in self._account.queues:
            raise refused("GetQueueUrl", "AWS.SimpleQueueService.NonExistentQueue", 400)
        return {"QueueUrl": f"https://sqs.{self._region}.amazonaws.com/{ACCOUNT}/{QueueName}"}

    def _queue(self, name: str) -> str:
        return name if self._region == HOME else f"{name} in {self._region}"

    def _get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Any:
        waiting = self._account.queues[self._queue(QueueUrl.rpartition("/")[2])]
        return {"Attributes": dict.fromkeys(AttributeNames, "0") | {AttributeNames[0]: str(waiting)}}

    def _list_subscriptions_by_topic(self, TopicArn: str) -> Any:
        if self._account.subscribers is None:
            raise refused("ListSubscriptionsByTopic", "NotFound", 404)
        assert arn("sns", "parcels-alarms") == TopicArn
        found = self._account.subscribers.items()
        return {"Subscriptions": [{"Endpoint": endpoint, "SubscriptionArn": name} for endpoint, name in found]}

    # Lambda

    def _get_function_configuration(self, FunctionName: str) -> Any:
        if FunctionName not in self._account.functions:
            raise refused("GetFunctionConfiguration", "ResourceNotFoundException", 404)
        return dict(self._account.functions[FunctionName])

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
        if (registryId, repositoryName) != (ACCOUNT, "parcels") or imageIds[0][
            "imageDigest"
        ] not in self._account.images:
            raise refused("DescribeImages", "ImageNotFoundException", 400)
        return {"imageDetails": [{"repositoryName": repositoryName}]}

    def _get_service_quota(self, ServiceCode: str, QuotaCode: str) -> Any:
        assert ServiceCode == "fargate"
        return {"Quota": {"QuotaCode": QuotaCode, "Value": self._account.quotas[QuotaCode]}}

    # STS, IAM, CloudWatch

    def _get_caller_identity(self) -> Any:
        return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ops", "UserId": "AIDA"}

    def _simulate_principal_policy(
        self, PolicySourceArn: str, ActionNames: list[str], ResourceArns: list[str], ContextEntries: list[Any]
    ) -> Any:
        role, [resource] = PolicySourceArn.rpartition("/")[2], ResourceArns
        results = [
            {"EvalActionName": each, "EvalDecision": "allowed" if self._may(role, each, resource) else "implicitDeny"}
            for each in ActionNames
        ]
        return {"EvaluationResults": results, "IsTruncated": False}

    def _may(self, role: str, action: str, resource: str) -> bool:
        dangerous = action in ("s3:BypassGovernanceRetention", "s3:DeleteObjectVersion")
        if (role, action) in self._account.allowed:
            return True
        if (dangerous and role != "parcels-job-expire") or (
            action == "s3:PutObject" and resource.endswith("/policy.json")
        ):
            return False
        return not any(
            (name, what) == (role, action) and fnmatchcase(resource, pattern)
            for name, what, pattern in self._account.refused
        )

    def _get_metric_statistics(self, **request: Any) -> Any:
        dimensions = {each["Name"]: each["Value"] for each in request["Dimensions"]}
        (name,) = dimensions.values()
        value = self._account.metrics.get((request["MetricName"], name))
        point = {"Timestamp": datetime.now(UTC), request["Statistics"][0]: value}
        return {"Label": request["MetricName"], "Datapoints": [] if value is None else [point]}


def refused(operation: str, code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)
