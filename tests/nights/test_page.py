"""The page of a night: what it came to, and what to do now."""

from __future__ import annotations

from datetime import UTC, datetime

from jobs.nights.documents import Known, StageResult, Summary
from jobs.nights.page import render_night

NOW = datetime(2026, 11, 26, 3, tzinfo=UTC)


def page(left: int) -> str:
    keys = ["<script>alert(1)</script>", "docs/a"][:left]
    known = Known(left, keys, ["r"], 2, 2842, 2840, 1204, 360)
    compared = StageResult(
        stage="reconcile", run_id="r", state="complete", counts={"same": 2842}, origins=("S3's", "ours")
    )
    return render_night(
        Summary(
            pair="docs", night="2026-11-25", source="s3://in/", destination="s3://copies/", state="complete",
            verdict="2 objects need attention: reconcile 2,842 same." if left else "All is well; so: reconcile.",
            next_steps=["See what was found: sealift runs show r"] if left else [], left=left, exit_code=0,
            began_at=NOW, finished_at=NOW, stages=[compared], known=known,
            emptied=None, summary="s3://l/n.json", report_html="s3://l/n.html", ledger="s3://l/",
        )
    )  # fmt: skip


def test_a_page_says_what_is_left_what_is_proven_and_what_to_do_and_runs_nothing() -> None:
    text = page(2)
    for words in ("needs attention", "sealift runs show r", "docs/a", "2,840 of 2,842", "1,204 of 2,842", "360 days"):
        assert words in text, words
    assert "<script>alert" not in text


def test_a_page_of_a_good_night_names_no_object() -> None:
    text = page(0)
    assert 'aria-label="nothing is wrong"' in text
    assert "that are left" not in text
