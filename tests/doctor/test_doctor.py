"""`sealift doctor` on a system that works, and on systems with one fault each."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from botocore.validate import ParamValidator

from jobs.cli import run
from jobs.core.model import Attributes, ObjectRef
from jobs.doctor import probe
from jobs.doctor.model import _PERMISSIONS, Finding, Question, ask_all
from jobs.errors import ConfigError
from jobs.s3.store import UNGUARDED, Guard, Written
from tests.doctor.account import ACCOUNT, FUNCTIONS, IMAGE, JOBS, arn, refused
from tests.doctor.system import HOUR, POLICY, ROOT, System

FORMER = {
    "LambdaFunctionConfigurations": [{"LambdaFunctionArn": "arn:aws:lambda:eu-central-1:1:function:theirs"}],
    "TopicConfigurations": [{"TopicArn": "arn:aws:sns:eu-central-1:1:theirs"}],
}


def bad(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["status"] != "ok"]


def test_a_system_that_works_is_ok_in_every_line(system: System):
    code, lines = system.doctor()
    assert bad(lines) == []
    assert code == 0
    assert {line["check"] for line in lines} == {
        *("credentials", "bucket", "conditional-writes", "source", "notifications", "inventory"),
        *("queue", "dead-letters", "backlog", "alarms", "job-queue"),
        *("image", "vcpu-quota", "lambda-quota", "role", "last-night", "last-drill"),
    }
    assert {line["subject"] for line in lines if line["check"] == "role"} == {*JOBS, *FUNCTIONS}


Plant = Callable[[System], Any]


def gone(mapping: str, name: str) -> Plant:
    return lambda system: getattr(system.account, mapping).pop(name)


def of(mapping: str, name: str, **values: Any) -> Plant:
    return lambda system: getattr(system.account, mapping)[name].update(values)


def account(**values: Any) -> Plant:
    return lambda system: vars(system.account).update(values)


def quota(code: str) -> Plant:
    return lambda system: system.account.quotas.update({code: 6.0})


def waiting(name: str, count: int) -> Plant:
    return lambda system: system.account.queues.update({name: count})


def refuse(role: str, action: str, pattern: str) -> Plant:
    return lambda system: system.account.refused.add((role, action, pattern))


def container(job: str, **values: Any) -> Plant:
    return lambda system: system.account.definitions[f"parcels-{job}"].update(containerProperties=values)


def put_backlog(system: System) -> None:
    stamp = int((system.clock - 3 * HOUR) * 1000)
    system.put("example-ledger", f"sealift/backlog/pair=scans/{stamp:013d}-5-9-0123456789ab.json", b"{}")


def put_old_report(system: System) -> None:
    system.remove("example-inventory-fra", "inventory/example-scans/")
    system.put_report("example-inventory-fra", "example-scans", system.clock - 90 * HOUR)


def without_night(system: System) -> None:
    system.remove("example-ledger", "sealift/nights/customs/")


OLDEST, DELETE = ("ApproximateAgeOfOldestMessage", "parcels-objects"), ("parcels-job-verify", "s3:DeleteObjectVersion")
ENVIRONMENT, MAIL = arn("batch", "compute-environment/parcels-orchestrators-1"), "storage-oncall@example.com"
PLANTS: dict[str, Plant] = {
    "failure bucket example-archives-fra: no such bucket": gone("buckets", "example-archives-fra"),
    "failure bucket example-hot-dub: it is in us-east-1": of("buckets", "example-hot-dub", region="us-east-1"),
    "failure bucket example-hot-fra: it keeps no versions":
        of("buckets", "example-hot-fra", Versioning={"Status": "Suspended"}),
    "failure source example-tracking: it is in eu-west-1": of("buckets", "example-tracking", region="eu-west-1"),
    "warning source example-tracking: overwritten before": of("buckets", "example-tracking", Versioning={}),
    "failure notifications example-scans: somebody replaced its notifications":
        of("buckets", "example-scans", Notification={"EventBridgeConfiguration": {}}),
    "failure notifications example-tracking: nothing is backed up at once":
        of("buckets", "example-tracking", Notification={}),
    "failure inventory example-scans: 90 hours old": put_old_report,
    "failure role enqueue: it is not there": gone("functions", "parcels-enqueue"),
    "failure role restore: no such job definition": of("definitions", "parcels-restore", status="INACTIVE"),
    "failure role backup: Lambda calls the function Failed": of("functions", "parcels-backup", State="Failed"),
    "failure queue parcels-objects: an event waits for 30 min": account(metrics={OLDEST: 1800.0}),
    "failure dead-letters parcels-objects-dead: 3 dead letters": waiting("parcels-objects-dead", 3),
    "failure dead-letters parcels-undelivered in us-east-1: 1": waiting("parcels-undelivered in us-east-1", 1),
    "failure dead-letters parcels-undelivered: it is not there": gone("queues", "parcels-undelivered"),
    "failure backlog pair scans: 5 objects wait": put_backlog,
    "failure alarms parcels-alarms: nobody hears": account(subscribers={}),
    "failure alarms parcels-alarms: it is not there": account(subscribers=None),
    f"warning alarms parcels-alarms: {MAIL} has not confirmed": account(subscribers={MAIL: "PendingConfirmation"}),
    "failure job-queue parcels-workers: no such job queue": gone("job_queues", "parcels-workers"),
    "failure job-queue parcels-workers: DISABLED": of("job_queues", "parcels-workers", state="DISABLED"),
    "failure job-queue parcels-orchestrators: INVALID: no role":
        of("environments", ENVIRONMENT, status="INVALID", statusReason="no role"),
    "failure image parcels-replicate: no job starts": account(images=set()),
    "warning image parcels-replicate: none of ECR":
        container("replicate", image="docker.io/a", jobRoleArn=f"arn:aws:iam::{ACCOUNT}:role/parcels-job-replicate"),
    "warning vcpu-quota Fargate Spot vCPU resource count: jobs wait": quota("L-36FBB829"),
    "warning vcpu-quota Fargate On-Demand vCPU resource count: jobs wait": quota("L-3032A538"),
    "warning lambda-quota the account: 10 functions": account(concurrency=10),
    "failure role backup: may not s3:GetObjectTagging on arn:aws:s3:::example-scans/scans/":
        refuse("parcels-fn-backup", "s3:GetObjectTagging", "*example-scans/scans/*"),
    "failure role restore: may not s3:RestoreObject on arn:aws:s3:::example-archives-fra/delivery/":
        refuse("parcels-job-restore", "s3:RestoreObject", "*"),
    "failure role verify: may s3:DeleteObjectVersion": account(allowed={DELETE}),
    "failure role compact: it has no role": container("compact", image=IMAGE),
    "warning last-night pair customs: no night has ended yet": without_night,
}  # fmt: skip
"""Faults, by the only line that is not ok then: status, check, subject: a part of what it says."""


@pytest.mark.parametrize("line", PLANTS)
def test_a_planted_fault_is_the_only_line_that_is_not_ok(system: System, line: str):
    PLANTS[line](system)
    code, lines = system.doctor()
    found = [f"{line['status']} {line['check']} {line['subject']}: {line['says']}" for line in bad(lines)]
    named, said = re.split(": ", line, maxsplit=1)
    assert [each.startswith(f"{named}: ") and said in each for each in found] == [True], found
    assert bad(lines)[0]["advice"], "a line that is not ok says what to do"
    assert code == {"failure": 10, "warning": 3}[named.partition(" ")[0]]


def test_no_check_is_without_a_plant(system: System):
    """A check that nothing can make fail proves nothing. Three have tests of their own."""
    checked = {line["check"] for line in system.doctor()[1]}
    assert checked - {line.split()[1] for line in PLANTS} == {"credentials", "conditional-writes", "last-drill"}


def test_the_command_for_what_is_older_than_the_rule_is_one_that_aws_takes():
    """Its options by botocore's model, and the role by the name that Terraform gives."""
    page = (ROOT / "docs/events-and-nights.md").read_text()
    command = page[page.index("aws s3control create-job") :].partition("```")[0]
    words = shlex.split(command.replace("\\\n", "").replace("ACCOUNT", "111122223333"))
    words.remove("--no-confirmation-required")
    options = dict(zip(words[3::2], words[4::2], strict=True))
    del options["--region"]
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
    assert params["RoleArn"].endswith("role/SYSTEM-batch-replication")
    assert "    batch-replication = {" in (ROOT / "terraform/replication.tf").read_text()


def test_nothing_is_changed_and_nothing_is_left(system: System):
    before = system.versions()
    system.doctor()
    system.doctor("--before")
    assert system.versions() == before
    asked = system.operations()
    assert all(name.startswith(("Get", "List", "Describe", "Head", "Simulate")) for name in asked), asked


def test_before_says_what_would_be_lost_and_what_has_to_be_asked_for(system: System):
    events = {"Events": ["s3:ObjectCreated:*"]}
    theirs = {kind: [each | events for each in settings] for kind, settings in FORMER.items()}
    system.account.buckets["example-scans"]["Notification"] = theirs
    system.account.buckets["example-tracking"]["Notification"] = theirs
    code, lines = system.doctor("--before")
    found = {(line["check"], line["subject"]): (line["status"], line["says"]) for line in lines}
    status, says = found["notifications", "example-scans"]
    assert (status, "function:theirs" in says) == ("failure", True)
    assert "s3:ObjectCreated:* → arn:aws:sns:eu-central-1:1:theirs" in says
    assert found["notifications", "example-tracking"][0] == "warning"
    assert found["notifications", "example-customs-us"][0] == "ok"
    assert {check for check, _ in found} == {"credentials", "source", "notifications", "vcpu-quota", "lambda-quota"}
    assert code == 10


def test_a_probe_is_timed_to_its_copy_and_leaves_nothing(system: System, monkeypatch: pytest.MonkeyPatch):
    """The function is played by a store that copies what is put at a source."""
    monkeypatch.setattr(probe, "PAUSE_SECONDS", 0.001)
    put, copies = system.store.put, {"example-scans": "example-hot-fra", "example-customs-us": "example-customs-copies"}
    prefixes = {"example-scans": "delivery/"}

    async def copying(ref: ObjectRef, data: bytes, attributes: Attributes, **more: Any) -> Written:
        written = await put(ref, data, attributes, **more)
        if ref.bucket in copies:
            copy = ObjectRef(copies[ref.bucket], prefixes.get(ref.bucket, "") + ref.key)
            await put(copy, data, attributes, guard=UNGUARDED)
        return written

    monkeypatch.setattr(system.store, "put", copying)
    before = system.versions()
    lines = {
        line["subject"]: line for line in system.doctor("--probe", "--pair", "scans")[1] if line["check"] == "probe"
    }
    assert lines["pair scans"]["status"] == "ok"
    assert re.search(r"after \d+\.\d s$", lines["pair scans"]["says"])
    assert system.versions() == before
    monkeypatch.setattr(probe, "WAIT_SECONDS", 0.01)
    (failed,) = [line for line in system.doctor("--probe", "--pair", "tracking")[1] if line["check"] == "probe"]
    assert (failed["status"], "had no copy" in failed["says"]) == ("failure", True)
    assert system.versions() == before


def permission(operation: str) -> str:
    return _PERMISSIONS.get(operation, f"s3:{operation}")


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("ListObjectVersions", "s3:ListBucketVersions"),
        ("HeadObject", "s3:GetObject"),
        ("GetQueueUrl", "sqs:GetQueueUrl"),
    ],
)
def test_a_permission_is_named_as_iam_names_it(operation: str, action: str):
    assert permission(operation) == action


def test_the_page_lists_every_permission_that_is_used(system: System):
    system.doctor()
    used = {permission(each) for each in system.operations()}
    table = re.findall(r"`([a-z0-9]+:[A-Za-z]+)`", (POLICY.parent / "docs" / "doctor.md").read_text())
    assert {*table} == used | {"s3:GetObject", "kms:Decrypt"}


@pytest.mark.parametrize("operation", ["GetBucketVersioning", "SimulatePrincipalPolicy", "all"])
def test_what_may_not_be_read_is_never_ok_and_names_the_permission(system: System, operation: str):
    system.doctor()
    denied = system.operations() if operation == "all" else {operation}
    system.account.denied |= denied
    code, lines = system.doctor()
    assert {line["status"] for line in bad(lines)} == {"warning"}, bad(lines)
    named = {line["advice"] for line in bad(lines)}
    assert named <= {f"allow {permission(each)} to who runs the doctor" for each in denied}
    assert len(named) >= (1 if len(denied) == 1 else 9)
    assert code == 3


def test_credentials_that_aws_does_not_accept_or_that_are_not_there_are_the_only_line(system: System):
    system.account.errors["GetCallerIdentity"] = refused("GetCallerIdentity", "ExpiredToken", 403)
    code, lines = system.doctor()
    assert (code, [(line["status"], line["check"]) for line in lines]) == (10, [("failure", "credentials")])
    system.account.errors["GetCallerIdentity"] = NoCredentialsError()
    assert run(["doctor", "--policy", str(POLICY)]) == 10
    said = system.capture.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "Unable to locate credentials" in said.err


def test_an_empty_answer_is_not_a_good_one_and_a_service_that_cannot_be_reached_is_a_warning(system: System):
    """A server that says 200 to everything, as gateways and imitations do."""
    system.account.empty = {"SimulatePrincipalPolicy", "GetQueueAttributes", "DescribeJobQueues", "GetServiceQuota"}
    code, lines = system.doctor()
    kinds = {line["check"]: line["status"] for line in lines}
    assert ({kinds[check] for check in ("role", "queue", "job-queue", "vcpu-quota")}, code) == ({"warning"}, 3)
    assert any("the answer cannot be read (KeyError: " in line["says"] for line in bad(lines))
    system.account.empty = set()
    system.account.errors["DescribeJobQueues"] = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    system.account.errors["GetServiceQuota"] = refused("GetServiceQuota", "NotImplemented", 501)
    code, lines = system.doctor()
    offered = {line["check"]: "is not offered here" not in line["says"] for line in bad(lines)}
    assert (offered, code) == ({"job-queue": False, "vcpu-quota": False}, 3)


def test_an_error_that_speaks_for_itself_is_not_named_after_its_class():
    def ask() -> Finding:
        raise ConfigError("no region is set")

    [line] = ask_all([Question("queue", "parcels-objects", ask)])
    assert (line.status, line.says) == ("warning", "not known: no region is set")


def test_a_job_definition_that_is_missing_has_no_image(system: System):
    of("definitions", "parcels-replicate", status="INACTIVE")(system)
    says = {line["check"]: line["says"] for line in bad(system.doctor()[1])}
    assert "no such job definition" in says["image"]


def test_one_pair_is_looked_at_alone(system: System):
    without_night(system)
    assert system.doctor()[0] == 3
    code, lines = system.doctor("--pair", "tracking")
    assert code == 0, bad(lines)
    subjects = {line["subject"] for line in lines}
    assert "example-tracking" in subjects
    assert not subjects & {"example-scans", "example-customs-us", "pair scans"}
    assert run(["doctor", "--policy", str(POLICY), "--pair", "nobody"]) == 2


def test_people_get_a_table_with_the_worst_lines_last(system: System):
    system.account.job_queues.pop("parcels-workers")
    system.account.quotas["L-36FBB829"] = 1.0
    assert run(["doctor", "--policy", str(POLICY)]) == 10
    text = system.capture.readouterr().out
    statuses = [line.split()[0] for line in text.splitlines() if line.startswith(("ok", "warning", "failure"))]
    assert statuses == ["ok"] * (len(statuses) - 2) + ["warning", "failure"]
    assert "ok, 1 warning, 1 failure" in text
    assert text.rstrip().endswith("terraform plan -detailed-exitcode")


def test_conditions_that_the_server_ignores_are_seen(system: System, monkeypatch: pytest.MonkeyPatch):
    put = system.store.put

    async def careless(ref: ObjectRef, data: bytes, attributes: Attributes, *, guard: Guard, **more: Any) -> Written:
        return await put(ref, data, attributes, guard=UNGUARDED, **more)

    monkeypatch.setattr(system.store, "put", careless)
    monkeypatch.setattr(system.store, "heeds_conditions", False)
    before = system.versions()
    code, lines = system.doctor()
    assert {(line["status"], line["check"]) for line in bad(lines)} == {("failure", "conditional-writes")}
    assert code == 10
    assert system.versions() == before
