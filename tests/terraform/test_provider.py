"""The provider: one version, and where its hashes are kept, hashes of every platform."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.terraform.world import MODULE, ROOT

LOCK = MODULE / ".terraform.lock.hcl"
PLATFORMS = {"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"}


def pinned() -> str:
    (version,) = re.findall(r'source  = "hashicorp/aws"\n +version = "([^"]+)"', (MODULE / "versions.tf").read_text())
    return version


def test_one_version_is_named():
    assert re.fullmatch(r"\d+\.\d+\.\d+", pinned())


def test_hashes_are_asked_for_every_platform():
    command = ["make", "--dry-run", "--no-print-directory", "terraform-lock"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "terraform -chdir=terraform providers lock" in said
    assert set(re.findall(r"-platform=(\w+)", said)) == PLATFORMS


def test_a_lock_file_would_be_kept():
    """git does not ignore it."""
    done = subprocess.run(["git", "check-ignore", "--quiet", str(LOCK)], cwd=ROOT, check=False)
    assert done.returncode == 1


def test_the_lock_file_has_that_version_and_every_platforms_hash():
    if not LOCK.exists():
        pytest.skip("PROVIDER NOT LOCKED: run `make terraform-lock` where the provider's registry is in reach")
    text = LOCK.read_text()
    assert re.findall(r'version += "([^"]+)"', text) == [pinned()]
    assert len(re.findall(r'"h1:[^"]+"', text)) == len(PLATFORMS)
