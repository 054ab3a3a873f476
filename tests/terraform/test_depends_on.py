"""A module with `depends_on`: its data sources are read while it is applied, so that a plan knows nothing of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.terraform.conftest import _terraform
from tests.terraform.day import ACCOUNT
from tests.terraform.world import MODULE, Terraform, module_call, written

pytestmark = pytest.mark.slow

KEPT = {
    "aws_subnet": "availability_zone",
    "aws_s3_bucket": "bucket",
}
"""What AWS cannot change in a resource: an unknown value would replace it, and what lies in it."""


MINIMAL: dict[str, Any] = yaml.safe_load((MODULE / "examples" / "minimal" / "policy.yaml").read_text())


def called(tmp_path_factory: pytest.TempPathFactory, policy: dict[str, Any]) -> Terraform:
    """A root whose module waits for a resource, which a change of the variable `build` changes."""
    folder: Path = tmp_path_factory.mktemp("waits")
    written(folder, policy)
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
        policy_file = "${{path.module}}/policy.json"
        depends_on  = [terraform_data.build]
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


@pytest.mark.parametrize("account", [{"account": ACCOUNT}, {}])
def test_what_it_waits_for_replaces_nothing(tmp_path_factory: pytest.TempPathFactory, account: dict[str, str]) -> None:
    waiting = called(tmp_path_factory, MINIMAL | account)
    waiting.apply_root()
    found = changes(waiting, "-var=build=2")
    assert "module.sealift.data.aws_availability_zones.available" in [each["address"] for each in found]
    assert [each["address"] for each in found if "delete" in each["change"]["actions"]] == []
    kept = [each for each in found if each["type"] in KEPT]
    assert len(kept) == 4
    for each in kept:
        assert KEPT[each["type"]] not in each["change"]["after_unknown"], each["address"]
