"""Which night it is."""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.nights.calendar import find_night

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]
zones = st.sampled_from(ZONES).map(zoneinfo.ZoneInfo)
moments = st.integers(1_600_000_000, 1_900_000_000).map(float)
minutes = st.integers(0, 24 * 60 - 1)


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
