"""Which mutants a module has, and that each is one change of what the module does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.mutants import mutants

ROOT = Path(__file__).resolve().parents[2]


def afters(source: str) -> set[str]:
    return {mutant.after for mutant in mutants("m.py", source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b\n", {"x = a <= b", "x = a >= b"}),
        ("x = a >= (b)\n", {"x = a > (b)", "x = a < (b)"}),
        ("x = a < b == c\n", {"x = a <= b == c", "x = a >= b == c", "x = a < b != c"}),
        ("x = a is not b\n", {"x = a is b"}),
        ("x = a not in b\n", {"x = a in b"}),
        ("x = a in b\n", {"x = a not in b"}),
        ("x = not a\n", {"x = (a)"}),
        ("x = a and b\n", {"x = ((a) or (b))", "x = ((a))", "x = ((b))"}),
        ("x = 'é' or a + b\n", {"x = (('é') and (a + b))", "x = (('é'))", "x = ((a + b))", "x = 'é' or a - b"}),
        ("x = a * b\n", {"x = a / b"}),
        ("x = 7\n", {"x = (7 + 1)"}),
        ("x = True\n", {"x = False"}),
        ("x = a == 'b'\n", {"x = a != 'b'", "x = a == 'bx'"}),
        ("x = a in ('b', 'c d')\n", {"x = a not in ('b', 'c d')", "x = a in ('bx', 'c d')"}),
        ("x = a['b']\n", {"x = a['bx']"}),
        ("x = f(a, b=c)\n", {"x = f(a)"}),
        ("x = f(a, b)\n", {"x = f(a)"}),
        ("x = min(a)\n", {"x = max(a)"}),
        ("x = any(a)\n", {"x = all(a)"}),
        ("x = a if f() else b\n", {"x = a if not (f()) else b"}),
        ("x = [a for a in b if a]\n", {"x = [a for a in b if True]"}),
        ("f()\n", {"pass"}),
        ("a.b = c\n", {"pass"}),
        ("a += b\n", {"pass"}),
        ("if a:\n    f()\n", {"if not (a):", "pass"}),
        ("def f(a) -> bool:\n    return a\n", {"return not a", "pass"}),
        ("def f(a):\n    return a\n", {"pass"}),
        ("for a in b:\n    continue\n", {"pass"}),
        ("raise ValueError('a', 1)\n", {"pass"}),
    ],
)
def test_a_line_has_these_mutants(source: str, expected: set[str]) -> None:
    assert afters(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""\n',
        "import a\n",
        "x = f'{a + 1}'\n",
        "x: Literal[1] = y\n",
        "@dataclass(frozen=True)\nclass A:\n    x: int\n",
        "def f(a: int | None) -> int | None:\n    a = b\n    return None\n",
        "x = 'words'\n",
        "x = TypeVar('x')\n",
        "class A:\n    x: int = field(default=0, init=False)\n",
    ],
)
def test_what_says_nothing_to_the_program_is_left_alone(source: str) -> None:
    assert afters(source) == set()


def test_a_mutant_names_its_function_and_all_of_its_lines() -> None:
    first, *_ = mutants(
        "m.py", "class A:\n    def f(self) -> bool:\n        return (\n            a\n            < b\n        )\n"
    )
    assert (first.function, first.first_line, first.last_line) == ("A.f", 3, 6)
    assert (first.before, first.after) == ("return ( a < b )", "pass")


def test_every_mutant_of_a_module_is_a_program_of_its_own() -> None:
    path = "jobs/backup/version_match.py"
    source = (ROOT / path).read_text()
    made = mutants(path, source)
    trees = {ast.dump(ast.parse(mutant.source)) for mutant in made}
    assert len(made) > 100
    assert ast.dump(ast.parse(source)) not in trees
    for mutant in made:
        assert mutant.diff(source)
