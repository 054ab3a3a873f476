"""Errors with --json: one document with a stable code, and always an advice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import BUG, run
from jobs.errors import (
    Mistake,
    PolicyError,
    SealiftError,
    StoreError,
    UsageError,
)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "README.md"


def tree(kind: type[SealiftError] = SealiftError) -> Iterator[type[SealiftError]]:
    for each in kind.__subclasses__():
        yield each
        yield from tree(each)


KINDS = sorted({each for each in tree() if each.__module__ == SealiftError.__module__}, key=lambda each: each.__name__)


def example(kind: type[SealiftError]) -> SealiftError:
    """An error that says nothing of what to do."""
    if issubclass(kind, StoreError):
        return kind("HeadObject", "s3://bucket/key", "SomeCode", "S3's own words", 400)
    if issubclass(kind, PolicyError):
        return kind("policy.yaml", [Mistake("pairs", "3", "a list")])
    return kind("a thing is wrong")


def document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> tuple[dict[str, Any], str, int]:
    """The document of a command that ends with an error, its text, and the exit code."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("jobs.runs.request.open_prompt_ledger", fail)
    code = run(["runs", "list", "--ledger", "s3://ledger", "--json"])
    answer = capsys.readouterr()
    return json.loads(answer.out)["error"], answer.err, code


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_has_its_code_and_an_advice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[SealiftError]
) -> None:
    error = example(kind)
    found, text, code = document(capsys, monkeypatch, error)
    assert found.keys() == {"code", "message", "advice", "exit_code"}
    assert (found["code"], found["exit_code"], code) == (kind.__name__, error.exit_code, error.exit_code)
    assert found["advice"]
    assert found["advice"] not in ("a thing is wrong", "S3's own words")
    assert text == f"sealift: {found['message']}\n"
    if issubclass(kind, StoreError):  # S3's own words end without
        assert found["message"].endswith(f"; {found['advice']}")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("odd"), (BUG, "please report the lines above", 1)),
        (RecursionError(), (BUG, "please report the lines above", 1)),
        (KeyboardInterrupt(), ("Interrupted", "start the same command again", 75)),
    ],
)
def test_a_defect_has_one_code_and_ctrl_c_an_advice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, expected: object
) -> None:
    monkeypatch.setattr("jobs.interrupts.ignore", lambda: None)  # this process has other tests to do
    found, _, code = document(capsys, monkeypatch, error)
    assert (found["code"], found["advice"], code) == expected
    assert found["exit_code"] == code


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("no ledger", "no ledger: give one"),
        ("cannot write /a: Permission denied", "cannot write /a: Permission denied; give one"),
        ("restore what?", "restore what? Give one"),
    ],
)
def test_the_text_of_an_error_ends_with_its_own_advice(what: str, text: str) -> None:
    error = UsageError(what, advice="give one")
    assert (str(error), error.advice) == (text, "give one")
    assert (str(UsageError(what)), UsageError(what).advice) == (what, UsageError.advice)


def test_each_code_is_documented_with_its_exit_code() -> None:
    rows = re.findall(r"^\| ([\d or]+) \| (`.*)", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name: code for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    codes = {kind.__name__: str(int(example(kind).exit_code)) for kind in KINDS if kind is not StoreError}
    assert documented == codes | {BUG: "1", "TooManyFailures": "10 or 75"}
