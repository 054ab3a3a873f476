"""Backup as a kind of work: copies the rows that the Lambda function left behind."""

from __future__ import annotations

from functools import partial

from jobs.runs.kind import NOTHING_THERE, Kind, Opened, writes_of_copies
from jobs.runs.launch import plan_run
from jobs.sync.job import SyncJob
from jobs.sync.key import SyncOptions


def _open(opened: Opened) -> SyncJob:
    options = SyncOptions.from_dict({**opened.spec.options, "all_versions": True, "compares_tags": True})
    return SyncJob(opened.source, opened.destination, opened.route, options, opened.budget, opened.records)


KIND = Kind(
    "backup",
    _open,
    plan=partial(plan_run, copies=True),
    retried_as="replicate",
    assumption=NOTHING_THERE,
    writes=writes_of_copies,
)
