"""The command in a fork of a process that has the program's modules, for tests that run hundreds of commands.

Loading them is four fifths of what a small run costs. The fork is a process of its own, with its own environment and
streams, and ends as the command does. `World.start` and the workers are started as users start them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOADED = (
    "jobs.cli.replicate",
    "jobs.runs.planning",
    "jobs.runs.folding",
    "jobs.runs.local_executor",
    "jobs.reports.html.page",
    "jobs.s3.rest_store",
    "botocore.session",
    "joblib",
    "rich.console",
)
"""What nearly every command loads. Its other modules it loads itself, as always."""
PYTHONS_OWN = ("LANG", "LC_", "LD_", "MALLOC_", "PYTHON")
"""Variables, or how they begin, that count only at the start of a program."""
SECONDS = 120
UNREAD, CLOSED = "unread", "closed"
"""A pipe whose reader is gone, and a stream that the caller has closed, in place of a file's name."""


def can_fork(extra: Mapping[str, str]) -> bool:
    """Whether a command with these variables of its own does in a fork what it does when it is started."""
    return not any(name.startswith(PYTHONS_OWN) for name in extra)


def run_command(
    arguments: Sequence[str], environment: Mapping[str, str], *, stdout: str | None = None, stderr: str | None = None
) -> tuple[int, str, str]:
    """Run `sealift` with these arguments → (exit code, stdout, stderr). Raises TimeoutError after `SECONDS`.

    `stdout` and `stderr`: another place for a stream, a file's name, `UNREAD` or `CLOSED`. It then comes back empty.
    """
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(list(LOADED))
    with tempfile.TemporaryDirectory(prefix="sealift-command-") as folder:
        streams = (Path(folder) / "stdout", Path(folder) / "stderr")
        names = tuple(given or str(stream) for given, stream in zip((stdout, stderr), streams, strict=True))
        target = (tuple(arguments), dict(environment), os.getcwd(), names)
        process = forks.Process(target=_become, args=target)
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"sealift {' '.join(arguments)}: it runs longer than {SECONDS} s")
        answer, said = (stream.read_text() if stream.exists() else "" for stream in streams)
        return process.exitcode, answer, said


def _become(arguments: Sequence[str], environment: Mapping[str, str], folder: str, streams: Sequence[str]) -> None:
    """What `python -m jobs` with these arguments is, in this process."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(streams, 1):
        _place(number, name)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115  they are the process's own
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]  # mypy calls them final, and the fork has streams of its own
    for number, name in enumerate(streams, 1):
        if name == CLOSED:  # as Python finds it
            os.close(number)
            setattr(sys, ("stdout", "stderr")[number - 1], None)
    import jobs.cli

    sys.argv = [jobs.cli.__file__, *arguments]
    jobs.cli.main()


def _place(number: int, name: str) -> None:
    """Let a descriptor be the stream of this name."""
    if name == UNREAD:
        reader, writer = os.pipe()
        os.dup2(writer, number)
        os.close(reader)
        os.close(writer)
    else:
        os.dup2(os.open(os.devnull if name == CLOSED else name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
