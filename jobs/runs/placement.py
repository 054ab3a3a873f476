"""Placement of a run: this machine or AWS Batch, its queue and job definition."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from jobs.aws.batch import Batch
from jobs.aws.batch_arrays import Placement
from jobs.config import Settings
from jobs.core.run import RunSpec
from jobs.errors import UsageError
from jobs.runs.request import Request

DETACHED = "detached"
"""The executor that sends a run to AWS Batch and does not wait for it."""


def is_batch(executor: str | None, settings: Settings) -> bool:
    """True if the run goes to AWS Batch. `executor`: what the command line says, None for the settings."""
    return (executor or settings.executor) != "local"


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


async def check_placement(settings: Settings, run: Request | RunSpec) -> Placement:
    """Choose a run's placement, and check that queue and job definition exist, and that containers reach both sides.

    Raises ConfigError and UsageError.
    """
    placement = choose_placement(settings, run.job)
    for side in (run.source, run.destination):
        if side is not None and side.profile:
            raise UsageError(
                f"{side.location} is reached by the profile {side.profile!r} of this machine, which containers do not "
                "have",
                advice="give the job definition a role that may reach both sides",
            )
    batch = Batch()
    await asyncio.to_thread(batch.check_queue, placement.queue)
    await asyncio.to_thread(batch.check_definition, placement.job_definition)
    return placement


async def planning_settings(executor: str | None, settings: Settings, request: Request) -> Settings:
    """The settings to plan with. For AWS Batch its placement is checked, and a run has as many workers as children."""
    if not is_batch(executor, settings):
        return settings
    await check_placement(settings, request)
    return replace(settings, executor="batch", processes=settings.batch_processes)
