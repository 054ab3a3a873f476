"""Runs one command as a whole process and weighs it: wall time, CPU time and peak memory of all it started.

A process of its own (`python measure.py RESULT COMMAND …`) is the measured command's parent. As the subreaper it
also inherits what the command leaves behind, so that no grandchild's CPU seconds are lost. The peak of the command's
own children (Sealift's workers) is read from /proc every tenth of a second: the kernel keeps only the overall maximum.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TIMEOUT_SECONDS = float(os.environ.get("LIMIT") or 1200)
"""The longest that one measured run may take."""
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run. `cpu_seconds` is user and system time; `peak_bytes` belongs to the largest process.

    `children_peak_bytes` belongs to the largest process that the command itself started (0: it started none): of
    Sealift a worker, while the command itself plans.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    children_peak_bytes: int
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
    ended = threading.Event()
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(child.pid, ended, peak))
    watcher.start()
    exit_code = child.wait()
    wall_seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    numbers = {
        "wall_seconds": wall_seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "children_peak_bytes": peak[0],
        "exit_code": exit_code,
    }
    Path(result).write_text(json.dumps(numbers))


def _watch(pid: int, ended: threading.Event, peak: list[int]) -> None:
    """Keep in `peak` the highest VmHWM among the children of `pid`, until `ended`.

    A child that has not called exec yet still shows its parent's command line and memory: it is passed over.
    """
    own = Path(f"/proc/{pid}/cmdline")
    threads = Path(f"/proc/{pid}/task")
    while not ended.wait(POLL_SECONDS):
        with contextlib.suppress(OSError):  # a process or thread may end while it is looked at
            for children in threads.glob("*/children"):
                for child in children.read_text().split():
                    if Path(f"/proc/{child}/cmdline").read_bytes() == own.read_bytes():
                        continue
                    status = Path(f"/proc/{child}/status").read_text()
                    if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                        peak[0] = max(peak[0], int(found[1]) * 1024)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
