"""A module with `depends_on`: its data sources are read while it is applied, so that a plan knows nothing of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.terraform.conftest import _terraform
from tests.terraform.day import ACCOUNT, OTHER_ACCOUNT
from tests.terraform.world import MODULE, ROOT, Terraform, module_call

KEPT = {
    "aws_subnet": "availability_zone",
    "aws_s3_bucket": "bucket",
    "aws_iam_role_policy_attachment": "policy_arn",
}
"""What AWS cannot change in a resource: an unknown value would replace it, and what lies in it."""


def example(name: str) -> dict[str, Any]:
    path = MODULE / "examples" / name / "policy.yaml" if name != "parcels" else ROOT / "policy.example.yaml"
    policy: dict[str, Any] = yaml.safe_load(path.read_text())
    return policy


def called(tmp_path_factory: pytest.TempPathFactory, policy: dict[str, Any], variables: str = "") -> Terraform:
    """A root whose module waits for a resource, which a change of the variable `build` changes."""
    folder: Path = tmp_path_factory.mktemp("waits")
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "main.tf").write_text(f"""
      variable "build" {{
        default = "1"
      }}
      provider "aws" {{
        region = "eu-central-1"
      }}
      resource "terraform_data" "build" {{
        input = var.build
      }}
      module "sealift" {{
        {module_call(folder)}
        policy_file = "${{path.module}}/policy.yaml"
        depends_on  = [terraform_data.build]
        {variables}
      }}
      output "policy" {{
        value = module.sealift.policy
      }}
    """)
    return _terraform(tmp_path_factory, root=folder)


def changes(terraform: Terraform, *options: str) -> list[dict[str, Any]]:
    done = terraform.run("plan", "-no-color", "-input=false", "-out=saved", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = terraform.run("show", "-json", "saved")
    assert shown.returncode == 0, shown.stderr
    found: list[dict[str, Any]] = json.loads(shown.stdout)["resource_changes"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("minimal", ""),
        ("full", "fair_share = true"),
        ("two-accounts", ""),
        ("two-accounts", f'other_accounts = {{ "{OTHER_ACCOUNT}" = {{ kms_key_arns = {{}} }} }}'),
        ("parcels", "xray = true"),
    ],
)
def test_a_module_that_waits_is_planned_and_applied(
    tmp_path_factory: pytest.TempPathFactory, name: str, variables: str
) -> None:
    waiting = called(tmp_path_factory, example(name), variables)
    deferred = [each["address"] for each in changes(waiting) if each["mode"] == "data"]
    assert "module.sealift.data.aws_partition.current" in deferred
    plain = len([each for each in changes(waiting) if each["mode"] == "managed"])
    made = waiting.apply_root()
    assert len([each for each in made.resources if each["mode"] == "managed"]) == plain


@pytest.mark.parametrize(("name", "account"), [("minimal", ACCOUNT), ("minimal", None), ("full", None)])
def test_what_it_waits_for_replaces_nothing(
    tmp_path_factory: pytest.TempPathFactory, name: str, account: str | None
) -> None:
    waiting = called(tmp_path_factory, example(name) | ({"account": account} if account else {}))
    waiting.apply_root()
    found = changes(waiting, "-var=build=2")
    assert "module.sealift.data.aws_availability_zones.available" in [each["address"] for each in found]
    assert [each["address"] for each in found if "delete" in each["change"]["actions"]] == []
    kept = [each for each in found if each["type"] in KEPT]
    assert len(kept) > 4
    for each in kept:
        assert KEPT[each["type"]] not in each["change"]["after_unknown"], each["address"]


def test_a_policy_of_another_account_is_refused_before_its_buckets_are_made(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    waiting = called(tmp_path_factory, example("minimal") | {"account": OTHER_ACCOUNT})
    done = waiting.run("apply", "-no-color", "-auto-approve", "-input=false")
    assert done.returncode == 1
    said = " ".join(done.stdout.replace("│", " ").split() + done.stderr.replace("│", " ").split())
    assert f"account {OTHER_ACCOUNT}: expected {ACCOUNT}, the account of the provider" in said
    state = json.loads(waiting.run("show", "-json").stdout)
    (module,) = state["values"]["root_module"]["child_modules"]
    made = {each["type"] for each in module["resources"] if each["mode"] == "managed"}
    assert made & {"aws_s3_bucket", "aws_kms_key", "aws_iam_role", "aws_lambda_function", "aws_sqs_queue"} == set()
