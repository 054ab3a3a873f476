"""What a night came to, in one sentence, and what a person does then."""

from __future__ import annotations

from typing import Any

from jobs.nights.verdicts import count_unproven, head_of, is_unproven, is_well, next_steps, verdict


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
    assert verdict([stage("repair", left=7, done=3)], 7, is_finished=False) == (
        "The night is not finished, 7 rows are left to do: repair 3 copied."
    )


def test_a_night_that_could_compare_little_is_well_only_if_a_verification_proved_some() -> None:
    little = stage("reconcile", same=4, unverifiable=6, extra=90)
    assert not is_well([little, stage("sample", left=0)])
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
    assert verdict([found({"in flight": 30, "same": 1}), *rest], 0).startswith(
        "Nothing wrong was found; 30 objects are too new to be judged (--margin): reconcile 30 in flight"
    )
    behind = [stage("reconcile", same=1), stage("replica") | {"counts": {"in flight": 1}}]
    assert head_of(verdict(behind, 0)) == (
        "Nothing wrong was found; 1 object of the replica is too new to be judged (--margin)"
    )
    assert is_well([young[0], stage("sample", verified=1)])  # an old report, and a listing of now


def test_each_stage_that_left_something_names_the_next_step() -> None:
    emptied = stage("reconcile", left=4, extra=13) | {"emptied": {"night": "2026-11-24", "objects": 4}}
    meant, back = next_steps("p", "2026-11-25", [emptied], is_finished=True, restore="sealift restore X")
    assert (meant.startswith("If that is meant"), back) == (True, "Else put the objects back: sealift restore X")
    assert verdict([emptied], 4).split(": ", 1)[1].startswith("the source has no object, on 2026-11-24 it had 4: all")
    assert "all copies stay" in verdict([emptied], 4)
    bad = [stage("reconcile", left=1), stage("repair", refused="too dear", left=2), stage("sample", left=1, run_id="s")]
    first, second, third = next_steps("p", "2026-11-25", bad, is_finished=True)
    assert first.endswith(": sealift runs show r")
    assert second.endswith(": sealift replicate --pair p --dry-run")
    assert third.endswith(": sealift runs show s")
    assert next_steps("p", "2026-11-25", [stage("reconcile", same=1)], is_finished=True) == []
    assert next_steps("p", "2026-11-25", bad, is_finished=False) == [
        "Go on with it: sealift nightly --pair p --night 2026-11-25"
    ]


def test_the_stage_that_proved_copies_wrong_is_named_since_only_its_retry_replaces_them() -> None:
    def named(*stages: dict[str, Any], left: int) -> list[str]:
        steps = next_steps("p", "2026-11-25", stages, is_finished=True, left=left)
        return [step.rpartition(" ")[2] for step in steps]

    unproven, proven = (
        stage("sample", left=1, run_id="s", unknown=1),
        stage("deep", left=1, run_id="d", different=1),
    )
    assert named(stage("reconcile"), unproven, proven, left=1) == ["d"]
    assert named(stage("reconcile"), unproven | {"left": 2}, proven, left=2) == ["s", "d"]


def test_a_night_is_well_only_if_no_stage_left_or_refused_anything() -> None:
    same = stage("reconcile", same=4)
    assert is_well([same, stage("repair")])
    assert not is_well([same, stage("repair", left=1)])
    assert not is_well([stage("reconcile", left=1, same=4)])
    assert not is_well([same, stage("repair", refused="too dear")])


def test_what_could_not_be_compared_is_counted_among_what_was_judged() -> None:
    assert count_unproven([stage("sample", unknown=9)]) == (0, 0)
    counts = {"same": 1, "missing": 2, "stale": 3, "different": 4, "unverifiable": 5, "extra": 6, "in flight": 7}
    assert count_unproven([found(counts)]) == (5, 15)
    assert not is_unproven([found({"unverifiable": 2, "same": 2})])
    assert is_unproven([found({"unverifiable": 3, "same": 2})])


def test_a_comparison_that_was_refused_compared_nothing() -> None:
    sentence = verdict([stage("reconcile", refused="an inventory of another bucket", run_id=None)], 0)
    assert sentence == "Nothing was compared: reconcile refused, an inventory of another bucket."
