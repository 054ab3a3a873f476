"""The module's README says what its variables and outputs are, and its commands work as typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jmespath  # type: ignore[import-untyped]
import pytest

from tests.terraform.readme import MODULE, blocks, render
from tests.terraform.world import ROOT, TERRAFORM


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


REPOSITORY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sealift"
DIGEST = f"sha256:{'0' * 64}"
PROGRAM = f"""#!/bin/sh
echo "${{0##*/}} $*" >> "$CALLS"
case "$*" in
  *--password-stdin*) grep -q secret ;;
  *"{{println .}}"*) echo {REPOSITORY}@{DIGEST} ;;
  *RepoDigests*) echo docker.io/library/python@{DIGEST} ;;
  *.Id*) echo {DIGEST} ;;
  push*) echo {DIGEST} > build/image.digest ;;
  *"output -raw repository") echo {REPOSITORY} ;;
  *"output -raw source") echo example-documents ;;
  "ecr get-login-password"*) echo secret ;;
  *list-object-versions*) cat "$CALLS.$4"; mv "$CALLS.$4.next" "$CALLS.$4" ;;
esac
"""
MAKE = '#!/bin/sh\necho "make $*" >> "$CALLS"\n[ "$1" = lambda ] && exec touch build/lambda-arm64.zip\nexec {} "$@"\n'
SEALIFT = """#!/bin/sh
echo "sealift $*" >> "$CALLS"
[ "$1" = doctor ] && exec {python} -m jobs "$@" --help  # it takes these options
exec {python} -m jobs "$@"
"""
TERRAFORM_CALL = '#!/bin/sh\necho "terraform $*" >> "$CALLS"\nexec {} "$@"\n'


class Machine:
    """A clone of the repository, and a shell in which the programs of the page are stand-ins."""

    def __init__(self, folder: Path, terraform: str = PROGRAM):
        self.tree, self.calls, programs = folder / "tree", folder / "calls", folder / "programs"
        shutil.copytree(MODULE, self.tree / "terraform")
        (self.tree / "build").mkdir()
        for each in ("Makefile", "jobs", "images", "requirements", "pyproject.toml", "README.md"):
            (self.tree / each).symlink_to(ROOT / each)
        programs.mkdir()
        texts = dict.fromkeys(("aws", "podman", "docker"), PROGRAM) | {"terraform": terraform}
        texts |= {"make": MAKE.format(shutil.which("make")), "sealift": SEALIFT.format(python=sys.executable)}
        for name, text in texts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(self.calls)}

    def play(self, commands: str, **variables: str) -> list[str]:
        """Run the commands. Returns the calls of the programs."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.tree,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return self.calls.read_text().splitlines()


def commands(heading: str) -> str:
    """The commands below a heading of the page."""
    text = (MODULE / "README.md").read_text()
    return re.findall(r"```\n(.*?)```", text[text.index(f"\n## {heading}\n") :], re.DOTALL)[0]


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_the_way_in_works_as_typed(tmp_path: Path, engine: str):
    machine = Machine(tmp_path)
    calls = machine.play(commands("In").replace("ENGINE=podman", f"ENGINE={engine}"))
    assert [line for line in calls if line.split()[0] in {"podman", "docker"} - {engine}] == []
    [build] = [line for line in calls if line.startswith(f"{engine} build")]
    assert f"BASE=docker.io/library/python@{DIGEST}" in build
    assert "--platform linux/amd64" in build
    order = [f"{engine} login", f"{engine} build", f"{engine} push", "make lambda", "sealift policy check", "aws s3 cp"]
    assert sorted(range(len(order)), key=lambda n: next(i for i, line in enumerate(calls) if order[n] in line)) == [
        *range(len(order))
    ]
    image = (machine.tree / "terraform/examples/minimal/image.auto.tfvars").read_text()
    assert image == f'image = "{REPOSITORY}@{DIGEST}"\n'


@pytest.mark.slow
def test_the_way_in_and_out_by_terraform_itself(tmp_path: Path):
    """All that is made goes, but for keys, which are given to KMS to delete."""
    if not TERRAFORM.exists():
        pytest.skip("TERRAFORM NOT CHECKED: it is not beside this repository")
    machine = Machine(tmp_path, TERRAFORM_CALL.format(TERRAFORM))
    variables = {
        "TF_OFFLINE_WORK": str(tmp_path / "work"),
        "TF_IN_AUTOMATION": "1",
        "TF_CLI_ARGS_init": "-backend=false",
    }
    variables |= {f"TF_CLI_ARGS_{verb}": "-auto-approve -input=false" for verb in ("apply", "destroy")}
    buckets = ("example-documents-hot", "example-ledger")
    for bucket in buckets:
        (tmp_path / f"calls.{bucket}").write_text('{"Objects": [{"Key": "k", "VersionId": "v"}]}')
        (tmp_path / f"calls.{bucket}.next").write_text('{"Objects": []}')
    machine.play(commands("In"), **variables)
    made = machine.play(
        "terraform -chdir=terraform/examples/minimal state list > made; cat made >> $CALLS", **variables
    )
    assert 'module.sealift.aws_s3_bucket_notification.source["example-documents"]' in made
    calls = machine.play(commands("Out"), **variables)
    for bucket in buckets:
        assert len([line for line in calls if "delete-objects" in line and bucket in line]) == 1
    [deleted] = [line for line in calls if "schedule-key-deletion" in line]
    assert "--region eu-central-1 --key-id arn:aws:kms:eu-central-1:" in deleted
    for root in ("examples/minimal", "repository"):
        assert machine.play(f"terraform -chdir=terraform/{root} state list > left", **variables)
        assert (machine.tree / "left").read_text() == ""


def test_versions_are_listed_as_they_are_deleted():
    """S3's answer, by the expression of the page."""
    [expression] = re.findall(r"--query '({Quiet.*?)'", commands("Out"))
    entry = {"Key": "k", "VersionId": "v", "Size": 1}
    found = jmespath.search(expression, {"Versions": [entry], "DeleteMarkers": None})
    assert found == {"Quiet": True, "Objects": [{"Key": "k", "VersionId": "v"}]}
