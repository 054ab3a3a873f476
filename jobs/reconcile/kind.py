"""Reconciliation as a kind of work: the command itself compares, without workers."""

from __future__ import annotations

from jobs.core.run import RunSpec
from jobs.errors import UsageError
from jobs.runs.kind import Kind


def _refused(spec: RunSpec) -> UsageError:
    return UsageError(
        f"run {spec.run_id} only compared, and does not continue",
        advice=f"compare again, or see what repairs it:  sealift runs show {spec.run_id}",
    )


KIND = Kind("reconcile", not_retried=_refused, not_resumed=_refused)
