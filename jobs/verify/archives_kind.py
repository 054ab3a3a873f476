"""Verification of archives as a kind of work."""

from __future__ import annotations

from jobs.core.run import RunSpec
from jobs.runs.kind import Kind, Opened
from jobs.verify.archives_job import ARCHIVES_AT_ONCE, VerifyArchives
from jobs.verify.archives_plan import plan_run


def _open(opened: Opened) -> VerifyArchives:
    from jobs.archives.index import ArchiveIndex

    index = ArchiveIndex(opened.ledger.store, opened.ledger.location)
    return VerifyArchives(opened.destination, index, opened.budget)


def _not_retried(spec: RunSpec) -> str:
    return f"run {spec.run_id} only read archives: compact again, or restore, what it found damaged"


KIND = Kind("verify archives", _open, ARCHIVES_AT_ONCE, plan_run, not_retried=_not_retried)
