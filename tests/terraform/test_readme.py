"""The module's README says what its variables and outputs are, and its commands work as typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.terraform.readme import MODULE, blocks, render
from tests.terraform.world import ROOT


def test_tables_are_made_from_the_code():
    text = (MODULE / "README.md").read_text()
    assert render(text) == text, "run python -m tests.terraform.readme"
    for kind in ("variable", "output"):
        names = [name for name, _ in blocks(f"{kind}s.tf", kind)]
        written = re.findall(rf'^{kind} "(\w+)"', (MODULE / f"{kind}s.tf").read_text(), re.MULTILINE)
        assert names == written
        assert len(names) > 8


def test_examples_name_the_one_version_of_the_provider_that_the_checks_know():
    def version(file: Path) -> str:
        (constraint,) = re.findall(r'source  = "hashicorp/aws"\n +version = "([^"]+)"', file.read_text())
        return str(constraint)

    lowest, _, highest = version(MODULE / "versions.tf").partition(", < ")
    assert highest == f"{int(lowest.removeprefix('>= ').split('.')[0]) + 1}.0.0"
    for root in (MODULE / "examples").iterdir():
        assert f">= {version(root / 'main.tf')}" == lowest, root


def test_every_file_has_its_line():
    text = (MODULE / "README.md").read_text()
    told = set(re.findall(r"^\| `(\w+\.tf)` \|", text, re.MULTILINE))
    assert {path.name for path in MODULE.glob("*.tf")} == told | {"versions.tf", "variables.tf", "outputs.tf"}


PROGRAM = """#!/bin/sh
echo "${0##*/} $*" >> "$CALLS"
case "$*" in
  *--password-stdin*) grep -q secret ;;
  *RepoDigests*) echo docker.io/library/python@sha256:%064d ;;
  *"output -raw repository") echo 123456789012.dkr.ecr.eu-central-1.amazonaws.com/backup ;;
  "ecr get-login-password"*) echo secret ;;
esac
""".replace("%064d", "0" * 64)
MAKE = '#!/bin/sh\necho "make $*" >> "$CALLS"\nexec {} -n "$@"\n'


@pytest.mark.parametrize("engine", ["podman", "docker"])
@pytest.mark.parametrize(
    ("page", "folder"),
    [
        ("terraform/README.md", "."),
        ("docs/terraform.md", "."),
        ("terraform/examples/acceptance/README.md", "terraform/examples/acceptance"),
    ],
)
def test_commands_of_the_way_in_work_as_typed(tmp_path: Path, page: str, folder: str, engine: str):
    """By stand-ins of the programs, and make's own reading of the Makefile."""
    programs, tree, calls = tmp_path / "programs", tmp_path / "tree", tmp_path / "calls"
    for name in ("minimal", "acceptance"):
        (tree / "terraform" / "examples" / name).mkdir(parents=True)
    for each in ("Makefile", "jobs", "images", "requirements", "pyproject.toml"):
        (tree / each).symlink_to(ROOT / each)
    programs.mkdir()
    for name in ("terraform", "aws", "podman", "docker", "sealift", "make"):
        (programs / name).write_text(MAKE.format(shutil.which("make")) if name == "make" else PROGRAM)
        (programs / name).chmod(0o755)
    block = next(
        block for block in re.findall(r"```\n(.*?)```", (ROOT / page).read_text(), re.DOTALL) if "make" in block
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace("ENGINE=podman", f"ENGINE={engine}")],
        cwd=tree / folder,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(calls)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = calls.read_text()
    asked = [line.split() for line in said.splitlines()]
    assert [words[1] for words in asked if words[0] in {"podman", "docker"} - {engine}] == []
    printed = done.stdout.replace("\\\n", "")
    [build] = [line for line in printed.splitlines() if line.startswith(f"{engine} build")]
    assert "--platform linux/amd64" in build
    assert f"BASE=docker.io/library/python@sha256:{'0' * 64}" in build
    login, push = said.index(f"{engine} login"), said.index("image-push")
    assert login < push
    assert "make lambda" in said or " lambda image" in said
