"""The local executor over small programs in the place of workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from jobs.runs.local_executor import LocalExecutor

HANGS = "import time; print('[1, 0, 1, 0]', flush=True); time.sleep(60)"
SUPERSEDED = """import sys; print('{"superseded_by": "another command"}'); sys.exit(75)"""


def executor(program: str) -> LocalExecutor:
    return LocalExecutor(lambda shard: [sys.executable, "-c", program, str(shard)], 1)


def test_workers_stop_when_nobody_reads_the_progress() -> None:
    def unread(progress: Mapping[int, Any]) -> None:
        raise BrokenPipeError

    made = executor(HANGS)
    made.on_progress = unread
    codes = made.run([0, 1, 2])
    assert codes == {0: 75, 1: 75, 2: 75}  # the others were not started


def test_a_launch_that_is_superseded_starts_no_more_workers_and_says_so_once() -> None:
    heard: list[str] = []
    made = executor(SUPERSEDED)
    made.on_superseded = heard.append
    assert made.run([0, 1, 2]) == {0: 75, 1: 75, 2: 75}
    assert heard == ["another command"]


BREAKS = "import sys, time; print('[broken' if sys.argv[1] == '0' else '', flush=True); time.sleep(60)"


def test_an_error_in_one_slot_ends_every_worker_before_it_is_raised() -> None:
    started: list[int] = []

    def command(shard: int) -> list[str]:
        started.append(shard)
        return [sys.executable, "-c", BREAKS, str(shard)]

    made = LocalExecutor(command, 3)
    with pytest.raises(json.JSONDecodeError):
        made.run([0, 1, 2, 3, 4, 5])
    running = [process for process in made._running.values() if process.poll() is None]
    assert running == []
    assert 3 not in started or 5 not in started


def test_a_machine_without_semaphores_is_named_where_workers_run_one_by_one() -> None:
    program = (
        "import sys; from jobs.runs.local_executor import LocalExecutor; "
        "print(LocalExecutor(lambda shard: [sys.executable, '-c', ''], 2).run([0, 1]))"
    )
    environment = os.environ | {"JOBLIB_MULTIPROCESSING": "0"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "{0: 0, 1: 0}"
    assert "1 worker runs at once, not 2" in ran.stderr
