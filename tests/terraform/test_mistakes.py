"""A policy with a mistake is refused by the plan, with the pair's name, and by the command line as well."""

from __future__ import annotations

import re

import pytest

from jobs.errors import PolicyError
from jobs.policy.reader import read_policy
from tests.terraform.world import EXAMPLE, MODULE, ROOT

BAD = sorted((MODULE / "tests" / "policies").glob("*.yaml"))


def expected(path):
    found = re.match(r"# expect: (.+)\n", path.read_text())
    assert found, f"{path} does not say what is expected"
    return found[1]


def pair_of(text):
    found = re.match(r"pair ([a-z-]+):", text)
    return found[1] if found else None


def test_there_are_cases_of_every_kind():
    assert len(BAD) > 12


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


def test_the_example_is_right_for_both(example):
    read_policy(str(ROOT / EXAMPLE.removeprefix("../")))
    assert example.output("ledger").startswith("s3://")


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_the_modules_examples_are_right_for_both(terraform, name):
    read_policy(str(MODULE / "examples" / name / "policy.yaml"))
    code, said = terraform.plan(f"examples/{name}/policy.yaml")
    assert code == 0, said
