"""What the repository itself promises: the lock, the version, the layers that a linter cannot see, the README."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import jobs
from jobs.cli import _COMMANDS
from jobs.errors import ExitCode
from tests.weight import tracked

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
HEAVY = {"awscrt", "boto3", "botocore", "duckdb", "joblib", "pyarrow", "rich", "smart_open"}
BARE_STORES = {
    "jobs.cli.archives": "the ledger's",
    "jobs.cli.command": "reads",
    "jobs.doctor.system": "tries what the server heeds, and writes a new key",
    "jobs.nights.night": "reads",
    "jobs.runs.request": "the ledger's",
    "jobs.s3.sessions": "makes the safe one of it",
    "scheduler.runtime": "the ledger's, and destinations that it makes safe itself",
}
"""Modules that open a store which trusts the server's conditions, each with what they do with it."""


def requirements(lock: Path) -> list[str]:
    """The lock's entries, each with its continuation lines, without comments."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    return text.replace("\\\n", " ").strip().splitlines()


def normal(name: str) -> str:
    """A distribution's name as the lock spells it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_lock_pins_everything_by_hash(lock):
    entries = requirements(lock)
    assert len(entries) > 10
    for entry in entries:
        assert re.match(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+ ", entry), entry
        assert re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", entry), entry


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_lock_carries_no_address(lock):
    assert not re.search(r"\w+://|^\s*-|\s--(?!hash=)|@ ", lock.read_text().replace("\\\n", ""), re.MULTILINE)


def test_locks_hold_what_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = {"dev.txt": [*project["project"]["dependencies"], *extras["dev"], *project["build-system"]["requires"]]}
    wanted["image.txt"] = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted["bench.txt"] = [*wanted["dev.txt"], *extras["bench"]]
    wanted["site.txt"] = extras["site"]
    assert [lock.name for lock in LOCKS] == sorted(wanted)
    for lock in LOCKS:
        held = {normal(re.split(r"[\[=]", entry)[0]) for entry in requirements(lock)}
        assert {normal(re.split(r"[\[><=~! ]", name)[0]) for name in wanted[lock.name]} <= held


def test_locks_agree_on_every_version():
    image, dev, bench = (
        {entry.split(" ")[0] for entry in requirements(ROOT / "requirements" / name)}
        for name in ("image.txt", "dev.txt", "bench.txt")
    )
    assert image <= dev <= bench


def test_changelog_begins_with_this_version():
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == jobs.__version__


def test_no_registry_address_or_machine_path_is_tracked():
    private = re.compile(
        r"https?://[^/\s]+/(?:simple|packages|pypi)/"
        r"|(?<![\w-])--(?:extra-)?index-url[ =]\S|(?<![\w-])--find-links[ =]\S"
        r"|(?<![\w.~/])/(?:ro[o]t|hom[e]/\w+|User[s]/\w+)/"
    )
    found = []
    for path in tracked():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if private.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_whoever_writes_objects_looks_first():
    """`open_side` makes a store safe on servers that ignore conditions. `open_store` does not."""
    users = set()
    for path in [*(ROOT / "jobs").rglob("*.py"), *(ROOT / "scheduler").rglob("*.py")]:
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        if "open_store" in names:
            users.add(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    assert users == set(BARE_STORES)


def test_every_package_has_its_place_in_the_list_of_layers():
    """A package that is in no line may import anything, and be imported by anything."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    assert contract["type"] == "layers"
    listed = {name for line in contract["layers"] for name in line.split(" | ")}
    there = {f"jobs.{path.stem}" for path in (ROOT / "jobs").glob("*.py")}
    there |= {f"jobs.{path.parent.name}" for path in (ROOT / "jobs").glob("*/__init__.py")}
    assert there - listed == {"jobs.__init__", "jobs.__main__", "jobs.container"}
    assert listed - there == {"scheduler"}


def test_no_modules_import_each_other():
    """Not even within functions: two such modules are one idea, or one part of them is a third."""
    graph = grimp.build_graph("jobs", "scheduler", exclude_type_checking_imports=True)
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def test_core_imports_only_the_standard_library_and_msgspec():
    graph = grimp.build_graph("jobs", include_external_packages=True)
    core = {"jobs", "jobs.errors", "jobs.core", *graph.find_descendants("jobs.core")}
    used = {name for each in core - {"jobs"} for name in graph.find_modules_directly_imported_by(each)}
    assert used - core - sys.stdlib_module_names == {"msgspec"}


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after `code`."""
    probe = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", probe]
    return set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split())


def test_command_line_starts_without_heavy_libraries():
    """Nor does the module of a command load what it may not use."""
    loaded = loaded_by(f"import {', '.join(f'jobs.cli.{each}' for each in _COMMANDS)}")
    assert "click" in loaded
    assert loaded & HEAVY == set()


def test_lambdas_load_nothing_heavy():
    walk = "for module in pkgutil.walk_packages(scheduler.__path__, 'scheduler.'): __import__(module.name)"
    loaded = loaded_by(f"import pkgutil, scheduler\n{walk}")
    assert "scheduler" in loaded
    assert loaded & {"click", "duckdb", "pyarrow", "rich"} == set()


def test_readme_documents_every_exit_code():
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {name: int(code) for code, name in rows} == {code.name: code.value for code in ExitCode}
