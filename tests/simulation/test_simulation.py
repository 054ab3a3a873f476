"""The promises under hundreds of schedules, and that the simulator would notice if one did not hold."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.breaks import BREAKS, Break, find
from tests.simulation.campaign import run_campaign, shrink
from tests.simulation.engine.loop import LABEL, Loop, Mortal, Stuck
from tests.simulation.oracle import PROMISES, TWO_CLOCKS_SECONDS
from tests.simulation.play import Play, play
from tests.simulation.schedule import COPIES, DESTINATION, SOURCE, Kind, Verb, make_schedule

SEEDS, PARTS = 50, 2
"""`make simulate` plays more."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("part", range(PARTS))
def test_no_promise_is_broken(part: int) -> None:
    tally = run_campaign(1 + part * SEEDS // PARTS, SEEDS // PARTS, 1)
    assert tally.violations == []
    assert set(tally.faults) <= {kind.value for kind in Kind}
    assert tally.verbs.keys() >= {Verb.REPLICATE, Verb.VERIFY, Verb.COMPACT, Verb.EXPIRE, "events"}
    assert {"put PreconditionFailed", "copy PreconditionFailed"} <= set(tally.answers)
    assert {"expire done md5_etag", "replicate done md5_etag", "compact done checksum"} <= set(tally.outcomes)


@pytest.mark.slow
def test_everything_that_can_happen_does() -> None:
    tally = run_campaign(10_001, 400, 1)
    assert tally.violations == []
    assert set(tally.faults) == {kind.value for kind in Kind}
    assert set(tally.outcomes) >= {
        "replicate done md5_etag", "replicate done checksum", "replicate same md5_etag",
        "replicate same checksum", "replicate same content", "replicate done none", "replicate changed none",
        "replicate missing none", "replicate blocked none", "verify verified content", "verify verified checksum",
        "verify verified md5_etag", "verify different content", "verify different checksum", "verify missing none",
        "compact done checksum", "compact done md5_etag", "expire done md5_etag", "expire done content",
        "expire blocked none", "expire left none", "restore done checksum", "restore same checksum",
    }  # fmt: skip
    assert tally.full >= 1


def test_the_real_planner_fold_and_page_keep_the_promises() -> None:
    assert play(make_schedule(7, is_full=True)).oracle.violations == []


def test_a_row_that_names_a_delete_marker_is_done_by_one_that_its_run_made() -> None:
    """The backlog names a marker as it names an object: no manifest of the backlog says which it is."""
    oracle = play(make_schedule(2_198_805)).oracle
    [(run, row)] = [(run, row) for run in oracle.runs.values() for row in run.rows if row.reason == "deleted"]
    oracle.places[DESTINATION, COPIES + row.key].clear()
    assert (oracle.violations, oracle.falsehood(run, row)) == ([], "this run made no delete marker")


def test_a_seed_gives_the_same_trace_in_any_process() -> None:
    def replay(seed: int, hash_seed: str) -> bytes:
        command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True).stdout

    here = play(make_schedule(16)).world.trace_text().encode()
    assert len(here.splitlines()) > 40
    assert replay(16, "1") == here
    assert play(make_schedule(17)).world.trace_text().encode() != here


def test_other_metadata_are_due_when_the_source_is_newer_by_two_clocks() -> None:
    """Without versions, a streamed copy of equal bytes stays until the source is newer by more than they may differ."""
    oracle = play(make_schedule(2_548_671)).oracle
    assert oracle.violations == []
    original, copy = oracle.world.top(SOURCE, "b//c"), oracle.world.top(DESTINATION, COPIES + "b//c")
    assert original is not None
    assert copy is not None
    again, proof = [*oracle.runs.values()][-2:]
    copy.last_modified = original.last_modified - TWO_CLOCKS_SECONDS - 1
    oracle.check_settled(again, again, proof, 0)
    assert [promise for promise, _ in oracle.violations] == ["honest", "honest"]


def test_each_promise_has_a_break_that_shows_it() -> None:
    assert {each.promise for each in BREAKS} >= PROMISES.keys() - {"no bug"}


@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_a_break_is_found_by_the_promise_that_it_breaks(broken: Break) -> None:
    assert find(broken) is not None


def test_a_violation_becomes_as_short_as_it_gets() -> None:
    broken = next(each for each in BREAKS if each.name == "a short listing")

    def play_broken(schedule: object) -> Play:
        return Play(schedule, broken.store, broken.program).play()  # type: ignore[arg-type]

    for schedule in broken.schedules():
        if len(schedule.faults) > 2 and broken.promise in dict(play_broken(schedule).oracle.violations):
            break
    small = shrink(schedule, broken.promise, play_broken)
    assert broken.promise in dict(play_broken(small).oracle.violations)
    assert small.faults == ()
    assert len(small.acts) == 1


def test_the_dead_take_no_step_and_run_no_cleanup() -> None:
    done: list[str] = []

    class Process(Mortal):
        pass

    process = Process()

    async def work() -> None:
        try:
            done.append("began")
            await asyncio.sleep(1)
            done.append("went on")
        finally:
            if not loop.is_over:
                done.append("cleaned up")

    async def main() -> None:
        LABEL.set(process)
        task = asyncio.ensure_future(work())
        LABEL.set(None)
        await asyncio.sleep(0.5)
        process.is_dead = True
        await asyncio.sleep(5)
        assert not task.done()

    loop = Loop(None)
    loop.run(main())
    assert done == ["began"]


def test_time_is_a_number_and_waiting_for_nothing_is_noticed() -> None:
    async def sleep() -> float:
        await asyncio.sleep(86_400)
        return await asyncio.to_thread(lambda: asyncio.get_running_loop().time())

    async def wait() -> None:
        await asyncio.Event().wait()

    assert Loop(None).run(sleep()) == 86_400
    with pytest.raises(Stuck, match="nothing will come"):
        Loop(None).run(wait())


def test_the_seed_picks_the_order_of_what_is_ready() -> None:
    async def order() -> list[int]:
        seen: list[int] = []

        async def step(number: int) -> None:
            seen.append(number)

        await asyncio.gather(*map(step, range(5)))
        return seen

    assert Loop(None).run(order()) == [0, 1, 2, 3, 4]
    orders = [tuple(Loop(seed).run(order())) for seed in range(200)]
    assert orders == [tuple(Loop(seed).run(order())) for seed in range(200)]
    assert len(set(orders)) > 60  # of 120
