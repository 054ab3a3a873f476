"""The limit of failed rows, as a user writes it."""

import pytest

from jobs.core.failure_limit import FailureLimit
from jobs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10%", FailureLimit(0.1)),
        ("12.5%", FailureLimit(0.125)),
        ("100%", FailureLimit(1.0)),
        ("0%", FailureLimit(0.0)),
        ("10", FailureLimit(rows=10)),
        ("0", FailureLimit(rows=0)),
    ],
)
def test_a_share_has_a_sign_and_a_count_has_none(text: str, limit: FailureLimit) -> None:
    assert (FailureLimit.parse(text), str(limit)) == (limit, text)


@pytest.mark.parametrize("text", ["", "%", "-1", "1.5", "101%", "nan", "nan%", "inf", "1e3", "10 rows", "half"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="as 10%, or a count of rows, as 10"):
        FailureLimit.parse(text)


def test_a_share_counts_after_a_thousand_rows_and_a_count_at_once() -> None:
    assert not FailureLimit(0.1).is_exceeded(999, 999, 1_000)
    assert FailureLimit(0.1).is_exceeded(101, 1_000, 1_000)
    assert not FailureLimit(0.1).is_exceeded(100, 1_000, 1_000)
    assert FailureLimit(rows=10).is_exceeded(11, 11, 1_000)
    assert not FailureLimit(rows=10).is_exceeded(10, 10_000, 1_000)
