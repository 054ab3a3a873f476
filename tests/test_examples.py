"""Every property test heeds the one setting for its examples, and a failure can be pinned."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.examples import VARIABLE, examples

ROOT = Path(__file__).resolve().parent.parent
PROBE = """
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from tests.conftest import settings as loaded
from tests.doubles.examples import examples

@given(st.integers())
def plain(number): print("plain", number)

@settings(max_examples=examples(3))
@given(st.integers())
def small(number): print("small", number)

class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        print("machine", 0)
    @rule()
    def step(self): pass

plain()
small()
run_state_machine_as_test(Machine, settings=settings(max_examples=examples(2)))
print("blob", settings().print_blob)
"""


def probe(**environment: str) -> list[str]:
    base = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "CI")}
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(command, cwd=ROOT, env=base | environment, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def count(lines: list[str], name: str) -> int:
    return sum(line.startswith(f"{name} ") for line in lines)


def test_one_setting_says_how_many_examples_each_property_test_plays() -> None:
    usual, many = probe(), probe(**{VARIABLE: "117"})
    assert (count(usual, "plain"), count(usual, "small")) == (100, 3)
    assert (count(many, "plain"), count(many, "small")) == (117, 117)
    assert count(many, "machine") > count(usual, "machine") > 0


def test_examples_are_new_each_time_and_in_ci_the_same() -> None:
    assert probe() != probe()
    assert probe(CI="true") == probe(CI="true")


@pytest.mark.parametrize("environment", [{}, {"CI": "true"}], ids=["by hand", "in CI"])
def test_a_failure_prints_what_reproduces_it(environment: dict[str, str]) -> None:
    assert "blob True" in probe(**environment)


def test_an_empty_setting_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert examples(7) == 7


def test_no_property_test_has_a_number_of_its_own() -> None:
    """A literal would ignore the setting: `make hypothesis` would play the same few examples of it."""
    own = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "settings":
                for argument in node.keywords:
                    if argument.arg in ("max_examples", "derandomize") and isinstance(argument.value, ast.Constant):
                        own.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert own == []
