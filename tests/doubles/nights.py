"""A night's summary, for tests that need one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobs.nights.summary import Known, StageResult, Summary

NOW = datetime(2026, 11, 26, 3, tzinfo=UTC)


def summary(**more: Any) -> Summary:
    places = {"source": "s3://in/", "destination": "s3://copies/"}
    when = {"night": "2026-11-25", "began_at": NOW, "finished_at": NOW}
    found: dict[str, Any] = {"stages": [StageResult(stage="reconcile")], "known": Known(), "emptied": None}
    return Summary(**{"pair": "docs", "report_html": None, "exit_code": 0, **places, **when, **found, **more})
