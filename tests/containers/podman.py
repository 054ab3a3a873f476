"""podman with all that it keeps in one folder, and an image of this repository in it.

with podman_in(folder) as podman:
    image = build_image(podman, build_base(podman))
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("podman", "runc", "conmon", "mmdebstrap")
PACKAGES = ("podman", "runc", "crun", "netavark", "nftables", "catatonit", "mmdebstrap")
SUITE = "trixie"
BASE = "localhost/base:test"
VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What the image under test lets jobs bring: its S3 is another one, and there are no roles here."""


def missing() -> str:
    """Why there can be no containers here; empty where there can."""
    if os.geteuid():
        return "not root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"no {', '.join(absent)}: apt-get install --no-install-recommends {' '.join(PACKAGES)}" if absent else ""


@dataclass(frozen=True)
class Podman:
    """podman that keeps its images, containers and locks in `folder`."""

    folder: Path

    def command(self, *arguments: str) -> list[str]:
        """The command line. runc: it knows how to limit memory where cgroups are still version 1."""
        return [
            "podman",
            f"--root={self.folder}/storage",
            f"--runroot={self.folder}/run",
            f"--tmpdir={self.folder}/tmp",
            "--runtime=runc",
            "--cgroup-manager=cgroupfs",
            "--log-level=error",
            *arguments,
        ]

    def environment(self) -> dict[str, str]:
        """What podman itself is told."""
        return {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}

    def run(self, *arguments: str) -> str:
        """Run it; its stdout. Raises RuntimeError with the end of its stderr."""
        return _checked(self.command(*arguments), self.environment())

    def settle(self) -> None:
        """End containers, and remove the last of them."""
        self.run("stop", "--all", "--time", "0")
        self.run("rm", "--all", "--force", "--volumes", "--time", "0")

    def clear(self) -> None:
        """Remove all. (`podman system reset` would also remove networks outside of the folder.)"""
        subprocess.run(["umount", f"{self.folder}/storage/overlay"], check=False, stderr=subprocess.DEVNULL)
        for name in ("storage", "run", "tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


@contextlib.contextmanager
def podman_in(folder: Path) -> Iterator[Podman]:
    """podman, and nothing left of it afterwards but the folder.

    SEALIFT_CONTAINERS names a folder that is used instead and kept: the next time, the base image is there.
    """
    kept = os.environ.get("SEALIFT_CONTAINERS")
    podman = Podman(Path(kept).absolute() if kept else folder)
    podman.folder.mkdir(parents=True, exist_ok=True)
    try:
        yield podman
    finally:
        podman.settle()
        if not kept:
            podman.clear()


def build_base(podman: Podman) -> str:
    """A Debian with Python, made from Debian's packages, by digest: what `FROM` would otherwise pull."""
    if podman.run("images", "--quiet", BASE):
        return _digest(podman)
    archive = podman.folder / "base.tar"
    packages = "--include=python3-minimal,python3-venv,ca-certificates"
    slim = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    _checked(["mmdebstrap", "--quiet", "--variant=minbase", packages, *slim, SUITE, str(archive)], dict(os.environ))
    podman.run("import", "--quiet", str(archive), BASE)
    archive.unlink()
    return _digest(podman)


def _digest(podman: Podman) -> str:
    digest = podman.run("image", "inspect", "--format", "{{.Digest}}", BASE).strip()
    return f"{BASE.rpartition(':')[0]}@{digest}"


def build_image(podman: Podman, base: str) -> str:
    """`make image` as a user calls it, on `base`; the image's name with its tag."""
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(number)[1] for name, number in limits.items()}
    options = ["--network=host", *(f"--ulimit={name}={limit}:{limit}" for name, limit in hard.items() if limit >= 0)]
    command = ["make", "--no-print-directory", "image", f"BASE={base}", "IMAGE=localhost/sealift"]
    command.append(f"VARIABLES={' '.join(VARIABLES)}")
    _checked(
        [*command, f"ENGINE={' '.join(podman.command())}", f"BUILD_OPTIONS={' '.join(options)}"], podman.environment()
    )
    return podman.run("images", "--format", "{{.Repository}}:{{.Tag}}", "localhost/sealift").split()[0]


def _checked(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
