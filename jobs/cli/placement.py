"""Where a run works: options and settings of `--executor batch`, and whether what they name is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import click

from jobs.cli.options import SizeType, stack
from jobs.config import Settings
from jobs.core.arrays import SYSTEM_TAG, Placement
from jobs.core.run import Side
from jobs.errors import UsageError
from jobs.s3.batch import Batch

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
CHILDREN = 16
"""How many workers at once a plan counts on, unless the user says."""


def batch_options() -> Callable[[F], F]:
    """--detach … --attempts: how a run goes to AWS Batch."""
    return stack(
        click.option("--detach", is_flag=True, help="Batch: submit and leave; `sealift runs watch` follows the run."),
        click.option("--queue", metavar="NAME", help="Batch: the job queue. Default: SEALIFT_BATCH_QUEUE."),
        click.option("--on-demand", is_flag=True, help="Batch: the queue is SEALIFT_BATCH_QUEUE_ON_DEMAND instead."),
        click.option(
            "--job-definition",
            metavar="NAME",
            help="Batch: name or name:revision; {job} is the verb. Default: SEALIFT_BATCH_JOB_DEFINITION.",
        ),
        click.option(
            "--children", type=click.IntRange(min=1), help=f"Batch: at least so many shards. Default: {CHILDREN}."
        ),
        click.option("--share", metavar="NAME", help="Batch: share identifier, for queues with a scheduling policy."),
        click.option("--priority", type=int, help="Batch: scheduling priority within the share, 0 to 9999."),
        click.option("--vcpus", type=click.FloatRange(min=0, min_open=True), help="Batch: vCPUs of a worker."),
        click.option("--memory", type=SizeType(), help="Batch: memory of a worker, as 2GiB."),
        click.option("--timeout", type=int, metavar="SECONDS", help="Batch: the longest that one attempt may take."),
        click.option(
            "--attempts", type=int, help="Batch: starts of a worker at most, Spot reclaims included. Default: 5."
        ),
        click.option("--tag", multiple=True, metavar="KEY=VALUE", help="Batch: a tag for the jobs. May be repeated."),
    )


def is_batch(given: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the run goes to AWS Batch. Raises UsageError for an executor that is neither."""
    executor = given.get("executor") or settings.executor
    if executor not in ("local", "batch"):
        raise UsageError(f"SEALIFT_EXECUTOR={executor!r}: expected local or batch")
    if executor == "local":
        for name in ("detach", "then_verify"):
            if given.get(name):
                raise UsageError(f"--{name.replace('_', '-')} needs --executor batch")
    return bool(executor == "batch")


def place(given: Mapping[str, Any], settings: Settings, job: str, earlier: Placement | None = None) -> Placement:
    """Where and how the jobs of a run run, by options, settings and an earlier submission, in this order.

    The earlier submission comes from the ledger: it may say how much a job gets, but neither queue nor job definition,
    which decide under which role it runs.

    `{job}` in the name of a job definition stands for the run's job, so that each has a role of its own.

    Raises UsageError when nobody names a queue or a job definition, or Batch would not take a value.
    """
    queue = given.get("queue")
    if given.get("on_demand") and queue is None:
        queue = settings.batch_queue_on_demand
        if queue is None:
            raise UsageError("--on-demand needs a queue: set SEALIFT_BATCH_QUEUE_ON_DEMAND or give --queue")
    queue = queue or settings.batch_queue
    definition = given.get("job_definition") or settings.batch_job_definition
    if not queue:
        raise UsageError("no job queue: give --queue or set SEALIFT_BATCH_QUEUE")
    if not definition:
        raise UsageError("no job definition: give --job-definition or set SEALIFT_BATCH_JOB_DEFINITION")
    definition = definition.replace("{job}", job)
    if earlier is not None and not (given.get("queue") or given.get("on_demand") or given.get("job_definition")):
        _demand_same(earlier, queue, definition)
    base = earlier or Placement(queue, definition)
    system = {SYSTEM_TAG: settings.system} if settings.system else {}
    memory, tags = given.get("memory"), dict(_tag(text) for text in given.get("tag") or ())
    return Placement(
        queue=queue,
        job_definition=definition,
        share=_first(given.get("share"), base.share),
        priority=_first(given.get("priority"), base.priority),
        vcpus=_first(given.get("vcpus"), base.vcpus),
        memory_mib=-(-memory // 1024**2) if memory else base.memory_mib,
        timeout_seconds=_first(given.get("timeout"), base.timeout_seconds),
        attempts=given.get("attempts") or base.attempts,
        tags={**(tags or base.tags), **system},
    )


def _demand_same(earlier: Placement, queue: str, definition: str) -> None:
    there, here = (earlier.queue, earlier.job_definition), (queue, definition)
    if there != here:
        raise UsageError(
            f"the ledger says that the run was sent to queue {there[0]!r} as {there[1]!r}, your settings say "
            f"{here[0]!r} as {here[1]!r}: name the ones to use with --queue and --job-definition"
        )


def check_sides(*sides: Side | None) -> None:
    """Both must be reachable from a container. Raises UsageError."""
    for side in sides:
        if side is not None and side.profile:
            raise UsageError(
                f"{side.location} is reached by the profile {side.profile!r} of this machine, which containers do not "
                "have: give the job definition a role that may reach both sides"
            )


async def check(placement: Placement, *sides: Side | None) -> None:
    """Queue and job definition must be there, and the sides in reach of them. Raises ConfigError, UsageError."""
    check_sides(*sides)
    batch = Batch()
    await asyncio.to_thread(batch.check_queue, placement.queue)
    await asyncio.to_thread(batch.check_definition, placement.job_definition)


def for_planning(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """The settings to plan with: so many workers at once as children are wanted."""
    return replace(settings, processes=given.get("children") or CHILDREN)


def _first(given: T | None, otherwise: T | None) -> T | None:
    return otherwise if given is None else given


def _tag(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"--tag {text!r}: expected KEY=VALUE")
    return key, value
