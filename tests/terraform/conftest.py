"""The example policy, applied once a test run: the run's processes share what the first of them has made."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.terraform.world import MODULE, TERRAFORM, State, Terraform, written
from tests.terraform.world import example as example_policy

ELSEWHERE = "ap-southeast-2"
BOUNDARY = "arn:aws:iam::123456789012:policy/platform/boundary"
ROLE_PATH = "/platform/sealift/"
AS_THE_POLICY_SAYS = ("object_annotations=true",)
"""What the policy of the example asks for, and the settings that a checker knows do not."""


@pytest.fixture(scope="session")
def terraform(tmp_path_factory) -> Terraform:
    """With no state: for plans."""
    return _terraform(tmp_path_factory)


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> State:
    """The policy of the example, in the closed network."""
    return _example(tmp_path_factory)[1]


@pytest.fixture(scope="session")
def applied_example(tmp_path_factory) -> Terraform:
    """With the example's state: for plans of what would change."""
    return _example(tmp_path_factory)[0]


def _example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Terraform, State]:
    policy = written(tmp_path_factory.mktemp("policy"), example_policy())
    return applied(tmp_path_factory, "example", policy, "closed_network=true", *AS_THE_POLICY_SAYS)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory) -> State:
    """The example in the open network, one worker at a time, a partner's account, a place to restore to, drills.

    The account wants roles with a boundary and a path, and the caller's provider is of a region that no policy names.
    """
    content = yaml.safe_load(example_policy())
    content["batch"] |= {"max_vcpus": content["batch"]["vcpus"]}
    customs = next(pair for pair in content["pairs"] if pair["name"] == "customs")
    twin = {"bucket": "example-customs-twin", "region": "us-east-1", "kms_key": "create"}
    customs["replica"] = twin | {"replication_time_control": True}
    content["drill"] = {"bucket": "example-drills", "region": "eu-west-1", "prefix": "drills/"}
    variables = (
        "object_annotations=true",
        'source_accounts=["111122223333"]',
        'restore_to=["partners-bucket/back/"]',
        f"role_permissions_boundary={BOUNDARY}",
        f"role_path={ROLE_PATH}",
        'tags={CostCentre="4711"}',
    )
    policy = written(tmp_path_factory.mktemp("policy"), content)
    return applied(tmp_path_factory, "elsewhere", policy, *variables, provider_region=ELSEWHERE)[1]


@pytest.fixture(scope="session")
def minimal(tmp_path_factory) -> State:
    """The small example as a root of its own: one pair that mirrors, archives and expires nothing."""
    root = tmp_path_factory.mktemp("minimal")
    for name in ("policy.yaml", "policy.json"):
        shutil.copy(MODULE / "examples" / "minimal" / name, root)
    (root / "functions.zip").touch()
    image = f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/sealift@sha256:{'0' * 64}"
    (root / "image.auto.tfvars").write_text(f'image = "{image}"\n')
    call = f'source = "{os.path.relpath(MODULE, root)}"\n  lambda_zip = "${{path.module}}/functions.zip"'
    text = (MODULE / "examples" / "minimal" / "main.tf").read_text()
    assert "lambda_object" not in text  # nobody has filled a bucket with the package
    (root / "main.tf").write_text(text.replace('source = "../.."', call))
    return applied(tmp_path_factory, "minimal", None, root=root)[1]


def applied(
    tmp_path_factory: pytest.TempPathFactory, name: str, policy: str | None, *variables: str, **fields: Any
) -> tuple[Terraform, State]:
    """What `policy` and the variables make, of this name in the test run. Without a policy it is a root module's own.

    Nobody applies anything else to it: tests in other processes see the same state.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"terraform-{name}"
    folder.mkdir(exist_ok=True)
    made, state = _terraform_at(folder / "work", **fields), folder / "state.json"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not state.exists():
            made.init()
            new = made.apply(policy, *variables) if policy else made.apply_root(*variables)
            state.write_text(json.dumps(dataclasses.asdict(new)))
    return made, State(**json.loads(state.read_text()))


def _terraform(tmp_path_factory: pytest.TempPathFactory, **fields: Any) -> Terraform:
    made = _terraform_at(tmp_path_factory.mktemp("terraform"), **fields)
    made.init()
    return made


def _terraform_at(work: Path, **fields: Any) -> Terraform:
    if not TERRAFORM.exists():
        pytest.skip(f"TERRAFORM NOT CHECKED: {'/'.join(TERRAFORM.parts[-4:])} is not beside this repository")
    return Terraform(work, **fields)
