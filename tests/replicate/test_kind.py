"""What the report of a replicate run advises."""

from __future__ import annotations

from typing import Any

from jobs.core.reasons import Reason
from jobs.replicate.kind import KIND


def report(*reasons: tuple[str, str]) -> dict[str, Any]:
    """A report with a row for each (status, reason)."""
    return {
        "run_id": "RUN",
        "outcomes": {"done": 1} | {status: sum(each == status for each, _ in reasons) for status, _ in reasons},
        "reasons": [{"status": status, "reason": reason, "rows": 1} for status, reason in reasons],
        "source": "s3://docs/",
        "destination": "s3://copies/",
    }


def test_versions_of_one_key_are_not_retried_but_copied_as_a_history() -> None:
    several = ("blocked", Reason.ONE_OF_SEVERAL)
    as_history = (
        "Copy several versions of a key as its history: sealift replicate --manifest run:RUN "
        "--source s3://docs/ --destination s3://copies/ --versions all"
    )
    assert KIND.hints(report(several)) == [as_history]
    denied = ("blocked", "CopyObject s3://copies/k: AccessDenied")
    assert KIND.hints(report(several, denied)) == [as_history, "Try the others again: sealift runs retry RUN"]
    assert KIND.hints(report(denied)) == ["Try them again: sealift runs retry RUN"]
