"""Which night it is, what is due in it, and what is left of it."""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import UsageError
from jobs.nights.calendar import (
    Stage,
    begins_at,
    count_source,
    due,
    due_after,
    find_emptied,
    find_night,
    left_by_reconcile,
    left_by_run,
    left_out,
    parse_night,
)

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]
zones = st.sampled_from(ZONES).map(zoneinfo.ZoneInfo)
moments = st.integers(1_600_000_000, 1_900_000_000).map(float)
minutes = st.integers(0, 24 * 60 - 1)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
days = st.dates(date(2020, 1, 1), date(2040, 1, 1))


@given(keys, days, st.integers(1, 400))
def test_as_many_nights_as_slices_take_each_key_exactly_once(key: str, first: date, of: int) -> None:
    nights = [first + timedelta(days=number) for number in range(of)]
    assert sum(due(night, of).contains(key) for night in nights) == 1


@given(days, st.integers(1, 8), st.lists(st.sampled_from(["complete", "incomplete", "refused", "missed"]), max_size=30))
def test_a_slice_waits_for_a_night_that_completes_it(first: date, of: int, endings: list[str]) -> None:
    """So as many complete nights as slices take every key, whatever lies between them."""
    summaries: list[dict[str, Any]] = []
    complete: list[int] = []
    for number, ending in enumerate([*endings, *["complete"] * of]):
        night = first + timedelta(days=number)
        sample = due_after(night, of, Stage.SAMPLE, summaries)
        done = {"state": None if ending == "refused" else ending, "sample": None if ending == "refused" else [*sample]}
        other = stage("deep") | {"state": "complete", "sample": [0, of]}
        if ending != "missed":
            summaries.insert(0, {"night": night.isoformat(), "stages": [other, stage("sample") | done]})
        if ending in ("complete", "incomplete"):  # and is checked again
            assert due_after(night, of, Stage.SAMPLE, summaries) == sample
        if ending == "complete":
            complete.append(sample.number)
    for at in range(len(complete) - of + 1):
        assert sorted(complete[at : at + of]) == list(range(of))
    later = first + timedelta(days=99)
    assert due_after(later, of + 1, Stage.SAMPLE, summaries) == due(later, of + 1)


def test_a_night_that_is_checked_again_takes_the_slice_of_its_first_time() -> None:
    """So the objects that it found wrong are looked at once more, however often it is checked."""

    def ended(night: str, *sample: int) -> dict[str, Any]:
        return {"night": night, "stages": [stage("deep") | {"state": "complete", "sample": [*sample]}]}

    before, first, second = ended("2026-11-24", 1, 6), ended("2026-11-25", 2, 6), ended("2026-11-25", 2, 6)
    night = date(2026, 11, 25)
    assert due_after(night, 6, Stage.DEEP, [before]) == (2, 6)
    assert due_after(night, 6, Stage.DEEP, [first, before]) == (2, 6)
    assert due_after(night, 6, Stage.DEEP, [second, first, before]) == (2, 6)
    assert due_after(night + timedelta(days=1), 6, Stage.DEEP, [second, first, before]) == (3, 6)
    assert due_after(night, 7, Stage.DEEP, [first, before]) == (2, 6)  # the rota changed
    assert due_after(night, 7, Stage.DEEP, [ended("2026-11-25", 0, 7), first, before]) == (2, 6)
    later = night + timedelta(days=1)
    assert due_after(later, 7, Stage.DEEP, [second, first, before]) == due(later, 7)


@given(moments, minutes, zones)
def test_a_moment_is_in_the_night_that_began_last(now: float, at: int, zone: zoneinfo.ZoneInfo) -> None:
    night = find_night(now, at, zone)
    assert begins_at(night, at, zone) <= now < begins_at(night + timedelta(days=1), at, zone)


@pytest.mark.parametrize(
    ("moment", "hour", "zone", "night"),
    [
        ("2026-11-25T02:00:00+00:00", "02:00", "UTC", "2026-11-25"),
        ("2026-11-25T01:59:59+00:00", "02:00", "UTC", "2026-11-24"),
        ("2026-11-25T14:00:00+00:00", "02:00", "UTC", "2026-11-25"),  # by hand, the next afternoon
        ("2026-11-26T03:30:00+00:00", "22:30", "America/New_York", "2026-11-25"),
        ("2026-11-26T05:10:00+00:00", "22:30", "America/New_York", "2026-11-25"),  # after local midnight
        ("2026-03-29T00:59:00+00:00", "02:30", "Europe/Berlin", "2026-03-28"),
        ("2026-03-29T01:30:00+00:00", "02:30", "Europe/Berlin", "2026-03-29"),  # there is no 02:30, it is 03:30
        ("2026-10-25T00:30:00+00:00", "02:30", "Europe/Berlin", "2026-10-25"),  # the first 02:30 of two
        ("2026-10-25T01:10:00+00:00", "02:30", "Europe/Berlin", "2026-10-25"),  # 02:10 once more
    ],
)
def test_a_night_is_named_after_the_local_day_on_which_it_begins(moment: str, hour: str, zone: str, night: str) -> None:
    at = int(hour[:2]) * 60 + int(hour[3:])
    now = datetime.fromisoformat(moment).timestamp()
    assert find_night(now, at, zoneinfo.ZoneInfo(zone)) == date.fromisoformat(night)


def test_a_night_is_written_as_a_day_and_may_not_be_ahead() -> None:
    latest = date(2026, 11, 25)
    assert parse_night("2026-11-24", latest) == date(2026, 11, 24)
    with pytest.raises(UsageError, match="has not begun"):
        parse_night("2026-11-26", latest)
    for text in ("tonight", "26-11-25", "2026-02-30", ""):
        with pytest.raises(UsageError, match="YYYY-MM-DD"):
            parse_night(text, latest)


@pytest.mark.parametrize(
    ("repairable", "keeps_extra", "left"), [(5, True, 0), (5, False, 5), (0, True, 5), (1, True, 4), (0, False, 10)]
)
def test_what_a_reconciliation_leaves_to_people(repairable: int, keeps_extra: bool, left: int) -> None:
    found = {"same": 90, "missing": 2, "stale": 1, "different": 2, "extra": 5, "in flight": 7}
    assert left_by_reconcile(found, 10, repairable=repairable, keeps_extra=keeps_extra) == left


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_of_the_rows_that_a_run_was_given_each_is_planned_a_duplicate_or_left_out(
    taken: int, duplicates: int, rest: int
) -> None:
    assert left_out(taken + duplicates + rest, taken, duplicates) == rest
    assert left_out(taken, taken + rest, duplicates) == 0


def test_a_source_that_moves_on_while_it_is_verified_is_nobodys_affair_but_a_repair_that_fails_is() -> None:
    outcomes = {"verified": 5, "done": 2, "changed": 3, "different": 1}
    assert left_by_run(Stage.VERIFY, outcomes) == 1
    assert left_by_run(Stage.REPAIR, outcomes) == 4


def stage(
    name: str, left: int = 0, refused: str | None = None, run_id: str | None = "r", **counts: int
) -> dict[str, Any]:
    return {"stage": name, "left": left, "refused": refused, "run_id": run_id, "counts": counts}


def test_a_source_that_had_objects_last_night_and_has_none_now_was_emptied_until_it_has_some() -> None:
    had = [stage("reconcile", same=3, missing=1, extra=9, excluded=2), stage("sample")]
    emptied = {"night": "2026-11-24", "objects": 4, "at": "then"}
    gone = {"counts": {"extra": 13, "excluded": 2}}
    found = {"same": 3, "in flight": 1, "unverifiable": 1, "extra": 9, "excluded": 2}
    young = {"counts": {"extra": 12, "in flight": 1}, "notes": {"source_objects": 0}}
    assert count_source({"counts": found}) == 5
    assert count_source({"counts": found, "notes": {"source_objects": 4}}) == 4
    first = {"night": "2026-11-24", "finished_at": "then", "stages": had}
    second = {
        "night": "2026-11-25",
        "finished_at": "then",
        "stages": [stage("reconcile", extra=13) | {"emptied": emptied}],
    }
    refused = {"night": "2026-11-26", "finished_at": "then", "stages": [stage("reconcile", refused="of other places")]}
    never = {"night": "2026-11-23", "finished_at": "then", "stages": [stage("reconcile", extra=13)]}
    assert find_emptied(young, [first]) == emptied  # what is in flight is only at the destination
    assert find_emptied(gone, [first, never]) == emptied
    assert find_emptied(gone, [second, first]) == emptied
    assert find_emptied(gone, [refused, second]) == find_emptied(gone, [refused, first]) == emptied
    assert find_emptied(gone, [never, first]) is None  # it has never had any since
    assert find_emptied({"counts": {"in flight": 1}}, [first]) is None
