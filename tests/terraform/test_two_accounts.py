"""A policy of two accounts: what is made in which, whom the other one lets in, and for what."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from jobs.policy.reader import read_policy
from tests.terraform.day import ACCOUNT, OTHER_ACCOUNT, REGION
from tests.terraform.iam import Answer, decide, listed
from tests.terraform.services import Policies, sent_by_services
from tests.terraform.world import MODULE, State

POLICY = MODULE / "examples" / "two-accounts" / "policy.yaml"
OWNERS = {
    str(side.bucket): str(side.account)
    for pair in read_policy(str(POLICY)).pairs
    for side in (pair.destination, pair.replica, pair.archive)
    if side and side.account == OTHER_ACCOUNT
}
VAULT = "module.vault."


def made_in(state: State, module: str, kind: str) -> list[dict[str, Any]]:
    found = [each for each in state.resources if each["mode"] == "managed" and each["type"] == kind]
    return [each["values"] for each in found if each["address"].startswith(module)]


def test_the_other_account_has_its_buckets_and_keys(two_accounts: State) -> None:
    assert len(OWNERS) == 3
    assert {values["bucket"] for values in made_in(two_accounts, VAULT, "aws_s3_bucket")} == set(OWNERS)
    ours = {values["bucket"] for values in made_in(two_accounts, "module.sealift.", "aws_s3_bucket")}
    assert ours & set(OWNERS) == set()
    assert {values["arn"].split(":")[4] for values in made_in(two_accounts, VAULT, "aws_kms_key")} == {OTHER_ACCOUNT}
    keys = made_in(two_accounts, VAULT, "aws_s3_bucket_server_side_encryption_configuration")
    for values in keys:
        (default,) = values["rule"][0]["apply_server_side_encryption_by_default"]
        assert default["kms_master_key_id"].split(":")[4] == OTHER_ACCOUNT
    owned = made_in(two_accounts, VAULT, "aws_s3_bucket_ownership_controls")
    assert {values["rule"][0]["object_ownership"] for values in owned} == {"BucketOwnerEnforced"}
    assert len(owned) == len(keys) == 3


def test_replicas_are_given_to_the_account_of_their_bucket(two_accounts: State) -> None:
    (configuration,) = two_accounts.all_values("aws_s3_bucket_replication_configuration")
    (rule,) = configuration["rule"]
    (destination,) = rule["destination"]
    assert destination["bucket"] == "arn:aws:s3:::example-vault-scans"
    assert destination["account"] == OTHER_ACCOUNT
    assert destination["access_control_translation"] == [{"owner": "Destination"}]
    (key,) = destination["encryption_configuration"]
    assert key["replica_kms_key_id"].split(":")[3:5] == ["eu-west-1", OTHER_ACCOUNT]


def test_services_are_let_in_by_both_accounts(two_accounts: State) -> None:
    sent = list(sent_by_services(two_accounts, ACCOUNT, REGION, OWNERS, annotations=False))
    assert "s3:ObjectOwnerOverrideToBucketOwner" in {each.action for each in sent}
    assert {each.context.get("aws:SourceAccount") for each in sent} >= {ACCOUNT, OTHER_ACCOUNT}
    policies = Policies(two_accounts, ACCOUNT, REGION, OWNERS)
    assert [each for each in sent if not policies.allow(each)] == []


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("aws_s3_bucket_policy", {"s3:ReplicateObject", "s3:ReplicateTags", "s3:ObjectOwnerOverrideToBucketOwner"}),
        ("aws_kms_key", {"kms:Encrypt"}),
        ("aws_cloudwatch_event_permission", {"events:PutEvents"}),
    ],
)
def test_without_the_other_side_it_is_refused(two_accounts: State, kind: str, refused: set[str]) -> None:
    """The identity policy alone lets nobody in."""
    resources = [
        each
        for each in copy.deepcopy(list(two_accounts.resources))
        if each["type"] != kind or "policy" in each["values"]
    ]
    for each in resources:
        if each["type"] == kind and each["address"].startswith(VAULT):
            policy = json.loads(each["values"]["policy"])
            policy["Statement"] = [
                one for one in policy["Statement"] if one["Sid"] not in ("Replicate", "UseThroughS3")
            ]
            each["values"]["policy"] = json.dumps(policy)
    state = State(resources, two_accounts.outputs)
    policies = Policies(state, ACCOUNT, REGION, OWNERS)
    found = {
        each.action
        for each in sent_by_services(state, ACCOUNT, REGION, OWNERS, annotations=False)
        if not policies.allow(each)
    }
    assert found >= refused
    assert found <= refused | {"s3:ReplicateDelete"}


def test_a_role_may_go_on_with_an_upload_there(two_accounts: State) -> None:
    """It lists the parts that S3 has, or aborts them. Both sides have to allow it."""
    root, name = f"arn:aws:iam::{ACCOUNT}:root", "ward-job-replicate"
    copier = {"aws:SecureTransport": "true", "aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/{name}"}
    open_to_it = []
    for values in made_in(two_accounts, VAULT, "aws_s3_bucket_policy"):
        statements, thing = json.loads(values["policy"])["Statement"], f"arn:aws:s3:::{values['bucket']}/x"
        if decide(statements, "s3:AbortMultipartUpload", thing, copier, root) is Answer.ALLOWED:
            open_to_it.append(thing)
            assert decide(statements, "s3:ListMultipartUploadParts", thing, copier, root) is Answer.ALLOWED
            assert decide(two_accounts.statements(name), "s3:ListMultipartUploadParts", thing) is Answer.ALLOWED
    assert open_to_it


def test_nobody_else_is_let_in(two_accounts: State) -> None:
    """Roles of the system's account that are not the system's, and the account's people, are refused."""
    outsider = {
        "aws:SecureTransport": "true",
        "aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/ward-job-replicate-2",
        "kms:ViaService": "s3.eu-west-1.amazonaws.com",
    }
    root = f"arn:aws:iam::{ACCOUNT}:root"
    for values in made_in(two_accounts, VAULT, "aws_s3_bucket_policy"):
        statements, thing = json.loads(values["policy"])["Statement"], f"arn:aws:s3:::{values['bucket']}/x"
        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
            assert decide(statements, action, thing, outsider, root) is Answer.SILENT
        copier = outsider | {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/ward-job-replicate"}
        assert decide(statements, "s3:DeleteObjectVersion", thing, copier, root) is Answer.SILENT
        assert decide(statements, "s3:BypassGovernanceRetention", thing, copier, root) is Answer.DENIED
    for values in made_in(two_accounts, VAULT, "aws_kms_key"):
        statements = json.loads(values["policy"])["Statement"]
        assert decide(statements, "kms:Decrypt", values["arn"], outsider, root) is Answer.SILENT


def test_roles_in_policies_are_the_roles_that_are_made(two_accounts: State) -> None:
    """A condition on a role that is not there would let nobody in."""
    roles = {values["arn"] for values in two_accounts.all_values("aws_iam_role")}
    policies = [*made_in(two_accounts, VAULT, "aws_s3_bucket_policy"), *made_in(two_accounts, VAULT, "aws_kms_key")]
    named = {
        arn
        for values in policies
        for statement in json.loads(values["policy"])["Statement"]
        for arn in listed(statement.get("Condition", {}).get("ArnLike", {}).get("aws:PrincipalArn", []))
    }
    assert len(named) > 8
    assert named <= roles
