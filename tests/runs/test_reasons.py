"""Reasons of outcomes: what is one row's own has a column, so that equal failures are one line of a report."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKERS = {"Outcome.of", "Verdict", "Decision", "Action", "Read", "MemberRead", "kept_outcome", "_expired", "_replace"}
"""What takes a reason: as its last positional argument that is a text, or by the name `reason`."""
OWN = {"key", "etag", "version_id", "size_bytes", "target", "marker_id", "destination_etag", "destination_version_id"}
"""The names of what is one row's own."""
MODULES = sorted(
    path
    for package in ("core", "s3", "replicate", "verify", "backup", "compact", "restore", "expire", "archives", "runs")
    for path in (ROOT / "jobs" / package).rglob("*.py")
)


def reasons(tree: ast.AST) -> Iterator[ast.JoinedStr]:
    """The texts with placeholders that are reasons, given as they are or by a local name."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        texts = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.JoinedStr)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or ast.unparse(call.func).split("(")[0] not in MAKERS:
                continue
            values = [*call.args, *(each.value for each in call.keywords if each.arg == "reason")]
            for value in values:
                value = texts.get(value.id, value) if isinstance(value, ast.Name) else value
                if isinstance(value, ast.JoinedStr):
                    yield value
        if function.name in ("_reason_to_keep", "refuse_copy"):
            returned = (node.value for node in ast.walk(function) if isinstance(node, ast.Return))
            yield from (each for each in returned if isinstance(each, ast.JoinedStr))


def own_of(text: ast.JoinedStr) -> list[str]:
    """The placeholders that are one row's own."""
    names = []
    for value in text.values:
        if isinstance(value, ast.FormattedValue):
            node = value.value
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            names += [name] if name in OWN else []
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_reason_names_a_key_a_size_an_etag_or_a_version(path: Path) -> None:
    """What S3 itself says of a request is another matter: a report folds it (`jobs/runs/folding.py`)."""
    found = {ast.unparse(text): own for text in reasons(ast.parse(path.read_text())) if (own := own_of(text))}
    assert not found


def test_reasons_are_found_where_they_are() -> None:
    planted = ast.parse(
        "def f():\n why = f'size {there.size_bytes}'\n return Outcome.of(row, status, why)\n"
        "def g():\n return Verdict(False, x, f'now {source.etag}')\n"
    )
    assert [own_of(text) for text in reasons(planted)] == [["size_bytes"], ["etag"]]
    modules = [path for path in MODULES if any(True for _ in reasons(ast.parse(path.read_text())))]
    assert len(modules) > 8, modules
