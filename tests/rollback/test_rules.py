"""What a key needs, what became of it since, and how a step is taken back: the tables of the docstrings, replayed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from jobs.core.model import NULL_VERSION, Listed
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.rollback.rules import Found, Move, Step, decide, judge, turn_round

AT = 10.0


def lines(of: Callable[..., object], columns: int) -> list[list[str]]:
    """The lines of a function's table, without its head."""
    found = re.findall(r"^ *\|([^-].+)\|$", of.__doc__ or "", re.MULTILINE)
    cells = [[cell.strip() for cell in line.split(" |")] for line in found]
    assert {len(each) for each in cells} == {columns}, cells
    return cells[1:]


def version(name: str, at: float, number: int) -> Listed:
    if name == "x":
        return Listed("k", f"x{number}", False, True, None, None, at, None)
    return Listed("k", NULL_VERSION if name == "0" else name, False, False, 3, f"etag of {name}", at, "STANDARD")


@pytest.mark.parametrize(("history", "step", "of", "_"), lines(decide, 4))
def test_a_key_is_brought_back_as_the_table_says(history: str, step: str, of: str, _: str) -> None:
    before, after = (each.split() for each in history.split("/"))
    versions = [version(name, AT - len(before) + place + 1, place) for place, name in enumerate(before)]
    versions += [version(name, AT + place + 1, len(before) + place) for place, name in enumerate(after)]
    row = decide(versions, AT)
    if not step:
        assert row is None
        return
    assert row is not None
    top, about = versions[-1], next(each for each in versions if (each.version_id or "")[0] in (of, "n"[of != "0" :]))
    assert row.beside == Move(Step(step), top.version_id, top.etag)
    assert (row.version_id, row.etag) == (about.version_id, about.etag)


@pytest.mark.parametrize(("history", "step", "untried", "tried", "_"), lines(judge, 5))
def test_a_look_at_a_key_is_judged_as_the_table_says(history: str, step: str, untried: str, tried: str, _: str) -> None:
    top_etag = None if step == "unhide" else "etag of T"
    versions = list[Listed]()
    for place, name in enumerate(history.split()):
        made = version("x" if name == "x" or (name, step) == ("T", "unhide") else name, place, place)
        versions.append(made._replace(version_id=name if name in "wT" else f"{name}{place}"))
    above = [each for each in versions if each.version_id not in ("w", "T")]
    for may_be_own, expected in ((False, untried), (True, tried)):
        found, other = judge(Move(Step(step), "T", top_etag), "w", versions, may_be_own=may_be_own)
        word, _, named = expected.partition(" ") if expected != "as planned" else (expected, "", "")
        assert found is Found(word), (history, step, may_be_own)
        wanted = versions[0] if named == "w" else above[int(named) - 1 if named.isdigit() else 0] if named else None
        assert other == wanted


@pytest.mark.parametrize(("why", "_", "step", "top"), lines(turn_round, 4))
def test_an_outcome_is_turned_round_as_the_table_says(why: str, _: str, step: str, top: str) -> None:
    reason, _, detail = why.partition(", ")
    done = Outcome(0, "k", "w", Status.DONE, Reason.HIDDEN if reason == "hidden" else "", etag="of w", detail=detail)
    made = done._replace(destination_version_id="made", destination_etag=None if reason == "hidden" else "of made")
    tops = {
        "that marker": ("made", None),
        "that copy": ("made", "of made"),
        "the version that it had hid": ("w", "of w"),
    }
    assert turn_round(made) == Move(Step(step), *tops[top])


def test_a_null_version_that_was_written_again_is_another_one() -> None:
    planned = Listed("k", NULL_VERSION, True, False, 3, "a", 1.0, "STANDARD")
    move = Move(Step.HIDE, NULL_VERSION, "a")
    assert judge(move, NULL_VERSION, [planned], may_be_own=False)[0] is Found.AS_PLANNED
    assert judge(move, NULL_VERSION, [planned._replace(etag="b")], may_be_own=False)[0] is Found.CHANGED


def test_the_last_one_within_a_second_is_the_last_in_the_listing() -> None:
    same_second = [version(name, AT, place) for place, name in enumerate("abc")]
    later = decide([*same_second, version("d", AT + 1, 3)], AT)
    assert later is not None
    assert later.version_id == "c"
