"""What a night came to, in one sentence, and what a person does then."""

from __future__ import annotations

from typing import Any

from jobs.nights.verdicts import is_well, next_steps, verdict


def stage(
    name: str, left: int = 0, refused: str | None = None, run_id: str | None = "r", **counts: int
) -> dict[str, Any]:
    return {"stage": name, "left": left, "refused": refused, "run_id": run_id, "counts": counts}


def found(counts: dict[str, int]) -> dict[str, Any]:
    return stage("reconcile") | {"counts": counts}


def test_the_verdict_says_what_was_done_what_was_refused_and_what_is_left() -> None:
    quiet = [stage("reconcile", same=40, missing=0), stage("repair", run_id=None), stage("sample")]
    assert verdict(quiet, 0) == "All is well: reconcile 40 same; nothing to repair; sample nothing."
    assert is_well(quiet)
    refused = stage("repair", left=4, refused="the plan has 4 objects, limits.max_objects allows 3", run_id=None)
    assert verdict([stage("reconcile", same=36, missing=4), refused], 4) == (
        "4 objects need attention: reconcile 36 same, 4 missing; "
        "repair refused, the plan has 4 objects, limits.max_objects allows 3."
    )
    unseen = [stage("reconcile", same=1), stage("sample", refused="too dear", run_id=None)]
    assert not is_well(unseen)
    assert verdict(unseen, 0).startswith("Nothing wrong was found, but not everything was done: ")
    assert verdict([stage("reconcile", left=1, different=1)], 1).startswith("1 object needs attention: ")
    assert verdict([stage("repair", left=7, copied=3)], 7, is_finished=False) == (
        "The night is not finished, 7 rows are left to do: repair 3 copied."
    )


def test_a_night_that_could_compare_little_is_well_only_if_a_verification_proved_some() -> None:
    little = stage("reconcile", same=4, unverifiable=6, extra=90)
    assert not is_well([little, stage("sample", skipped=1)])
    assert verdict([little, stage("sample")], 0) == (
        "Nothing wrong was found, but 6 of 10 objects could not be compared, and none of all verified: "
        "reconcile 4 same, 6 unverifiable, 90 extra; sample nothing."
    )
    assert is_well([little, stage("sample", verified=2)])
    assert verdict([little, stage("sample", verified=2)], 0).startswith(
        "Nothing wrong was found, but 6 of 10 objects could not be compared, and only 2 of all verified: "
    )
    assert is_well([stage("reconcile", same=5, unverifiable=5), stage("sample")])
    assert verdict([stage("reconcile", same=5, unverifiable=5)], 0).startswith("All is well: ")


def test_a_night_that_compared_nothing_is_not_well_and_says_why() -> None:
    rest = [stage("repair", run_id=None), stage("sample"), stage("deep")]
    young = [found({"in flight": 30, "excluded": 1}), *rest]
    assert not is_well(young)
    assert verdict(young, 0).startswith("Nothing was compared, since all 30 objects are in flight: reconcile 30 in")
    assert next_steps("docs", "2026-11-20", young, is_finished=True) == [
        "Compare what is newer than the margin, too: sealift nightly --pair docs --night 2026-11-20 --again --margin 0s"
    ]
    empty = [stage("reconcile", excluded=4), *rest]
    assert not is_well(empty)
    assert verdict(empty, 0).startswith("Nothing was compared, since the source has no object: ")
    assert "policy check" in next_steps("docs", "2026-11-20", empty, is_finished=True)[0]
    assert not is_well([stage("reconcile", extra=1), *rest])  # the source was emptied before its first night
    assert is_well([found({"in flight": 30, "same": 1}), *rest])
    assert is_well([young[0], stage("sample", verified=1)])  # an old report, and a listing of now


def test_each_stage_that_left_something_names_the_next_step() -> None:
    emptied = stage("reconcile", left=4, extra=13) | {"emptied": {"night": "2026-11-24", "objects": 4}}
    assert next_steps("p", "2026-11-25", [emptied], is_finished=True)[0].startswith("Put the objects back")
    assert verdict([emptied], 4).split(": ", 1)[1].startswith("the source has no object, on 2026-11-24 it had 4: all")
    bad = [stage("reconcile", left=1), stage("repair", refused="too dear", left=2), stage("sample", left=1, run_id="s")]
    first, second, third = next_steps("p", "2026-11-25", bad, is_finished=True)
    assert first.endswith(": sealift runs report r")
    assert second.endswith(": sealift backfill --pair p --dry-run")
    assert third.endswith(": sealift runs report s")
    assert next_steps("p", "2026-11-25", [stage("reconcile", same=1)], is_finished=True) == []
    same = [stage("reconcile", left=1), stage("sample", left=1, run_id="s")]  # they found one object
    assert next_steps("p", "2026-11-25", same, is_finished=True, left=1) == [first]
    assert len(next_steps("p", "2026-11-25", same, is_finished=True, left=2)) == 2
    assert next_steps("p", "2026-11-25", bad, is_finished=False) == [
        "Go on with it: sealift nightly --pair p --night 2026-11-25"
    ]
