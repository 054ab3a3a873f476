"""Verification of archives as a kind of work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.core.run import RunSpec
from jobs.errors import UsageError
from jobs.runs.kind import Kind, Opened
from jobs.verify.archives_job import ARCHIVES_AT_ONCE, VerifyArchives
from jobs.verify.archives_plan import plan_run


def _open(opened: Opened) -> VerifyArchives:
    from jobs.archives.index import ArchiveIndex

    index = ArchiveIndex(opened.ledger.store, opened.ledger.location)
    return VerifyArchives(opened.destination, index, opened.budget)


def _not_retried(spec: RunSpec) -> UsageError:
    advice = "compact again, or restore, what it found damaged"
    return UsageError(f"run {spec.run_id} only read archives", advice=advice)


def _hints(report: Mapping[str, Any]) -> list[str]:
    return ["Restore what is whole, or compact the originals again."]


KIND = Kind(
    "verify archives",
    _open,
    ARCHIVES_AT_ONCE,
    plan_run,
    not_retried=_not_retried,
    is_proof_only=True,
    hints=_hints,
)
