"""Placement of a run: this machine or AWS Batch, its queue and job definition."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from jobs.aws.batch import Batch
from jobs.aws.batch_arrays import Placement
from jobs.config import Settings
from jobs.core.run import Side
from jobs.errors import UsageError

DETACHED = "detached"
"""The executor that sends a run to AWS Batch and does not wait for it."""


def is_batch(executor: str | None, settings: Settings) -> bool:
    """True if the run goes to AWS Batch. `executor`: what the command line says, None for the settings.

    Raises UsageError for an unknown executor.
    """
    executor = executor or settings.executor
    if executor not in ("local", "batch", DETACHED):
        raise UsageError(f"--executor {executor!r}", advice="expected local, batch or detached")
    return executor != "local"


def batch_placement(executor: str | None, settings: Settings, job: str) -> Placement | None:
    """Where the jobs of a run go in AWS Batch. None: the run stays on this machine."""
    return choose_placement(settings, job) if is_batch(executor, settings) else None


def choose_placement(settings: Settings, job: str) -> Placement:
    """Choose the queue and the job definition of a run, which decide under which role its jobs run.

    They come from the settings, never from the ledger. `{job}` in the name of a job definition becomes
    the run's job, so that each has a role of its own. Raises UsageError.
    """
    queue, definition = settings.batch_queue, settings.batch_job_definition
    if not queue:
        raise UsageError("no job queue", advice="set SEALIFT_BATCH_QUEUE")
    if not definition:
        raise UsageError("no job definition", advice="set SEALIFT_BATCH_JOB_DEFINITION")
    return Placement(queue, definition.replace("{job}", job), settings.system)


def refuse_profiles(*sides: Side | None) -> None:
    """Check that containers can reach both sides. Raises UsageError."""
    for side in sides:
        if side is not None and side.profile:
            raise UsageError(
                f"{side.location} is reached by the profile {side.profile!r} of this machine, which containers do not "
                "have",
                advice="give the job definition a role that may reach both sides",
            )


async def check_placement(placement: Placement, *sides: Side | None) -> None:
    """Check that queue and job definition exist, and that containers can reach both sides.

    Raises ConfigError and UsageError.
    """
    refuse_profiles(*sides)
    batch = Batch()
    await asyncio.to_thread(batch.check_queue, placement.queue)
    await asyncio.to_thread(batch.check_definition, placement.job_definition)


def planning_settings(settings: Settings) -> Settings:
    """The settings to plan with: as many workers at once as the run will have children."""
    return replace(settings, executor="batch", processes=settings.batch_processes)
