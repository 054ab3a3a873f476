"""Replication as a kind of work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.core.evidence import NOT_THE_ONE_NAMED
from jobs.core.outcome import Status
from jobs.replicate.job import HIDDEN_AGAIN, ONE_OF_SEVERAL, TOO_LATE, Replicate, ReplicateOptions
from jobs.replicate.plan import plan_copies
from jobs.runs.kind import (
    AS_IT_WAS,
    NOTHING_THERE,
    Kind,
    Opened,
    bad_outcomes,
    hint_at_retry,
    verify_options,
    writes_of_copies,
)


def _open(opened: Opened) -> Replicate:
    options = ReplicateOptions.from_dict(opened.spec.options)
    return Replicate(opened.source, opened.destination, opened.route, options, opened.budget, opened.records)


def _hints(report: Mapping[str, Any]) -> list[str]:
    """A retry would find changed objects changed again: a verify run says which ones to replace."""
    bad = bad_outcomes(report)
    changed = bad.pop(Status.CHANGED, 0)
    reasons = report.get("reasons", ())
    several = sum(each["rows"] for each in reasons if each["reason"] == ONE_OF_SEVERAL)
    if not changed and not several:
        return hint_at_retry(report)
    options = verify_options(report)
    has_others = sum(bad.values()) > several
    hidden = sum(each["rows"] for each in reasons if each["reason"] == HIDDEN_AGAIN)
    late = sum(each["rows"] for each in reasons if each["reason"] == TOO_LATE)
    lasting = sum(each["rows"] for each in reasons if each["reason"] in (HIDDEN_AGAIN, NOT_THE_ONE_NAMED, TOO_LATE))
    hints = []
    if several:
        again = f"sealift replicate --manifest run:{report['run_id']} {options} --versions all"
        hints.append(f"Copy several versions of a key as its history: {again}")
    if hidden:
        again = f"sealift replicate --manifest run:{report['run_id']} {options} --overwrite always"
        hints.append(f"Exclude the copies from the lifecycle rule that hides them, then copy them: {again}")
    if late:
        hints.append(
            "No version can be put below a newer one: copy the whole history to an empty place, or say that nobody has "
            f"to act: sealift runs dismiss {report['run_id']} --reason TEXT"
        )
    if changed > hidden + late:
        hints += [
            f"Compare what changed: sealift verify --manifest run:{report['run_id']} {options} --deep",
            "Then overwrite what differs by a retry of that verify run.",
        ]
    if changed > lasting:  # a retry finds such a row the same by then
        hints.append(f"Then close this finding, which `sealift status` names: sealift runs retry {report['run_id']}")
    return [*hints, *(hint_at_retry(report, "the others") if has_others else [])]


KIND = Kind(
    "replicate",
    _open,
    plan=plan_copies,
    retried_as="replicate",
    assumption=NOTHING_THERE,
    retry_assumption=AS_IT_WAS,
    writes=writes_of_copies,
    joins_as_text=True,
    hints=_hints,
)
