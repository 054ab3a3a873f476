"""Batch's queue on this machine, with processes that end as they are told."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ExitCode
from jobs.local.batch_queue import AT_ONCE, LocalBatch
from scheduler.batch_starts import ATTEMPTS

WAIT_SECONDS = 30.0
SCRIPT = """
import os, sys, tempfile, time
with open(os.path.join(tempfile.gettempdir(), "left"), "a") as left:
    print(tempfile.mkdtemp(), file=left)
print("told", os.environ["TOLD"], flush=True)
if sys.argv[1] == "killed" and os.environ["TOLD"]:
    os.kill(os.getpid(), 9)
if sys.argv[1] == "sleep":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[LocalBatch]:
    made = LocalBatch(tmp_path, (sys.executable, "-c", SCRIPT))
    yield made
    made.close()


def submit(batch: LocalBatch, name: str, argument: str) -> str:
    given = [{"name": "TOLD", "value": name}]
    request = {"jobName": name, "containerOverrides": {"command": [argument], "environment": given}}
    return batch.submit(request, is_new=True)


def step_until(batch: LocalBatch, holds: Callable[[Sequence[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The ends of the steps until something is so."""
    ended: list[dict[str, Any]] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds(ended):
        assert time.monotonic() < deadline, ended
        ended += batch.step()
        time.sleep(0.01)
    return ended


def test_ends_are_told_as_batch_tells_them_and_the_log_is_kept(batch: LocalBatch, tmp_path: Path) -> None:
    for code in (ExitCode.DONE, ExitCode.FINDINGS, ExitCode.USAGE):
        assert submit(batch, f"job-{code}", str(int(code))) == f"job-{code}"
    ended = step_until(batch, lambda ended: len(ended) == 3)
    details = {each["detail"]["jobName"]: each["detail"] for each in ended}
    told = {name: (each["status"], each["container"]["exitCode"]) for name, each in details.items()}
    assert told == {
        f"job-{ExitCode.DONE}": ("SUCCEEDED", 0),
        f"job-{ExitCode.FINDINGS}": ("FAILED", 3),
        f"job-{ExitCode.USAGE}": ("FAILED", 2),
    }
    assert (tmp_path / f"job-{ExitCode.USAGE}.log").read_text() == f"told job-{ExitCode.USAGE}\n"
    assert batch.unfinished == 0


@pytest.mark.parametrize(("argument", "code"), [("75", 75), ("killed", -9)])
def test_what_may_pass_is_tried_again_so_often(batch: LocalBatch, tmp_path: Path, argument: str, code: int) -> None:
    submit(batch, "again", argument)
    (ended,) = step_until(batch, lambda ended: len(ended) == 1)
    assert (ended["detail"]["status"], ended["detail"]["container"]["exitCode"]) == ("FAILED", code)
    assert (tmp_path / "again.log").read_text() == "told again\n" * ATTEMPTS


def test_so_many_run_at_once_none_twice_and_the_rest_waits(batch: LocalBatch, tmp_path: Path) -> None:
    for name in ("a", "b", "c", "a"):
        submit(batch, name, "sleep")
    assert batch.unfinished == 3
    step_until(batch, lambda _: sum(each.stat().st_size > 0 for each in tmp_path.glob("*.log")) == AT_ONCE)
    assert sorted(each.name for each in tmp_path.glob("*.log")) == ["a.log", "b.log"]
    left = [Path(line) for line in (tmp_path / "scratch" / "left").read_text().splitlines()]
    assert len(left) == AT_ONCE
    batch.terminate("c", "not wanted")
    batch.terminate("a", "not wanted")
    (ended,) = step_until(batch, lambda ended: len(ended) == 1)
    assert (ended["detail"]["jobName"], ended["detail"]["status"]) == ("a", "FAILED")
    assert batch.unfinished == 1, "it is not tried again"
    batch.close()
    assert (batch.unfinished, batch.step()) == (0, [])
    assert not any(each.exists() for each in left), "what it had in the folder for temporary files"
