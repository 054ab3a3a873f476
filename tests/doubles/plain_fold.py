"""The fold of outcomes in memory, read plainly: which of several counts for a row."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.core.outcome import _ORDER, Outcome, Status
from jobs.core.reasons import FAILURES, Reason


def fold(outcomes: Iterable[Outcome]) -> dict[int, Outcome]:
    """Row number → the one outcome that counts, however many attempts wrote and in any order."""
    chosen: dict[int, Outcome] = {}
    for outcome in outcomes:
        known = chosen.get(outcome.row)
        chosen[outcome.row] = outcome if known is None else min(known, outcome, key=_precedence)
    return chosen


def _precedence(outcome: Outcome) -> tuple[object, ...]:
    weight = _ORDER.index(outcome.status)
    if outcome.status is Status.LEFT and outcome.reason == Reason.TOO_NEW:
        weight = len(_ORDER) + 1
    if outcome.status is Status.BLOCKED and outcome.reason in FAILURES:
        weight = len(_ORDER) + 2
    return (weight, outcome.at, outcome.attempt, repr(outcome))
