"""`make image` builds on a digest: a tag is another image tomorrow. Nothing is built here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIGEST = f"sha256:{'0a' * 32}"
BUILDER = f"""#!/bin/sh
echo "$@" >> "{{calls}}"
case "$*" in *RepoDigests*) echo "docker.io/library/python@{DIGEST}" ;; esac
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    program = tmp_path / "engine"
    program.write_text(BUILDER.format(calls=tmp_path / "calls"))
    program.chmod(0o755)
    return program


def make(engine: Path, *variables: str) -> tuple[list[str], str]:
    """The commands of `make image`, and its last line."""
    command = ["make", "--no-print-directory", "image", f"ENGINE={engine}", *variables]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (engine.parent / "calls").read_text().splitlines(), done.stdout.splitlines()[-1]


def test_a_base_by_digest_is_built_on(engine: Path) -> None:
    [build], last = make(engine, f"BASE=python:3.13-slim@{DIGEST}")
    assert f"--build-arg BASE=python:3.13-slim@{DIGEST} " in build
    assert last == f"built on python:3.13-slim@{DIGEST}"


@pytest.mark.parametrize(
    ("variables", "tag"), [((), "docker.io/library/python:3.13-slim"), (("BASE=example/python:1",), "example/python:1")]
)
def test_a_tag_is_asked_of_its_registry_and_built_on_by_its_digest(
    engine: Path, variables: tuple[str, ...], tag: str
) -> None:
    [pull, _, build], last = make(engine, "PLATFORM=linux/arm64", *variables)
    assert pull == f"pull --quiet --platform linux/arm64 {tag}"
    assert f"--build-arg BASE=docker.io/library/python@{DIGEST} " in build
    assert last == f"built on docker.io/library/python@{DIGEST}"
    assert "\nARG BASE\n" in (ROOT / "images" / "Dockerfile").read_text()  # `docker build` alone finds none


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
