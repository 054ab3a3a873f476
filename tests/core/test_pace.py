"""Concurrency: down fast, up slowly, within its bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.pace import (
    COOL_DOWN_SECONDS,
    START_IN_FLIGHT,
    WATCH_SECONDS_MAX,
    WATCH_SECONDS_MIN,
    Pace,
    backoff_seconds,
    watch_seconds,
)


def paced(maximum: int, *rows: tuple[int, float]) -> Pace:
    """After so many rows that took so many seconds each."""
    pace = Pace(maximum)
    for count, seconds in rows:
        for _ in range(count):
            pace.succeed(seconds)
    return pace


def risen() -> Pace:
    return paced(256, (256 - START_IN_FLIGHT, 0.05))


@pytest.mark.parametrize(
    ("rows", "least", "most", "why"),
    [
        ([], START_IN_FLIGHT, START_IN_FLIGHT, "it starts low"),
        ([(START_IN_FLIGHT, 0.05)], 72, 72, "until the first throttle each round doubles it"),
        ([(512 - START_IN_FLIGHT, 0.05)], 512, 512, "up to what is allowed"),
        ([(512 - START_IN_FLIGHT, 0.05), (512, 10.0)], 510.9, 511.1, "a queue at the server loses one a round"),
        ([(1, 0.01), (1, 10.0), (200, 0.01)], START_IN_FLIGHT, START_IN_FLIGHT + 8, "after it, one a round is gained"),
        ([(1_000, 0.04), (200_000, 30.0)], START_IN_FLIGHT, START_IN_FLIGHT + 1, "large objects take long as well"),
        ([(1, 0.0), (1_000, 0.04)], 512, 512, "a clock too coarse for a row has measured nothing"),
        ([(1, -3600.0), (1_000, 0.04)], 512, 512, "nor has one that was set back"),
    ],
)
def test_the_limit_after_rows(rows: list[tuple[int, float]], least: float, most: float, why: str) -> None:
    assert least <= paced(512, *rows).limit <= most, why


@given(st.integers(1, 1000), st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=200))
def test_the_limit_stays_in_its_bounds(maximum: int, events: list[tuple[bool, float]]) -> None:
    pace, now = Pace(maximum), 0.0
    for is_success, delay in events:
        now += delay
        pace.succeed(0.05) if is_success else pace.throttle(now)
        assert 1 <= pace.in_flight <= maximum


def test_one_storm_halves_once_and_a_lasting_one_goes_on() -> None:
    pace = risen()
    for _ in range(100):
        pace.throttle(10.0)
    assert (pace.in_flight, pace.throttled) == (128, 100)
    pace.throttle(10.0 + COOL_DOWN_SECONDS)
    assert pace.in_flight == 64
    pace.throttle(10.0 - 3600)
    assert pace.in_flight == 32, "a clock that was set back does not stop the cuts"
    pace.throttle(10.0 - 3600)
    assert pace.in_flight == 32, "one storm of the new time is one signal"
    for number in range(10):
        pace.throttle(10.0 * number)
    assert pace.limit == 1.0


def test_recovery_takes_a_round_of_successes_for_each_step() -> None:
    pace = risen()
    pace.throttle(0.0)
    before = pace.limit
    for _ in range(int(before) + 1):
        pace.succeed(0.05)
    assert before + 0.9 < pace.limit < before + 1.1


def test_a_server_that_does_so_much_a_second_is_not_drowned() -> None:
    pace = Pace(512)
    for _ in range(50_000):
        pace.succeed(max(0.005, pace.limit / 2000))  # 2,000 a second, however many ask
    assert START_IN_FLIGHT <= pace.in_flight < 100


@given(st.floats(1, 1e4), st.floats(0.01, 0.5))
def test_the_end_of_work_is_seen_soon_with_few_looks(whole: float, share: float) -> None:
    now, looks = 0.0, 0
    while now < whole:
        pause = watch_seconds(now, share)
        assert WATCH_SECONDS_MIN <= pause <= WATCH_SECONDS_MAX
        now, looks = now + pause, looks + 1
    assert now - whole <= max(WATCH_SECONDS_MIN, share * whole)
    climb = math.log(max(1, share * whole / WATCH_SECONDS_MIN)) / math.log1p(share)
    assert looks <= 2 + 1 / share + climb + whole / WATCH_SECONDS_MAX


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 0.2), (2, 0.4), (3, 0.8), (6, 6.4), (8, 20.0), (64, 20.0)])
def test_a_retry_waits_up_to_twice_as_long_as_the_one_before(attempt: int, seconds: float) -> None:
    """Full jitter: any part of the longest wait, which is never none."""
    assert backoff_seconds(attempt, 1.0) == pytest.approx(seconds)
    assert backoff_seconds(attempt, 0.25) == pytest.approx(seconds / 4)
    assert backoff_seconds(attempt, 0.0) == 0
