"""Verification of copies as a kind of work. A retry copies what it proved wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from jobs.core.display import shown
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.runs.kind import Kind, Opened, bad_outcomes, planned_by, verify_options
from jobs.s3.operations import Operation
from jobs.verify.attest import attest, read_attested
from jobs.verify.job import Verify, VerifyOptions


def _open(opened: Opened) -> Verify:
    options = msgspec.convert(dict(opened.spec.options), VerifyOptions)
    return Verify(opened.source, opened.destination, opened.route, options, opened.budget)


_NOT_RETRIED = (Reason.SOURCE_GONE, Reason.SOURCE_REPLACED, Reason.EITHER_DAMAGED)


def _is_unread(counted: Mapping[str, Any]) -> bool:
    return counted["reason"] == Reason.ARCHIVED or Operation.GET in (counted.get("detail") or "")


def _hints(report: Mapping[str, Any]) -> list[str]:
    retry, bad = f"sealift runs retry {report['run_id']}", bad_outcomes(report)
    if bad.get(Status.MISSING) == report["rows"]:
        return [
            f"Every row is missing: is {shown(report['destination'])} the right destination? If so, copy them: {retry}",
            "If not, nothing is wrong with your copies. Accept it, so that `sealift status` names it no more: "
            f"sealift status --accept \"found_by = '{report['run_id']}'\" --reason TEXT",
        ]
    hints, reasons, about = [], report.get("reasons", ()), verify_options(report)
    either = sum(each["rows"] for each in reasons if each["reason"] == Reason.EITHER_DAMAGED)
    is_alone = either == sum(bad.values())
    bad.pop(Status.DAMAGED, 0)  # its words say what helps
    if any(map(_is_unread, reasons)):  # a retry may find the ETags the same
        hints.append(f"What could not be read was not compared. Verify it again: sealift verify {about} --deep")
    if either and is_alone:  # it overwrites whatever else is in the run
        replace = f"sealift replicate --manifest run:{report['run_id']} {about} --overwrite always"
        hints.append(f"Look at both sides where either may be damaged. If the source is right: {replace}")
    if sum(bad.values()) > sum(each["rows"] for each in reasons if _is_unread(each) or each["reason"] in _NOT_RETRIED):
        hints.append(f"Copy {'the others' if hints else 'them'} again: {retry}")
    return hints


KIND = Kind(
    "verify",
    _open,
    plan=planned_by("jobs.runs.launch", prepare=attest, copies=False),
    retried_as="replicate",
    hints=_hints,
    beside=read_attested,
)
