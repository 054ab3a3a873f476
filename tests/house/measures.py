"""Measures of the product's source: folders, modules, words. Read from the syntax tree, nothing is imported."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SUBJECTS = {
    "archives": ("archive", "member", "tar_layout"),
    "compact": ("compact", "packing", "savings"),
    "restore": ("restor", "thaw"),
    "expire": ("expir", "tombstone", "unhiding"),
    "reconcile": ("reconcil", "joins", "join_side"),
    "nights": ("night",),
    "policy": ("polic",),
}
"""Subjects, and what the names of their modules have in them (a package's name counts for all that it holds)."""
PROSE_COLUMNS = 100


@dataclass(slots=True)
class Measures:
    """What was found. `job_comparisons` and `untyped_options`: file:line of each."""

    modules: int = 0
    lines: int = 0
    docstrings: int = 0
    semicolons: int = 0
    long_prose: int = 0
    modules_by_folder: Counter[str] = field(default_factory=Counter)
    folders_by_subject: dict[str, set[str]] = field(default_factory=lambda: {subject: set() for subject in SUBJECTS})
    job_comparisons: list[str] = field(default_factory=list)
    untyped_options: list[str] = field(default_factory=list)


def measure(root: Path) -> Measures:
    """The measures of the checkout at `root`."""
    found = Measures()
    for path in sorted([*(root / "jobs").rglob("*.py"), *(root / "scheduler").rglob("*.py")]):
        name, text = path.relative_to(root), path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        found.lines += text.count("\n")
        if path.name != "__init__.py":
            found.modules += 1
            found.modules_by_folder[str(name.parent)] += 1
            for subject, words in SUBJECTS.items():
                if any(word in str(name) for word in words):
                    found.folders_by_subject[subject].add(str(name.parent))
        for docstring in _docstrings(tree):
            found.docstrings += 1
            found.semicolons += ";" in docstring
            found.long_prose += sum(_is_long_prose(line) for line in docstring.splitlines())
        found.long_prose += sum(_is_long_prose(line) for line in _comments(text))
        found.job_comparisons += [f"{name}:{line}" for line in _job_comparisons(tree)]
        found.untyped_options += [f"{name}:{line}" for line in _untyped_options(tree)]
    return found


def _is_long_prose(line: str) -> bool:
    """Tables, addresses, commands, JSON and what is laid out in columns are no prose."""
    text = line.strip()
    is_other = any(mark in text for mark in ("|", "://", "  ", "→")) or text.startswith(("sealift ", "{", "└"))
    return len(line) > PROSE_COLUMNS and not is_other


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Of modules, classes and functions, and the strings below constants, as they are written."""
    for node in ast.walk(tree):
        for statement in getattr(node, "body", None) or () if not isinstance(node, ast.Lambda | ast.IfExp) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                text = statement.value.value
                if isinstance(text, str):
                    indent = " " * statement.col_offset
                    yield indent + text if statement.lineno == statement.end_lineno else text


def _comments(text: str) -> Iterator[str]:
    """Lines that are a comment and nothing else."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.line.strip().startswith("#"):
            yield token.line.rstrip("\n")


def _job_comparisons(tree: ast.Module) -> Iterator[int]:
    """Where the `job` of something is compared with a string, or a job's type is asked."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            has_job = any(isinstance(side, ast.Attribute) and side.attr == "job" for side in sides)
            if has_job and any(isinstance(side, ast.Constant) for side in sides):
                yield node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            kind = node.args[0]
            if isinstance(kind, ast.Attribute) and kind.attr == "job":
                yield node.lineno


def _untyped_options(tree: ast.Module) -> Iterator[int]:
    """Parameters `given` or `…options` whose type is a dictionary of anything, or that take all keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            rest = [node.args.kwarg] if node.args.kwarg else []
            for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *rest]:
                kind = ast.unparse(argument.annotation) if argument.annotation else ""
                is_untyped = kind in ("dict[str, Any]", "Mapping[str, Any]") or (argument in rest and kind == "Any")
                if is_untyped and (argument.arg == "given" or argument.arg.endswith("options")):
                    yield argument.lineno
