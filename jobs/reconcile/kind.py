"""Reconciliation as a kind of work: the command itself compares, without workers."""

from __future__ import annotations

from jobs.core.run import RunSpec
from jobs.reconcile.repair_advice import reconcile_command
from jobs.runs.kind import Kind


def _not_resumed(spec: RunSpec) -> str:
    return f"run {spec.run_id} was not finished: start the reconciliation again, as a new run"


def _not_retried(spec: RunSpec) -> str:
    if spec.options.get("pair"):
        return f"run {spec.run_id} only compared: what repairs it is in  sealift runs show {spec.run_id}"
    return (
        f"run {spec.run_id} only compared. Repair what it found with  {reconcile_command(spec)} --repair\n"
        "Add --repair-different to overwrite what differs."
    )


KIND = Kind("reconcile", not_retried=_not_retried, not_resumed=_not_resumed)
