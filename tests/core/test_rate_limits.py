"""Rate limits: no window of time has more than its share, and what is saved is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.model import Location
from jobs.core.rate_limits import SAVED_SECONDS, RateLimits, TokenBucket
from jobs.core.run import RunSpec, Side

steps = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 9)), min_size=1, max_size=60)


@given(st.floats(0.5, 50), steps)
def test_no_window_has_more_tokens_than_the_rate_and_what_was_saved(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    bucket, now, used = TokenBucket(rate), 0.0, list[tuple[float, int]]()
    for pause, tokens in steps:
        now += pause
        used.append((now + bucket.take(tokens, now), tokens))
    for first, (begin, _) in enumerate(used):
        total = 0
        for end, tokens in used[first:]:
            before = total  # the last one may be a debt, which the next one waits for
            total += tokens
            assert before <= rate * (end - begin + SAVED_SECONDS) + 9 + 1e-6


@given(st.floats(0.5, 50), st.integers(1, 40))
def test_who_takes_less_than_the_rate_never_waits(rate: float, count: int) -> None:
    bucket = TokenBucket(rate)
    assert [bucket.take(1, number * 1.01 / rate) for number in range(count)] == [0.0] * count


def test_a_debt_is_waited_for_by_the_next() -> None:
    bucket = TokenBucket(10)
    assert bucket.take(40, 100.0) == 0.0  # ten were saved, thirty are owed
    assert bucket.take(1, 100.0) == pytest.approx(3.0)
    assert bucket.take(1, 200.0) == 0.0


def test_limits_are_shared_by_the_workers_and_say_how_long_work_takes() -> None:
    limits = RateLimits(100, 1000)
    assert limits.shared_by(4) == (25, 250)
    assert (limits.seconds(500, 0), limits.seconds(1, 9000), RateLimits().seconds(5, 5)) == (5, 9, 0)
    side = Side(Location("bucket"))
    spec = RunSpec("id", "verify", 0.0, side, side, "m", {"max_rate": 100, "bandwidth_bytes": 1000})
    assert RateLimits.of(spec) == limits
    assert RateLimits.of(replace(spec, options={"max_rate": 0, "bandwidth_bytes": "fast"})) == RateLimits()
