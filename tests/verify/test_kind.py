"""What the report of a verify run advises."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.verify.kind import KIND


def report(*reasons: tuple[str, ...]) -> dict[str, Any]:
    """A report with a row for each (status, reason, and perhaps its detail)."""
    return {
        "run_id": "RUN",
        "rows": len(reasons) + 1,
        "outcomes": {"verified": 1} | {status: sum(each[0] == status for each in reasons) for status, *_ in reasons},
        "reasons": [{**dict(zip(("status", "reason", "detail"), each, strict=False)), "rows": 1} for each in reasons],
        "source": "s3://docs/",
        "destination": "s3://copies/",
    }


UNREAD = ("blocked", "given_up", "GetObject: InternalError")
AGAIN = "What could not be read was not compared. Verify it again: sealift verify "
AGAIN += "--source s3://docs/ --destination s3://copies/ --deep"


@pytest.mark.parametrize(
    "unread",
    [UNREAD, ("blocked", "denied", "GetObject: AccessDenied"), ("unknown", "archived", "copy")],
    ids=lambda each: str(each[1]),
)
def test_what_could_not_be_read_is_verified_again_and_not_retried(unread: tuple[str, ...]) -> None:
    """A retry found the ETags the same."""
    assert KIND.hints(report(unread)) == [AGAIN]
    wrong = ("different", "content_differs", "3")
    assert KIND.hints(report(unread, wrong)) == [AGAIN, "Copy the others again: sealift runs retry RUN"]


def test_a_copy_that_no_retry_replaces_is_not_retried() -> None:
    [hint] = KIND.hints(report(("different", "either_damaged", "")))
    replace = "sealift replicate --manifest run:RUN --source s3://docs/ --destination s3://copies/ --overwrite always"
    assert hint.endswith(f": {replace}")
    mixed = KIND.hints(report(("different", "either_damaged", ""), ("different", "source_replaced", "")))
    assert mixed == []  # it would overwrite what is newer since
