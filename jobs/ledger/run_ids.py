"""Ids of runs: the second in which a run began, its job, and a fraction of that second."""

from __future__ import annotations

import calendar
import re
import time

from jobs.core.run import RunSpec

_RUN_ID = re.compile(r"(\d{8}T\d{6}Z)-([a-z]+)-[0-9a-f]{6}", re.ASCII)


def run_job(run_id: str) -> str | None:
    """The job that a run's id names. None for an id that no planner makes (`new_run_id`)."""
    match = _RUN_ID.fullmatch(run_id)
    return match[2] if match and begin_second(run_id) is not None else None


def is_spec_of(run_id: str, spec: RunSpec) -> bool:
    """Whether a spec is that of the run, and asks for the job that the run's id names."""
    return (spec.run_id, spec.job) == (run_id, run_job(run_id))


def begin_second(run_id: str) -> int | None:
    """When the run of such an id began, in epoch seconds. None for an id of another form."""
    try:
        return calendar.timegm(time.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return None


def begin_order(run_id: str) -> tuple[str, str, str]:
    """The key that sorts the ids of runs by when they began.

    The text of an id does so by the second alone: its job comes before the
    fraction of the second (`jobs.runs.request.new_run_id`).
    """
    return run_id.partition("-")[0], run_id.rpartition("-")[2], run_id
