"""Documents with a key that a newer Sealift has added, which no reader refuses (docs/ledger.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jobs.aws.batch_arrays import Placement, Submission, make_submission
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from scheduler.backlog import BacklogRow

RUN = "19700101T000000Z-replicate-aaaaaa"
PLAN = Plan(3, 9, (ShardSummary(3, 9),), {}, {"copy": 3}, {"requests": 0.5}, "prices", 1.0)
SIDE = Side(Location("source-of-ours"))
SPEC = RunSpec(RUN, "replicate", 0.5, SIDE, Side(Location("copies-of-ours")), "listing of s3://source-of-ours/")
SENT = make_submission(RUN, 0, Placement("spot", "sealift:7"), [0, 1], "s3://ledger")
ROW = BacklogRow("source-of-ours", "k", "v", 3, "etag", "too large")


def with_more(document: Any) -> Any:
    """The document with a key more at each place that has keys of its own."""
    if isinstance(document, list):
        return [with_more(each) for each in document]
    if not isinstance(document, dict):
        return document
    more = {name: each if name in _MAPS else with_more(each) for name, each in document.items()}
    return more | {"added_later": {"by": "a newer Sealift"}}


_MAPS = ("excluded", "requests", "dollars", "savings", "restore", "expiry", "there", "rollback", "tags", "options")
"""Keys whose values are kept as they are."""


@pytest.mark.parametrize(
    ("written", "document", "read"),
    [
        (PLAN, PLAN.to_dict(), Plan.from_dict),
        (SPEC, SPEC.to_dict(), RunSpec.from_dict),
        (SENT, SENT.to_dict(), Submission.from_dict),
        (ROW, msgspec.to_builtins(ROW), lambda document: msgspec.convert(document, BacklogRow)),
    ],
    ids=["plan", "spec", "submission", "backlog"],
)
def test_a_key_that_was_added_later_is_ignored(written: Any, document: Any, read: Callable[[Any], Any]) -> None:
    assert read(with_more(document)) == written
