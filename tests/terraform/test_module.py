"""The module as others call it, in accounts with rules of their own for roles.

Nothing depends on the caller's provider but the account.
"""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import yaml

from tests.terraform.conftest import BOUNDARY, ELSEWHERE, ROLE_PATH, applied
from tests.terraform.iam import listed
from tests.terraform.world import MODULE, ROOT, State

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> State:
    return applied(tmp_path_factory, "full", None, root=MODULE / "examples" / "full")[1]


def managed(state: State) -> list[dict]:
    found = [each for each in state.resources if each["mode"] == "managed" and each["type"].startswith("aws_")]
    assert len(found) > 60
    return found


def regions(policy_file) -> set[str]:
    """Every region that a policy file names."""
    return set(re.findall(r"\b[a-z]{2}-[a-z]+-\d\b", yaml.safe_dump(yaml.safe_load(policy_file.read_text()))))


def test_the_module_configures_no_provider():
    """One with a provider block takes no count, for_each or depends_on, and leaves its caller no choice."""
    assert [path.name for path in MODULE.glob("*.tf") if re.search(r"^provider ", path.read_text(), re.MULTILINE)] == []


def test_nothing_is_made_in_the_providers_region(elsewhere):
    made = {each["address"]: each["values"]["region"] for each in managed(elsewhere) if "region" in each["values"]}
    assert len(made) > 100
    assert set(made.values()) <= regions(ROOT / "policy.example.yaml")
    assert [each["address"] for each in elsewhere.resources if ELSEWHERE in str(each["values"])] == []


def test_everything_that_takes_tags_has_ours(elsewhere):
    tagged = [each for each in managed(elsewhere) if "tags" in each["values"]]
    assert len(tagged) > 70
    wanted = {"System": "parcels", "ManagedBy": "terraform", "CostCentre": "4711"}
    for each in tagged:
        tags = each["values"]["tags"] or {}
        if each["type"] == "aws_s3_object":  # S3 takes ten tags of an object, however many the caller has
            assert set(tags) == {"System", "ManagedBy"}
            assert each["values"]["override_provider"] == [{"default_tags": [{"tags": {}}]}]
        else:
            assert tags | wanted == tags, each["address"]


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_examples_are_made_in_the_regions_of_their_policies(request, name):
    state = request.getfixturevalue(name)
    assert all(each["address"].startswith("module.sealift.") for each in managed(state))
    made = {each["values"]["region"] for each in managed(state) if "region" in each["values"]}
    assert made == regions(MODULE / "examples" / name / "policy.yaml")


def test_every_role_has_the_boundary_and_the_path(elsewhere):
    roles = list(elsewhere.all_values("aws_iam_role"))
    assert len(roles) > 10
    for values in roles:
        assert (values["permissions_boundary"], values["path"]) == (BOUNDARY, ROLE_PATH), values["name"]
        assert f":role{values['path']}{values['name']}" in values["arn"]


def test_no_policy_names_a_role_without_its_path(elsewhere):
    """An ARN that is put together would lack it."""
    named = {
        resource
        for _, made in elsewhere.policies("aws_iam_role_policy")
        for statement in made
        for resource in listed(statement.get("Resource", []))
        if ":role/" in resource
    }
    assert {each for each in named if f":role{ROLE_PATH}" not in each} == set()


def test_a_small_system_is_small_and_idles_for_nothing(minimal: State) -> None:
    """But for its key: no endpoint, gateway or address that is paid for by the hour."""
    made = Counter(each["type"] for each in managed(minimal))
    assert made.total() <= 70
    by_the_hour = {"aws_nat_gateway", "aws_eip", "aws_lb", "aws_instance", "aws_cloudwatch_dashboard"}
    assert made.keys() & by_the_hour == set()
    assert {each["vpc_endpoint_type"] for each in minimal.all_values("aws_vpc_endpoint")} == {"Gateway"}
    assert (made["aws_kms_key"], made["aws_cloudwatch_metric_alarm"]) == (1, 6)
    for each in minimal.all_values("aws_batch_job_definition"):
        assert json.loads(each["container_properties"])["networkConfiguration"] == {"assignPublicIp": "ENABLED"}
