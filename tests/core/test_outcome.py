"""The fold takes exactly one outcome per row, whatever the attempts and their order."""

import duckdb
import pytest

from jobs.core.model import ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status, precedence_sql
from jobs.core.reasons import Reason
from tests.doubles.plain_fold import fold

COUNTS_OVER = [
    # what counts, over what, why
    ("different", "done", "a verify that saw a difference once has seen one"),
    ("damaged", "different", "a retry would copy a damaged source over what may be the last good copy"),
    ("different", "verified", "what was found wrong is not right because another attempt found nothing"),
    ("done", "same", "the attempt that copied is why the next one found it the same"),
    ("done", "changed", "a copy was made: what a later attempt saw of the source does not undo it"),
    ("done", "missing", "a copy was made, then its source was deleted: the copy is there"),
    ("done", "blocked denied", "a copy was made: a right that was lost later does not undo it"),
    ("done", "blocked thawing", "it was written: the copy that was thawed has ended since"),
    ("done", "left", "the original is gone because the first attempt deleted it"),
    ("done", "blocked kept", "a deletion happened: that a later attempt would keep the original does not undo it"),
    ("done", "left too_new", "a deletion happened: that a later attempt would wait does not undo it"),
    ("same", "blocked given_up", "a failure hides no success"),
    ("left", "blocked given_up", "a failure hides no success"),
    ("same", "changed", "it was seen the same once, which is all that the row asked for"),
    ("same", "missing", "it was seen the same once, which is all that the row asked for"),
    ("changed", "blocked given_up", "it is known what became of the row, and a failure knows nothing"),
    ("missing", "blocked given_up", "it is known what became of the row, and a failure knows nothing"),
    ("missing", "blocked denied", "nothing is there: a denial only hides that"),
    ("blocked kept", "blocked given_up", "a reason to keep an original was found, and a failure knows nothing"),
    ("blocked kept", "left too_new", "a reason to keep an original weighs more than a time that has not come"),
    ("left too_new", "blocked given_up", "it is known why it stays, and a failure knows nothing"),
    ("missing", "blocked kept", "the original is gone, whatever an attempt had against its deletion"),
    ("verified", "unknown", "one attempt could compare"),
    ("verified", "blocked denied", "one attempt could compare"),
    ("blocked archived", "blocked given_up", "it is known why it could not be read"),
    ("blocked archived", "blocked denied", "it is known why it could not be read"),
    ("blocked archive_damaged", "blocked given_up", "it is known why, and another try does not help"),
]


@pytest.mark.parametrize(("one", "other", "why"), COUNTS_OVER)
def test_of_two_attempts_the_one_counts_that_says_what_happened(one: str, other: str, why: str) -> None:
    """In memory and in SQL, whichever came first."""
    codes = [(status, reason) for status, _, reason in (one.partition(" "), other.partition(" "))]
    for times in ((1.0, 2.0), (2.0, 1.0)):
        pair = [
            Outcome(0, "k", None, Status(status), Reason(reason) if reason else "", at=at)
            for (status, reason), at in zip(codes, times, strict=True)
        ]
        assert fold(pair)[0] == pair[0], why
        values = ", ".join(f"({code}, {at}, 'a', 'f')" for code, at in zip(map(_quoted, codes), times, strict=True))
        rows = f'(VALUES {values}) AS t(status, reason, "at", attempt, filename)'
        chosen = duckdb.execute(f"SELECT status, reason FROM {rows} ORDER BY {precedence_sql()} LIMIT 1").fetchone()
        assert chosen == codes[0], why


def test_every_status_has_a_place_in_the_order() -> None:
    """Without one it would weigh nothing in SQL, and hide no failure."""
    assert {each.partition(" ")[0] for one, other, _ in COUNTS_OVER for each in (one, other)} == set(Status)


def _quoted(code: tuple[str, str]) -> str:
    return ", ".join(f"'{word}'" for word in code)


def test_of_a_row_nothing_is_claimed_but_what_the_manifest_says() -> None:
    row = ObjectVersion(7, "k", "v", size_bytes=3, etag="e")
    assert Outcome.of(row, Status.BLOCKED, Reason.REFUSED) == Outcome(
        7, "k", "v", Status.BLOCKED, Reason.REFUSED, Evidence.NONE, 0, "e"
    )


def test_an_outcome_ends_with_the_time_and_the_attempt_and_keeps_all_else() -> None:
    row = ObjectVersion(7, "k", "v", etag="e")
    outcome = Outcome.of(row, Status.DONE, Reason.COPIED_LATE)._replace(checksum="SHA256:x", size_bytes=5)
    assert outcome.ended(12.5, "attempt") == outcome._replace(at=12.5, attempt="attempt")
