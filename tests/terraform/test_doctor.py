"""What the doctor expects is what Terraform makes: names, settings, rules, policies, permissions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from jobs.aws.account import Identity
from jobs.aws.batch_settings import EcrImage
from jobs.doctor import expected
from jobs.doctor.deliveries import encrypts, sends
from jobs.doctor.evaluation import allows, lets_through
from jobs.doctor.event_checks import KEPT_SECONDS_MIN
from jobs.doctor.gather_stored import PROBE
from jobs.doctor.needs import (
    Names,
    needs,
    needs_of_execution,
    needs_of_replication,
    needs_of_rules,
    needs_of_schedules,
    roles,
)
from jobs.policy.model import Policy
from jobs.policy.reader import read_policy
from tests.terraform.iam import Answer, decide, listed
from tests.terraform.world import MODULE, State


@pytest.fixture(params=["example", "hosts", "minimal"])
def world(request: pytest.FixtureRequest) -> State:
    state: State = request.getfixturevalue(request.param)
    return state


@pytest.fixture
def policy(world: State) -> Policy:
    """The policy that the world was made of."""
    return read_policy(str(MODULE / world.all("aws_s3_object", "policy")["policy"]["source"]))


def identity_of(state: State) -> Identity:
    arn = state.output("roles")["backup"]
    return Identity(arn.split(":")[4], arn)


def test_buckets_have_the_settings_that_the_doctor_wants(world: State, policy: Policy):
    plans = {plan.bucket: plan for plan in expected.bucket_plans(policy)}
    made = world.all("aws_s3_bucket", "this")
    assert set(plans) == set(made)
    encryption = world.all("aws_s3_bucket_server_side_encryption_configuration", "this")
    locks = world.all("aws_s3_bucket_object_lock_configuration", "this")
    lifecycles = world.all("aws_s3_bucket_lifecycle_configuration", "this")
    for bucket, plan in plans.items():
        assert made[bucket]["region"] == plan.region
        assert made[bucket]["object_lock_enabled"] == plan.is_locked
        (rule,) = encryption[bucket]["rule"]
        assert rule["apply_server_side_encryption_by_default"][0]["sse_algorithm"] == plan.encryption
        assert (bucket in locks) == (plan.lock is not None)
        if plan.lock:
            retention = locks[bucket]["rule"][0]["default_retention"][0]
            assert (retention["mode"], retention["days"]) == (plan.lock.mode, plan.lock.days)
        _check_lifecycle(lifecycles[bucket]["rule"], plan)


def _check_lifecycle(rules: list[dict[str, Any]], plan: expected.BucketPlan) -> None:
    moves = [(each["days"], each["storage_class"]) for rule in rules for each in rule["transition"]]
    assert tuple(sorted(moves)) == plan.transitions
    for rule in rules:
        prefix = (rule["filter"][0].get("prefix") or "") if rule["filter"] else ""
        if prefix:
            assert prefix in plan.may_expire
        elif rule["noncurrent_version_expiration"]:
            assert rule["noncurrent_version_expiration"][0]["noncurrent_days"] == plan.noncurrent_days
        if not prefix:
            assert not any(each.get("days") for each in rule["expiration"])


def test_rules_have_the_names_and_let_the_samples_through(world: State, policy: Policy):
    made = {
        (values.get("region") or policy.ledger.region, values["name"]): values
        for kind in ("home", "forward")
        for values in world.all("aws_cloudwatch_event_rule", kind).values()
    }
    plans = expected.rule_plans(policy)
    others = {f"{policy.name}-queue-blocked", f"{policy.name}-far-alarms", f"{policy.name}-others-alarms"}
    assert {(plan.region, plan.name) for plan in plans} == {key for key in made if key[1] not in others}
    for plan in plans:
        pattern = json.loads(made[plan.region, plan.name]["event_pattern"])
        queues = pattern["detail"].get("jobQueue", [])
        for sample in plan.samples:
            event = json.loads(json.dumps(sample))
            if queues:
                (event["detail"]["jobQueue"],) = [
                    each for each in queues if each.endswith(f"/{event['detail']['jobQueue']}")
                ]
            assert lets_through(pattern, event), (plan.name, event)
            event["source"] = "elsewhere"
            assert not lets_through(pattern, event)


def test_queues_let_all_senders_in_and_nobody_else(world: State, policy: Policy):
    queue = world.all("aws_sqs_queue", "this")["objects"]
    rules = json.loads(world.all("aws_sqs_queue_policy", "this")["objects"]["policy"])
    identity = identity_of(world)
    requests = sends(policy, identity)
    assert {request.resource for request in requests} == {queue["arn"]}
    assert "s3.amazonaws.com" in {request.service for request in requests}
    for request in requests:
        assert allows(rules, request), request
        foreign = dict(request.context) | {"aws:sourcearn": "arn:aws:s3:::elsewhere"}
        assert not allows(rules, replace(request, context=foreign))
    key = json.loads(world.all("aws_kms_key", "this")[policy.ledger.region]["policy"])
    for request in encrypts(policy, identity):
        assert allows(key, request), request


def test_everything_else_has_the_name_that_the_doctor_asks_for(world: State, policy: Policy):
    name = policy.name
    assert {each["function_name"] for each in world.all_values("aws_lambda_function")} == {
        f"{name}-{function}" for function in expected.FUNCTIONS
    }
    assert {each["name"] for each in world.all_values("aws_batch_job_definition")} == {
        f"{name}-{job}" for job in expected.jobs(policy)
    }
    for function in world.all_values("aws_lambda_function"):
        assert expected.environment(policy, "orchestrators").items() <= function["environment"][0]["variables"].items()
    for definition in world.all_values("aws_batch_job_definition"):
        given = json.loads(definition["container_properties"])["environment"]
        assert expected.environment(policy, "spot").items() <= {each["name"]: each["value"] for each in given}.items()
    assert set(expected.far_regions(policy)) == set(world.all("aws_sqs_queue", "far"))
    queues = {plan.name: plan for plan in expected.job_queue_plans(policy)}
    assert {each["name"] for each in world.all_values("aws_batch_job_queue")} == set(queues)
    environments = world.all("aws_batch_compute_environment", "this")
    for plan in queues.values():
        (resources,) = environments[plan.use]["compute_resources"]
        assert (resources["type"], resources["max_vcpus"]) == (plan.kind, plan.max_vcpus)
    assert {each["name"] for each in world.all_values("aws_iam_role")} >= {
        *(f"{name}-fn-{function}" for function in expected.FUNCTIONS),
        *(f"{name}-job-{job}" for job in expected.jobs(policy)),
    }
    kept = {each["name"]: each["message_retention_seconds"] for each in world.all_values("aws_sqs_queue")}
    assert KEPT_SECONDS_MIN < kept[f"{name}-objects"] < kept[f"{name}-objects-dead"]
    schedules = {each["name"]: each for each in world.all_values("aws_scheduler_schedule")}
    for pair in policy.pairs:
        made = schedules[f"night-{pair.name}"]
        assert made["schedule_expression"] == expected.cron(pair)
        assert made["schedule_expression_timezone"] == pair.nightly.time_zone
        assert made["group_name"] == name
    assert schedules["backlog"]["schedule_expression"] == "rate(5 minutes)"
    inventories = {each["bucket"]: each for each in world.all_values("aws_s3_bucket_inventory")}
    reports = {plan.bucket: plan for plan in expected.inventory_plans(policy)}
    assert set(reports) == set(inventories)
    for bucket, wanted in reports.items():
        place = inventories[bucket]["destination"][0]["bucket"][0]
        assert place["bucket_arn"].endswith(f":{wanted.reports}")
        assert (place["prefix"], inventories[bucket]["name"]) == (wanted.prefix.strip("/"), name)


def test_replication_has_the_rules_that_the_doctor_asks_for(world: State, policy: Policy):
    made = {
        (bucket, rule["id"]): rule
        for bucket, values in world.all("aws_s3_bucket_replication_configuration", "this").items()
        for rule in values["rule"]
    }
    plans = {(plan.hot, plan.rule_id): plan for plan in expected.replication_plans(policy)}
    assert set(plans) == set(made)
    for key, plan in plans.items():
        rule = made[key]
        assert rule["filter"][0]["prefix"] == plan.prefix
        assert rule["destination"][0]["bucket"].endswith(f":{plan.replica}")
        assert (rule["delete_marker_replication"][0]["status"] == "Enabled") == plan.replicates_markers


def test_each_role_may_do_what_the_doctor_asks_and_nothing_that_it_must_not(world: State, policy: Policy):
    keys = {bucket: values["kms_key"] for bucket, values in world.output("buckets").items() if values["kms_key"]}
    identity = identity_of(world)
    names = Names(identity.partition, identity.account, str(policy.ledger.region), keys)
    asked = 0
    image = EcrImage(identity.account, names.region, str(policy.name), "1", None)
    wanted = {"execution": needs_of_execution(image, names)}
    if expected.replication_plans(policy):
        wanted["replication"] = needs_of_replication(policy, names)
    wanted |= {"scheduler": needs_of_schedules(policy, names), "events": needs_of_rules(names)}
    for role in roles(policy):
        wanted[f"{'fn' if role in expected.FUNCTIONS else 'job'}-{role}"] = needs(policy, role, names)
    for role, requests in wanted.items():
        statements = world.statements(f"{policy.name}-{role}")
        for need in requests:
            for action in need.actions:
                asked += 1
                answer = decide(statements, action, need.resource, need.context)
                assert (answer == Answer.ALLOWED) != need.must_not, (role, action, need.resource, answer)
    assert asked > 100


NOT_ASKED = {
    "logs:CreateLogStream": "a function that cannot log sends no metrics either: `oldest-backlog` says so",
    "logs:PutLogEvents": "the same",
}
"""What roles may do that the doctor does not ask about, and why."""
RESTORED = {"s3:PutObjectTagging", "s3:PutObjectAnnotation", "s3:PutObjectVersionAnnotation"}
"""Where restores write is a variable of Terraform's, which the doctor does not know."""


def test_the_doctor_asks_about_every_action_that_terraform_gives(world: State, policy: Policy):
    """A boundary or an organization's policy may refuse any of them, and then work fails."""
    keys = {bucket: values["kms_key"] for bucket, values in world.output("buckets").items() if values["kms_key"]}
    identity = identity_of(world)
    names = Names(identity.partition, identity.account, str(policy.ledger.region), keys)
    for role in roles(policy):
        asked = {
            action for need in needs(policy, role, names) if not need.must_not for action in need.actions
        } | NOT_ASKED.keys()
        kind = "fn" if role in expected.FUNCTIONS else "job"
        given = {
            action
            for statement in world.statements(f"{policy.name}-{kind}-{role}")
            if statement["Effect"] == "Allow"
            for action in listed(statement["Action"])
        }
        assert given - asked - (RESTORED if role == "restore" else set()) == set(), role


def test_the_doctor_may_read_what_its_page_says_and_write_its_probe_only(world: State, policy: Policy):
    statements = json.loads(world.output("doctor_policy"))["Statement"]
    page = set(re.findall(r"`([a-z0-9]+:[A-Za-z]+)`", (MODULE.parent / "docs" / "doctor.md").read_text()))
    assert {action for statement in statements for action in statement["Action"]} == page
    ledger = f"arn:aws:s3:::{policy.ledger.bucket}/{policy.ledger.prefix}"
    for action in ("s3:PutObject", "s3:DeleteObjectVersion"):
        assert decide(statements, action, f"{ledger}{PROBE}.sealift-0123456789abcdef-a") == Answer.ALLOWED
        for key in ("runs/1/plan.json", "nights/a/2026-11-25.json", "policy.yaml", "doctor"):
            assert decide(statements, action, f"{ledger}{key}") == Answer.SILENT
        for pair in policy.pairs:
            assert decide(statements, action, f"arn:aws:s3:::{pair.destination.bucket}/k") == Answer.SILENT
    assert decide(statements, "s3:GetObject", f"{ledger}nights/a/2026-11-25.json") == Answer.ALLOWED
    for role in (each["arn"] for each in world.all_values("aws_iam_role") if "AWSService" not in each["arn"]):
        assert decide(statements, "iam:SimulatePrincipalPolicy", role) == Answer.ALLOWED, role
    for plan in expected.bucket_plans(policy):
        assert decide(statements, "s3:GetLifecycleConfiguration", f"arn:aws:s3:::{plan.bucket}") == Answer.ALLOWED
