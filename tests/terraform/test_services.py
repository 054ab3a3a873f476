"""Requests of AWS's own services, against the policies that let them in."""

from __future__ import annotations

import pytest

from tests.terraform.day import ACCOUNT, REGION
from tests.terraform.services import Policies, sent_by_services
from tests.terraform.world import State

pytestmark = pytest.mark.slow

SEES_NO_ARN = {"cloudwatch.amazonaws.com", "kms"}
"""Whose statements, or of which service, look at the account alone."""


def refused(state: State) -> set[tuple[str, str]]:
    """(who, action) of what would not be let in."""
    policies = Policies(state, ACCOUNT, REGION)
    sent = list(sent_by_services(state, ACCOUNT, REGION))
    assert len(sent) > 150
    return {(each.who, each.action) for each in sent if not policies.allow(each)}


def test_services_are_let_in(example: State, elsewhere: State) -> None:
    assert refused(example) == set()
    assert refused(elsewhere) == set()


def test_services_for_strangers_are_not_let_in(example: State) -> None:
    """Other accounts' buckets, rules and alarms."""
    policies = Policies(example, ACCOUNT, REGION)
    asked = 0
    for each in sent_by_services(example, ACCOUNT, REGION):
        for name, value in each.context.items():
            stranger = value.replace(ACCOUNT, "9" * 12) if ACCOUNT in value else "arn:aws:s3:::evil"
            sees_no_arn = {each.who, each.action.partition(":")[0]} & SEES_NO_ARN
            if name == "aws:SourceAccount" or (name == "aws:SourceArn" and not sees_no_arn):
                asked += 1
                assert not policies.allow(each._replace(context={**each.context, name: stranger})), (each, name)
    assert asked > 30
