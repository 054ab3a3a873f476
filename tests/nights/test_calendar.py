"""Which night it is, what is due in it, and what is left of it."""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime, time, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.sampling import Sample
from jobs.nights.calendar import due_after, find_night, read_turns
from jobs.nights.documents import StageResult

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]
zones = st.sampled_from(ZONES).map(zoneinfo.ZoneInfo)
moments = st.integers(1_600_000_000, 1_900_000_000).map(float)
minutes = st.integers(0, 24 * 60 - 1)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
days = st.dates(date(2020, 1, 1), date(2040, 1, 1))


def ended(night: date, *stages: StageResult) -> Any:
    return SimpleNamespace(night=night.isoformat(), stages=stages)


def deep(number: int, of: int, **more: Any) -> StageResult:
    return StageResult(stage="deep", slice=(number, of), **{"rows": 1, "state": "complete", **more})


@given(st.text(max_size=40), st.integers(0, 400), st.integers(1, 400))
def test_a_wider_slice_holds_the_one_in_turn_and_the_widest_holds_all(key: str, number: int, of: int) -> None:
    slices = [Sample(*each) for each in read_turns((number % of, of), of)]
    assert (slices[0], slices[-1]) == ((number % of, of), (0, 1))
    held = [each.contains(key) for each in slices]
    assert all(held) if held[0] else held[-1]


@given(days, st.integers(1, 8), st.lists(st.sampled_from(["complete", "incomplete", "refused", "missed"]), max_size=30))
def test_a_slice_waits_for_a_night_that_completes_it(first: date, of: int, endings: list[str]) -> None:
    """So as many complete nights as slices take every key, whatever lies between them."""
    summaries: list[Any] = []
    complete: list[int] = []
    for number, ending in enumerate([*endings, *["complete"] * of]):
        night = first + timedelta(days=number)
        sample = Sample(*due_after(night, of, "slice", summaries))
        done = StageResult(stage="slice", state=ending, slice=sample, rows=1)
        if ending == "refused":
            done = StageResult(stage="slice", refused="too dear")
        if ending != "missed":
            summaries.insert(0, ended(night, deep(0, of), done))
        if ending in ("complete", "incomplete"):  # and is checked again
            assert due_after(night, of, "slice", summaries) == sample
        if ending == "complete":
            complete.append(sample.number)
    for at in range(len(complete) - of + 1):
        assert sorted(complete[at : at + of]) == list(range(of))
    later = first + timedelta(days=99)
    assert due_after(later, of + 1, "slice", summaries) == due_after(later, of + 1, "slice", [])


def test_a_night_that_is_checked_again_takes_the_slice_of_its_first_time() -> None:
    """So the objects that it found wrong are looked at once more, however often it is checked."""
    night = date(2026, 11, 25)
    before, first, second = (
        ended(night - timedelta(days=1), deep(1, 6)),
        ended(night, deep(2, 6)),
        ended(night, deep(2, 6)),
    )
    assert due_after(night, 6, "deep", [before]) == (2, 6)
    assert due_after(night, 6, "deep", [first, before]) == (2, 6)
    assert due_after(night + timedelta(days=1), 6, "deep", [second, first, before]) == (3, 6)


@given(moments, minutes, zones)
def test_a_moment_is_in_the_night_that_began_last(now: float, at: int, zone: zoneinfo.ZoneInfo) -> None:
    night = find_night(now, at, zone)
    begins, ends = (
        datetime.combine(day, time(at // 60, at % 60), zone).timestamp() for day in (night, night + timedelta(days=1))
    )
    assert begins <= now < ends


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
