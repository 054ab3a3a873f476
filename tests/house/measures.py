"""Measures of the product's source: folders, modules, words. Read from the syntax tree, nothing is imported."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SUBJECTS = {
    "archive format": ("tar_layout", "scan", "member_names", "index_tables", "zstd_frames"),
    "compact": ("compact", "packing", "savings"),
    "restore": ("restor", "thaw"),
    "expire": ("expir", "tombstone", "unhiding"),
    "reconcile": ("reconcil", "joins", "join_side"),
    "nights": ("night",),
    "policy": ("polic",),
}
"""Subjects, and what the names of their modules have in them (a package's name counts for all that it holds).

To pack, restore and verify archives are subjects of their own. The format is what they share.
"""
PROSE_COLUMNS = 100
JOBS = {"replicate", "verify", "compact", "restore", "expire", "reconcile"}
OTHER_WORDS = {
    "jobs/registry.py": "the registry itself",
    "jobs/cli/__init__.py": "commands, of which some are called like jobs",
    "jobs/doctor/needs.py": "roles of Terraform, of which some are called like jobs",
    "jobs/ledger/agreement.py": "the form of a plan: below the kinds of work, a comparison's is the one without shards",
}
"""Modules that may tell jobs, or what is called like them, by their names, each with what it says by them."""


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
        if not _may_name_jobs(root, name):
            found.job_comparisons += [f"{name}:{line}" for line in sorted({*_job_comparisons(tree)})]
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


def _may_name_jobs(root: Path, module: Path) -> bool:
    """A package of work may name itself and other jobs: the engine and the entrances may not."""
    return str(module) in OTHER_WORDS or (module.parent.name in JOBS and (root / module.parent / "kind.py").exists())


def _job_comparisons(tree: ast.Module) -> Iterator[int]:
    """Where code tests the name or the type of a job, in whatever form.

    A comparison (`==`, `in`) of a job with any text, or of anything with a job's name, a `case` of a job's name, a
    dictionary by jobs' names, and `isinstance` of a job.
    """
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            texts = {text for side in sides for text in _texts(side, constants)}
            if texts and (texts <= JOBS or any(map(_is_job, sides))):
                yield node.lineno
        elif isinstance(node, ast.MatchValue) and _texts(node.value, constants) & JOBS:
            yield node.value.lineno
        elif isinstance(node, ast.Dict):
            keys = {text for key in node.keys if key is not None for text in _texts(key, constants)}
            if len(keys & JOBS) > 1:
                yield node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance" and _is_job(node.args[0]):
            yield node.lineno


def _is_job(node: ast.expr) -> bool:
    """`job`, `spec.job`, `report["job"]`, `report.get("job")`, `run_job(…)`."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        is_read = called.endswith(".get") and node.args and _texts(node.args[0], {}) == {"job"}
        return bool(is_read) or called.endswith(("run_job", "_job_of"))
    if isinstance(node, ast.Subscript):
        return _texts(node.slice, {}) == {"job"}
    return getattr(node, "attr", getattr(node, "id", "")) in ("job", "verb")


def _texts(node: ast.expr, constants: Mapping[str, ast.expr]) -> set[str]:
    """The strings that an expression says: itself, in a container, or by the name of a constant of the module."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    if isinstance(node, ast.Name) and node.id in constants:
        return _texts(constants[node.id], {})
    if isinstance(node, ast.Name | ast.Attribute):  # a constant of another module
        name = node.id if isinstance(node, ast.Name) else node.attr
        return {name} if name.isupper() else set()
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return {text for each in node.elts for text in _texts(each, constants)}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "frozenset" and node.args:
        return _texts(node.args[0], constants)
    return set()


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
