"""The page of a night: what it came to, and what to do now."""

from __future__ import annotations

from datetime import UTC, datetime

from jobs.nights.documents import Known, StageResult, Summary
from jobs.nights.verdicts import judge, page_of

NOW = datetime(2026, 11, 26, 3, tzinfo=UTC)


def page(left: int) -> str:
    keys = ["<script>alert(1)</script>", "docs/a"][:left]
    known = Known(left, keys, 2, 2842, 2840, 1204, 360)
    compared = StageResult(stage="reconcile", run_id="r", state="complete", counts={"same": 2842}, rows=2842)
    summary = Summary(
        pair="docs", night="2026-11-25", source="s3://in/", destination="s3://copies/", state="complete",
        next_steps=["See what was found: sealift status"] if left else [], left=left, exit_code=0,
        began_at=NOW, finished_at=NOW, stages=[compared], known=known,
        emptied=None, summary="s3://l/n.json", report_html="s3://l/n.html", ledger="s3://l/",
    )  # fmt: skip
    text = page_of(summary)
    assert judge(summary)[1] in text.replace("\N{NO-BREAK SPACE}", " ")
    return text


def test_a_page_says_what_is_left_what_is_proven_and_what_to_do_and_runs_nothing() -> None:
    text = page(2)
    for words in ("sealift status", "docs/a", "2,840", "1,204", "360", "2,842 same"):
        assert words in text, words
    assert "<script>alert" not in text


def test_a_page_of_a_good_night_names_no_object() -> None:
    text = page(0)
    assert 'aria-label="nothing is wrong"' in text
    assert "First of what is left" not in text
