"""Runs one command as a whole process and weighs it: wall time, CPU time and peak memory of all it started.

A process of its own (`python measure.py RESULT COMMAND …`) is the measured command's parent. As the subreaper it
also inherits what the command leaves behind, so that no grandchild's CPU seconds are lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TIMEOUT_SECONDS = 1200


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run. `cpu_seconds` is user and system time; `peak_bytes` belongs to the largest process."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    exit_code: int
    output: str
    errors: str


def measure(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Sample:
    """Run `command` in `folder` to its end."""
    with tempfile.TemporaryDirectory() as scratch:
        result, output, errors = (Path(scratch) / name for name in ("result.json", "stdout", "stderr"))
        with output.open("wb") as out, errors.open("wb") as err:
            subprocess.run(
                [sys.executable, __file__, str(result), *command],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=TIMEOUT_SECONDS,
                check=True,
            )
        numbers = json.loads(result.read_text())
        return Sample(**numbers, output=output.read_text(errors="replace"), errors=errors.read_text(errors="replace"))


def main(result: str, command: Sequence[str]) -> None:
    """The measuring parent."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started = time.perf_counter()
    child = subprocess.Popen(command)
    exit_code = child.wait()
    wall_seconds = time.perf_counter() - started
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    numbers = {
        "wall_seconds": wall_seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "exit_code": exit_code,
    }
    Path(result).write_text(json.dumps(numbers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
