"""What tests of several commands do and look at."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.end_to_end.conftest import World

NOW = ["--margin", "0s"]
"""Objects of this very second are judged, too."""


def settle() -> None:
    """The next listing begins in a later second than what was just written."""
    now = time.time()
    while time.time() < int(now) + 1.05:
        time.sleep(0.05)


def fill(world: World, rows: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: world.put(f"k{number:05d}", b"x"), range(rows)))


def workers_of(parent: subprocess.Popen[str]) -> list[int]:
    """The process ids of the parent's workers."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            stat = (folder / "stat").read_text() if folder.name.isdigit() else ""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if stat and int(stat.rpartition(")")[2].split()[1]) == parent.pid:
            found.append(int(folder.name))
    return found


def kill(process: subprocess.Popen[str], *, workers: bool = True) -> list[int]:
    """Kill the command, and its workers; their process ids."""
    found = workers_of(process)
    for pid in (process.pid, *(found if workers else [])):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    return found


def copied(world: World) -> int:
    return len(world.own_keys(world.destination))


def await_copies(world: World, process: subprocess.Popen[str], at_least: int) -> None:
    """Return when the destination has so many objects, or the process has ended."""
    while process.poll() is None and copied(world) < at_least:
        time.sleep(0.05)
