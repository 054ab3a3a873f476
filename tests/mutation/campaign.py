"""A campaign: mutants are played in copies of the checkout, a bounded number of them at once.

The process imports the libraries once, and forks for each mutant, so that a mutant costs no more
than its tests. A copy is never the checkout: what a mutant does to files, it does to its copy.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing import connection, get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutation.mutants import Mutant
from tests.mutation.nearest import nearest

LIBRARIES = "pytest hypothesis pyarrow.parquet pyarrow.orc duckdb msgspec zstandard boto3 click rich yaml jinja2"
OWN = ("jobs", "scheduler", "tests")
LEAST_SECONDS = 30.0
TIMES = 5
"""A mutant may take as long as the tests took without it, so many times. Then it is an endless loop."""
MEMORY_BYTES = 8 << 30
NO_TESTS = 5
"""An exit code of pytest."""


class End(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    ENDLESS = "ran into the time limit"
    UNTESTED = "without a test"


@dataclass(frozen=True)
class Result:
    """A mutant and its end."""

    mutant: Mutant
    end: End


class BrokenTests(Exception):
    """Tests that fail without any mutant."""


@dataclass
class _Turn:
    """A mutant in its copy: which tests are played, and until when."""

    mutant: Mutant
    copy: Path
    rounds: list[list[str]]
    process: ForkProcess
    deadline: float


@dataclass
class Campaign:
    """The mutants of one checkout. `hear` gets each result when it is there."""

    root: Path
    hear: Callable[[Result], None]
    processes: int = 2
    is_wide: bool = False
    """Play the tests of neighbours and users as well, if the nearest tests notice nothing."""
    least_seconds: float = LEAST_SECONDS
    seconds: float = math.inf
    """No mutant begins later than that. Those that are left have no result."""
    _seconds: dict[str, float] = field(default_factory=dict)
    """How long the tests of a file list take, without a mutant."""

    def play(self, mutants: Iterable[Mutant]) -> list[Result]:
        """Each mutant's end. Raises BrokenTests if a test fails without one."""
        waiting, ends_at = list(mutants), time.monotonic() + self.seconds
        near = {path: self._rounds(path) for path in dict.fromkeys(each.path for each in waiting)}
        preload()
        results: list[Result] = []
        with TemporaryDirectory(prefix="mutants-") as folder:
            copies = [Path(folder) / str(number) for number in range(self.processes)]
            copy_checkout(self.root, copies[0])
            self._measure(copies[0], near.values())
            for copy in copies[1:]:
                shutil.copytree(copies[0], copy)
            turns: list[_Turn] = []
            try:
                while waiting or turns:
                    if time.monotonic() >= ends_at:
                        waiting.clear()
                    while waiting and copies:
                        mutant = waiting.pop(0)
                        if near[mutant.path]:
                            turns.append(self._begin(mutant, copies.pop(), near[mutant.path]))
                        else:
                            results.append(self._heard(Result(mutant, End.UNTESTED)))
                    for turn, end in self._wait(turns) if turns else ():
                        turns.remove(turn)
                        if end is End.SURVIVED and turn.rounds:
                            turns.append(self._begin(turn.mutant, turn.copy, turn.rounds))
                            continue
                        restore(self.root, turn.copy, turn.mutant.path)
                        copies.append(turn.copy)
                        results.append(self._heard(Result(turn.mutant, end)))
            finally:
                for turn in turns:
                    kill(turn.process)
        return results

    def _heard(self, result: Result) -> Result:
        self.hear(result)
        return result

    def _rounds(self, path: str) -> list[list[str]]:
        """The tests that are played one list after the other, until one notices the mutant."""
        tests = nearest(self.root, path)
        return [files for files in (tests if self.is_wide else tests[:1]) if files]

    def _measure(self, copy: Path, near: Iterable[list[list[str]]]) -> None:
        """Play the tests without a mutant, which also has their bytecode written."""
        for tests in (tests for rounds in near for tests in rounds):
            name = "\n".join(tests)
            if name not in self._seconds:
                began = time.monotonic()
                process = start(copy, tests, is_bytecode_kept=True)
                process.join()
                if process.exitcode not in (0, NO_TESTS):
                    raise BrokenTests(f"without a mutant, these fail: {' '.join(tests)}\n{output(copy)}")
                self._seconds[name] = time.monotonic() - began

    def _begin(self, mutant: Mutant, copy: Path, rounds: list[list[str]]) -> _Turn:
        tests, *then = rounds
        (copy / mutant.path).write_text(mutant.source)
        with contextlib.suppress(FileNotFoundError):  # bytecode is compared by size and second alone
            Path(importlib.util.cache_from_source(str(copy / mutant.path))).unlink()
        limit = max(self.least_seconds, TIMES * self._seconds["\n".join(tests)])
        return _Turn(mutant, copy, then, start(copy, tests), time.monotonic() + limit)

    def _wait(self, turns: list[_Turn]) -> Iterator[tuple[_Turn, End]]:
        """Those that have ended, after waiting for at least one, or for a time limit."""
        soonest = min(turn.deadline for turn in turns)
        connection.wait([turn.process.sentinel for turn in turns], max(0.0, soonest - time.monotonic()))
        for turn in list(turns):
            if turn.process.exitcode is not None:
                kill(turn.process)  # what it has started
                survived = turn.process.exitcode in (0, NO_TESTS)
                yield turn, End.SURVIVED if survived else End.KILLED
            elif time.monotonic() >= turn.deadline:
                kill(turn.process)
                yield turn, End.ENDLESS


def preload() -> None:
    """Import the libraries that tests use, before any fork."""
    os.environ["CI"] = "true"  # Hypothesis plays the same examples for each mutant
    for name in LIBRARIES.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def copy_checkout(root: Path, copy: Path) -> None:
    """The files that git tracks or would track, as they are now."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)


def restore(root: Path, copy: Path, path: str) -> None:
    shutil.copy2(root / path, copy / path)


def start(copy: Path, tests: list[str], *, is_bytecode_kept: bool = False) -> ForkProcess:
    """Fork for these tests of a copy."""
    process = get_context("fork").Process(target=_play, args=(copy, tests, is_bytecode_kept))
    process.start()
    return process


def output(copy: Path) -> str:
    return (copy / "output").read_text(errors="replace")[-4_000:]


def kill(process: ForkProcess) -> None:
    """End the process and all that it has started."""
    assert process.pid is not None
    for end in (lambda: os.killpg(process.pid or 0, signal.SIGKILL), process.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end()
    process.join()


def _play(copy: Path, tests: list[str], is_bytecode_kept: bool) -> None:
    """In the fork: nothing of the checkout's own modules is left, so that the copy's are imported."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with (copy / "output").open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
        del sys.modules[name]
    sys.path[0] = str(copy)
    importlib.invalidate_caches()
    os.environ["PYTHONPATH"] = str(copy)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = not is_bytecode_kept
    if not is_bytecode_kept:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    pytest = importlib.import_module("pytest")
    options = ["-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"]
    options += [
        "-p",
        "_hypothesis_pytestplugin",
        "-m",
        "not slow",
        "--rootdir",
        str(copy),
        f"--basetemp={copy}/temporary",
    ]
    code = int(pytest.main([*options, *tests]))
    sys.stdout.flush()
    os._exit(code)
