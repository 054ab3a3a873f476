"""A policy of two accounts: what is made in which, whom the other one lets in, and for what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.terraform.conftest import applied
from tests.terraform.day import ACCOUNT, OTHER_ACCOUNT, REGION
from tests.terraform.day import two_accounts as two_accounts_root
from tests.terraform.iam import Answer, decide
from tests.terraform.services import Policies, sent_by_services
from tests.terraform.world import MODULE, State

pytestmark = pytest.mark.slow

FAR, HERE = "eu-west-1", "example-ward-twin"
VAULT = "module.other."
SYSTEM = "module.system."


NEAR: dict[str, Any] = yaml.safe_load((MODULE / "examples" / "two-accounts" / "policy.yaml").read_text())


def far_policy() -> dict[str, Any]:
    """Hot buckets of the other account, with replicas there and here."""

    def far(name: str, prefixes: list[str], replica: dict[str, Any]) -> dict[str, Any]:
        hot = {"bucket": f"example-vault-{name}", "region": FAR, "account": OTHER_ACCOUNT, "kms_key": "create"}
        source = {"bucket": f"example-{name}", "region": REGION, "prefixes": prefixes}
        destination = hot | {"encryption": "aws:kms"}
        return {"name": name, "source": source, "destination": destination, "replica": replica | {"region": REGION}}

    there = {"bucket": "example-vault-twin", "account": OTHER_ACCOUNT, "kms_key": "create", "delete_markers": True}
    plans = far("plans", ["plans/", "maps/"], there) | {"deletes": "mirror"}
    return NEAR | {"pairs": [plans, far("letters", [""], {"bucket": HERE, "kms_key": "create"})]}


def owners(policy: Mapping[str, Any]) -> dict[str, str]:
    sides = [pair.get(name, {}) for pair in policy["pairs"] for name in ("destination", "replica", "archive")]
    return {side["bucket"]: side["account"] for side in sides if side.get("account") == OTHER_ACCOUNT}


OWNERS = owners(NEAR)


@pytest.fixture(scope="module")
def two_accounts(tmp_path_factory: pytest.TempPathFactory) -> State:
    root = two_accounts_root(tmp_path_factory.mktemp("two-accounts"), NEAR)
    return applied(tmp_path_factory, "two-accounts", None, root=root)[1]


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> State:
    root = two_accounts_root(tmp_path_factory.mktemp("far"), far_policy())
    return applied(tmp_path_factory, "far", None, root=root)[1]


def made_in(state: State, module: str, kind: str) -> list[dict[str, Any]]:
    found = [each for each in state.resources if each["mode"] == "managed" and each["type"] == kind]
    return [each["values"] for each in found if each["address"].startswith(module)]


def test_the_other_account_has_its_buckets_and_keys(two_accounts: State) -> None:
    assert len(OWNERS) == 3
    assert {values["bucket"] for values in made_in(two_accounts, VAULT, "aws_s3_bucket")} == set(OWNERS)
    ours = {values["bucket"] for values in made_in(two_accounts, SYSTEM, "aws_s3_bucket")}
    assert ours & set(OWNERS) == set()
    assert {values["arn"].split(":")[4] for values in made_in(two_accounts, VAULT, "aws_kms_key")} == {OTHER_ACCOUNT}
    keys = made_in(two_accounts, VAULT, "aws_s3_bucket_server_side_encryption_configuration")
    for values in keys:
        (default,) = values["rule"][0]["apply_server_side_encryption_by_default"]
        assert default["kms_master_key_id"].split(":")[4] == OTHER_ACCOUNT
    assert len(keys) == 3


@pytest.mark.parametrize(("world", "policy"), [("two_accounts", NEAR), ("far", far_policy())], ids=["near", "far"])
def test_services_are_let_in_by_both_accounts(request, world: str, policy: dict[str, Any]) -> None:
    state, owner_of = request.getfixturevalue(world), owners(policy)
    sent = list(sent_by_services(state, ACCOUNT, REGION, owner_of))
    assert "s3:ObjectOwnerOverrideToBucketOwner" in {each.action for each in sent}
    policies = Policies(state, ACCOUNT, REGION, owner_of)
    assert [each for each in sent if not policies.allow(each)] == []


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


def test_the_owners_of_hot_buckets_replicate_them(far: State) -> None:
    made = made_in(far, VAULT, "aws_s3_bucket_replication_configuration")
    rules = {each["bucket"]: each["rule"] for each in made}
    assert set(rules) == {"example-vault-plans", "example-vault-letters"}
    assert {each["role"] for each in made} == {f"arn:aws:iam::{OTHER_ACCOUNT}:role/ward-replication"}
    plans, maps = rules["example-vault-plans"]
    assert [rule["filter"][0]["prefix"] for rule in (plans, maps)] == ["plans/", "maps/"]
    assert plans["priority"] != maps["priority"]
    assert plans["delete_marker_replication"][0]["status"] == "Enabled"
    assert plans["destination"][0]["access_control_translation"] == []
    (destination,) = rules["example-vault-letters"][0]["destination"]
    assert (destination["bucket"], destination["account"]) == (f"arn:aws:s3:::{HERE}", ACCOUNT)
    assert destination["access_control_translation"] == [{"owner": "Destination"}]


def test_only_the_role_that_replicates_is_let_in_here(far: State) -> None:
    (bucket,) = (each for each in far.all_values("aws_s3_bucket_policy") if each["bucket"] == HERE)
    statements = json.loads(bucket["policy"])["Statement"]
    root, thing = f"arn:aws:iam::{OTHER_ACCOUNT}:root", f"arn:aws:s3:::{HERE}/x"

    def answer(action: str, role: str) -> Answer:
        context = {"aws:SecureTransport": "true", "aws:PrincipalArn": f"arn:aws:iam::{OTHER_ACCOUNT}:role/{role}"}
        return decide(statements, action, thing, context, root)

    assert answer("s3:ReplicateObject", "ward-replication") is Answer.ALLOWED
    for action in ("s3:ReplicateDelete", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert answer(action, "ward-replication") is Answer.SILENT  # the policy replicates no markers there
    for role in ("afterward-replication", "ward-replication-2", "ward-job-replicate"):
        assert answer("s3:ReplicateObject", role) is Answer.SILENT
