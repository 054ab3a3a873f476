"""The wheel and the sdist of `make dist`: what is in them, and that the installed wheel works without the clone."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import jobs
from jobs.cli import cli
from tests.weight import tracked

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DATA = f"sealift-{jobs.__version__}.data/data/share"


def names_of(*folders: str) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in tracked(*folders)]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make dist` in a copy of the clone that has leftovers of tests and of an earlier build."""
    clone = tmp_path_factory.mktemp("clone")
    for name in names_of():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, clone / name)
    for leftover in ("build/lib/jobs/removed.py", "jobs/core/__pycache__/x.cpython-311.pyc", "jobs/.mypy_cache/x.json"):
        (clone / leftover).parent.mkdir(parents=True, exist_ok=True)
        (clone / leftover).write_text("")
    make = ["make", "dist", f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/dev.stamp"]
    done = subprocess.run(make, cwd=clone, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2, done.stdout  # twine's word for each of the two
    return clone / "dist"


@pytest.fixture(scope="module")
def names(dist: Path) -> list[str]:
    (wheel,) = dist.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and the dependencies that this one has."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    pip = [f"{sys.prefix}/bin/uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(folder)]
    subprocess.run([*pip, *dist.glob("*.whl")], check=True, timeout=120)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # as a path alone: no editable install
    return folder


def run(installed: Path, *command: str, **variables: str) -> str:
    environment = {"PATH": f"{installed / 'bin'}:{os.environ['PATH']}", "HOME": str(installed)} | variables
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_each_file_of_the_packages_and_no_other(names: list[str]) -> None:
    assert {name for name in names if name.startswith(("jobs/", "scheduler/"))} == set(names_of("jobs", "scheduler"))
    others = {name.split("/")[0] for name in names} - {"jobs", "scheduler"}
    assert others == {f"sealift-{jobs.__version__}.dist-info", f"sealift-{jobs.__version__}.data"}
    assert f"sealift-{jobs.__version__}.dist-info/licenses/LICENSE" in names


def test_the_wheel_has_a_bill_of_materials_that_its_record_lists(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    folder = f"sealift-{jobs.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(f"{folder}/sboms/sealift.cdx.json")
        rows = [*csv.reader(archive.read(f"{folder}/RECORD").decode().splitlines())]
        listed = {name: digest for name, digest, _ in rows}
        assert set(listed) == {entry.filename for entry in archive.infolist()}
        for name, digest in listed.items():  # RECORD itself has none
            content = hashlib.sha256(archive.read(name)).digest()
            assert digest in ("", f"sha256={base64.urlsafe_b64encode(content).rstrip(b'=').decode()}"), name
    assert [name for name, digest in listed.items() if not digest] == [f"{folder}/RECORD"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    document = json.loads(data)
    assert document["metadata"]["component"]["purl"] == f"pkg:pypi/sealift@{jobs.__version__}"
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    required = {re.split(r"[\[<>=~! ]", each)[0].lower() for each in pyproject["project"]["dependencies"]}
    assert {each["name"] for each in document["components"]} == required


def test_the_sdist_builds_what_it_is_and_holds_no_half_of_the_tests(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "share/man/man1/sealift.1"} <= held
    assert {name.split("/")[0] for name in held if "/" in name} == {"jobs", "scheduler", "share", "sealift.egg-info"}
    assert not [name for name in held if "cache" in name]


def test_the_installed_command_is_the_wheels(installed: Path) -> None:
    assert jobs.__version__ in run(installed, "sealift", "--version")
    assert "replicate" in run(installed, "sealift", "--help")
    where = run(installed, "python", "-c", "import jobs; print(jobs.__file__)")
    assert where.startswith(str(installed))


def test_each_command_has_a_man_page_with_its_options(installed: Path, names: list[str]) -> None:
    verbs = cli.list_commands(cli.make_context("sealift", [], resilient_parsing=True))
    assert {f"{DATA}/man/man1/sealift-{verb}.1" for verb in verbs} <= set(names)
    assert f"{DATA}/man/man1/sealift-runs-retry.1" in names
    page = (installed / "share/man/man1/sealift-replicate.1").read_text()
    assert page.startswith('.TH "SEALIFT\\-REPLICATE" "1"')
    assert "\\fB\\-\\-max\\-cost DOLLARS\\fR" in page
    assert f"{DATA}/man/man1/sealift-worker.1" not in names  # hidden: it is for executors


def test_bash_completes_verbs_and_options(installed: Path) -> None:
    script = installed / "share/bash-completion/completions/sealift"

    def complete(line: str) -> list[str]:
        words = f"COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}"
        code = f'source {script}; {words}; _sealift_completion sealift; echo "${{COMPREPLY[@]}}"'
        return run(installed, "bash", "-c", code).split()

    assert complete("sealift re") == ["replicate", "reconcile", "restore"]
    assert complete("sealift runs ret") == ["retry"]
    assert complete("sealift verify --max-c") == ["--max-cost"]
    assert "#compdef sealift" in (installed / "share/zsh/site-functions/_sealift").read_text()
    assert "complete" in (installed / "share/fish/vendor_completions.d/sealift.fish").read_text()
