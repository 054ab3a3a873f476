"""A campaign at a tiny package, with mutants that its tests notice and others that they do not."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation import judged
from tests.mutation.__main__ import part
from tests.mutation.nearest import nearest

ROOT = Path(__file__).resolve().parents[2]
RULES = '''"""Rules."""


def is_large(size: int) -> bool:
    return size > 10


def first_power(least: int) -> int:
    power = 1
    while power < least:
        power *= 2
    return power
'''
TESTS = """
from jobs.small.rules import first_power, is_large

def test_large():
    assert is_large(50) and not is_large(5)

def test_power():
    assert first_power(5) == 8
"""
SURVIVOR = "jobs/small/rules.py:5: survived"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "jobs" / "small").mkdir(parents=True)
    (root / "tests" / "small").mkdir(parents=True)
    (root / "tests" / "mutation").mkdir(parents=True)
    for folder in ("jobs", "jobs/small"):
        (root / folder / "__init__.py").write_text("")
    (root / "jobs" / "small" / "rules.py").write_text(RULES)
    (root / "tests" / "small" / "test_rules.py").write_text(TESTS)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow']\n")
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "all")


def play(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mutation", "--root", str(root), "--limit", "4", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def judge(root: Path, **other: str) -> None:
    entry = {"function": "is_large", "before": "return size > 10", "after": "return size >= 10", "why": "nobody asks"}
    lines = [f"{name} = '{text}'" for name, text in (entry | other).items()]
    (root / judged.FILE).write_text("\n".join(["[['jobs/small/rules.py']]", *lines, ""]))


def test_survivors_are_shown_with_their_place_and_what_changed(checkout: Path) -> None:
    done = play(checkout, "jobs/small/rules.py")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"\n{SURVIVOR}\n-    return size > 10\n+    return size >= 10\n" in done.stdout
    assert "return size <= 10" not in done.stdout
    assert "ran into the time limit" in done.stdout  # without `power *= 2`
    assert (checkout / "jobs" / "small" / "rules.py").read_text() == RULES
    assert not list(checkout.rglob("*.pyc"))


def test_a_better_test_kills_them_all(checkout: Path) -> None:
    test = checkout / "tests" / "small" / "test_rules.py"
    test.write_text(
        f"{TESTS}\n\ndef test_bounds():\n    assert not is_large(10) and is_large(11)"
        "\n    assert [first_power(number) for number in (0, 1, 2, 4)] == [1, 1, 2, 4]\n"
    )
    done = play(checkout, "jobs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "survived" not in done.stdout


def test_a_survivor_that_was_judged_is_not_played(checkout: Path) -> None:
    judge(checkout)
    done = play(checkout, "jobs/small/rules.py")
    assert SURVIVOR + "\n-    return size > 10\n+    return size >= 10" not in done.stdout
    again = play(checkout, "jobs/small/rules.py", "--again")
    assert f"{SURVIVOR}, as judged\n-    return size > 10\n+    return size >= 10\n" in again.stdout


def test_a_judged_mutant_that_no_longer_exists_is_reported(checkout: Path) -> None:
    judge(checkout, before="return size > 9")
    done = play(checkout, "jobs/small/rules.py", "--most", "1")
    assert done.returncode == 1
    assert "NO LONGER THERE" in done.stdout
    assert "return size > 9" in done.stdout


def test_a_judged_mutant_that_a_test_kills_is_reported(checkout: Path) -> None:
    judge(checkout, after="return size <= 10")
    done = play(checkout, "jobs/small/rules.py", "--again")
    assert "jobs/small/rules.py:5: killed, though" in done.stdout


def test_only_changed_lines_are_played_if_a_revision_is_named(checkout: Path) -> None:
    assert "0 mutants" in play(checkout, "--since", "HEAD").stdout
    (checkout / "jobs" / "small" / "rules.py").write_text(RULES.replace("size > 10", "size > 20"))
    listed = play(checkout, "--since", "HEAD", "--list").stdout
    places = {line for line in listed.splitlines() if line.startswith("jobs")}
    assert places == {"jobs/small/rules.py:5"}


def test_a_bound_chooses_the_same_few_each_time(checkout: Path) -> None:
    listed = {play(checkout, "jobs", "--list", "--most", "3").stdout for _ in range(2)}
    assert len(listed) == 1
    assert listed.pop().count("jobs/small/rules.py") == 3


def test_each_module_is_in_one_part(checkout: Path) -> None:
    listed = [play(checkout, "jobs", "--part", f"{number}/3", "--list").stdout for number in (1, 2, 3)]
    assert sorted("jobs/small/rules.py" in lines for lines in listed) == [False, False, True]


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "x/3", "-1/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is no part"):
        part(text)


def test_no_mutant_begins_when_the_time_is_over(checkout: Path) -> None:
    done = play(checkout, "jobs", "--seconds", "0")
    assert (done.returncode, "none played" in done.stdout) == (0, True), done.stdout + done.stderr


def test_tests_that_fail_without_a_mutant_are_no_measure(checkout: Path) -> None:
    (checkout / "tests" / "small" / "test_rules.py").write_text(TESTS.replace("== 8", "== 9"))
    done = play(checkout, "jobs")
    assert done.returncode == 1
    assert "without a mutant, these fail: tests/small/test_rules.py" in done.stdout


def test_a_module_without_any_test_is_no_success(checkout: Path) -> None:
    shutil.rmtree(checkout / "tests" / "small")
    done = play(checkout, "jobs")
    assert done.returncode == 1
    assert "jobs/small/rules.py:5: without a test" in done.stdout


def test_the_nearest_tests_have_the_name_of_the_module_then_those_of_its_package_and_users(checkout: Path) -> None:
    for name, text in (("small/test_other", ""), ("far/test_user", "import jobs.small.rules"), ("far/test_none", "")):
        file = checkout / "tests" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    first, then = nearest(checkout, "jobs/small/rules.py")
    assert first == ["tests/small/test_rules.py"]
    assert then == ["tests/far/test_user.py", "tests/small/test_other.py"]
    assert nearest(checkout, "jobs/small/model.py") == (["tests/small/test_other.py", "tests/small/test_rules.py"], [])


def test_each_judgement_of_this_project_is_about_a_mutant_and_says_why() -> None:
    judgements = judged.read(ROOT)
    assert [str(each) for each in judged.gone(ROOT, judgements)] == []
    assert [str(each) for each in judgements if len(each.why.split()) < 4] == []
    assert len({each.name for each in judgements}) == len(judgements)
