"""The tests that are nearest to a module: those of its name, then those of its package and of its users."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

FAR = {"acceptance", "benchmarks", "containers", "demo", "end_to_end", "house", "images", "local", "mutation"}
FAR |= {"simulation", "terraform", "contract"}
"""Folders whose tests take long, or are about something else."""

COMPANIONS = {
    "jobs/expire/copy_checks.py": ("tests/expire/test_copies.py",),
    "jobs/expire/marks.py": ("tests/expire/test_claims.py",),
    "jobs/expire/job.py": ("tests/expire/test_claims.py",),
    "jobs/expire/proofs.py": ("tests/expire/test_candidates.py", "tests/expire/test_shares.py"),
    "jobs/backup/version_match.py": ("tests/backup/test_job.py", "tests/backup/test_job_orders.py"),
}
"""Tests of other names that are as near."""


class Nearest(NamedTuple):
    """`first`: played for each mutant. `then`: what else may notice, the tests of neighbours and users."""

    first: list[str]
    then: list[str]


def nearest(root: Path, path: str) -> Nearest:
    """The test files of a module, as paths below `root`."""
    module = path.removesuffix(".py").replace("/", ".")
    inner = Path(path).relative_to(Path(path).parts[0]) if len(Path(path).parts) > 1 else Path(path)
    package, stem = inner.parent, inner.stem.lstrip("_")
    own, users, neighbours = [], [], []
    for file in sorted((root / "tests").rglob("test_*.py")):
        test = file.relative_to(root)
        if FAR & set(test.parts):
            continue
        folder = test.parent.relative_to("tests")
        is_neighbour = folder == package or (str(package) == "." and folder.name == Path(path).parts[0])
        has_its_name = is_neighbour and (test.stem == f"test_{stem}" or test.stem.startswith(f"test_{stem}_"))
        if has_its_name or str(test) in COMPANIONS.get(path, ()):
            own.append(str(test))
        elif module in _imports(file):
            users.append(str(test))
        elif is_neighbour:
            neighbours.append(str(test))
    by_name = own or [test for test in users if Path(test).parent.relative_to("tests") == package]
    rest = [test for test in [*users, *neighbours] if test not in by_name]
    return Nearest(by_name, rest) if by_name else Nearest(rest, [])


def _imports(file: Path) -> set[str]:
    """The modules that a file names in its imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names
