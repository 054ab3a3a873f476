"""What the repository itself promises: the lock, the version, the layers that a linter cannot see, the README."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import jobs
from jobs.errors import ExitCode
from tests.house.measures import measure

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
HEAVY = {"awscrt", "boto3", "botocore", "duckdb", "joblib", "pyarrow", "rich", "smart_open"}
SMALL_LINES = 50
REASONS = {
    "jobs.s3.object_files": "the only place that sees what smart-open raises",
    "scheduler.redelivery": "when SQS delivers again is not what became of an event",
    "scheduler.settings": "the only place where functions read their environment",
}
"""Small modules with one user, each with the reason why it is one. `kind` modules are loaded by the registry."""
BARE_STORES = {
    "jobs.cli": "the ledger's",
    "jobs.cli.archives": "the ledger's",
    "jobs.cli.policy_and_ledger": "reads",
    "jobs.cli.reconcile": "reads",
    "jobs.cli.worker": "the ledger's",
    "jobs.doctor.gather_stored": "tries what the server heeds",
    "jobs.local.system": "the ledger's",
    "jobs.nights.stages": "reads",
    "jobs.reconcile.run": "the ledger's",
    "jobs.runs.request": "the ledger's",
    "jobs.runs.run_claim": "the ledger's",
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


def tracked_files() -> list[Path]:
    """Every file that git tracks or would track."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name]
    return [path for path in paths if path.is_file()]


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
    wanted["fuzz.txt"] = [*wanted["dev.txt"], *extras["fuzz"]]
    wanted["site.txt"] = extras["site"]
    assert [lock.name for lock in LOCKS] == sorted(wanted)
    for lock in LOCKS:
        held = {normal(re.split(r"[\[=]", entry)[0]) for entry in requirements(lock)}
        assert {normal(re.split(r"[\[><=~! ]", name)[0]) for name in wanted[lock.name]} <= held


def test_locks_agree_on_every_version():
    image, dev, bench, fuzz = (
        {entry.split(" ")[0] for entry in requirements(ROOT / "requirements" / name)}
        for name in ("image.txt", "dev.txt", "bench.txt", "fuzz.txt")
    )
    assert image <= dev <= bench
    assert dev <= fuzz


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
    for path in tracked_files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if private.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_a_small_module_has_two_users_or_a_reason():
    """A module is one idea. One of a few lines that only one other uses may as well be a part of that."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for folder in ("jobs", "scheduler")
        for path in (ROOT / folder).rglob("*.py")
        if not path.name.startswith("__")
    }
    users: dict[str, set[str]] = {name: set() for name in modules}
    for path in [*modules.values(), *(ROOT / "jobs").rglob("__init__.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    if name in users:
                        users[name].add(str(path))
    small = {name for name, path in modules.items() if len(path.read_text().splitlines()) < SMALL_LINES}
    lonely = {name for name in small if len(users[name]) < 2}
    assert {name for name in lonely if name.rpartition(".")[2] not in ("kind", "archives_kind")} == set(REASONS)


def test_whoever_writes_objects_looks_first():
    """`open_side` makes a store safe on servers that ignore conditions. `open_store` does not."""
    users = set()
    for path in [*(ROOT / "jobs").rglob("*.py"), *(ROOT / "scheduler").rglob("*.py")]:
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        if "open_store" in names:
            users.add(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    assert users == set(BARE_STORES)


def test_the_prose_of_the_code_is_plain():
    """CONTRIBUTING.md says how. Words that were hard to read once do not come back."""
    hard = re.compile(r"\b(whoever|anew|beneath|upon|thereof|told of)\b")
    found = []
    for path in [*(ROOT / "jobs").rglob("*.py"), *(ROOT / "scheduler").rglob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if hard.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []
    measures = measure(ROOT)
    assert measures.long_prose == 0
    assert measures.semicolons / measures.docstrings < 0.05


def test_options_have_types():
    """A mistyped name in a dictionary is found by a user. In a dataclass mypy finds it."""
    assert measure(ROOT).untyped_options == []


def test_no_job_is_told_by_its_name():
    """What the engine has to know of a kind of work is in its `Kind`, so a new kind touches no branch elsewhere."""
    assert measure(ROOT).job_comparisons == []


@pytest.mark.parametrize(
    "line",
    [
        'spec.job == "verify"',
        '"verify" != request.job',
        'run["job"] in ("verify", "other")',
        'report.get("job") not in KNOWN',
        'kind.name == "expire"',
        'run_job(run_id) == "restore"',
        "started.job == batch.REPORT",
        'PRICES = {"replicate": 1, "verify": 2}',
        "isinstance(self.job, Verify)",
        'def f(name):\n    match name:\n        case "compact":\n            pass',
    ],
)
def test_every_form_of_telling_a_job_by_its_name_counts(tmp_path, line):
    (tmp_path / "jobs" / "runs").mkdir(parents=True)
    module = tmp_path / "jobs" / "runs" / "module.py"
    module.write_text(f'KNOWN = frozenset(("verify", "compact"))\n{line}\n')
    assert len(measure(tmp_path).job_comparisons) == 1
    module.write_text('spec.job == other.job\nshown in ("savings", "restore")\nspec.job is None\n{"verify": 1}\n')
    assert measure(tmp_path).job_comparisons == []


def test_no_folder_is_a_junk_drawer():
    folders = [path.parent for root in ("jobs", "scheduler") for path in (ROOT / root).rglob("*.py")]
    largest, files = Counter(folders).most_common(1)[0]
    assert files <= 25, f"{largest.relative_to(ROOT)} has {files} modules"


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


def test_every_package_says_what_it_does():
    inits = sorted((ROOT / "jobs").rglob("__init__.py"))
    assert len(inits) > 20
    for path in inits:
        lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
        assert 3 <= len(lines) <= 15, f"{path.relative_to(ROOT)}: {len(lines)} lines, of 3 to 15"


def test_the_reading_order_of_a_package_names_its_modules():
    """But for those that are named alike everywhere, and the commands."""
    for path in [*(ROOT / "jobs").rglob("__init__.py"), ROOT / "scheduler" / "__init__.py"]:
        if path.parent == ROOT / "jobs" / "cli":
            continue
        said = re.findall(r"`(?:jobs\.)?(\w+)`", ast.get_docstring(ast.parse(path.read_text())) or "")
        modules = {each.stem for each in path.parent.glob("*.py")} | {
            each.parent.name for each in path.parent.glob("*/__init__.py")
        }
        assert modules - {*said, "__init__", "__main__", "kind"} == set(), path.relative_to(ROOT)


def test_core_imports_only_the_standard_library():
    modules = [ROOT / "jobs" / "errors.py", *(ROOT / "jobs" / "core").rglob("*.py")]
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""] if not node.level else []
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                own = name in ("jobs", "jobs.errors") or name == "jobs.core" or name.startswith("jobs.core.")
                assert own or name.partition(".")[0] in sys.stdlib_module_names, f"{path.name} imports {name}"


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after `code`."""
    probe = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", probe]
    return set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split())


def test_command_line_starts_without_heavy_libraries():
    loaded = loaded_by("import jobs.cli")
    assert "click" in loaded
    assert loaded & HEAVY == set()


def test_lambdas_load_nothing_heavy():
    walk = "for module in pkgutil.walk_packages(scheduler.__path__, 'scheduler.'): __import__(module.name)"
    loaded = loaded_by(f"import pkgutil, scheduler\n{walk}")
    assert "scheduler" in loaded
    assert loaded & {"click", "duckdb", "pyarrow", "rich"} == set()


def test_readme_documents_every_exit_code():
    rows = re.findall(r"^\| (\d+) \| `([A-Z]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {name: int(code) for code, name in rows} == {code.name: code.value for code in ExitCode}
