"""Saved plans: a dry run keeps its plan in the ledger, and a later command starts exactly that.

    runs/<run id>/apply.json    the plan was started. Written once: nobody starts it twice

A saved plan is a run that nobody has started. Its shards' digests are in its plan, and the digest
of spec and plan goes to the workers, which refuse anything else.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace

from jobs.core.run import SAVED, Plan, RunSpec, is_destructive, run_digest
from jobs.errors import ConfigError, PreconditionFailed, UsageError
from jobs.ledger.ledger import Ledger
from jobs.reports.figures import human_seconds
from jobs.runs import launch
from jobs.runs.kind import Kind
from jobs.runs.request import Planned

FRESH_SECONDS = 24 * 3600.0
"""The maximum age of a plan that is started: what it counted and priced has changed since."""
_APPLY = "apply.json"


async def save(planned: Planned, ledger: Ledger, executor: str, kind: Kind) -> str:
    """Publish a plan that is not started now. Returns its digest, in hex.

    `executor`: where it is to work. Raises UsageError for a run that deletes: its command must name
    the places itself.
    """
    spec, plan = planned.spec, planned.plan
    if is_destructive(spec) or kind.deletes:
        raise UsageError(f"--save: an {kind.name} run starts with places that you name, never with those of the ledger")
    shards = tuple(
        replace(shard, sha256=hashlib.sha256((planned.scratch / f"{number:05d}.parquet").read_bytes()).hexdigest())
        for number, shard in enumerate(plan.shards)
    )
    pinned = Planned(
        replace(spec, options={**spec.options, SAVED: executor}), replace(plan, shards=shards), planned.scratch
    )
    await launch.publish(pinned, ledger)
    return run_digest(pinned.spec, pinned.plan)


async def is_waiting(ledger: Ledger, spec: RunSpec) -> bool:
    """True if the run is a saved plan that nobody has started. Raises StoreError."""
    return SAVED in spec.options and not await ledger.names(spec.run_id, _APPLY)


async def require_started(ledger: Ledger, spec: RunSpec) -> None:
    """Raises UsageError for a saved plan that nobody has started."""
    if await is_waiting(ledger, spec):
        raise UsageError(
            f"run {spec.run_id} is a plan that nobody has started: start it with  sealift apply {spec.run_id}"
        )


async def check_startable(ledger: Ledger, spec: RunSpec, plan: Plan, kind: Kind, sha256: str | None) -> None:
    """Check that a plan is saved, fresh, not started, and the one of this digest (None: any).

    Raises UsageError, ConfigError, StoreError.
    """
    run_id = spec.run_id
    if is_destructive(spec) or kind.deletes:
        how = f"an {kind.name} run starts with places that you name: sealift {kind.name} --help"
        raise UsageError(f"run {run_id} is no saved plan: {how}")
    if SAVED not in spec.options:
        raise UsageError(f"run {run_id} is no saved plan: `sealift {spec.job} … --dry-run --save` makes one")
    if not await is_waiting(ledger, spec):
        raise UsageError(f"the plan {run_id} was started already: see  sealift runs show {run_id}")
    if sha256 is not None and sha256 != run_digest(spec, plan):
        raise ConfigError(
            f"the plan {run_id} in the ledger is not the one of --sha256: it was altered. Find out who wrote "
            f"{ledger.uri(run_id)}, and plan again"
        )
    if (age_seconds := time.time() - spec.created_at) > FRESH_SECONDS:
        raise UsageError(
            f"the plan {run_id} is {human_seconds(age_seconds)} old, more than {human_seconds(FRESH_SECONDS)}: "
            "the buckets have changed since. Plan again"
        )


async def claim(ledger: Ledger, spec: RunSpec, plan: Plan) -> None:
    """Start the plan, before its first worker. Raises UsageError if another command has."""
    who = {"at": time.time(), "host": os.uname().nodename, "pid": os.getpid(), "sha256": run_digest(spec, plan)}
    try:
        await ledger.write_document(spec.run_id, _APPLY, who)
    except PreconditionFailed as error:
        raise UsageError(f"the plan {spec.run_id} was started already: see  sealift runs show {spec.run_id}") from error
