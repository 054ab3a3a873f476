"""The example policy, applied once a session."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.terraform.world import EXAMPLE, ROOT, TERRAFORM, State, Terraform


@pytest.fixture(scope="session")
def terraform(tmp_path_factory) -> Terraform:
    """With no state: for plans."""
    return _terraform(tmp_path_factory)


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> State:
    return _terraform(tmp_path_factory).apply(EXAMPLE)


@pytest.fixture(scope="session")
def hosts(tmp_path_factory) -> State:
    """The example on EC2 hosts, one worker at a time, fair shares, a partner's account, a place to restore to."""
    content = yaml.safe_load((ROOT / "policy.example.yaml").read_text())
    content["batch"] |= {"compute": "ec2_spot", "max_vcpus": content["batch"]["vcpus"]}
    customs = next(pair for pair in content["pairs"] if pair["name"] == "customs")
    twin = {"bucket": "example-customs-twin", "region": "us-east-1", "kms_key": "create"}
    customs["replica"] = twin | {"replication_time_control": True}
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(yaml.safe_dump(content))
    variables = (
        "fair_share=true",
        "object_annotations=true",
        "on_demand_behind_spot=true",
        'source_accounts=["111122223333"]',
        'restore_to=["partners-bucket/back/"]',
    )
    return _terraform(tmp_path_factory).apply(str(policy), *variables)


@pytest.fixture(scope="session")
def minimal(tmp_path_factory) -> State:
    """One pair that mirrors, archives and expires nothing."""
    return _terraform(tmp_path_factory).apply("examples/minimal/policy.yaml")


def _terraform(tmp_path_factory, **fields: Any) -> Terraform:
    if not TERRAFORM.exists():
        pytest.skip(f"TERRAFORM NOT CHECKED: {'/'.join(TERRAFORM.parts[-4:])} is not beside this repository")
    made = Terraform(tmp_path_factory.mktemp("terraform"), **fields)
    made.init()
    return made
