"""Reconciliation as a kind of work: the command itself compares, without workers."""

from __future__ import annotations

from jobs.core.run import RunSpec
from jobs.runs.kind import Kind


def _not_resumed(spec: RunSpec) -> str:
    return f"run {spec.run_id} was not finished: start the reconciliation again, as a new run"


def _not_retried(spec: RunSpec) -> str:
    return f"run {spec.run_id} only compared: repair what it found with `sealift reconcile --repair`"


KIND = Kind("reconcile", not_retried=_not_retried, not_resumed=_not_resumed)
