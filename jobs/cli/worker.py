"""`sealift worker`: one attempt at one shard. The executors start it, and people can.

A run of few rows has its worker in the process of the command that runs it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Sequence
from contextlib import suppress

import click
from msgspec.structs import replace

from jobs import __version__, interrupts
from jobs.cli import fail
from jobs.cli.command import LedgerOptions
from jobs.cli.console import emit
from jobs.cli.options import Positive, Run, argument, flag, option
from jobs.config import Settings
from jobs.core.rate_limits import RateLimits
from jobs.core.run import Plan, RunSpec, Side, ignored_conditions, is_destructive, run_digest
from jobs.errors import ConfigError, ExitCode, LedgerError, SealiftError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import Owner, last_owner
from jobs.ledger.uploads import ShardUploads
from jobs.registry import kind_of
from jobs.runs import parent_pipe
from jobs.runs.kind import Opened
from jobs.runs.worker import LOST_GRACE_SECONDS, Stops, new_attempt
from jobs.runs.worker import Worker as Attempt
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.gated_store import Throttle, checked, looking_first
from jobs.s3.retries import promptly
from jobs.s3.sessions import open_side
from jobs.s3.store import Store


class Worker(LedgerOptions):
    """Work through one shard of a run, or the shards of one child of a submission to AWS Batch."""

    run_id: str = argument(type=Run)
    shard: int = option("Which shard.", type=click.IntRange(min=0), envvar="AWS_BATCH_JOB_ARRAY_INDEX", default=0)
    submission: int | None = option("In AWS Batch: the shards of this child of it.", type=click.IntRange(min=0))
    owner: int | None = option("The run's owner that starts it. A later one stops it.", type=click.IntRange(min=0))
    run_sha256: str | None = option(
        "The digest of the run's spec and plan. Without it nothing is deleted.", metavar="HEX"
    )
    report: bool = flag("Make the run's report, after its workers have ended.")
    workers: int | None = option(
        "How many workers share the run's rate limits. Default: one for each shard.", type=Positive
    )

    def main(self) -> int:
        """Work, or make the report."""
        settings, ledger = Settings.from_environment(), self.open_ledger()
        if self.report:
            return interrupts.run(_report(ledger, self.run_id))
        _yield_to_others()
        if parent_pipe.IS_LENDING.is_set():
            parent_pipe.borrow_credentials(lambda question: click.echo(json.dumps(question)))
        return interrupts.run(_work(settings, ledger, self))


async def _report(ledger: Ledger, run_id: str) -> int:
    from jobs.cli.texts import report_ended
    from jobs.runs.work import end

    spec = await ledger.spec(run_id)
    answer = report_ended(await end(spec, await ledger.plan(run_id), ledger, kind_of(spec)))
    emit(answer.document, as_json=False, text=answer.text)
    return int(answer.code)


def _yield_to_others() -> None:
    """Have the kernel treat this process as batch work (SCHED_BATCH, sched(7)).

    An answer that arrives does not preempt the running code, so the worker wakes for several at
    once. That saves a fifth of the CPU time where cores are scarce.
    """
    if hasattr(os, "SCHED_BATCH"):  # Linux
        with suppress(OSError):  # a container may forbid it; then it is only slower
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _work(settings: Settings, ledger: Ledger, options: Worker) -> int:
    run_id, run_sha256 = options.run_id, options.run_sha256
    spec = await promptly(lambda: ledger.spec(run_id), "the run", lambda: ledger.location)
    if spec.sealift_version != __version__:
        raise ConfigError(
            f"run {run_id} was planned by Sealift {spec.sealift_version}, this worker is {__version__}",
            advice="use one version",
        )
    plan = await ledger.plan(run_id)
    if run_sha256 is None and is_destructive(spec):  # the ledger alone must never start a deletion
        raise UsageError(f"run {run_id} deletes: only the command that planned it starts its workers")
    if run_sha256 is not None and run_sha256 != run_digest(spec, plan):
        raise LedgerError(f"run {run_id}: its spec or plan is not the one that was started: it was altered")
    number = (await last_owner(ledger, run_id))[0] if options.owner is None else options.owner
    shards, stops, workers = await _shards(ledger, options), Stops(), options.workers or len(plan.open_shards)
    with interrupts.stopped_by_signals(stops.stop):
        for shard in shards:
            if shard >= len(plan.shards):
                raise UsageError(f"run {run_id} has {len(plan.shards)} shards, there is no number {shard}")
            owner = Owner(ledger, run_id, number)
            await work_apart(open_attempt(settings, spec, plan, shard, owner, stops, workers), spec)
    return int(ExitCode.DONE)


async def _shards(ledger: Ledger, options: Worker) -> Sequence[int]:
    """The shard that the command names, or those of a child of a submission. Raises LedgerError."""
    if options.submission is None:
        return [options.shard]
    from jobs.runs.batch_executor import read_submission

    return (await read_submission(ledger, options.run_id, options.submission)).shards_of(options.shard)


async def work_here(spec: RunSpec, plan: Plan, settings: Settings, ledger: Ledger, owner: int, stops: Stops) -> int:
    """One attempt at a run of one shard, in the process of the command that has published it.

    It knows spec and plan, so they are not read again. The command itself looks for a report behind it
    (`jobs.runs.work.end`). Returns the exit code.
    """
    try:
        await open_attempt(settings, spec, plan, 0, Owner(ledger, spec.run_id, owner), stops).run()
    except Exception as error:  # noqa: BLE001  it ends as a worker's process does
        return fail(error)
    return int(ExitCode.DONE)


def open_attempt(
    settings: Settings, spec: RunSpec, plan: Plan, shard: int, owner: Owner, stops: Stops, workers: int = 1
) -> Attempt:
    """One attempt at a shard, which has not begun. `workers`: how many share the run's rate limits."""
    ledger, kind, run_id, attempt_id = owner.ledger, kind_of(spec), spec.run_id, new_attempt()
    if kind.open_job is None:
        raise ConfigError(f"run {run_id} is a {kind.name} run: no worker works on it")
    throttle = Throttle(RateLimits.of(spec).shared_by(workers))
    sides = open_sides(spec, settings.in_flight)
    source, destination = (throttle.throttled(checked(each, owner.check)) for each in sides)
    records, budget = ShardUploads(ledger, run_id, shard, attempt_id), ByteBudget(settings.buffer_bytes)
    paced = replace(settings, in_flight=kind.at_once or settings.in_flight)
    opened = Opened(spec, source, destination, budget, ledger, settings.in_flight, records, throttle, plan, owner.look)
    stores = tuple(dict.fromkeys(sides))
    attempt = Attempt(owner, plan, shard, kind.open_job(opened), paced, stores, kind.beside, attempt=attempt_id)
    if not kind.deletes:  # what is gone must be known, so the requests behind a delete have their turns
        attempt.on_stop = throttle.stop
    gc.freeze()  # these objects stay: no need to walk them at each collection
    stops.listen(attempt)
    return attempt


async def work_apart(attempt: Attempt, spec: RunSpec) -> None:
    """Work, and add what the attempt says to the ledger's state, if the run's fold may have come before it."""
    ledger = attempt.owner.ledger
    try:
        await attempt.run()
    finally:
        with suppress(TimeoutError, SealiftError):  # the outcomes are in the ledger
            async with asyncio.timeout(LOST_GRACE_SECONDS if attempt.is_silent else None):
                if await promptly(lambda: ledger.report(spec.run_id), "the run", lambda: ledger.location) is not None:
                    from jobs.runs.folding import write_late_verdicts

                    there = await ledger.checkpoints(spec.run_id, attempt.shard)
                    await write_late_verdicts(ledger, spec, [each for each in there if each.attempt == attempt.attempt])


def open_sides(spec: RunSpec, max_in_flight: int) -> tuple[Store, Store]:
    """Stores for the source and the destination: one store if both are reached in the same way.

    Raises ConfigError for a run that writes to a server whose conditions its plan did not try.
    """
    payer = bool(spec.options.get("requester_pays"))

    def reach(side: Side) -> Store:
        return open_side(side, spec.source, max_in_flight=max_in_flight, request_payer=payer, is_paced=True)

    source = reach(spec.source)
    alike = replace(spec.source, location=spec.destination.location) == spec.destination
    destination = source if alike and not spec.source.owner else reach(spec.destination)
    ignored = ignored_conditions(spec)
    if ignored is None and kind_of(spec).writes(spec) and not destination.heeds_conditions:
        raise ConfigError(
            f"the plan of run {spec.run_id} did not try the conditions of its destination", advice="plan again"
        )
    return source, looking_first(destination, ignored) if ignored else destination
