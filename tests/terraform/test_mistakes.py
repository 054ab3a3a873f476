"""A policy with a mistake is refused by the plan, with the pair's name, and by the command line as well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from jobs.errors import PolicyError
from jobs.policy.reader import read_policy
from tests.terraform.conftest import _terraform
from tests.terraform.world import MODULE

BAD = sorted((MODULE / "tests" / "policies").glob("*.yaml"))


def expected(path):
    found = re.match(r"# expect: (.+)\n", path.read_text())
    assert found, f"{path} does not say what is expected"
    return found[1]


def pair_of(text):
    found = re.match(r"pair ([a-z-]+):", text)
    return found[1] if found else None


@pytest.mark.slow
@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_plan_refuses(terraform, path):
    code, said = terraform.plan(f"tests/policies/{path.name}")
    assert code == 1
    assert expected(path) in said
    assert said.count("Error:") == 1, said  # the mistake, and nothing that follows from it


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_command_line_refuses_the_same(path):
    with pytest.raises(PolicyError) as caught:
        read_policy(str(path))
    pairs = {mistake.pair for mistake in caught.value.mistakes}
    assert pair_of(expected(path)) in pairs, [str(mistake) for mistake in caught.value.mistakes]


def many_pairs(path: Path, count: int) -> str:
    """A policy of so many pairs with prefixes, replicas and buckets of their own."""
    pairs = [
        {
            "name": f"pair-{number:02d}",
            "source": {"bucket": f"example-{number:02d}", "region": "eu-central-1", "prefixes": ["documents/"]},
            "destination": {"bucket": f"example-copies-{number:02d}", "region": "eu-central-1"},
            "replica": {"bucket": f"example-twins-{number:02d}", "region": "eu-west-1"},
        }
        for number in range(count)
    ]
    ledger = {"bucket": "example-ledger", "region": "eu-central-1"}
    path.write_text(yaml.safe_dump({"version": 1, "name": "parcels", "ledger": ledger, "pairs": pairs}))
    return str(path)


@pytest.mark.slow
def test_more_pairs_than_a_role_s_policy_can_name_are_refused_before_anything_is_made(terraform, tmp_path):
    code, said = terraform.plan(many_pairs(tmp_path / "many.yaml", 30))
    assert code == 1
    assert "this policy file names more buckets and prefixes than fit" in said


@pytest.mark.slow
def test_as_many_pairs_as_the_readme_says_fit(tmp_path_factory):
    policy = many_pairs(tmp_path_factory.mktemp("policy") / "policy.yaml", 14)
    state = _terraform(tmp_path_factory).apply(policy)
    assert max(len(values["policy"]) for values in state.all_values("aws_iam_role_policy")) <= 10_240
