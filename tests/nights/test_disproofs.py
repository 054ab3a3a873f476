"""What nights proved wrong, and what answers it."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.nights.disproofs import Disproof, answered_since, is_answered, open_disproofs
from jobs.nights.documents import summary_defect
from jobs.nights.verdicts import head_of, next_steps, verdict

FOUND = Disproof("2026-11-25", "2026-11-25T03:00:00Z", "sample", "r1", 1, [2, 6])
TABLE = [
    ("complete", "same", "yes", "all proven, right or wrong", "yes"),
    ("complete", "same", "yes", "one unproven or changed", "no"),
    ("complete", "same", "yes", "none", "no"),
    ("complete", "same", "no", "all proven, right or wrong", "no"),
    ("complete", "another", "yes", "all proven, right or wrong", "no"),
    ("incomplete", "same", "yes", "all proven, right or wrong", "no"),
]
COUNTS: dict[str, list[dict[str, Any]]] = {
    "all proven, right or wrong": [{"verified": 2, "missing": 0}, {"verified": 2, "different": 1}, {"damaged": 1}],
    "one unproven or changed": [{"verified": 2, name: 1} for name in ("unknown", "changed", "missing", "blocked")],
    "none": [{}, {"verified": 0}],
}


def stage(
    name: str, run_id: str = "r2", state: str = "complete", sample: Any = (2, 6), **counts: int
) -> dict[str, Any]:
    sample = None if sample is None else list(sample)
    return {"stage": name, "run_id": run_id, "state": state, "sample": sample, "left": 0, "counts": counts}


def night(day: int, *stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    at = f"2026-11-{day:02d}"
    return {"night": at, "finished_at": f"{at}T03:00:00Z", "destination": "s3://d", "stages": list(stages)} | more


def test_the_table_of_answers_is_the_one_that_is_replayed() -> None:
    lines = [line.strip().strip("|") for line in (is_answered.__doc__ or "").splitlines() if "|" in line]
    assert [tuple(cell.strip() for cell in line.split("|")) for line in lines[2:]] == TABLE


@pytest.mark.parametrize(("state", "slice_", "is_deep", "rows", "answer"), TABLE)
def test_only_a_run_that_judged_the_whole_slice_as_deep_answers(
    state: str, slice_: str, is_deep: str, rows: str, answer: str
) -> None:
    found = FOUND._replace(stage="deep" if is_deep == "no" else "sample")
    for counts in COUNTS[rows]:
        for name in ("sample",) if is_deep == "no" else ("sample", "deep"):
            later = stage(name, state=state, sample=(2, 6) if slice_ == "same" else (3, 6), **counts)
            assert is_answered(found, [stage("verify", sample=None, verified=3), later]) == (answer == "yes"), later


def test_what_a_night_found_wrong_is_open_until_its_slice_is_proven() -> None:
    first = night(25, stage("sample", "r0", verified=3), stage("deep", "r1", different=1))
    other = night(26, stage("deep", "r2", sample=(3, 6), verified=4), unanswered=[{**FOUND._asdict(), "stage": "deep"}])
    found = FOUND._replace(stage="deep")
    assert open_disproofs([first], "s3://d") == [found]
    assert open_disproofs([other, first], "s3://d") == [found]
    assert open_disproofs([night(27, answered=["r1"], unanswered=[]), other, first], "s3://d") == []
    again = night(26, stage("deep", "r2", different=2), unanswered=[], answered=["r1"])
    assert [each.run_id for each in open_disproofs([again, first], "s3://d")] == ["r2"]
    assert open_disproofs([other, first], "s3://elsewhere") == []
    assert open_disproofs([], "s3://d") == []


def test_a_night_is_not_called_well_while_an_earlier_finding_is_open() -> None:
    well = [{"stage": "reconcile", "left": 0, "refused": None, "run_id": "r", "counts": {"same": 4}}]
    assert head_of(verdict(well, 0)) == "All is well"
    said = verdict(well, 0, unanswered=[FOUND])
    assert head_of(said) == "1 object that sample found wrong on 2026-11-25 was not proven right since"
    assert next_steps("p", "2026-11-26", well, is_finished=True, unanswered=[FOUND]) == [
        "See what helps: sealift runs show r1",
        "Once mended, prove it: sealift nightly --pair p --night 2026-11-25 --again",
    ]


@pytest.mark.parametrize("wrong", [{"rows": -1}, {"found_at": "then"}, {"sample": [6, 2]}, {"run_id": None}])
def test_a_summary_with_an_altered_disproof_is_refused(wrong: dict[str, Any]) -> None:
    summary = night(25) | {"pair": "p", "state": "complete", "verdict": "", "left": 0, "exit_code": 0, "seconds": 1}
    summary |= {"summary": "s3://l/x.json", "unanswered": [FOUND._asdict()]}
    assert summary_defect(summary) == ""
    assert summary_defect(summary | {"unanswered": [FOUND._asdict() | {"added_later": 1}]}) == ""
    assert "unanswered" in summary_defect(summary | {"unanswered": [FOUND._asdict() | wrong]})


def test_a_night_that_ends_beside_another_does_not_forget_what_that_one_found() -> None:
    first = night(25, stage("sample", "r1", different=1), unanswered=[], answered=[])
    beside = night(26, stage("sample", "r2", sample=(3, 6), verified=1), unanswered=[], answered=[])
    assert open_disproofs([first, beside], "s3://d") == [FOUND]
    passed_on = night(27, unanswered=[FOUND._asdict()], answered=answered_since([first, beside], "s3://d", [FOUND]))
    assert open_disproofs([passed_on], "s3://d") == [FOUND]  # when the others are no longer read
    answers = answered_since([first, passed_on], "s3://d", [])
    assert answers == ["r1"]
    proven = night(28, unanswered=[], answered=answers)
    assert open_disproofs([first, passed_on, proven], "s3://d") == []
    late = night(29, unanswered=[FOUND._asdict()], answered=[])  # had read only the first of them
    assert open_disproofs([first, passed_on, proven, late], "s3://d") == []
    assert answered_since([late], "s3://d", open_disproofs([late, proven], "s3://d")) == ["r1"]
    assert answered_since([first], "s3://elsewhere", []) == []
