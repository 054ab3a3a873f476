"""Expiry as a kind of work. The ledger alone neither continues nor retries it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from jobs.config import Settings
from jobs.core.run import Plan, RunSpec
from jobs.errors import LedgerError, UsageError
from jobs.expire.job import GROUPS_AT_ONCE, Expire
from jobs.expire.places import Place, look_again
from jobs.expire.rules import Terms
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened, no_hints
from jobs.s3.operations import Operation

if TYPE_CHECKING:
    import pyarrow as pa


def _open(opened: Opened) -> Expire:
    from jobs.ledger.tombstones import Tombstones  # pyarrow loads here

    spec, ledger, plan, options = opened.spec, opened.ledger, opened.plan, opened.spec.options
    if plan is None or "keeps_versions" not in options:
        raise LedgerError(f"run {spec.run_id} has no plan of this release", advice="start another `sealift expire`")
    places = msgspec.convert(plan.expiry["places"], list[Place])
    (bucket, prefix), *copies = (each.location for each in places)
    return Expire(
        opened,
        partial(look_again, opened.source, opened.destination, places, options["apart"]),
        Tombstones(ledger.store, ledger.location, bucket, spec.run_id),
        Terms(spec.created_at, options["grace_seconds"], options["keeps_versions"], copies, prefix),
        patience_seconds=Settings.from_environment().patience_seconds,
    )


async def _report_details(ledger: Ledger, spec: RunSpec, plan: Plan) -> dict[str, Any]:
    from jobs.expire.deletions_table import write_deletions  # duckdb and pyarrow load here

    deletions = await write_deletions(ledger, spec.run_id, plan)
    return {"dry_run": not spec.options["delete"], "deletions": deletions, "expiry": dict(plan.expiry)}


def _read_beside(batch: pa.RecordBatch) -> Iterable[object]:
    from jobs.expire.copy_columns import read_copies  # pyarrow loads here

    return read_copies(batch)


def _again(spec: RunSpec) -> UsageError:
    return UsageError(
        f"run {spec.run_id} is an expire run, which the ledger alone neither continues nor retries",
        advice="give the same `sealift expire` again, which leaves out what is deleted already",
    )


KIND = Kind(
    "expire",
    _open,
    GROUPS_AT_ONCE,
    not_retried=_again,
    not_resumed=_again,
    report_details=_report_details,
    deletes=True,
    may_be_empty=True,
    writes=lambda spec: (Operation.DELETE,) if spec.options["delete"] else (),
    hints=no_hints,
    beside=_read_beside,
)
