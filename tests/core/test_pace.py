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
    assert pace.in_flight == 128
    pace.throttle(10.0 + COOL_DOWN_SECONDS)
    assert pace.in_flight == 64
    assert pace.throttled == 101


def risen() -> Pace:
    pace = Pace(256)
    for _ in range(256 - START_IN_FLIGHT):
        pace.succeed(0.05)
    return pace


def test_until_the_first_throttle_each_round_doubles_the_limit() -> None:
    pace = Pace(256)
    assert pace.in_flight == START_IN_FLIGHT
    for _ in range(START_IN_FLIGHT):
        pace.succeed(0.05)
    assert pace.in_flight == 2 * START_IN_FLIGHT
    assert risen().in_flight == 256


def test_recovery_takes_a_round_of_successes_for_each_step() -> None:
    pace = risen()
    pace.throttle(0.0)
    before = pace.limit
    for _ in range(int(before) + 1):
        pace.succeed(0.05)
    assert before + 0.9 < pace.limit < before + 1.1


@given(st.integers(1, 64), st.floats(0, 1, exclude_max=True))
def test_backoff_grows_to_a_bound(attempt: int, jitter: float) -> None:
    assert 0 <= backoff_seconds(attempt, jitter) <= 20
    assert backoff_seconds(attempt, jitter) <= backoff_seconds(attempt + 1, jitter)


def test_a_server_that_does_so_much_a_second_is_not_drowned() -> None:
    pace = Pace(512)
    for _ in range(50_000):
        pace.succeed(max(0.005, pace.limit / 2000))  # 2,000 a second, however many ask
    assert START_IN_FLIGHT <= pace.in_flight < 100


@pytest.mark.parametrize("first_seconds", [0.04, 0.0, -3600.0])
def test_a_server_with_room_gets_all_that_is_allowed(first_seconds: float) -> None:
    """Also where a clock is too coarse for a row, or was set back: then nothing was measured."""
    pace = Pace(512)
    pace.succeed(first_seconds)
    for _ in range(1_000):
        pace.succeed(0.04)
    assert pace.in_flight == 512


def test_a_queue_at_the_server_loses_one_a_round() -> None:
    pace = risen()
    for _ in range(256):
        pace.succeed(10.0)
    assert 254.9 < pace.limit < 255.1


def test_after_a_queue_the_limit_rises_by_one_a_round() -> None:
    pace = Pace(512)
    pace.succeed(0.01)
    pace.succeed(10.0)
    for _ in range(200):  # of which the first still remember the queue
        pace.succeed(0.01)
    assert START_IN_FLIGHT < pace.limit < START_IN_FLIGHT + 8


def test_a_lasting_storm_leaves_one_in_flight() -> None:
    pace = Pace(8)
    for number in range(10):
        pace.throttle(10.0 * number)
    assert pace.limit == 1.0


def test_large_objects_take_long_and_that_is_no_queue_to_fear() -> None:
    pace = Pace(512)
    for _ in range(1_000):
        pace.succeed(0.04)
    for _ in range(200_000):
        pace.succeed(30.0)
    assert pace.in_flight == START_IN_FLIGHT


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


def test_a_clock_that_was_set_back_does_not_stop_the_cuts() -> None:
    pace = risen()
    pace.throttle(1e9)
    before = pace.limit
    pace.throttle(1e9 - 3600)
    assert pace.limit == before / 2
    pace.throttle(1e9 - 3600)
    assert pace.limit == before / 2, "one storm of the new time is one signal"


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 0.2), (2, 0.4), (3, 0.8), (6, 6.4), (8, 20.0), (64, 20.0)])
def test_a_retry_waits_up_to_twice_as_long_as_the_one_before(attempt: int, seconds: float) -> None:
    """Full jitter: any part of the longest wait, which is never none."""
    assert backoff_seconds(attempt, 1.0) == pytest.approx(seconds)
    assert backoff_seconds(attempt, 0.25) == pytest.approx(seconds / 4)
    assert backoff_seconds(attempt, 0.0) == 0
