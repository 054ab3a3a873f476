"""The end of a night: one summary, and the page of that one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec import json, structs

from jobs.errors import ExitCode, Interrupted, UsageError
from jobs.nights.summary import Night, Summary, page_of
from tests.nights.night_world import AGE_SECONDS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, "retain", is_versioned=False, has_inventory=False)
    world.put("source", "a", b"one")
    world.copy("a")
    return world


def test_the_page_is_of_the_summary_that_came_first(world: World) -> None:
    """A start that was killed, or a second one, left "All is well" beside a summary with findings."""
    first, write = list[Summary](), Night.write

    async def write_behind(night: Night, suffix: str, data: bytes, *attributes: Any) -> None:
        if suffix == ".json":
            first.append(structs.replace(json.decode(data, type=Summary), exit_code=3))
            await write(night, suffix, json.encode(first[0]))
        await write(night, suffix, data, *attributes)

    with patch.object(Night, "write", write_behind):
        summary = world.start()
    assert summary["exit_code"] == 3
    pages = world.store._buckets.named["ledger"].versions
    assert pages[summary["report_html"].removeprefix("s3://ledger/")][-1].data.decode() == page_of(first[0])


def test_a_page_that_a_killed_start_owes_is_written_by_the_next_one(world: World) -> None:
    name = world.start()["report_html"].removeprefix("s3://ledger/")
    pages = world.store._buckets.named["ledger"].versions
    page = pages.pop(name)[-1].data
    assert world.start()["ran_before"]
    assert pages[name][-1].data == page


def test_a_night_whose_run_has_rows_left_stops_with_its_code_and_goes_on(world: World) -> None:
    async def broken(*_: Any) -> dict[int, int]:
        return {0: int(ExitCode.CONFIG)}

    world.now += AGE_SECONDS
    with patch.object(world, "_execute", broken), pytest.raises(Interrupted, match="has rows left") as stopped:
        world.start()
    assert stopped.value.exit_code == ExitCode.CONFIG
    assert "--night" in (stopped.value.advice or ""), "by then another night may be the latest one"
    summary = world.start()
    assert (summary["ran_before"], summary["exit_code"]) == (False, 0)


def test_a_night_that_has_not_begun_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match="has not begun"):
        world.start("--night", "2099-01-01")


def test_a_side_that_was_listed_is_not_listed_again_for_a_report_that_is_only_a_part(tmp_path: Path) -> None:
    """Both listings were of one minute, which a report is named by: the night ended with an error, each time."""
    world = World(tmp_path, "retain", is_versioned=False, has_inventory=True)
    world.put("source", "a", b"one")
    world.deliver("source", set(), "Parquet", versions=False)
    delivered, world.now = world.now, world.now - 5_000
    world.put("source", "b", b"two")
    world.now = delivered
    for key in ("a", "b"):
        world.copy(key)
    started = world.now
    with patch.object(world, "own_clock", lambda: started + 60):
        summary = world.start()
    assert summary["stages"][0]["rows"] == 2
