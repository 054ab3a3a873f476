"""What runs a child of a Batch job: the worker as a process here; a container elsewhere, by the same protocol.

running = ProcessRunner().start(child)
while (exit := running.poll()) is None: ...
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
"""The reason that ECS, and so Batch, gives for a container that its memory limit killed."""

_FORKED = multiprocessing.get_context("forkserver")
"""Its one server has loaded the program, which otherwise costs each job more than what the job does."""
_FORKED.set_forkserver_preload(
    [
        *(
            f"jobs.cli.{each}"
            for each in ("worker", "replicate", "verify", "compact", "restore", "expire", "reconcile")
        ),
        *("jobs.cli.nightly", "jobs.cli.runs", "boto3", "duckdb", "pyarrow.compute", "pyarrow.parquet"),
    ]
)


@dataclass(frozen=True)
class Child:
    """One attempt at one child of an array job (or at a plain job), as Batch would start it.

    `command` is what follows the image's entry point; `environment` what Batch adds to the image's own.
    """

    job_id: str
    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    vcpus: float
    memory_mib: int
    log_stream: str


@dataclass(frozen=True)
class Exit:
    """How a child's container ended: its exit code, and the container's reason (`OutOfMemoryError: …`) if there is one.

    A runner that cannot start the container at all answers `code` None with the reason.
    """

    code: int | None
    reason: str = ""


class Running(Protocol):
    """A child that was started."""

    def poll(self) -> Exit | None:
        """How it ended; None while it runs. Never waits."""
        ...

    def terminate(self, grace_seconds: float) -> None:
        """SIGTERM now, SIGKILL after `grace_seconds` if it still runs then. Returns at once."""
        ...


class Runner(Protocol):
    """Starts children."""

    def start(self, child: Child) -> Running:
        """Start it and return at once, whatever happens to it; a failed start is an Exit with `code` None."""
        ...


@dataclass
class Process:
    """A child that is a process of this machine."""

    process: ForkServerProcess
    killed_for: str = ""
    deadline: float = field(default=float("inf"))

    def poll(self) -> Exit | None:
        """Its end; a signal N is exit code 128 + N, as a container runtime says it."""
        code = self.process.exitcode
        if code is None:
            if time.monotonic() >= self.deadline:
                self.process.kill()
            return None
        return Exit(code if code >= 0 else 128 - code, self.killed_for)

    def terminate(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL once the grace is over (`poll` sees to it)."""
        if self.process.exitcode is None:
            self.deadline = min(self.deadline, time.monotonic() + grace_seconds)
            self._send(signal.SIGTERM)

    def pause(self) -> None:
        """Hold it where it is: what is sent to it meanwhile arrives with `resume`."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def kill(self, reason: str) -> None:
        """End it at once, as the kernel does to one that outgrows its memory."""
        self.killed_for = reason
        self.process.kill()

    def _send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


@dataclass
class ProcessRunner:
    """Runs `sealift <command>`: the worker itself, without an image.

    `environment` stands for what the job's role and the image give a container; `logs` is a folder
    that gets a file per log stream (`/` in its name becomes `_`), None drops what children say.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    logs: Path | None = None

    def start(self, child: Child) -> Process:
        """The process, in a session of its own."""
        log = self.logs / child.log_stream.replace("/", "_") if self.logs else Path(os.devnull)
        environment = {**self.environment, **child.environment}
        process = _FORKED.Process(target=_run, args=(child.command, environment, os.getcwd(), str(log)), daemon=True)
        process.start()
        return Process(process)


def _run(command: Sequence[str], environment: Mapping[str, str], folder: str, log: str) -> None:
    """Be the command, as a process that was started for it is."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    nothing, said = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream, file in enumerate((nothing, said, said)):
        os.dup2(file, stream)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.argv = ["sealift", *command]
    from jobs.cli import main

    main()
