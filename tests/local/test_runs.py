"""Runs of the backlog on this machine, with processes that end as they are told."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.errors import ExitCode
from jobs.local.runs import ATTEMPTS, LocalRuns
from scheduler.runtime import Runtime

WAIT_SECONDS = 30.0
SCRIPT = """
import os, sys, tempfile, time
print("began", flush=True)
with open(os.path.join(tempfile.gettempdir(), "left"), "a") as left:
    print(tempfile.mkdtemp(), file=left)
if sys.argv[1] == "sleep":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


class NoBacklog:
    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        work.close()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[LocalRuns]:
    made = LocalRuns(cast("Runtime", NoBacklog()), tmp_path, (sys.executable, "-c", SCRIPT))
    yield made
    made.close()


def submit(runs: LocalRuns, name: str, argument: str) -> None:
    request = {"jobName": name, "containerOverrides": {"command": [argument]}}
    assert runs.submit(request, is_new=True) == name


def step_until(runs: LocalRuns, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        runs.step()
        time.sleep(0.01)


def test_runs_follow_each_other_and_their_ends_are_told(runs: LocalRuns, tmp_path: Path) -> None:
    for name, code in (("first", ExitCode.DONE), ("second", ExitCode.FINDINGS), ("first", ExitCode.DONE)):
        submit(runs, name, str(int(code)))
    assert len(runs.unfinished) == 2
    step_until(runs, lambda: not runs.unfinished)
    assert list(runs.messages) == ["first: done", "second: exit code 3"]
    assert (tmp_path / "first.log").read_text() == "began\n"


def test_a_transient_end_is_tried_again_so_often(runs: LocalRuns, tmp_path: Path) -> None:
    submit(runs, "again", str(int(ExitCode.TRANSIENT)))
    step_until(runs, lambda: not runs.unfinished)
    assert list(runs.messages) == ["again: exit code 75"]
    assert (tmp_path / "again.log").read_text() == "began\n" * ATTEMPTS


def test_the_end_takes_the_running_one_and_its_temporary_files(runs: LocalRuns, tmp_path: Path) -> None:
    submit(runs, "long", "sleep")
    step_until(runs, lambda: (tmp_path / "scratch" / "left").exists())
    runs.close()
    assert not (tmp_path / "scratch").exists()
