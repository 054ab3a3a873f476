"""Expiry as a kind of work. The ledger alone neither continues nor retries it."""

from __future__ import annotations

import time
from typing import Any

from jobs.config import Settings
from jobs.core.enums import SKIP_ANNOTATIONS, Step
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec
from jobs.errors import LedgerError, UsageError
from jobs.expire.job import GROUPS_AT_ONCE, Expire
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened, no_hints


def _open(opened: Opened) -> Expire:
    import msgspec

    from jobs.expire.copies import Copies
    from jobs.expire.places import Place, PlaceLook
    from jobs.ledger.tombstones import Tombstones

    spec, ledger, plan, (bucket, prefix) = opened.spec, opened.ledger, opened.plan, opened.route.source
    if plan is None:
        raise LedgerError(f"run {spec.run_id} has no plan", advice="start another `sealift expire`")
    stores, options = (opened.source, opened.destination), spec.options
    heeded = [Step(each) for each in options.get("heeded_steps", ())] if options["delete"] else []
    if options["delete"] and not heeded:
        raise LedgerError(
            f"run {spec.run_id} was planned without a trial of If-Match", advice="start another `sealift expire`"
        )
    return Expire(
        opened.source,
        Copies(
            *stores,
            opened.budget,
            options["apart"],
            Settings.from_environment().patience_seconds,
            options["by_checksum"],
            options["annotations"] == SKIP_ANNOTATIONS,
        ),
        PlaceLook(*stores, *msgspec.convert(plan.expiry["places"], list[Place])),
        bucket,
        options["grace_seconds"],
        heeded,
        Tombstones(ledger.store, ledger.location, bucket, spec.run_id),
        time.time,
        [Location.parse(uri) for uri in options["copies"]],
        prefix,
        spec.created_at,
    )


async def _report_details(ledger: Ledger, spec: RunSpec, plan: Plan) -> dict[str, Any]:
    from jobs.expire.deletions_table import write_deletions  # duckdb and pyarrow load here

    deletions = await write_deletions(ledger, spec.run_id, plan)
    return {"dry_run": not spec.options["delete"], "deletions": deletions, "expiry": dict(plan.expiry)}


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
)
