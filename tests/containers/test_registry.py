"""`make image` and `make image-push`, played with podman against a registry. The build itself is left out."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.containers.podman import ROOT, missing, podman_in
from tests.doubles.registry import registry

ENGINE = """#!/bin/sh
verb=$1; shift
case $verb in
  build) echo "$@" > "{folder}/build"; exec {podman} tag "{base}" localhost/sealift:"$(cat "{folder}/tag")" ;;
  pull | push) exec {podman} $verb --tls-verify=false "$@" ;;
  *) exec {podman} $verb "$@" ;;
esac
"""


def test_a_tag_is_built_on_by_its_digest_and_the_image_is_pushed_by_its_own(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(f"no containers: {why}")
    (tmp_path / "file").write_text("base")
    with tarfile.open(tmp_path / "base.tar", "w") as archive:
        archive.add(tmp_path / "file", "file")
    with registry() as host, podman_in(tmp_path / "podman") as podman:
        base = f"{host}/python:1"
        podman.run("import", str(tmp_path / "base.tar"), base)
        podman.run("push", "--tls-verify=false", base)
        podman.run("rmi", "--all", "--force")
        version = subprocess.run(
            ["sed", "-n", 's/^__version__ = "\\(.*\\)"/\\1/p', "jobs/__init__.py"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        ).stdout.strip()
        (tmp_path / "tag").write_text(version.replace("+", "-"))
        engine = tmp_path / "engine"
        engine.write_text(ENGINE.format(folder=tmp_path, podman=" ".join(podman.command()), base=base))
        engine.chmod(0o755)

        def make(target: str, *variables: str) -> str:
            command = [
                "make",
                "--no-print-directory",
                target,
                f"ENGINE={engine}",
                "IMAGE=localhost/sealift",
                *variables,
            ]
            done = subprocess.run(command, cwd=ROOT, env=podman.environment(), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout.splitlines()[-1]

        built_on = make("image", f"BASE={base}").removeprefix("built on ")
        assert built_on.startswith(f"{host}/python@sha256:")
        assert f"--build-arg BASE={built_on}" in (tmp_path / "build").read_text()
        pushed = make("image-push", f"REPOSITORY={host}/sealift")
        assert pushed.startswith(f"{host}/sealift@sha256:")
        podman.run("rmi", "--all", "--force")
        podman.run("pull", "--tls-verify=false", pushed)
