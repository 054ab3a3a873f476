"""The local executor over small programs in the place of workers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs.runs.local_executor import LocalExecutor, Report, WorkerHere, WorkerProcess
from jobs.runs.worker import Progress

HANGS = """import time; print('[1, 0, 1, 0, 0, ""]', flush=True); time.sleep(60)"""
TAKEN_OVER = "import sys; sys.exit(76)"


ENDED_EARLY = """import sys; print('{"ended_early": "all rows fail"}'); sys.exit(10)"""


def executor(program: str) -> LocalExecutor:
    return LocalExecutor(lambda shard: WorkerProcess([sys.executable, "-c", program, str(shard)]), 1)


def test_workers_stop_when_nobody_reads_the_progress() -> None:
    def unread(progress: Mapping[int, Any]) -> None:
        raise BrokenPipeError

    made = executor(HANGS)
    made.on_progress = unread
    codes = made.run([0, 1, 2])
    assert codes == {0: 75, 1: 75, 2: 75}  # the others were not started


def test_a_command_whose_run_was_taken_over_starts_no_more_workers() -> None:
    assert executor(TAKEN_OVER).run([0, 1, 2]) == {0: 76, 1: 75, 2: 75}


def test_a_worker_whose_rows_all_fail_ends_the_others() -> None:
    assert executor(ENDED_EARLY).run([0, 1, 2]) == {0: 10, 1: 75, 2: 75}


# The signal may come within the first write: a buffered stream does not let itself be entered twice.
BREAKS = """import os, signal, sys, time
def end(number, frame):
    time.sleep(0.5)
    os.write(1, b"[1, 0, 1, 0]" * 20_000)
    open(f"{sys.argv[2]}/ended-{sys.argv[1]}", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
open(f"{sys.argv[2]}/began-{sys.argv[1]}", "w").close()
os.write(1, b"[broken\\n" if sys.argv[1] == "0" else b"\\n")
time.sleep(60)
"""


def test_an_error_in_one_slot_ends_every_worker_before_it_is_raised(tmp_path: Path) -> None:
    """Also its own, which may have more to say than a pipe holds."""
    made = LocalExecutor(lambda shard: WorkerProcess([sys.executable, "-c", BREAKS, str(shard), str(tmp_path)]), 3)
    with pytest.raises(json.JSONDecodeError):
        made.run([0, 1, 2, 3, 4, 5])
    began = {path.name.removeprefix("began-") for path in tmp_path.glob("began-*")}
    ended = {path.name.removeprefix("ended-") for path in tmp_path.glob("ended-*")}
    assert "0" in began
    assert began == ended
    assert not began & {"4", "5"}


def test_a_machine_without_semaphores_is_named_where_workers_run_one_by_one() -> None:
    program = (
        "import sys; from jobs.runs.local_executor import LocalExecutor, WorkerProcess; "
        "print(LocalExecutor(lambda shard: WorkerProcess([sys.executable, '-c', '']), 2).run([0, 1]))"
    )
    environment = os.environ | {"JOBLIB_MULTIPROCESSING": "0"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "{0: 0, 1: 0}"
    assert "1 worker runs at once, not 2" in ran.stderr


def test_a_worker_of_this_process_is_tried_three_times() -> None:
    async def scene() -> tuple[dict[int, int], list[int]]:
        loop, tries, shown = asyncio.get_running_loop(), [75, 75, 75, 0], []

        async def work(report: Report) -> int:
            report(Progress(len(tries), 0, 1, 0))
            return tries.pop(0)

        made = LocalExecutor(lambda shard: WorkerHere(loop, work, lambda: None), 1)
        made.on_progress = lambda progress: shown.append(progress[0].rows)
        return await asyncio.to_thread(made.run, [0]), shown

    assert asyncio.run(scene()) == ({0: 75}, [4, 3, 2])


def test_a_worker_of_this_process_stops_when_it_is_asked_and_is_not_started_again() -> None:
    async def scene() -> tuple[dict[int, int], int]:
        loop, stopped, starts = asyncio.get_running_loop(), asyncio.Event(), []

        async def work(report: Report) -> int:
            starts.append(1)
            loop.call_soon(made.stop)
            await stopped.wait()
            return 75

        made = LocalExecutor(lambda shard: WorkerHere(loop, work, stopped.set), 1)
        return await asyncio.to_thread(made.run, [0, 1]), len(starts)

    assert asyncio.run(scene()) == ({0: 75, 1: 75}, 1)
