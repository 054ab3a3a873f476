"""What the doctor expects is what Terraform makes: names, settings, rules, policies, permissions."""

from __future__ import annotations

import json
import re

import pytest

from jobs.aws.account import Identity
from jobs.aws.batch_settings import EcrImage
from jobs.doctor import expected
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
from tests.terraform.iam import Answer, decide
from tests.terraform.world import MODULE, State

pytestmark = pytest.mark.slow


@pytest.fixture(params=["example", "hosts"])
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


def test_the_doctor_may_read_what_its_page_says_and_write_nothing(world: State, policy: Policy):
    statements = json.loads(world.output("doctor_policy"))["Statement"]
    page = set(re.findall(r"`([a-z0-9]+:[A-Za-z]+)`", (MODULE.parent / "docs" / "doctor.md").read_text()))
    assert {action for statement in statements for action in statement["Action"]} == page
    ledger = f"arn:aws:s3:::{policy.ledger.bucket}/{policy.ledger.prefix}"
    for action in ("s3:PutObject", "s3:DeleteObjectVersion"):
        for key in ("runs/1/plan.json", "nights/a/2026-11-25.json", "policy.yaml", ".sealift/trial-" + "a" * 32):
            assert decide(statements, action, f"{ledger}{key}") == Answer.SILENT
        for pair in policy.pairs:
            assert decide(statements, action, f"arn:aws:s3:::{pair.destination.bucket}/k") == Answer.SILENT
    assert decide(statements, "s3:GetObject", f"{ledger}nights/a/2026-11-25.json") == Answer.ALLOWED
    for role in (each["arn"] for each in world.all_values("aws_iam_role") if "AWSService" not in each["arn"]):
        assert decide(statements, "iam:SimulatePrincipalPolicy", role) == Answer.ALLOWED, role
    for plan in expected.bucket_plans(policy):
        assert decide(statements, "s3:GetLifecycleConfiguration", f"arn:aws:s3:::{plan.bucket}") == Answer.ALLOWED
