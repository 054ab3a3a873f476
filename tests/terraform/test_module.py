"""The module as others call it: nothing depends on the caller's provider but the account."""

from __future__ import annotations

import os
import re
import shutil

import pytest
import yaml

from jobs.policy.reader import read_policy
from tests.terraform.conftest import applied
from tests.terraform.world import EXAMPLE, MODULE, ROOT, State

EXAMPLES = ["minimal", "full"]
ELSEWHERE = "ap-southeast-2"  # no policy names it
TAGS_OF_AN_OBJECT_MAX = 10
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> State:
    """The example policy, by a provider of a region that the policy does not know, without default tags."""
    many = ",".join(f'T{number}="t"' for number in range(TAGS_OF_AN_OBJECT_MAX))
    tags = f'tags={{CostCentre="4711",{many}}}'
    return applied(tmp_path_factory, "elsewhere", EXAMPLE, tags, provider_region=ELSEWHERE)[1]


@pytest.fixture(scope="module", params=EXAMPLES)
def called(request, tmp_path_factory) -> tuple[str, State]:
    """(name of the example, what it makes as a root module of its own). A package is beside it."""
    root = tmp_path_factory.mktemp("root")
    for file in (MODULE / "examples" / request.param).iterdir():
        shutil.copy(file, root)
    (root / "functions.zip").touch()
    text = (root / "main.tf").read_text()
    call = f'source = "{os.path.relpath(MODULE, root)}"'
    if "lambda_object" not in text:
        call += '\n  lambda_zip = "${path.module}/functions.zip"'
    (root / "main.tf").write_text(text.replace('source = "../.."', call))
    return request.param, applied(tmp_path_factory, f"called-{request.param}", None, root=root)[1]


def managed(state: State) -> list[dict]:
    found = [each for each in state.resources if each["mode"] == "managed" and each["type"].startswith("aws_")]
    assert len(found) > 80
    return found


def regions(policy_file) -> set[str]:
    """Every region that a policy file names."""
    return set(re.findall(r"\b[a-z]{2}-[a-z]+-\d\b", yaml.safe_dump(yaml.safe_load(policy_file.read_text()))))


def test_the_module_configures_no_provider():
    """One with a provider block takes no count, for_each or depends_on, and leaves its caller no choice."""
    assert [path.name for path in MODULE.glob("*.tf") if re.search(r"^provider ", path.read_text(), re.MULTILINE)] == []


def test_it_has_the_files_that_a_registry_looks_for():
    for name in ("main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"):
        assert (MODULE / name).is_file(), name


def test_nothing_is_made_in_the_providers_region(elsewhere):
    made = {each["address"]: each["values"]["region"] for each in managed(elsewhere) if "region" in each["values"]}
    assert len(made) > 150
    assert set(made.values()) <= regions(ROOT / "policy.example.yaml")
    assert [each["address"] for each in elsewhere.resources if ELSEWHERE in str(each["values"])] == []


def test_everything_that_takes_tags_has_ours(elsewhere):
    tagged = [each for each in managed(elsewhere) if "tags" in each["values"]]
    assert len(tagged) > 100
    wanted = {"System": "parcels", "ManagedBy": "terraform", "CostCentre": "4711"}
    for each in tagged:
        tags = each["values"]["tags"] or {}
        if each["type"] != "aws_s3_object":
            assert tags | wanted == tags, each["address"]


def test_an_object_has_no_more_tags_than_s3_takes(elsewhere):
    """However many the caller and the provider have: S3 would refuse the policy file, half way through an apply."""
    objects = [each["values"] for each in managed(elsewhere) if each["type"] == "aws_s3_object"]
    assert objects
    for values in objects:
        assert set(values["tags"]) == {"System", "ManagedBy"}
        assert values["override_provider"] == [{"default_tags": [{"tags": {}}]}]
        assert len(values["tags"]) <= TAGS_OF_AN_OBJECT_MAX


def test_tags_of_one_s_own_stay(elsewhere):
    assert elsewhere.all("aws_vpc")["this"]["tags"]["Name"] == "parcels"
    assert elsewhere.all("aws_s3_bucket", "this")["example-ledger"]["tags"]["Use"] == "ledger"


def test_each_example_is_a_root_that_calls_the_module(called):
    name, state = called
    folder = MODULE / "examples" / name
    text = (folder / "main.tf").read_text()
    assert 'source = "../.."' in text
    assert 'provider "aws" {' in text
    assert all(each["address"].startswith("module.sealift.") for each in managed(state))
    policy = read_policy(str(folder / "policy.yaml"))
    assert state.output("environment")["SEALIFT_SYSTEM"] == policy.name
    made = {each["values"]["region"] for each in managed(state) if "region" in each["values"]}
    assert made == regions(folder / "policy.yaml")


def test_names_begin_with_the_policys(called):
    """It is the prefix of everything whose name is not given in the policy file."""
    _, state = called
    name = state.output("environment")["SEALIFT_SYSTEM"]
    kinds = ("aws_iam_role", "aws_sqs_queue", "aws_lambda_function", "aws_batch_job_queue", "aws_cloudwatch_event_rule")
    names = [values.get("name") or values["function_name"] for kind in kinds for values in state.all_values(kind)]
    assert len(names) > 20
    assert [each for each in names if not each.startswith(f"{name}-")] == []
