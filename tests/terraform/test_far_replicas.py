"""Replicas of hot buckets of another account: its owners replicate them, there or to the system's account."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.doctor import expected
from jobs.doctor.bucket_checks import REPLICATION_CHECKS
from jobs.doctor.facts import ReplicationFacts
from jobs.doctor.model import Status
from jobs.doctor.needs import Names, needs_of_replication
from jobs.policy.reader import read_policy
from tests.terraform.conftest import _terraform
from tests.terraform.day import ACCOUNT, OTHER_ACCOUNT, REGION, two_accounts
from tests.terraform.iam import Answer, decide
from tests.terraform.services import Policies, sent_by_services
from tests.terraform.test_two_accounts import made_in
from tests.terraform.world import State

FAR = "eu-west-1"
HOT, HERE, THERE = "example-vault-scans", "example-ward-twin", "example-vault-twin"


def policy() -> dict[str, Any]:
    """Two hot buckets of the other account: one with its replica there, one with its replica here."""

    def side(bucket: str, region: str, **more: Any) -> dict[str, Any]:
        return {"bucket": bucket, "region": region, **more}

    kms = {"encryption": "aws:kms", "kms_key": "create"}
    lock = {"object_lock": {"mode": "GOVERNANCE", "days": 30}}
    pairs = [
        {
            "name": "scans",
            "source": side("example-scans", REGION, prefixes=["scans/", "maps/"]),
            "destination": side(HOT, FAR, account=OTHER_ACCOUNT, **kms, **lock),
            "replica": side(
                THERE, REGION, account=OTHER_ACCOUNT, kms_key="create", delete_markers=True,
                replication_time_control=True,
            ),
            "deletes": "mirror",
        },
        {
            "name": "letters",
            "source": side("example-letters", REGION),
            "destination": side("example-vault-letters", FAR, account=OTHER_ACCOUNT, **kms),
            "replica": side(HERE, REGION, kms_key="create"),
        },
    ]  # fmt: skip
    ledger = {"bucket": "example-ward-ledger", "prefix": "sealift/", "region": REGION}
    inventory = {"buckets": {REGION: "example-ward-reports-fra", FAR: "example-ward-reports-dub"}}
    names = {"version": 1, "name": "ward", "account": ACCOUNT}
    return names | {"ledger": ledger, "inventory": inventory, "pairs": pairs}


OWNERS = dict.fromkeys((HOT, THERE, "example-vault-letters"), OTHER_ACCOUNT)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> State:
    folder: Path = tmp_path_factory.mktemp("far")
    made = _terraform(tmp_path_factory, root=two_accounts(folder, policy()))
    return made.apply_root()


def test_the_command_line_takes_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(policy()))
    assert [str(pair.replica.bucket) for pair in read_policy(str(file)).pairs if pair.replica] == [THERE, HERE]


def test_the_owners_of_hot_buckets_replicate_them(far: State) -> None:
    assert made_in(far, "module.system.", "aws_s3_bucket_replication_configuration") == []
    made = {each["bucket"]: each for each in made_in(far, "module.other.", "aws_s3_bucket_replication_configuration")}
    assert set(made) == {HOT, "example-vault-letters"}
    for each in made.values():
        assert each["role"] == f"arn:aws:iam::{OTHER_ACCOUNT}:role/ward-replication"
        assert each["region"] == FAR
    scans, maps = made[HOT]["rule"]
    assert [rule["filter"][0]["prefix"] for rule in (scans, maps)] == ["scans/", "maps/"]
    assert scans["priority"] != maps["priority"]
    for rule in (scans, maps):
        (destination,) = rule["destination"]
        assert destination["bucket"] == f"arn:aws:s3:::{THERE}"
        assert (destination["account"] or "", destination["access_control_translation"]) == ("", [])
        (key,) = destination["encryption_configuration"]
        assert key["replica_kms_key_id"].split(":")[3:5] == [REGION, OTHER_ACCOUNT]
        assert rule["delete_marker_replication"][0]["status"] == "Enabled"
        assert destination["replication_time"][0]["time"][0]["minutes"] == 15
    (letters,) = made["example-vault-letters"]["rule"]
    (destination,) = letters["destination"]
    assert (destination["bucket"], destination["account"]) == (f"arn:aws:s3:::{HERE}", ACCOUNT)
    assert destination["access_control_translation"] == [{"owner": "Destination"}]
    (key,) = destination["encryption_configuration"]
    assert key["replica_kms_key_id"].split(":")[3:5] == [REGION, ACCOUNT]


def test_the_replica_of_a_locked_bucket_is_locked(far: State) -> None:
    locked = {each["bucket"] for each in far.all_values("aws_s3_bucket") if each["object_lock_enabled"]}
    assert locked == {HOT, THERE}


def test_services_are_let_in_by_both_accounts(far: State) -> None:
    sent = list(sent_by_services(far, ACCOUNT, REGION, OWNERS))
    replicated = {(each.action, each.resource.rpartition("/")[0].rpartition(":")[2]) for each in sent}
    assert {("s3:ReplicateObject", f"{THERE}/scans"), ("s3:ReplicateObject", HERE)} <= replicated
    assert ("s3:ObjectOwnerOverrideToBucketOwner", HERE) in replicated
    policies = Policies(far, ACCOUNT, REGION, OWNERS)
    assert [each for each in sent if not policies.allow(each)] == []


@pytest.mark.parametrize(
    ("kind", "sid", "refused"),
    [
        ("aws_s3_bucket_policy", f"ReplicateFrom{OTHER_ACCOUNT}", {"s3:ReplicateObject", "s3:ReplicateTags"}),
        ("aws_kms_key", f"ReplicateFrom{OTHER_ACCOUNT}", {"kms:Encrypt"}),
    ],
)
def test_without_this_account_s_leave_it_is_refused(far: State, kind: str, sid: str, refused: set[str]) -> None:
    resources = copy.deepcopy(list(far.resources))
    for each in resources:
        if each["type"] == kind and each["address"].startswith("module.system."):
            document = json.loads(each["values"]["policy"])
            document["Statement"] = [one for one in document["Statement"] if one["Sid"] != sid]
            each["values"]["policy"] = json.dumps(document)
    state = State(resources, far.outputs)
    policies = Policies(state, ACCOUNT, REGION, OWNERS)
    found = {each.action for each in sent_by_services(state, ACCOUNT, REGION, OWNERS) if not policies.allow(each)}
    assert found >= refused
    assert found <= refused | {"s3:ObjectOwnerOverrideToBucketOwner"}


def test_only_the_role_that_replicates_is_let_in_here(far: State) -> None:
    (bucket,) = (each for each in far.all_values("aws_s3_bucket_policy") if each["bucket"] == HERE)
    statements = json.loads(bucket["policy"])["Statement"]
    root, thing = f"arn:aws:iam::{OTHER_ACCOUNT}:root", f"arn:aws:s3:::{HERE}/x"

    def answer(action: str, role: str) -> Answer:
        context = {"aws:SecureTransport": "true", "aws:PrincipalArn": f"arn:aws:iam::{OTHER_ACCOUNT}:role/{role}"}
        return decide(statements, action, thing, context, root)

    assert answer("s3:ReplicateObject", "ward-replication") is Answer.ALLOWED
    assert answer("s3:ReplicateObject", "of/platform/ward-replication") is Answer.ALLOWED
    assert answer("s3:ReplicateDelete", "ward-replication") is Answer.SILENT  # the policy replicates no markers there
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert answer(action, "ward-replication") is Answer.SILENT
    for role in ("afterward-replication", "ward-replication-2", "ward-job-replicate"):
        assert answer("s3:ReplicateObject", role) is Answer.SILENT


def test_who_looks_at_replicas_may_look_there(far: State) -> None:
    """The nights of this account compare hot buckets and replicas of the other one."""
    for bucket in (HOT, THERE):
        (found,) = (each for each in far.all_values("aws_s3_bucket_policy") if each["bucket"] == bucket)
        statements = json.loads(found["policy"])["Statement"]
        night = {"aws:SecureTransport": "true", "aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/ward-job-nightly"}
        root = f"arn:aws:iam::{ACCOUNT}:root"
        assert decide(statements, "s3:ListBucket", f"arn:aws:s3:::{bucket}", night, root) is Answer.ALLOWED
        assert decide(far.statements("ward-job-nightly"), "s3:ListBucket", f"arn:aws:s3:::{bucket}", {
            "s3:prefix": "scans/",
        }) is Answer.ALLOWED  # fmt: skip
        assert decide(statements, "s3:ReplicateObject", f"arn:aws:s3:::{bucket}/scans/x", night, root) is Answer.SILENT


def test_their_alarms_are_heard_here(far: State) -> None:
    """S3's metrics are in the account of the hot bucket, where no topic of ours is."""
    made = {each["alarm_name"]: each for each in made_in(far, "module.other.", "aws_cloudwatch_metric_alarm")}
    assert {name: each["region"] for name, each in made.items() if "replication" in name} == {
        "ward-scans-replication": REGION,
        "ward-scans-replication-failed": FAR,
        "ward-scans-1-replication": REGION,
        "ward-scans-1-replication-failed": FAR,
        "ward-letters-replication": REGION,
        "ward-letters-replication-failed": FAR,
    }
    forwards = [each for each in made_in(far, "module.other.", "aws_cloudwatch_event_rule") if "alarms" in each["name"]]
    assert {each["region"] for each in forwards} == {each["region"] for each in made.values()}
    for each in forwards:
        forwarded = json.loads(each["event_pattern"])
        assert forwarded["source"] == ["aws.cloudwatch"]
        assert (forwarded["account"], forwarded["region"]) == ([OTHER_ACCOUNT], [each["region"]])  # else ours come back
    (home,) = (
        each
        for each in made_in(far, "module.system.", "aws_cloudwatch_event_rule")
        if OTHER_ACCOUNT in each["event_pattern"] and "aws.cloudwatch" in each["event_pattern"]
    )
    pattern = json.loads(home["event_pattern"])
    assert pattern["account"] == [OTHER_ACCOUNT]
    target = next(each for each in far.all_values("aws_cloudwatch_event_target") if each["rule"] == home["name"])
    assert ":sns:" in target["arn"]
    assert not [
        each
        for each in made_in(far, "module.system.", "aws_cloudwatch_metric_alarm")
        if "-replication" in each["alarm_name"]
    ]


def test_the_twin_is_there_before_its_rule() -> None:
    """S3 refuses a rule to a bucket that is not there: the other account gets its part after the replica is made."""
    text = (Path(__file__).parents[2] / "terraform" / "outputs.tf").read_text()
    output = text.partition('output "other_accounts"')[2].partition("\n}")[0]
    assert "aws_s3_bucket_versioning.this" in output


def test_the_doctor_looks_for_what_is_made(far: State, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(policy()))
    read = read_policy(str(file))
    made = {
        (each["bucket"], rule["id"]): rule
        for each in made_in(far, "module.other.", "aws_s3_bucket_replication_configuration")
        for rule in each["rule"]
    }
    plans = {(plan.hot, plan.rule_id): plan for plan in expected.replication_plans(read)}
    assert set(plans) == set(made)
    for key, plan in plans.items():
        assert plan.owner == OTHER_ACCOUNT
        assert made[key]["destination"][0]["bucket"].endswith(f":{plan.replica}")
    queues = {
        (each["region"], each["arn"].split(":")[4])
        for each in far.all_values("aws_sqs_queue")
        if each["name"] == "ward-undelivered"
    }
    found = {(each.region, each.account or ACCOUNT) for each in expected.undelivered_queues(read)}
    assert found == queues
    assert {account for _, account in found} == {ACCOUNT, OTHER_ACCOUNT}
    assert needs_of_replication(read, Names("aws", ACCOUNT, REGION, {})) == []


def test_what_is_watched_elsewhere_is_no_failure() -> None:
    plan = expected.ReplicationPlan("scans", "", HOT, FAR, THERE, REGION, False, True, False, 900.0, OTHER_ACCOUNT)
    (rules, backlog) = (check.judge(ReplicationFacts(plan, (), None, None, None)) for check in REPLICATION_CHECKS)
    assert rules is not None
    assert rules.status is Status.FAILURE  # the rule itself is looked at
    assert backlog is not None
    assert (backlog.status, OTHER_ACCOUNT in backlog.says) == (Status.OK, True)


def test_no_policy_has_two_statements_of_one_id(far: State) -> None:
    """Some services refuse such a policy: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_sid.html."""
    texts = [
        text
        for each in far.resources
        if each["mode"] == "managed"
        for name in ("policy", "assume_role_policy")
        if (text := each["values"].get(name))
    ]
    assert len(texts) > 20
    for text in texts:
        named = [one["Sid"] for one in json.loads(text).get("Statement", []) if one.get("Sid")]
        assert len(named) == len(set(named)), text
