"""Requests that AWS's own services send for the system, with the condition keys that they really bring.

No recorder hears them: they follow from what the plan connects. What a service does not send meets no condition.

- https://docs.aws.amazon.com/AmazonS3/latest/userguide/grant-destinations-permissions-to-s3.html
- https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
- https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-troubleshooting.html
- https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
- https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html
- https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-example-walkthroughs.html#replication-annotations
- https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-batch-replication-policies.html
- https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-change-owner.html
- https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
- https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
- https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
- https://docs.aws.amazon.com/scheduler/latest/UserGuide/setting-up.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.terraform.iam import Answer, decide
from tests.terraform.world import State

READ_KEY = ("kms:GenerateDataKey", "kms:Decrypt")


class Sent(NamedTuple):
    """A request of a service: in a role's name, or in its own with a policy of the resource."""

    who: str
    action: str
    resource: str
    context: Mapping[str, str] = {}


class Policies:
    """What lets services in: policies of queues, topics, buckets, keys, functions and roles.

    `owners`: bucket → the other account that it is in.
    """

    def __init__(self, state: State, account: str, region: str, owners: Mapping[str, str] | None = None):
        self.state, self.account, self.region, self.owners = state, account, region, owners or {}
        self.roles: dict[str, list[dict[str, object]]] = {}
        for values, made in state.policies("aws_iam_role_policy"):
            self.roles.setdefault(values["role"], []).extend(made)
        self._of_resource = {}
        for kind in ("aws_sqs_queue_policy", "aws_sns_topic_policy", "aws_kms_key", "aws_s3_bucket_policy"):
            for values, statements in state.policies(kind):
                for arn in {each["Resource"] for each in statements if isinstance(each["Resource"], str)} - {"*"}:
                    self._of_resource[arn] = statements
                if kind == "aws_kms_key":
                    self._of_resource[values["arn"]] = statements
                if kind == "aws_s3_bucket_policy":
                    self._of_resource[f"arn:aws:s3:::{values['bucket']}"] = statements

    def allow(self, sent: Sent) -> bool:
        """Whether AWS lets it through."""
        context = {"aws:SecureTransport": "true", **sent.context}
        if sent.who in self.roles:
            by_role = decide(self.roles[sent.who], sent.action, sent.resource, context) is Answer.ALLOWED
            return by_role and self._other_account_allows(sent, context)
        if sent.action == "lambda:InvokeFunction":
            return any(
                values["principal"] == sent.who
                and sent.resource.endswith(f":{values['function_name']}")
                and values["source_arn"] == sent.context["aws:SourceArn"]
                for values in self.state.all_values("aws_lambda_permission")
            )
        place = sent.resource.partition("/")[0] if ":s3:::" in sent.resource else sent.resource
        return decide(self._of_resource[place], sent.action, sent.resource, context, sent.who) is Answer.ALLOWED

    def _other_account_allows(self, sent: Sent, context: Mapping[str, str]) -> bool:
        """A role of one account at a bucket, a key or a bus of another: that side has to allow it, too."""
        place = sent.resource.partition("/")[0] if ":s3:::" in sent.resource else sent.resource
        if sent.action == "events:PutEvents":
            (of_role,) = {each["arn"].split(":")[4] for each in _made(self.state, "aws_iam_role", sent.who)}
            permitted = {each["principal"] for each in self.state.all_values("aws_cloudwatch_event_permission")}
            return of_role == place.split(":")[4] or of_role in permitted
        is_key = sent.action.startswith("kms:")
        owner = place.split(":")[4] if is_key else self.owners.get(place.rpartition(":")[2], self.account)
        (role,) = _made(self.state, "aws_iam_role", sent.who)
        of_role = role["arn"].split(":")[4]
        if owner == of_role or (is_key and place not in self._of_resource):  # a key of the user's, not the plan's
            return True
        asked = {**context, "aws:PrincipalArn": role["arn"]}
        root = f"arn:aws:iam::{of_role}:root"
        return decide(self._of_resource[place], sent.action, sent.resource, asked, root) is Answer.ALLOWED


def _made(state: State, kind: str, name: str) -> list[dict[str, Any]]:
    return [values for values in state.all_values(kind) if values["name"] == name]


def sent_by_services(
    state: State,
    account: str,
    region: str,
    owners: Mapping[str, str] | None = None,
) -> Iterator[Sent]:
    """All of them, by what the plan connects.

    `owners`: bucket → the other account that it is in.
    """
    arns = [values["arn"] for values in state.all_values("aws_kms_key")]
    keys = {arn.split(":")[3]: arn for arn in arns if arn.split(":")[4] == account}
    own_key = keys[region]
    yield from _rules(state, own_key)
    yield from _deliveries(state, account, keys, owners or {})
    (topic,) = (values["arn"] for values in state.all_values("aws_sns_topic"))
    alarm = {"aws:SourceAccount": account, "aws:SourceArn": f"arn:aws:cloudwatch:{region}:{account}:alarm:any"}
    yield Sent("cloudwatch.amazonaws.com", "sns:Publish", topic, alarm)
    for action in READ_KEY:
        yield Sent("cloudwatch.amazonaws.com", action, own_key, {"aws:SourceAccount": account})
    yield from _schedules(state, own_key)
    yield from _functions(state, region, own_key)
    yield from _containers(state)
    yield from _replication(state)


def _rules(state: State, own_key: str) -> Iterator[Sent]:
    """EventBridge names its rule to queues and functions, nothing to topics, and to KMS what it encrypts for."""
    made = state.all_values("aws_cloudwatch_event_rule")
    rules = {(values["region"], values["name"]): values["arn"] for values in made}
    service = "events.amazonaws.com"
    for values in state.all_values("aws_cloudwatch_event_target"):
        rule = {"aws:SourceArn": rules[values["region"], values["rule"]]}
        target = values["arn"]
        kind = target.split(":")[2]
        if kind == "events":
            yield Sent(values["role_arn"].rpartition("/")[2], "events:PutEvents", target)
        elif kind == "lambda":
            yield Sent(service, "lambda:InvokeFunction", target, rule)
        else:
            action, context = {"sqs": ("sqs:SendMessage", rule), "sns": ("sns:Publish", {})}[kind]
            yield Sent(service, action, target, context)
            name = {"sqs": "aws:sqs:arn", "sns": "aws:sns:topicArn"}[kind]
            for each in READ_KEY:
                yield Sent(service, each, own_key, {f"kms:EncryptionContext:{name}": target})
        for dead in values["dead_letter_config"] or []:
            yield Sent(service, "sqs:SendMessage", dead["arn"], rule)


def _deliveries(state: State, account: str, keys: Mapping[str, str], owners: Mapping[str, str]) -> Iterator[Sent]:
    """S3 delivers notifications to the queue, and inventories to buckets of the region."""
    service = "s3.amazonaws.com"
    for values in state.all_values("aws_s3_bucket_notification"):
        origin = {"aws:SourceAccount": account, "aws:SourceArn": f"arn:aws:s3:::{values['bucket']}"}
        for queue in values["queue"] or []:
            yield Sent(service, "sqs:SendMessage", queue["queue_arn"], origin)
            for action in READ_KEY:
                yield Sent(service, action, keys[queue["queue_arn"].split(":")[3]], origin)
    for values in state.all_values("aws_s3_bucket_inventory"):
        place, bucket = values["destination"][0]["bucket"][0], values["bucket"]
        origin = {"aws:SourceAccount": owners.get(bucket, account), "aws:SourceArn": f"arn:aws:s3:::{values['bucket']}"}
        owner = {"s3:x-amz-acl": "bucket-owner-full-control"}
        where = f"{place['bucket_arn']}/{(place['prefix'] or '').rstrip('/')}/{values['bucket']}/x/manifest.json"
        yield Sent(service, "s3:PutObject", where, origin | owner)
        for encryption in place["encryption"] or []:
            for each in encryption["sse_kms"]:
                yield Sent(service, "kms:GenerateDataKey", each["key_id"], origin)


def _schedules(state: State, own_key: str) -> Iterator[Sent]:
    for values in state.all_values("aws_scheduler_schedule"):
        target = values["target"][0]
        role = target["role_arn"].rpartition("/")[2]
        yield Sent(role, "lambda:InvokeFunction", target["arn"])
        yield Sent(role, "sqs:SendMessage", target["dead_letter_config"][0]["arn"])
        for action in READ_KEY:
            yield Sent(role, action, own_key)


def _functions(state: State, region: str, own_key: str) -> Iterator[Sent]:
    """Lambda polls, logs and keeps what failed in the function's name."""
    groups = {values["name"]: values["arn"] for values in state.all_values("aws_cloudwatch_log_group")}
    roles = {}
    for values in state.all_values("aws_lambda_function"):
        role = roles[values["function_name"]] = values["role"].rpartition("/")[2]
        group = groups[values["logging_config"][0]["log_group"]]
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            yield Sent(role, action, f"{group}:log-stream:x")
        via = {"kms:ViaService": f"lambda.{region}.amazonaws.com"}
        yield Sent(role, "kms:Decrypt", own_key, via)
        yield Sent(role, "sqs:SendMessage", values["dead_letter_config"][0]["target_arn"])
        for action in READ_KEY:
            yield Sent(role, action, own_key, {"kms:ViaService": f"sqs.{region}.amazonaws.com"})
    for values in state.all_values("aws_lambda_event_source_mapping"):
        role = roles[values["function_name"].rpartition(":")[2]]
        for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"):
            yield Sent(role, action, values["event_source_arn"])
        yield Sent(role, "kms:Decrypt", own_key, {"kms:ViaService": f"sqs.{region}.amazonaws.com"})


def _containers(state: State) -> Iterator[Sent]:
    groups = {values["name"]: values["arn"] for values in state.all_values("aws_cloudwatch_log_group")}
    for values in state.all_values("aws_batch_job_definition"):
        container = json.loads(values["container_properties"])
        role = container["executionRoleArn"].rpartition("/")[2]
        registry, name = container["image"].partition("@")[0].split("/")
        account, _, _, region, *_ = registry.split(".")
        repository = f"arn:aws:ecr:{region}:{account}:repository/{name}"
        yield Sent(role, "ecr:GetAuthorizationToken", "*")
        for action in ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
            yield Sent(role, action, repository)
        group = groups[container["logConfiguration"]["options"]["awslogs-group"]]
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            yield Sent(role, action, f"{group}:log-stream:x")


def _replication(state: State) -> Iterator[Sent]:
    """S3 carries objects in the role's name, with tags, annotations, locks and delete markers."""
    of_version = ("ForReplication", "Acl", "Tagging", "AnnotationForReplication")
    reads = (*(f"Version{name}" for name in of_version), "Retention", "LegalHold")
    regions = {values["bucket"]: values["region"] for values in state.all_values("aws_s3_bucket")}
    keys = {
        values["bucket"]: each["kms_master_key_id"]
        for values in state.all_values("aws_s3_bucket_server_side_encryption_configuration")
        for each in values["rule"][0]["apply_server_side_encryption_by_default"]
    }
    for values in state.all_values("aws_s3_bucket_replication_configuration"):
        role, hot = values["role"].rpartition("/")[2], f"arn:aws:s3:::{values['bucket']}"
        for action in ("s3:GetReplicationConfiguration", "s3:ListBucket"):
            yield Sent(role, action, hot)
        for rule in values["rule"]:
            twin = rule["destination"][0]["bucket"]
            starter = role.removesuffix("-replication") + "-batch-replication"
            yield Sent(starter, "s3:InitiateReplication", f"{hot}/{rule['filter'][0]['prefix']}x", {})
            for action in ("s3:GetReplicationConfiguration", "s3:PutInventoryConfiguration"):
                yield Sent(starter, action, hot)
            if rule["destination"][0]["access_control_translation"]:
                thing = f"{twin}/{rule['filter'][0]['prefix']}x"
                yield Sent(role, "s3:ObjectOwnerOverrideToBucketOwner", thing)
            key = f"{rule['filter'][0]['prefix']}x"
            for name in reads:
                yield Sent(role, f"s3:GetObject{name}", f"{hot}/{key}")
            marks = rule["delete_marker_replication"][0]["status"] == "Enabled"
            for name in ("Object", "Tags", *(["Delete"] if marks else [])):
                yield Sent(role, f"s3:Replicate{name}", f"{twin}/{key}")
            for bucket, action in ((values["bucket"], "kms:Decrypt"), (twin.rpartition(":")[2], "kms:Encrypt")):
                if keys.get(bucket):
                    via = {"kms:ViaService": f"s3.{regions[bucket]}.amazonaws.com"}
                    yield Sent(role, action, keys[bucket], via)
