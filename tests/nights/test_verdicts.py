"""What a night came to, in one sentence and as a page, and what a person does then."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from jobs.core.model import Location
from jobs.ledger.ledger import Ledger
from jobs.nights.summary import GOOD, Emptied, Ending, Known, Night, StageResult, Summary, judge, page_of, stage_text
from tests.doubles.memory_store import MemoryStore
from tests.doubles.nights import summary

LEDGER = Ledger(MemoryStore(), Location("ledger"))
PROVEN = Known(objects=40, checked=40, read=12, read_days=360)


def stage(name: str, *, in_flight: int = 0, **counts: Any) -> StageResult:
    how = {field: counts.pop(field) for field in StageResult.__struct_fields__ if field in counts}
    if in_flight:
        counts["in flight"] = in_flight
    return StageResult(stage=name, **{"run_id": "r", **how}, counts=counts)


def refused(name: str, why: str) -> StageResult:
    return StageResult(stage=name, refused=why, advice="Do this: sealift do")


REST = [StageResult(stage="repair"), stage("slice", verified=3)]


def night(*stages: StageResult, known: Known = PROVEN, emptied: Emptied | None = None) -> Summary:
    return summary(stages=stages, known=known, emptied=emptied)


def known(**more: Any) -> Known:
    return Known(**{"objects": 40, "checked": 40, "read": 12, "read_days": 360, **more})


def judged(summary: Summary) -> tuple[Ending, str, list[str]]:
    return judge(Night(LEDGER, "docs", "2026-11-25"), summary.stages, summary.known, summary.emptied)


SOME, YOUNG = known(checked=4), stage("reconcile", in_flight=30, excluded=1)
NONE, NO_SLICE = known(objects=0, checked=0, read=0), [REST[0], stage("slice")]
POLICY = "sealift policy check"


@pytest.mark.parametrize(
    ("summary", "ending", "commands"),
    [
        (night(stage("reconcile", same=40), *REST), Ending.WELL, []),
        (night(stage("reconcile", missing=1), *REST, known=known(accepted=1)), Ending.WELL, []),
        (night(stage("reconcile", same=4, unverifiable=36), *REST, known=SOME), Ending.NOTHING_FOUND, []),
        (night(stage("reconcile", in_flight=1, same=39), *REST), Ending.NOTHING_FOUND, []),
        (night(stage("reconcile", same=40), *REST, stage("replica", in_flight=1)), Ending.NOTHING_FOUND, []),
        (night(stage("reconcile", unverifiable=40), *REST, known=NONE), Ending.UNPROVEN, [POLICY]),
        (night(stage("reconcile", extra=4), *NO_SLICE, known=NONE), Ending.UNPROVEN, [POLICY]),
        (night(stage("reconcile", excluded=4)), Ending.UNPROVEN, [POLICY]),
        (night(YOUNG, *NO_SLICE), Ending.UNPROVEN,
         ["sealift nightly --pair docs --night 2026-11-25 --again --margin 0s"]),
        (night(stage("reconcile", same=40), *REST, known=known(left=1)), Ending.FINDINGS,
         ["sealift status"]),
        (night(stage("reconcile", same=9), refused("repair", "too dear"), known=known(left=4)),
         Ending.FINDINGS, ["sealift do", "sealift status"]),
        (night(stage("reconcile", same=40), refused("slice", "too dear")), Ending.REFUSED,
         ["sealift do"]),
        (night(stage("reconcile", extra=9), emptied=Emptied("2026-11-24", 4, "sealift restore X")),
         Ending.EMPTIED,
         ["If that is meant, take the pair out of the policy", "sealift restore X"]),
    ],
)  # fmt: skip
def test_a_night_is_well_if_all_was_compared_and_nothing_is_left_else_it_has_a_command(
    summary: Summary, ending: Ending, commands: list[str]
) -> None:
    found, sentence, steps = judged(summary)
    assert (found, [step.rpartition(": ")[2] for step in steps]) == (ending, commands)
    numbers = f"of {summary.known.objects} objects, checksums prove {summary.known.checked}, and within "
    assert numbers in sentence or ending not in GOOD, "nothing is well without its numbers"


def test_each_stage_says_what_it_came_to() -> None:
    stages = stage("reconcile", same=36, missing=4), refused("repair", "the plan has 4 objects"), stage("slice")
    assert [*map(stage_text, stages)] == ["36 same, 4 missing", "refused, the plan has 4 objects", "nothing"]


@pytest.mark.parametrize("left", [0, 2])
def test_a_page_says_what_is_left_what_is_proven_and_what_to_do_and_runs_nothing(left: int) -> None:
    keys = ["<script>alert(1)</script>", "docs/a"][:left]
    compared = stage("reconcile", same=2842, rows=2842)
    summary = structs.replace(
        night(compared, known=known(left=left, left_first=keys, objects=2842, checked=2840, read=1204)),
    )
    ending, sentence, steps = judged(summary)
    summary = structs.replace(summary, ending=ending, verdict=f"{sentence}: 2,842 same.", next_steps=steps)
    text = page_of(summary)
    assert sentence in text.replace("\N{NO-BREAK SPACE}", " ")
    for words in ("2,840", "1,204", "360", "2,842 same", *(("sealift status", "docs/a") if left else ())):
        assert words in text, words
    assert "<script>alert" not in text
    assert ('aria-label="nothing is wrong"' in text, "First of what is left" in text) == (not left, bool(left))
