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


def can_fork(extra: Mapping[str, str]) -> bool:
    """Whether a command with these variables of its own does in a fork what it does when it is started."""
    return not any(name.startswith(PYTHONS_OWN) for name in extra)


def run_command(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Run `sealift` with these arguments → (exit code, stdout, stderr). Raises TimeoutError after `SECONDS`."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(list(LOADED))
    with tempfile.TemporaryDirectory(prefix="sealift-command-") as folder:
        streams = (Path(folder) / "stdout", Path(folder) / "stderr")
        target = (tuple(arguments), dict(environment), os.getcwd(), tuple(map(str, streams)))
        process = forks.Process(target=_become, args=target)
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"sealift {' '.join(arguments)}: it runs longer than {SECONDS} s")
        stdout, stderr = (stream.read_text() for stream in streams)
        return process.exitcode, stdout, stderr


def _become(arguments: Sequence[str], environment: Mapping[str, str], folder: str, streams: Sequence[str]) -> None:
    """What `python -m jobs` with these arguments is, in this process."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(streams, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115  they are the process's own
    import jobs.cli

    sys.argv = [jobs.cli.__file__, *arguments]
    jobs.cli.main()
