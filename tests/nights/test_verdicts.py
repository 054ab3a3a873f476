"""What a night came to, in one sentence and as a page, and what a person does then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from jobs.nights.documents import Emptied, Known, StageResult, Summary
from jobs.nights.verdicts import judge, page_of, stage_text

NOW = datetime(2026, 11, 26, 3, tzinfo=UTC)
PROVEN = Known(objects=40, checked=40, read=12, read_days=360)


def stage(name: str, *, in_flight: int = 0, **counts: Any) -> StageResult:
    how = {field: counts.pop(field) for field in StageResult.__struct_fields__ if field in counts}
    if in_flight:
        counts["in flight"] = in_flight
    return StageResult(stage=name, **{"run_id": "r", "state": "complete", **how}, counts=counts)


def refused(name: str, why: str) -> StageResult:
    return StageResult(stage=name, refused=why, advice="Do this: sealift do")


REST = [StageResult(stage="repair"), stage("slice", verified=3)]


def night(*stages: StageResult, known: Known = PROVEN, emptied: Emptied | None = None) -> Summary:
    left = max(known.left, emptied.objects if emptied else 0)
    return Summary(
        pair="docs", night="2026-11-25", source="s3://in/", destination="s3://copies/", state="complete", left=left,
        exit_code=0, began_at=NOW, finished_at=NOW, stages=stages, known=known,
        emptied=emptied, summary="s3://l/n.json", report_html=None, ledger="s3://l/",
    )  # fmt: skip


def known(**more: Any) -> Known:
    return Known(**{"objects": 40, "checked": 40, "read": 12, "read_days": 360, **more})


@pytest.mark.parametrize(
    ("summary", "head", "well"),
    [
        (night(stage("reconcile", same=40), *REST), "All is well; of 40 objects 40 are proven by checksums, and the "
         "bytes of 12 were read within 360 days", True),
        (night(stage("reconcile", same=39, missing=1), *REST, known=known(accepted=1)), "All is well, but for 1 object "
         "that somebody has accepted; of 40 objects 40 are proven by checksums, and the bytes of 12 were read within "
         "360 days", True),
        (night(stage("reconcile", same=4, unverifiable=36), *REST, known=known(checked=4)), "Nothing wrong was found; "
         "of 40 objects 4 are proven by checksums, and the bytes of 12 were read within 360 days", True),
        (night(stage("reconcile", unverifiable=40), *REST, known=known(checked=0, read=0)), "Nothing could be proven; "
         "of 40 objects 0 are proven by checksums, and the bytes of 0 were read within 360 days", False),
        (night(stage("reconcile", same=40), *REST, known=known(left=1)), "1 object needs attention", False),
        (night(stage("reconcile", same=40), refused("slice", "too dear")),
         "Not everything was done", False),
        (night(stage("reconcile", in_flight=30, excluded=1), REST[0], stage("slice")), "Nothing could be proven; 30 "
         "objects too new to be judged (--margin); of 40 objects 40 are proven by checksums, and the bytes of 12 were "
         "read within 360 days", False),
        (night(stage("reconcile", extra=4), REST[0], stage("slice"),
               known=known(objects=0, checked=0, read=0, read_days=1)),
         "Nothing could be proven; of 0 objects 0 are proven by checksums, and the bytes of 0 were read within 1 day",
         False),
        (night(stage("reconcile", in_flight=1, same=39), *REST), "Nothing wrong was found; 1 object too new to be "
         "judged (--margin); of 40 objects 40 are proven by checksums, and the bytes of 12 were read within 360 days",
         True),
        (night(stage("reconcile", same=40), *REST, stage("replica", in_flight=1)), "Nothing wrong was found; 1 object "
         "too new to be judged (--margin); of 40 objects 40 are proven by checksums, and the bytes "
         "of 12 were read within 360 days", True),
        (night(stage("reconcile", same=40), stage("repair", state="incomplete", done=3)),
         "The night is not finished, repair has rows left to do", False),
        (night(stage("reconcile", extra=9), emptied=Emptied("2026-11-24", 4, "sealift restore X")),
         "The source has no object, on 2026-11-24 it had 4, and all copies stay", False),
    ],
)  # fmt: skip
def test_all_is_well_only_if_something_was_compared_and_nothing_is_left(
    summary: Summary, head: str, well: bool
) -> None:
    assert judge(summary)[:2] == (well, head)


def test_each_stage_says_what_it_came_to() -> None:
    stages = stage("reconcile", same=36, missing=4), refused("repair", "the plan has 4 objects"), stage("slice")
    assert [*map(stage_text, stages)] == ["36 same, 4 missing", "refused, the plan has 4 objects", "nothing"]


@pytest.mark.parametrize(
    ("summary", "commands"),
    [
        (night(stage("reconcile", same=40), *REST), []),
        (night(stage("repair", state="incomplete")), ["sealift nightly --pair docs --night 2026-11-25 --again"]),
        (night(stage("reconcile", extra=9), emptied=Emptied("2026-11-24", 4, "sealift restore X")),
         ["If that is meant, take the pair out of the policy", "sealift restore X"]),
        (night(stage("reconcile", same=9), refused("repair", "too dear"), known=known(left=4)),
         ["sealift do", "sealift status"]),
        (night(stage("reconcile", same=9), *REST, known=known(left=1)), ["sealift status"]),
        (night(stage("reconcile", in_flight=9)),
         ["sealift nightly --pair docs --night 2026-11-25 --again --margin 0s"]),
        (night(stage("reconcile", excluded=4)), ["sealift policy check"]),
    ],
)  # fmt: skip
def test_each_thing_that_is_not_well_has_a_command(summary: Summary, commands: list[str]) -> None:
    assert [step.rpartition(": ")[2] for step in judge(summary)[2]] == commands


@pytest.mark.parametrize("left", [0, 2])
def test_a_page_says_what_is_left_what_is_proven_and_what_to_do_and_runs_nothing(left: int) -> None:
    keys = ["<script>alert(1)</script>", "docs/a"][:left]
    compared = stage("reconcile", same=2842, rows=2842)
    summary = structs.replace(
        night(compared, known=known(left=left, left_first=keys, objects=2842, checked=2840, read=1204)),
        next_steps=["See what was found: sealift status"] if left else [],
    )
    text = page_of(summary)
    assert judge(summary)[1] in text.replace("\N{NO-BREAK SPACE}", " ")
    for words in ("2,840", "1,204", "360", "2,842 same", *(("sealift status", "docs/a") if left else ())):
        assert words in text, words
    assert "<script>alert" not in text
    assert ('aria-label="nothing is wrong"' in text, "First of what is left" in text) == (not left, bool(left))
