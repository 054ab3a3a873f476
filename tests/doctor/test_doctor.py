"""`sealift doctor` on a healthy account, and on accounts with one misconfiguration each."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from botocore.validate import ParamValidator

from jobs.cli import run
from jobs.core.model import Attributes
from jobs.s3.store import UNGUARDED, Guard, Written
from tests.doctor.account import JOBS, refused
from tests.doctor.plants import PLANTS, Plant, older_than_the_rule
from tests.doctor.system import POLICY, System


def bad(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["status"] != "ok"]


def test_a_healthy_system_is_ok_in_every_line(system: System):
    code, lines = system.doctor()
    assert bad(lines) == []
    assert code == 0
    checked = {line["check"] for line in lines}
    assert checked == {
        *("credentials", "clock", "region", "versioning", "encryption", "kms-key", "object-lock", "ownership"),
        *("public-access", "lifecycle", "notifications", "replication", "replication-backlog", "inventory"),
        *("inventory-age", "queue", "queue-policy", "queue-key", "queue-visibility", "event-source", "dead-letters"),
        *("rule", "function", "lambda-quota", "schedule", "job-queue", "compute-environment", "vcpu-quota"),
        *("job-definition", "image", "role", "conditional-writes", "last-night", "proof", "replica"),
        *("oldest-event", "oldest-backlog", "queue-age", "rule-permission", "rule-dead-letters", "policy-file"),
        *("queue-retention", "function-dead-letters"),
    }
    assert {line["subject"] for line in lines if line["check"] == "role"} == {
        *(f"job {job}" for job in JOBS),
        *(f"function {name}" for name in ("backup", "enqueue", "submit", "follow")),
        *("start of jobs", "replication", "schedules", "rules of other regions"),
    }


def test_the_command_for_what_is_older_than_the_rule_is_one_that_aws_takes(system: System):
    """Its options by botocore's model, and the role by the plan's name."""
    older_than_the_rule(system)
    [line] = bad(system.doctor()[1])
    words = shlex.split(line["advice"].partition(": ")[2])
    assert words[:3] == ["aws", "s3control", "create-job"]
    assert words.pop() == "--no-confirmation-required"
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options.pop("--region") == "eu-central-1"
    model = botocore.session.get_session().get_service_model("s3control").operation_model("CreateJob")
    texts = {"AccountId": "--account-id", "RoleArn": "--role-arn"}
    documents = {"Operation": "--operation", "ManifestGenerator": "--manifest-generator", "Report": "--report"}
    params: dict[str, Any] = {name: options.pop(option) for name, option in texts.items()}
    params |= {name: json.loads(options.pop(option)) for name, option in documents.items()}
    params |= {"Priority": int(options.pop("--priority")), "ConfirmationRequired": False, "ClientRequestToken": "any"}
    assert options == {}
    assert model.input_shape is not None
    report = ParamValidator().validate(params, model.input_shape)
    assert not report.has_errors(), report.generate_report()
    assert params["RoleArn"] == "arn:aws:iam::123456789012:role/parcels-batch-replication"
    generator = params["ManifestGenerator"]["S3JobManifestGenerator"]
    assert generator["SourceBucket"] == "arn:aws:s3:::example-hot-fra"


def test_nothing_is_changed_and_nothing_is_left(system: System):
    before = system.versions()
    system.doctor()
    assert system.versions() == before
    asked = [name.partition(":")[2] for name in system.account.asked]
    assert all(name.startswith(("Get", "List", "Describe", "Head", "Simulate")) for name in asked), asked


def test_no_check_is_without_a_plant(system: System):
    """A check that nothing can make fail proves nothing. Two have tests of their own below."""
    checked = {line["check"] for line in system.doctor()[1]}
    assert checked - {plant.line.split()[1] for plant in PLANTS} == {"credentials", "conditional-writes"}


@pytest.mark.parametrize("planted", PLANTS, ids=lambda planted: planted.line)
def test_a_planted_misconfiguration_is_the_only_line_that_is_not_ok(system: System, planted: Plant):
    planted.plant(system)
    code, lines = system.doctor()
    found = [f"{line['status']} {line['check']} {line['subject']}: {line['says']}" for line in bad(lines)]
    named, said = planted.line.rsplit(": ", 1)
    assert [each.startswith(f"{named}: ") and said in each for each in found] == [True], found
    assert bad(lines)[0]["advice"], "a line that is not ok says what to do"
    assert code == {"failure": 10, "warning": 3}[named.partition(" ")[0]]


DENIED = {
    "GetCallerIdentity": "",  # needs no permission: who is refused has no credentials
    "HeadBucket": "s3:ListBucket",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetBucketOwnershipControls": "s3:GetBucketOwnershipControls",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "GetBucketReplication": "s3:GetReplicationConfiguration",
    "GetBucketInventoryConfiguration": "s3:GetInventoryConfiguration",
    "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "GetQueueUrl": "sqs:GetQueueUrl",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "DescribeRule": "events:DescribeRule",
    "ListTargetsByRule": "events:ListTargetsByRule",
    "GetSchedule": "scheduler:GetSchedule",
    "GetFunctionConfiguration": "lambda:GetFunctionConfiguration",
    "GetPolicy": "lambda:GetPolicy",
    "GetFunctionConcurrency": "lambda:GetFunctionConcurrency",
    "ListEventSourceMappings": "lambda:ListEventSourceMappings",
    "GetAccountSettings": "lambda:GetAccountSettings",
    "DescribeJobQueues": "batch:DescribeJobQueues",
    "DescribeComputeEnvironments": "batch:DescribeComputeEnvironments",
    "DescribeJobDefinitions": "batch:DescribeJobDefinitions",
    "DescribeImages": "ecr:DescribeImages",
    "GetServiceQuota": "servicequotas:GetServiceQuota",
    "DescribeKey": "kms:DescribeKey",
    "GetKeyPolicy": "kms:GetKeyPolicy",
    "SimulatePrincipalPolicy": "iam:SimulatePrincipalPolicy",
    "GetMetricStatistics": "cloudwatch:GetMetricStatistics",
}
"""Every operation that the doctor uses, and the permission that it takes."""


def test_every_operation_that_is_used_has_its_permission(system: System):
    system.doctor()
    assert {name.partition(":")[2] for name in system.account.asked} == set(DENIED)


def test_the_page_lists_every_permission():
    table = re.findall(r"`([a-z0-9]+:[A-Za-z]+)`", (POLICY.parent / "docs" / "doctor.md").read_text())
    assert set(table) == {*filter(None, DENIED.values()), "s3:GetObject", "kms:Decrypt"}


@pytest.mark.parametrize("operation", ["GetBucketVersioning", "DescribeRule", "SimulatePrincipalPolicy", "all"])
def test_what_may_not_be_read_is_never_ok_and_names_the_permission(system: System, operation: str):
    denied = set(DENIED) - {"GetCallerIdentity"} if operation == "all" else {operation}
    system.account.denied |= denied
    code, lines = system.doctor()
    assert {line["status"] for line in bad(lines)} == {"warning"}, bad(lines)
    named = {line["advice"] for line in bad(lines)}
    assert named <= {f"allow {DENIED[each]} to who runs the doctor" for each in denied}
    assert len(named) >= (1 if len(denied) == 1 else 15)
    assert code == 3


def test_credentials_that_aws_does_not_accept_are_a_failure(system: System):
    system.account.errors["GetCallerIdentity"] = refused("GetCallerIdentity", "ExpiredToken", 403)
    exit_code, lines = system.doctor()
    assert exit_code == 10
    assert lines[0]["status"] == "failure"
    assert lines[0]["check"] == "credentials"


def test_without_credentials_one_line_says_so(system: System):
    system.account.errors["GetCallerIdentity"] = NoCredentialsError()
    assert run(["doctor", "--policy", str(POLICY)]) == 10
    said = system.capture.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "Unable to locate credentials" in said.err


def test_an_empty_answer_is_not_a_good_one(system: System):
    """A server that says 200 to everything, as gateways and imitations do."""
    system.account.empty = {"SimulatePrincipalPolicy", "GetQueueAttributes", "DescribeKey", "GetMetricStatistics"}
    code, lines = system.doctor()
    kinds = {line["check"]: line["status"] for line in lines}
    assert {kinds[check] for check in ("role", "queue", "queue-policy", "kms-key", "oldest-backlog")} == {"warning"}
    assert code == 3


@pytest.mark.parametrize("is_flat", [True, False])
def test_a_simulation_is_read_in_both_forms_and_asked_in_few_calls(system: System, is_flat: bool):
    system.account.is_flat = is_flat
    assert system.doctor()[0] == 0
    assert system.account.asked["iam:SimulatePrincipalPolicy"] < 300
    system.account.refused.add(("parcels-job-nightly", "s3:GetObject", "*example-tracking*"))
    assert [line["subject"] for line in bad(system.doctor()[1])] == ["job nightly"]


def test_a_bucket_that_is_gone_is_one_line(system: System):
    del system.account.buckets["example-archives-fra"]
    code, lines = system.doctor()
    assert [(line["check"], line["subject"]) for line in bad(lines)] == [("region", "example-archives-fra")]
    assert code == 10


def test_a_service_that_is_not_there_is_not_checked_once(system: System):
    for operation in ("DescribeJobQueues", "DescribeJobDefinitions"):
        system.account.errors[operation] = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    system.account.errors["ListEventSourceMappings"] = refused("ListEventSourceMappings", "NotImplemented", 501)
    code, lines = system.doctor()
    unchecked = [line for line in bad(lines) if line["says"].startswith("not checked: ")]
    assert {line["status"] for line in unchecked} == {"warning"}
    assert sorted(line["says"] for line in unchecked) == [
        "not checked: batch:DescribeJobDefinitions is not offered here",
        "not checked: batch:DescribeJobQueues is not offered here",
        "not checked: lambda:ListEventSourceMappings is not offered here",
    ]
    assert code == 3


@pytest.mark.parametrize(
    ("written", "covers"),
    [("dt=2026/", False), ("dt%3D2026/", True), ("dt%3D2026/11/", False)],
)
def test_a_filter_that_s3_reads_otherwise_than_it_looks_is_a_failure(
    system: System, tmp_path: Path, written: str, covers: bool
):
    """S3 takes a filter with a special character as it is, and notifies nobody."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.read_text().replace("scans/", "dt=2026/"))
    first, _ = system.account.buckets["example-scans"]["Notification"]["QueueConfigurations"]
    first["Filter"]["Key"]["FilterRules"][0]["Value"] = written
    run(["doctor", "--policy", str(policy), "--json"])
    lines = json.loads(system.capture.readouterr().out)["lines"]
    (line,) = [each for each in lines if (each["check"], each["subject"]) == ("notifications", "example-scans")]
    assert line["status"] == ("ok" if covers else "failure"), line["says"]


def test_one_pair_is_looked_at_alone(system: System):
    del system.account.schedules["night-customs"]
    assert system.doctor()[0] == 10
    code, lines = system.doctor("--pair", "tracking")
    assert code == 0, bad(lines)
    subjects = {line["subject"] for line in lines}
    assert "example-tracking" in subjects
    assert not subjects & {"example-scans", "example-customs-us", "night-scans", "pair scans"}
    assert run(["doctor", "--policy", str(POLICY), "--pair", "nobody"]) == 2


def test_people_get_a_table_with_the_worst_lines_last(system: System):
    system.account.images.clear()
    system.account.quotas["L-36FBB829"] = 1.0
    assert run(["doctor", "--policy", str(POLICY)]) == 10
    text = system.capture.readouterr().out
    statuses = [line.split()[0] for line in text.splitlines() if line.startswith(("ok", "warning", "failure"))]
    assert statuses == ["ok"] * (len(statuses) - 2) + ["warning", "failure"]
    assert "push it, or correct" in text
    assert text.rstrip().endswith("ok, 1 warning, 1 failure")


def test_conditions_that_the_server_ignores_are_seen(system: System, monkeypatch: pytest.MonkeyPatch):
    put = system.store.put

    async def careless(
        bucket: str, key: str, data: bytes, attributes: Attributes, *, guard: Guard, **more: Any
    ) -> Written:
        return await put(bucket, key, data, attributes, guard=UNGUARDED, **more)

    monkeypatch.setattr(system.store, "put", careless)
    monkeypatch.setattr(system.store, "heeds_conditions", False)
    before = system.versions()
    code, lines = system.doctor()
    assert [(line["status"], line["check"]) for line in bad(lines)] == [("failure", "conditional-writes")]
    assert code == 10
    assert system.versions() == before
