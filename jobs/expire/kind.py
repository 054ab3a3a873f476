"""Expiry as a kind of work. The ledger alone neither continues nor retries it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from jobs.config import Settings
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec
from jobs.errors import LedgerError, UsageError
from jobs.expire.job import GROUPS_AT_ONCE, Expire
from jobs.expire.places import Place, PlaceLook
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened, no_hints

if TYPE_CHECKING:
    import pyarrow as pa


def _open(opened: Opened) -> Expire:
    from jobs.ledger.tombstones import Tombstones  # pyarrow loads here

    spec, ledger, plan, (bucket, prefix) = opened.spec, opened.ledger, opened.plan, opened.route.source
    stores, options = (opened.source, opened.destination), spec.options
    if plan is None or "keeps_versions" not in options:
        raise LedgerError(f"run {spec.run_id} has no plan of this release", advice="start another `sealift expire`")
    look = PlaceLook(*stores, *msgspec.convert(plan.expiry["places"], list[Place]))
    tombstones = Tombstones(ledger.store, ledger.location, bucket, spec.run_id)
    return Expire(
        *(*stores, opened.budget, look, bucket, options["grace_seconds"], tombstones, time.time),
        places=[Location.parse(uri) for uri in options["copies"]],
        keeps_versions=options["keeps_versions"],
        deletes=options["delete"],
        prefix=prefix,
        planned_at=spec.created_at,
        look_at_owner=opened.look_at_owner,
        is_apart=options["apart"],
        patience_seconds=Settings.from_environment().patience_seconds,
        by_checksum=options["by_checksum"],
        ignores_annotations=options["annotations"] == SKIP_ANNOTATIONS,
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
    hints=no_hints,
    beside=_read_beside,
)
