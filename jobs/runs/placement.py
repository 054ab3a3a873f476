"""Placement of a run: this machine or AWS Batch, its queue and job definition."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from jobs.aws.batch import Batch
from jobs.aws.batch_arrays import SYSTEM_TAG, Placement
from jobs.config import Settings
from jobs.core.run import Side
from jobs.errors import UsageError

T = TypeVar("T")
CHILDREN = 16
"""The workers at once that a plan counts on, unless the user says how many."""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What a command's options say of where its runs work. None: the settings decide.

    `memory_bytes` and `vcpus` are a worker's. `children`: the least number of shards.
    """

    executor: str | None = None
    detach: bool = False
    then_verify: bool = False
    queue: str | None = None
    on_demand: bool = False
    job_definition: str | None = None
    children: int | None = None
    share: str | None = None
    priority: int | None = None
    vcpus: float | None = None
    memory_bytes: int | None = None
    timeout_seconds: int | None = None
    attempts: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def is_batch(options: BatchOptions, settings: Settings) -> bool:
    """True if the run goes to AWS Batch. Raises UsageError for an unknown executor."""
    executor = options.executor or settings.executor
    if executor not in ("local", "batch"):
        raise UsageError(f"SEALIFT_EXECUTOR={executor!r}", advice="expected local or batch")
    if executor == "local":
        for name, is_given in (("--detach", options.detach), ("--then-verify", options.then_verify)):
            if is_given:
                raise UsageError(f"{name} needs --executor batch")
    return executor == "batch"


def batch_placement(options: BatchOptions, settings: Settings, job: str) -> Placement | None:
    """Where the jobs of a run go in AWS Batch. None: the run stays on this machine."""
    return choose_placement(options, settings, job) if is_batch(options, settings) else None


def choose_placement(
    options: BatchOptions, settings: Settings, job: str, earlier: Placement | None = None
) -> Placement:
    """Choose where the jobs of a run go, and what each of them gets.

    The options come first, then the settings, then an earlier submission. The earlier submission
    comes from the ledger. It may say how much a job gets, but neither queue nor job definition,
    which decide under which role the job runs. A share comes from the settings last.

    `{job}` in the name of a job definition becomes the run's job, so that each has a role of its
    own.

    Raises UsageError when nobody names a queue or a job definition, or for a value that Batch would
    refuse.
    """
    queue = options.queue
    if options.on_demand and queue is None:
        queue = settings.batch_queue_on_demand
        if queue is None:
            raise UsageError("--on-demand needs a queue", advice="set SEALIFT_BATCH_QUEUE_ON_DEMAND or give --queue")
    queue = queue or settings.batch_queue
    definition = options.job_definition or settings.batch_job_definition
    if not queue:
        raise UsageError("no job queue", advice="give --queue or set SEALIFT_BATCH_QUEUE")
    if not definition:
        raise UsageError("no job definition", advice="give --job-definition or set SEALIFT_BATCH_JOB_DEFINITION")
    definition = definition.replace("{job}", job)
    if earlier is not None and not (options.queue or options.on_demand or options.job_definition):
        _demand_same(earlier, queue, definition)
    base = earlier or Placement(queue, definition)
    system = {SYSTEM_TAG: settings.system} if settings.system else {}
    memory = options.memory_bytes
    share = _first(_first(options.share, base.share), settings.batch_share)
    if options.priority is not None and share is None:
        raise UsageError("--priority needs --share (SEALIFT_BATCH_SHARE): Batch takes it within a share only")
    return Placement(
        queue=queue,
        job_definition=definition,
        share=share,
        priority=_first(options.priority, base.priority),
        vcpus=_first(options.vcpus, base.vcpus),
        memory_mib=-(-memory // 1024**2) if memory else base.memory_mib,
        timeout_seconds=_first(options.timeout_seconds, base.timeout_seconds),
        attempts=options.attempts or base.attempts,
        tags={**(options.tags or base.tags), **system},
    )


def _demand_same(earlier: Placement, queue: str, definition: str) -> None:
    there, here = (earlier.queue, earlier.job_definition), (queue, definition)
    if there != here:
        raise UsageError(
            f"the ledger says that the run was sent to queue {there[0]!r} as {there[1]!r}, your settings say "
            f"{here[0]!r} as {here[1]!r}",
            advice="name the ones to use with --queue and --job-definition",
        )


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


def planning_settings(settings: Settings, options: BatchOptions) -> Settings:
    """The settings to plan with: as many workers at once as the run will have children."""
    return replace(settings, executor="batch", processes=options.children or CHILDREN)


def _first(value: T | None, otherwise: T | None) -> T | None:
    return otherwise if value is None else value
