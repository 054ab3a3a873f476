"""The fold takes exactly one outcome per row, whatever the attempts and their order."""

import pickle
from random import Random

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.model import ObjectVersion
from jobs.core.outcome import GOOD, Evidence, Outcome, PartlyDone, Status, fold, precedence_sql
from jobs.core.reasons import Reason

outcomes = st.lists(
    st.builds(
        Outcome,
        row=st.integers(0, 5),
        key=st.just("k"),
        version_id=st.none(),
        status=st.sampled_from(Status),
        reason=st.sampled_from(["", Reason.RACED]),
        finished_at=st.sampled_from([1.0, 2.0]),
        attempt=st.sampled_from(["a", "b"]),
    )
)


@given(outcomes, st.randoms())
def test_the_order_of_attempts_does_not_matter(given_outcomes: list[Outcome], random: Random) -> None:
    shuffled = list(given_outcomes)
    random.shuffle(shuffled)
    assert fold(given_outcomes) == fold(shuffled)


@given(outcomes)
def test_each_row_gets_one_outcome_that_somebody_reported(given_outcomes: list[Outcome]) -> None:
    folded = fold(given_outcomes)
    assert set(folded) == {outcome.row for outcome in given_outcomes}
    assert all(folded[row] in given_outcomes and folded[row].row == row for row in folded)


@given(outcomes, outcomes)
def test_folding_in_two_steps_is_folding_at_once(first: list[Outcome], second: list[Outcome]) -> None:
    assert fold([*fold(first).values(), *fold(second).values()]) == fold([*first, *second])


def test_a_mismatch_seen_once_stands_and_a_failure_never_hides_success() -> None:
    def outcome(status: Status) -> Outcome:
        return Outcome(0, "k", None, status)

    assert fold([outcome(Status.VERIFIED), outcome(Status.MISMATCHED)])[0].status is Status.MISMATCHED
    for good in GOOD:
        assert fold([outcome(Status.FAILED), outcome(good)])[0].status is good
    assert fold([outcome(Status.SAME), outcome(Status.COPIED)])[0].status is Status.COPIED


COUNTS_OVER = [
    # what counts, over what, why
    ("mismatched", "copied", "a verify that saw a mismatch once has seen one"),
    ("damaged", "mismatched", "a retry would copy a damaged source over what may be the last good copy"),
    ("mismatched", "verified", "what was found wrong is not right because another attempt found nothing"),
    ("copied", "same", "the attempt that copied is why the next one found it the same"),
    ("copied", "changed", "a copy was made: what a later attempt saw of the source does not undo it"),
    ("copied", "missing", "a copy was made, then its source was deleted: the copy is there"),
    ("copied", "denied", "a copy was made: a right that was lost later does not undo it"),
    ("packed", "missing", "the member is in the archive, whatever became of its source"),
    ("packed", "changed", "the member is in the archive, whatever became of its source"),
    (
        "restored",
        "changed",
        "the object was written by the first attempt, which is why the second found one in its place",
    ),
    ("restored", "thawing", "it was written: the copy that was thawed has ended since"),
    ("expired", "missing", "the original is gone because the first attempt deleted it"),
    ("expired", "skipped", "the original is gone because the first attempt deleted it"),
    ("expired", "kept", "a deletion happened: that a later attempt would keep the original does not undo it"),
    ("expired", "waiting", "a deletion happened: that a later attempt would wait does not undo it"),
    ("deleted", "missing", "the marker was made: the second attempt finds nothing left to do"),
    ("deleted", "same", "the marker was made by the first attempt, which is why the second found one"),
    ("same", "changed", "it was seen the same once, which is all that the row asked for"),
    ("same", "missing", "it was seen the same once, which is all that the row asked for"),
    ("changed", "failed", "it is known what became of the row, and a failure knows nothing"),
    ("missing", "failed", "it is known what became of the row, and a failure knows nothing"),
    ("missing", "denied", "nothing is there: a denial only hides that"),
    ("kept", "failed", "a reason to keep an original was found, and a failure knows nothing"),
    ("kept", "waiting", "a reason to keep an original weighs more than a time that has not come"),
    ("missing", "kept", "the original is gone, whatever an attempt had against its deletion"),
    ("verified", "unverifiable", "one attempt could compare"),
    ("verified", "denied", "one attempt could compare"),
    ("archived", "failed", "it is known why it could not be read"),
    ("archived", "denied", "it is known why it could not be read"),
    ("thawing", "archived", "the thaw that an attempt asked for is under way"),
    ("unrestorable", "failed", "it is known why, and another try does not help"),
    ("denied", "failed", "it is known why"),
]


@pytest.mark.parametrize(("one", "other", "why"), COUNTS_OVER)
def test_of_two_attempts_the_one_counts_that_says_what_happened(one: str, other: str, why: str) -> None:
    """In memory and in SQL, whichever came first."""
    for times in ((1.0, 2.0), (2.0, 1.0)):
        pair = [
            Outcome(0, "k", None, Status(name), finished_at=at) for name, at in zip((one, other), times, strict=True)
        ]
        assert fold(pair)[0].status == one, why
        values = f"('{other}', {times[1]}, 'a', 'f'), ('{one}', {times[0]}, 'a', 'f')"
        sql = f"FROM (VALUES {values}) AS t(status, finished_at, attempt, filename) ORDER BY {precedence_sql()} LIMIT 1"
        assert duckdb.execute(sql).fetchall()[0][0] == one, why


def test_every_status_has_a_place_in_the_order() -> None:
    assert {name for one, other, _ in COUNTS_OVER for name in (one, other)} == set(Status)


def test_of_a_row_nothing_is_claimed_but_what_the_manifest_says() -> None:
    row = ObjectVersion(7, "k", "v", size_bytes=3, etag="e")
    assert Outcome.of(row, Status.FAILED, Reason.REFUSED) == Outcome(
        7, "k", "v", Status.FAILED, Reason.REFUSED, Evidence.NONE, 0, "e", None, None, None, "", 0.0, ""
    )


def test_what_was_done_before_a_stop_comes_through_a_process_boundary() -> None:
    done = [Outcome(0, "k", None, Status.COPIED)]
    error = pickle.loads(pickle.dumps(PartlyDone("stopped", done)))
    assert type(error) is PartlyDone
    assert (str(error), error.outcomes) == ("stopped", tuple(done))


def test_an_outcome_ends_with_the_time_and_the_attempt_and_keeps_all_else() -> None:
    row = ObjectVersion(7, "k", "v", etag="e")
    outcome = Outcome.of(row, Status.COPIED, Reason.COPIED_LATE)._replace(checksum="SHA256:x", size_bytes=5)
    assert outcome.ended(12.5, "attempt") == outcome._replace(finished_at=12.5, attempt="attempt")
