"""Reconciliation as a kind of work: the command itself compares, without workers."""

from __future__ import annotations

from jobs.core.run import RunSpec
from jobs.errors import UsageError
from jobs.runs.kind import Kind


def _not_resumed(spec: RunSpec) -> UsageError:
    advice = "start the reconciliation again, as a new run"
    return UsageError(f"run {spec.run_id} was not finished", advice=advice)


def _not_retried(spec: RunSpec) -> UsageError:
    return UsageError(
        f"run {spec.run_id} only compared", advice=f"what repairs it is in  sealift runs show {spec.run_id}"
    )


KIND = Kind("reconcile", not_retried=_not_retried, not_resumed=_not_resumed)
