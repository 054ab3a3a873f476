"""The request of a retry: a run's own options, without what belonged to that run alone."""

from __future__ import annotations

import pytest

from jobs.cli.runs import retry_request
from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.registry import kind_of

SOURCE, DESTINATION = Side(Location("docs")), Side(Location("copies"))
COPIES = {
    "storage_class": "GLACIER_IR", "sse": "aws:kms", "kms_key_id": "key", "object_lock": True, "keeps_replaced": True,
    "stream": True,
}  # fmt: skip
LIMITS = {"max_rate": 5.0, "bandwidth_bytes": 1 << 20}
ROWS = {"all_versions": True, "requester_pays": True}


def spec(job: str, **options: object) -> RunSpec:
    return RunSpec(f"20261127T000000Z-{job}-000", job, 1.0, SOURCE, DESTINATION, "a manifest", options)


@pytest.mark.parametrize("job", ["replicate", "compact", "restore", "verify"])
def test_a_retry_keeps_how_copies_are_made_and_what_the_run_may_take(job: str) -> None:
    seen = {"look": {"listed": 1}, "night": "2026-11-26", "filters": {}, "streamed": True, "deep": True}
    first = spec(job, **COPIES, **LIMITS, **ROWS, **seen, pair="scans")
    request = retry_request(first)
    assert (request.job, request.retry_of) == (kind_of(first).retried_as, first.run_id)
    assert request.manifest == f"run:{first.run_id}"
    assert (request.source, request.destination) == (SOURCE, DESTINATION)
    assert request.options == {**COPIES, **LIMITS, **ROWS, "pair": "scans"}
