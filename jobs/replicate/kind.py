"""Replication as a kind of work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.core.enums import AnnotationRule
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.core.run import FROM_EVENTS, WITHOUT_CONDITIONS, RunSpec, run_of
from jobs.runs.kind import (
    Kind,
    Opened,
    bad_outcomes,
    hint_at_retry,
    planned_by,
    verify_options,
    writes_of_copies,
)
from jobs.s3.sessions import endpoint_of
from jobs.sync.key import Sides, SyncOptions


def _open(opened: Opened) -> Sides:
    """Open the job. Rows that the backup function left are events: versions of a pair's keys, whose policy holds."""
    asked = opened.spec.options
    of_events = {"all_versions": True, "compares_tags": True} if asked.get(FROM_EVENTS) else {}
    keeps_replaced = bool(asked.get("keeps_replaced") or asked.get(WITHOUT_CONDITIONS))
    options = SyncOptions.from_dict(
        {**asked, "is_replay": not of_events, "keeps_replaced": keeps_replaced, **of_events}
    )
    job = Sides(opened.source, opened.destination, opened.route, options, opened.budget, opened.records)
    if opened.plan is not None and (there := opened.plan.there):
        left = max(1, opened.plan.rows - there["same"])
        job.share_new = 1 - (there["alike"] + there["other"]) / left  # no bets where the list has shown objects
    return job


def _lists_copies(spec: RunSpec) -> bool:
    """Rows of an earlier run are looked at one by one: something was wrong with each. So are events' versions.

    So are streamed copies at AWS, which lack annotations if their worker was killed.
    """
    options = spec.options
    may_lack = options.get("streamed") and options.get("annotations", AnnotationRule.COPY) == AnnotationRule.COPY
    is_looked_at = spec.retry_of or run_of(spec.manifest) or options.get(FROM_EVENTS)
    return not is_looked_at and not (may_lack and endpoint_of(spec.destination).partition is not None)


def _hints(report: Mapping[str, Any]) -> list[str]:
    """A retry would find changed objects changed again: a verify run says which ones to replace."""
    bad, reasons = bad_outcomes(report), report.get("reasons", ())
    changed = bad.pop(Status.CHANGED, 0)
    several = sum(each["rows"] for each in reasons if each["reason"] == Reason.ONE_OF_SEVERAL)
    about, hints = f"--manifest run:{report['run_id']} {verify_options(report)}", []
    if several:
        hints.append(f"Copy several versions of a key as its history: sealift replicate {about} --versions all")
    if changed:
        hints += [
            f"Compare what changed: sealift verify {about} --deep",
            "Then overwrite what differs as that verify run advises.",
            # a retry finds such a row the same by then
            f"Then close this finding, which `sealift status` names: sealift runs retry {report['run_id']}",
        ]
    if sum(bad.values()) > several:
        hints += hint_at_retry(report, "the others" if hints else "them")
    return hints


KIND = Kind(
    "replicate",
    _open,
    plan=planned_by("jobs.runs.launch", copies=True, lists_copies=_lists_copies),
    retried_as="replicate",
    writes=writes_of_copies,
    joins_as_text=True,
    hints=_hints,
)
