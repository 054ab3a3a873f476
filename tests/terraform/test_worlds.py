"""Where Terraform and the program say the same thing, they agree: what was applied beside what the code has."""

from __future__ import annotations

import json
import re
import shlex
from importlib import import_module

import pytest

from jobs.aws.batch_arrays import retry_strategy
from jobs.config import Settings
from jobs.errors import ExitCode
from jobs.policy.reader import read_policy
from jobs.policy.words import minutes_of
from tests.terraform.conftest import applied
from tests.terraform.iam import Answer, decide
from tests.terraform.world import ROOT, written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def definitions(example):
    """Job → (the definition's values, its container's properties)."""
    found = example.all("aws_batch_job_definition")
    return {job: (values, json.loads(values["container_properties"])) for job, values in found.items()}


def test_retry_strategy_is_the_programs(definitions):
    wanted = retry_strategy(5)
    names = {
        "on_exit_code": "onExitCode",
        "on_status_reason": "onStatusReason",
        "on_reason": "onReason",
        "action": "action",
    }
    for values, _ in definitions.values():
        (strategy,) = values["retry_strategy"]
        rules = [
            {names[name]: value for name, value in rule.items() if value is not None}
            for rule in strategy["evaluate_on_exit"]
        ]
        assert strategy["attempts"] == wanted["attempts"]
        assert rules == wanted["evaluateOnExit"]
        assert len(rules) <= 5
        assert rules[-1] == {"onReason": "*", "action": "EXIT"}  # what matches none would be retried
        retried = {int(rule["onExitCode"]) for rule in rules if "onExitCode" in rule}
        assert retried & {code.value for code in ExitCode} == {ExitCode.TRANSIENT}


def test_workers_find_ledger_policy_and_batch(definitions, example):
    policy = read_policy(str(ROOT / "policy.example.yaml"))
    for job, (values, container) in definitions.items():
        environment = {each["name"]: each["value"] for each in container["environment"]}
        settings = Settings.from_environment(environment)
        assert settings.ledger == policy.ledger.uri
        assert settings.policy == example.output("policy")
        assert settings.executor == "batch"
        assert settings.batch_queue == example.output("job_queues")["workers"]
        assert settings.batch_job_definition is not None
        assert settings.batch_job_definition.replace("{job}", job) == values["name"] == f"{policy.name}-{job}"
        assert environment["AWS_REGION"] == policy.ledger.region


def test_functions_find_policy_and_ledger(example):
    policy = read_policy(str(ROOT / "policy.example.yaml"))
    for name, values in example.all("aws_lambda_function").items():
        assert values["handler"] == f"scheduler.{name}.handler"
        module, _, function = values["handler"].rpartition(".")
        assert callable(getattr(import_module(module), function))
        settings = Settings.from_environment(values["environment"][0]["variables"])
        assert settings.policy == example.output("policy")
        assert str(settings.ledger).rstrip("/") == policy.ledger.uri
        assert settings.topic == example.output("topic")
        assert settings.batch_queue == example.output("job_queues")["orchestrators"]


def test_nobody_holds_vcpus_that_he_waits_for(elsewhere):
    """A night waits for workers. In their compute environment it would wait for itself."""
    environments = {
        values["name"]: {each["compute_environment"] for each in values["compute_environment_order"]}
        for values in elsewhere.all_values("aws_batch_job_queue")
    }
    held, used = set(), set()
    for values in elsewhere.all_values("aws_lambda_function"):
        held |= environments[values["environment"][0]["variables"]["SEALIFT_BATCH_QUEUE"]]
    for values in elsewhere.all_values("aws_batch_job_definition"):
        for each in json.loads(values["container_properties"])["environment"]:
            used |= environments[each["value"]] if each["name"].startswith("SEALIFT_BATCH_QUEUE") else set()
    assert held
    assert used
    assert not held & used


def test_command_lines_environment_is_what_it_reads(example):
    environment = example.output("environment")
    read = set(re.findall(r"SEALIFT_[A-Z_]+", (ROOT / "jobs" / "config.py").read_text()))
    assert {name for name in environment if name.startswith("SEALIFT_")} <= read
    assert Settings.from_environment(environment).executor == "batch"
    assert shlex.split(example.output("shell")) == [f"{name}={value}" for name, value in sorted(environment.items())]


def test_containers_can_do_nothing_but_their_work(definitions):
    dockerfile = (ROOT / "images" / "Dockerfile").read_text()
    (user,) = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
    (scratch,) = json.loads(re.findall(r"^VOLUME (.+)$", dockerfile, re.MULTILINE)[0])
    roles = set()
    for _, container in definitions.values():
        assert container["readonlyRootFilesystem"] is True
        assert container["linuxParameters"]["initProcessEnabled"] is True  # as PID 1 it would miss an early SIGTERM
        assert container["user"] == user
        assert [mount["containerPath"] for mount in container["mountPoints"]] == [scratch]
        assert container["networkConfiguration"] == {"assignPublicIp": "DISABLED"}  # in the closed network
        assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"])
        roles.add(container["jobRoleArn"])
    assert len(roles) == len(definitions) - 1  # a role for each, but that nights and backfills share one


def test_queues_outlast_six_times_their_function(example):
    functions = {values["arn"]: values for values in example.all_values("aws_lambda_function")}
    queues = {values["arn"]: values for values in example.all_values("aws_sqs_queue")}
    mappings = list(example.all_values("aws_lambda_event_source_mapping"))
    assert mappings
    for mapping in mappings:
        function, queue = functions[mapping["function_arn"]], queues[mapping["event_source_arn"]]
        assert queue["visibility_timeout_seconds"] >= 6 * function["timeout"]
        assert mapping["function_response_types"] == ["ReportBatchItemFailures"]
        assert mapping["scaling_config"][0]["maximum_concurrency"] == 20
        assert function["reserved_concurrent_executions"] == -1
        dead = queues[json.loads(queue["redrive_policy"])["deadLetterTargetArn"]]
        assert dead["message_retention_seconds"] > queue["message_retention_seconds"]


def test_schedules_are_the_pairs_nights(example):
    policy = read_policy(str(ROOT / "policy.example.yaml"))
    schedules = example.all("aws_scheduler_schedule", "pair")
    assert set(schedules) == {pair.name for pair in policy.pairs}
    for pair in policy.pairs:
        schedule, minutes = schedules[pair.name], minutes_of(pair.nightly.hour)
        assert schedule["schedule_expression"] == f"cron({minutes % 60} {minutes // 60} * * ? *)"
        assert schedule["schedule_expression_timezone"] == pair.nightly.time_zone
        target = schedule["target"][0]
        assert json.loads(target["input"])["pair"] == pair.name
        assert "<aws.scheduler.scheduled-time>" in target["input"]  # Scheduler replaces the text as it stands
        assert target["dead_letter_config"]
        assert target["retry_policy"]


def test_reports_leave_older_versions_beside_them_alone(tmp_path_factory):
    """Copies that the policy keeps for ever may share a bucket with inventory reports, whose versions go."""
    policy = written(
        tmp_path_factory.mktemp("policy"),
        "version: 1\n"
        "name: parcels\n"
        "ledger: {bucket: example-all, region: eu-central-1, prefix: sealift/}\n"
        "inventory: {buckets: {eu-central-1: example-all}}\n"
        "pairs:\n"
        "  - name: scans\n"
        "    source: {bucket: example-scans, region: eu-central-1}\n"
        "    destination:\n"
        "      {bucket: example-all, region: eu-central-1, prefix: copies/, encryption: aws:kms, kms_key: create}\n",
    )
    made = applied(tmp_path_factory, "all-in-one", policy)[1].all("aws_s3_bucket_lifecycle_configuration", "this")
    for rule in made["example-all"]["rule"]:
        if rule["noncurrent_version_expiration"] or any(each["days"] for each in rule["expiration"]):
            assert rule["filter"][0]["prefix"].startswith(("inventory/", "sealift/")), rule["id"]


def test_the_doctor_may_read_what_its_page_says(example):
    table = re.findall(r"^\| (`\w+:.*) \|.*\|$", (ROOT / "docs" / "doctor.md").read_text(), re.MULTILINE)
    statements = json.loads(example.output("doctor_policy"))["Statement"]
    allowed = {action for statement in statements for action in statement["Action"]}
    assert allowed == set(re.findall(r"\w+:\w+", " ".join(table)))
    for role in (each["arn"] for each in example.all_values("aws_iam_role")):
        assert decide(statements, "iam:SimulatePrincipalPolicy", role) is Answer.ALLOWED


def test_the_probe_may_touch_only_what_it_writes(example):
    statements = json.loads(example.output("probe_policy"))["Statement"]
    source, copy = "arn:aws:s3:::example-scans/scans/", "arn:aws:s3:::example-hot-fra/delivery/scans/"
    needed = [
        ("PutObject", source),
        ("DeleteObjectVersion", source),
        ("GetObject", copy),
        ("DeleteObjectVersion", copy),
    ]
    for action, prefix in needed:
        assert decide(statements, f"s3:{action}", f"{prefix}sealift-doctor-0f") is Answer.ALLOWED, (action, prefix)
        assert decide(statements, f"s3:{action}", f"{prefix}a.pdf") is not Answer.ALLOWED, (action, prefix)
    assert decide(statements, "s3:PutObject", f"{copy}sealift-doctor-0f") is not Answer.ALLOWED
