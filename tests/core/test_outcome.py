"""The fold takes exactly one outcome per row, whatever the attempts and their order."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from jobs.core.outcome import GOOD, Outcome, Status, fold

outcomes = st.lists(
    st.builds(
        Outcome,
        row=st.integers(0, 5),
        key=st.just("k"),
        version_id=st.none(),
        status=st.sampled_from(Status),
        reason=st.sampled_from(["", "why"]),
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
