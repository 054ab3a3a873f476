"""Replication as a kind of work."""

from __future__ import annotations

from functools import partial

from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.runs.kind import NOTHING_THERE, Kind, Opened
from jobs.runs.launch import plan_run


def _open(opened: Opened) -> Replicate:
    options = ReplicateOptions.from_dict(opened.spec.options)
    return Replicate(opened.source, opened.destination, opened.route, options, opened.budget, opened.records)


KIND = Kind(
    "replicate", _open, plan=partial(plan_run, refuses_large=True), retried_as="replicate", assumption=NOTHING_THERE
)
