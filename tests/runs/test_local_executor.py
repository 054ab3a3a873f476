"""The local executor over small programs in the place of workers, and what is worked at in this process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.runs import local_executor
from jobs.runs.local_executor import WorkerProcesses, WorkHere, run_shards
from jobs.runs.worker import Stops
from tests.doubles.ledgers import make_ledger


def never() -> bool:
    return False


def run(shards: range, at_once: int, *words: str) -> dict[int, int]:
    """Run shards, each by a program that gets its number."""
    workers = WorkerProcesses(lambda shard: [*words, str(shard)])
    return run_shards(workers.attempt, workers, at_once, never, shards)


@pytest.mark.parametrize(
    ("code", "codes"), [(0, [0, 0, 0]), (1, [1, 1, 1]), (75, [75, 75, 75]), (76, [76, 75, 75]), (10, [10, 75, 75])]
)
def test_another_owner_and_a_wrong_configuration_end_all_workers(code: int, codes: list[int]) -> None:
    assert list(run(range(3), 1, "sh", "-c", f"exit {code}").values()) == codes


def test_no_attempt_begins_while_the_ledger_is_silent() -> None:
    """Each of three attempts waited for it by itself."""
    attempts: list[int] = []

    def attempt(shard: int) -> int:
        attempts.append(shard)
        return 75

    assert run_shards(attempt, Stops(), 1, lambda: bool(attempts), [0, 1]) == {0: 75, 1: 75}
    assert attempts == [0]


# The signal may come within the first write: a buffered stream does not let itself be entered twice.
BREAKS = """import os, signal, sys, time
def end(number, frame):
    open(f"FOLDER/ended-{sys.argv[1]}", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
open(f"FOLDER/began-{sys.argv[1]}", "w").close()
while sys.argv[1] == "0" and len(os.listdir("FOLDER")) < 3:
    time.sleep(0.01)
os.write(1, b"{broken\\n" if sys.argv[1] == "0" else b"")
time.sleep(60)
"""


def test_what_a_library_prints_ends_no_worker() -> None:
    assert run(range(1), 1, "sh", "-c", "echo a warning; echo; echo [1]") == {0: 0}


def test_an_error_in_one_slot_ends_every_worker_before_it_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expecting"):
        run(range(6), 3, sys.executable, "-c", BREAKS.replace("FOLDER", str(tmp_path)))
    began, ended = ({path.name[6:] for path in tmp_path.glob(f"{word}-*")} for word in ("began", "ended"))
    assert began == {"0", "1", "2"}
    assert ended >= {"1", "2"}


def test_workers_are_asked_to_stop_once_though_several_of_them_break() -> None:
    """A second signal takes half of its grace from a worker that still writes."""
    both, stopped = threading.Barrier(2), threading.Event()

    class Counted(Stops):
        calls = 0

        def stop(self) -> None:
            self.calls += 1
            super().stop()
            stopped.set()

    def attempt(shard: int) -> int:
        both.wait(30)
        if shard == 1:
            stopped.wait(30)
        return 10

    stops = Counted()
    assert run_shards(attempt, stops, 2, never, [0, 1]) == {0: 10, 1: 10}
    assert stops.calls == 1


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 8])
def test_a_worker_that_is_stopped_while_it_starts_ends_as_interrupted(milliseconds: int) -> None:
    def command(shard: int) -> list[str]:
        if milliseconds:
            threading.Timer(milliseconds / 1000, workers.stop).start()
        else:
            workers.stop()
        return ["sleep", "60"]

    workers = WorkerProcesses(command)
    assert run_shards(workers.attempt, workers, 1, never, [0, 1]) == {0: 75, 1: 75}


class Quiet:
    """A display of which nobody reads anything."""

    say = note = update = staticmethod(lambda *_: None)
    __enter__ = lambda self: self  # noqa: E731
    __exit__ = staticmethod(lambda *_: None)

    def meter(self, title: str, total_rows: int) -> Any:
        return self


async def test_progress_is_looked_at_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    ages: list[float] = []

    def note(age: float, share: float) -> float:
        assert share == local_executor.LEDGER_SHARE
        ages.append(age)
        return 0.0

    async def work_here(owner: int, stops: Stops) -> int:
        while len(ages) < 3:
            await asyncio.sleep(0)
        return 0

    monkeypatch.setattr(local_executor, "watch_seconds", note)
    monkeypatch.setattr(local_executor, "WATCH_SECONDS", 0.0)
    assert await executed(work_here) == {0: 0}
    assert ages == sorted(set(ages))


@pytest.mark.parametrize(
    ("tries", "stops_after", "codes"),
    [([0], 9, [0]), ([75, 0], 9, [75, 0]), ([75] * 5, 9, [75] * 3), ([75] * 5, 1, [75]), ([10, 0], 9, [10])],
)
async def test_a_worker_of_this_process_is_tried_three_times_unless_it_is_stopped(
    tries: list[int], stops_after: int, codes: list[int]
) -> None:
    seen: list[int] = []

    async def work_here(owner: int, stops: Stops) -> int:
        assert owner == 1
        seen.append(tries.pop(0))
        if len(seen) == stops_after:
            os.kill(os.getpid(), signal.SIGTERM)
            while not stops.is_stopped:
                await asyncio.sleep(0)
        return seen[-1]

    assert await executed(work_here) == {0: codes[-1]}
    assert seen == codes
    assert len(asyncio.all_tasks()) == 1


async def executed(work_here: WorkHere) -> dict[int, int]:
    """The exit codes of a run of two rows."""
    spec = RunSpec("run", "verify", 0.0, Side(Location("a")), Side(Location("b")), "")
    plan, display, settings = Plan(2, 2, (ShardSummary(2, 2),)), Quiet(), Settings.from_environment({})
    return await local_executor.execute(spec, plan, make_ledger(), settings, display, work_here)
