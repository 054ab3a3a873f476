"""Every rendered trust and resource policy: whom it lets in, for which account, and each wildcard with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.terraform.iam import listed

pytestmark = pytest.mark.slow

ACCOUNT, STRANGER = "123456789012", "999999999999"
NAME, REGION = "parcels", "eu-central-1"

RESOURCE_POLICIES = (
    *("aws_s3_bucket_policy", "aws_sqs_queue_policy", "aws_sns_topic_policy", "aws_kms_key", "aws_vpc_endpoint"),
)
WITHOUT_ACCOUNT = {
    (f"{NAME}-batch-replication", "batchoperations.s3.amazonaws.com"): "as for replication, which it starts",
    (f"{NAME}-replication", "s3.amazonaws.com"): "S3 documents none for replication; it takes iam:PassRole here",
    (
        "alarms",
        "events.amazonaws.com",
    ): "EventBridge takes no conditions on an encrypted topic; a foreign rule needs a role",
}
"""(role or resource, service) → why its statement names no account, and what bounds it instead."""

WILDCARD_RESOURCES = {
    ("aws_kms_key", "*"): "in a key's policy: this key",
    ("aws_vpc_endpoint", "LogIn"): "a login is the registry's",
    ("aws_vpc_endpoint", "JobsOfThisAccount"): "Batch offers no resource for what describes and lists",
    ("aws_iam_role_policy", "SeeJobs"): "Batch offers no resource for what describes and lists",
    ("aws_iam_role_policy", "LogInToEcr"): "a login is the registry's",
}
WILDCARD_ACTIONS = {
    ("aws_s3_bucket_policy", "TlsOnly"): "a Deny: whatever the action",
    ("aws_kms_key", "TheAccountAdministersItsKey"): "KMS's own default; without it a mistake locks everybody out",
    ("aws_vpc_endpoint", "OurBuckets"): "an endpoint's policy grants nothing: roles say which actions",
}
"""(type, Sid) of Allow statements with a wildcard that stands alone, and of any with one in an action."""


def trusts(state) -> Iterator[tuple[str, dict[str, Any]]]:
    """(role, statement) of each assume-role policy."""
    for values in state.all_values("aws_iam_role"):
        for statement in json.loads(values["assume_role_policy"])["Statement"]:
            yield values["name"], statement


def resource_statements(state) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(type, resource, statement) of each policy that is attached to a resource."""
    for kind in RESOURCE_POLICIES:
        for key, values in state.all(kind).items():
            for statement in json.loads(values["policy"])["Statement"] if values["policy"] else []:
                yield kind, "alarms" if kind == "aws_sns_topic_policy" else key, statement


def services(statement) -> list[str]:
    principal = statement.get("Principal")
    return listed(principal["Service"]) if isinstance(principal, dict) and "Service" in principal else []


def names_account(statement) -> bool:
    """Whether the service has to act for this account: by its number, or by ARNs that all have it in them."""
    tests = [item for each in statement.get("Condition", {}).values() for item in each.items()]
    return any(
        listed(values) == [ACCOUNT]
        if name == "aws:SourceAccount"
        else all(f":{ACCOUNT}:" in value for value in listed(values))
        for name, values in tests
        if name in ("aws:SourceAccount", "aws:SourceArn") or name.startswith("kms:EncryptionContext:aws:")
    )


@pytest.mark.parametrize("world", ["example", "elsewhere"])
def test_every_service_acts_for_this_account_only(request, world):
    state = request.getfixturevalue(world)
    found = [(role, statement) for role, statement in trusts(state)]
    found += [(resource, statement) for _, resource, statement in resource_statements(state) if services(statement)]
    assert len(found) > 30
    without = {
        (who, service)
        for who, statement in found
        for service in services(statement)
        if statement["Effect"] == "Allow" and not names_account(statement)
    }
    assert without == set(WITHOUT_ACCOUNT)


def test_nobody_is_let_in_who_is_not_named(example):
    """A principal `*` only denies, but for endpoints, whose conditions name this account."""
    for kind, resource, statement in resource_statements(example):
        if statement["Principal"] in ("*", {"AWS": "*"}) and kind != "aws_vpc_endpoint":
            assert statement["Effect"] == "Deny", (resource, statement)


def test_every_wildcard_is_known_with_its_reason(example):
    every = [(kind, statement) for kind, _, statement in resource_statements(example)]
    every += [("aws_iam_role_policy", each) for _, made in example.policies("aws_iam_role_policy") for each in made]
    resources, actions = set(), set()
    for kind, statement in every:
        assert "NotAction" not in statement
        assert "NotPrincipal" not in statement
        sid = statement.get("Sid", "")
        if any("*" in action for action in listed(statement["Action"])):
            actions.add((kind, sid))
        if statement["Effect"] == "Allow" and "*" in listed(statement["Resource"]):
            resources.add((kind, "*" if kind == "aws_kms_key" else sid))
    assert actions == set(WILDCARD_ACTIONS)
    assert resources == set(WILDCARD_RESOURCES)
