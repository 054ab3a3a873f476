"""Batch options (`--executor batch`): queue, job definition, a worker's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from jobs.cli.options import SizeType, stack
from jobs.runs.placement import CHILDREN, BatchOptions

F = TypeVar("F", bound=Callable[..., Any])


def batch_options() -> Callable[[F], F]:
    """--detach … --attempts: how a run is sent to AWS Batch."""
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


def chosen(options: Mapping[str, Any]) -> BatchOptions:
    """The options as one value."""
    return BatchOptions(
        executor=options.get("executor"),
        detach=options["detach"],
        then_verify=options.get("then_verify", False),
        queue=options["queue"],
        on_demand=options["on_demand"],
        job_definition=options["job_definition"],
        children=options["children"],
        share=options["share"],
        priority=options["priority"],
        vcpus=options["vcpus"],
        memory_bytes=options["memory"],
        timeout_seconds=options["timeout"],
        attempts=options["attempts"],
        tags=tuple(options["tag"]),
    )
