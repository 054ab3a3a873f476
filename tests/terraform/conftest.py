"""The example policy, applied once a session."""

from __future__ import annotations

import pytest

from tests.terraform.world import EXAMPLE, TERRAFORM, State, Terraform


@pytest.fixture(scope="session")
def terraform(tmp_path_factory) -> Terraform:
    """With no state: for plans."""
    return _terraform(tmp_path_factory)


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> State:
    return _terraform(tmp_path_factory).apply(EXAMPLE)


@pytest.fixture(scope="session")
def minimal(tmp_path_factory) -> State:
    """One pair that mirrors, archives and expires nothing."""
    return _terraform(tmp_path_factory).apply("examples/minimal/policy.yaml")


def _terraform(tmp_path_factory):
    if not TERRAFORM.exists():
        pytest.skip(f"TERRAFORM NOT CHECKED: {'/'.join(TERRAFORM.parts[-4:])} is not beside this repository")
    made = Terraform(tmp_path_factory.mktemp("terraform"))
    made.init()
    return made
