"""The table of promises is whole: each has tests that are there, and a break; each seam is one of the program."""

from __future__ import annotations

import ast
import functools
import importlib

import pytest

from tests.promises.breaks import BREAKS
from tests.promises.seams import SEAMS
from tests.promises.table import MOST_TESTS, ROOT, Promise, promises


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: promise.name)
def test_a_promise_names_tests_that_are_there(promise: Promise) -> None:
    assert 1 <= len(promise.tests) <= MOST_TESTS
    for test in promise.tests:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name.partition("[")[0] in defined if name else any(each.startswith("test_") for each in defined)


def test_each_promise_has_a_break_and_each_break_a_promise() -> None:
    names = [promise.name for promise in promises()]
    assert len(names) == len(set(names)) > 30
    assert {each.promise for each in BREAKS} == set(names)
    assert len({each.name for each in BREAKS}) == len(BREAKS)


def test_each_seam_is_a_function_of_the_program() -> None:
    assert {each.seam for each in BREAKS} == set(SEAMS)
    for target in (target for targets in SEAMS.values() for target in targets):
        module, _, path = target.partition(":")
        assert callable(functools.reduce(getattr, path.split("."), importlib.import_module(module))), target
