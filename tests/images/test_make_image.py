"""`make image` wants its base by digest: a tag is another image tomorrow. Nothing is built here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIGEST = f"sha256:{'0a' * 32}"


def make(*variables: str) -> subprocess.CompletedProcess[str]:
    """What `make image` would do."""
    command = ["make", "--dry-run", "--no-print-directory", "image", "ENGINE=podman", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("base", [f"docker.io/library/python@{DIGEST}", f"python:3.13-slim@{DIGEST}"])
def test_a_base_by_digest_is_built_on(base: str) -> None:
    done = make(f"BASE={base}")
    assert done.returncode == 0, done.stderr
    assert f"--build-arg BASE={base} " in done.stdout


@pytest.mark.parametrize(
    "base",
    ["python:3.13-slim", "docker.io/library/python", f"python@{DIGEST[:-1]}", f"@{DIGEST}", f"python@{DIGEST}0"],
)
def test_a_base_that_may_change_is_refused(base: str) -> None:
    done = make(f"BASE={base}")
    assert done.returncode != 0
    assert f"{base} is no digest" in done.stderr
    assert "BASE=name@sha256:<64 hex digits>" in done.stderr


def test_without_a_base_nothing_is_built() -> None:
    done = make()
    assert done.returncode != 0
    assert "no base image: make image BASE=" in done.stderr
    assert "\nARG BASE\n" in (ROOT / "images" / "Dockerfile").read_text()  # nor does `docker build` find one


def test_allow_tag_accepts_a_tag() -> None:
    done = make("BASE=python:3.13-slim", "ALLOW_TAG=1")
    assert done.returncode == 0, done.stderr
    assert "--build-arg BASE=python:3.13-slim " in done.stdout


ENGINE = """#!/bin/sh
echo "$@" >> "{calls}"
case "$*" in *Id*) echo "sha256:$(cat "{image}")" ;; push*) echo sha256:pushed > build/image.digest ;; esac
"""


def test_each_build_of_a_version_has_a_tag_of_its_own(tmp_path: Path) -> None:
    """The repository that Terraform makes never moves a tag: a second push under the first one's would fail."""
    calls, image, engine = (tmp_path / name for name in ("calls", "image", "engine"))
    engine.write_text(ENGINE.format(calls=calls, image=image))
    engine.chmod(0o755)
    tags = []
    for build in ("0a" * 32, "0b" * 32, "0b" * 32):
        image.write_text(build)
        calls.write_text("")
        command = ["make", "--no-print-directory", "image-push", f"ENGINE={engine}", "REPOSITORY=host/name"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (pushed,) = [line.split()[-1] for line in calls.read_text().splitlines() if line.startswith("push ")]
        tags.append(pushed)
    first, second, again = tags
    assert first.endswith("-0a0a0a0a0a0a")
    assert second == again != first
