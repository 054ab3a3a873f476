"""The provider: which versions, and where its hashes are kept, hashes of every platform."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.terraform.world import MODULE, ROOT

LOCK = MODULE / ".terraform.lock.hcl"
PLATFORMS = {"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"}


def versions(file: Path) -> str:
    (constraint,) = re.findall(r'source  = "hashicorp/aws"\n +version = "([^"]+)"', file.read_text())
    return constraint


def lowest() -> str:
    """The version that the checks know."""
    found = re.fullmatch(r">= (\d+\.\d+\.\d+), < (\d+)\.0\.0", versions(MODULE / "versions.tf"))
    assert found, "a module that others call takes a range, up to the next major version"
    assert int(found[2]) == int(found[1].split(".")[0]) + 1
    return found[1]


@pytest.mark.parametrize("name", ["minimal", "full", "two-accounts", "acceptance"])
def test_a_root_names_the_one_version_that_the_checks_know(name):
    assert versions(MODULE / "examples" / name / "main.tf") == lowest()


def test_hashes_are_asked_for_every_platform():
    command = ["make", "--dry-run", "--no-print-directory", "terraform-lock"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "terraform -chdir=terraform providers lock" in said
    assert set(re.findall(r"-platform=(\w+)", said)) == PLATFORMS


def test_a_lock_file_would_be_kept():
    """git does not ignore it."""
    done = subprocess.run(["git", "check-ignore", "--quiet", str(LOCK)], cwd=ROOT, check=False)
    assert done.returncode == 1


def test_the_lock_file_has_one_of_those_versions_and_every_platforms_hash():
    if not LOCK.exists():
        pytest.skip("PROVIDER NOT LOCKED: run `make terraform-lock` where the provider's registry is in reach")
    text = LOCK.read_text()
    (locked,) = re.findall(r'version += "([^"]+)"', text)
    numbers, least = ([int(number) for number in version.split(".")] for version in (locked, lowest()))
    assert numbers >= least
    assert numbers[0] == least[0]
    assert len(re.findall(r'"h1:[^"]+"', text)) == len(PLATFORMS)
