"""podman with all that it keeps in one folder, an image of this repository in it, and Batch's children as containers.

    with podman_in(folder) as podman:
        image = build_image(podman, build_base(podman))
        runner = PodmanRunner(podman, environment, logs)

Imports nothing of pytest, so that the benchmark can use it too.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.doubles.batch.runners import OUT_OF_MEMORY, Child, Exit

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("podman", "runc", "conmon", "mmdebstrap")
PACKAGES = ("podman", "runc", "crun", "netavark", "nftables", "catatonit", "mmdebstrap")
SUITE = "trixie"
BASE = "localhost/base:test"
VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_BATCH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What the image under test lets jobs bring: its S3 is another one, and there are no roles here."""
_NOT_STARTED = 125, 126, 127
"""What `podman run` itself exits with when there was no container, or nothing in it to run."""
_KILLED = 128 + 9


def missing() -> str:
    """Why there can be no containers here; empty where there can."""
    if os.geteuid():
        return "not root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"no {', '.join(absent)}: apt-get install --no-install-recommends {' '.join(PACKAGES)}" if absent else ""


@dataclass(frozen=True)
class Podman:
    """podman whose images, containers and locks all lie in `folder`. `followers`: who waits for containers to end."""

    folder: Path
    followers: list[threading.Thread] = field(default_factory=list, compare=False)

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
        """End containers, and wait until the last of them is removed."""
        self.run("stop", "--all", "--time", "0")
        for thread in self.followers:
            thread.join()
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


@dataclass
class Container:
    """A child in a container. A thread waits for its end, so that nobody else has to."""

    podman: Podman
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    exit: Exit | None = None

    def __post_init__(self) -> None:
        thread = threading.Thread(target=self._follow, name=self.name, daemon=True)
        self.podman.followers.append(thread)
        thread.start()

    def poll(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self.exit

    def terminate(self, grace_seconds: float) -> None:
        """SIGTERM to the container's first process, as ECS does; SIGKILL after the grace."""
        subprocess.Popen(
            self.podman.command("stop", "--ignore", "--time", str(round(grace_seconds)), self.name),
            env=self.podman.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _follow(self) -> None:
        code = self.process.wait()
        if code in _NOT_STARTED:
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            end = Exit(None, f"CannotStartContainerError: {''.join(last)}"[:255])
        elif code == _KILLED:
            killed = self.podman.run("inspect", "--format", "{{.State.OOMKilled}}", self.name).strip() == "true"
            end = Exit(code, OUT_OF_MEMORY if killed else "")
        else:
            end = Exit(code)
        self.exit = end  # from here on the next child may start, as Batch does not wait for a host to tidy up either
        self.podman.run("rm", "--force", "--ignore", "--volumes", "--time", "0", self.name)


@dataclass
class PodmanRunner:
    """Runs Batch's children as containers: as the image's user, read-only but for the scratch volume, no capability.

    `environment` stands for what the job's role gives a container. `logs` gets a file per log stream (`/` in its
    name becomes `_`).
    """

    podman: Podman
    environment: Mapping[str, str]
    logs: Path
    containers: list[Container] = field(default_factory=list)

    def start(self, child: Child) -> Container:
        """The container; host network, since the S3 server is on loopback."""
        name = f"child-{uuid.uuid4().hex[:12]}"
        variables = {**self.environment, **child.environment}
        command = self.podman.command(
            "run",
            f"--name={name}",
            "--pull=never",
            "--network=host",
            "--read-only",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            "--ulimit=host",
            "--log-driver=none",
            f"--memory={child.memory_mib}m",
            f"--memory-swap={child.memory_mib}m",
            *(f"--env={key}={value}" for key, value in variables.items()),
            child.image,
            *child.command,
        )
        path = self.logs / child.log_stream.replace("/", "_")
        with path.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.podman.folder,  # conmon leaves a file named oom where it was started
                env=self.podman.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        container = Container(self.podman, name, process, path)
        self.containers.append(container)
        return container
