"""The local executor over small programs in the place of workers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

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
