"""Expiry as a kind of work. The ledger alone neither continues nor retries it."""

from __future__ import annotations

import time
from typing import Any

from jobs.config import Settings
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec
from jobs.errors import LedgerError
from jobs.expire.job import GROUPS_AT_ONCE, Expire, ExpireOptions
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened, no_hints


def _open(opened: Opened) -> Expire:
    from jobs.expire.copies import Copies
    from jobs.expire.places import Place, PlaceLook
    from jobs.ledger.tombstones import Tombstones

    spec, ledger, source = opened.spec, opened.ledger, opened.route.source
    if opened.plan is None:
        raise LedgerError(f"run {spec.run_id} has no plan: start another `sealift expire`")
    options = ExpireOptions.from_dict(spec.options)
    if options.delete and not options.heeded_steps:
        raise LedgerError(f"run {spec.run_id} was planned without a trial of If-Match: start another `sealift expire`")
    copies = Copies(
        opened.source,
        opened.destination,
        opened.budget,
        bool(spec.options["apart"]),
        Settings.from_environment().patience_seconds,
        bool(spec.options.get("by_checksum")),
        spec.options.get("annotations") == SKIP_ANNOTATIONS,
    )
    places = opened.plan.expiry["places"]
    look = PlaceLook(
        opened.source,
        opened.destination,
        Place.from_dict(places["source"]),
        [Place.from_dict(each) for each in places["copies"]],
    )
    return Expire(
        opened.source,
        copies,
        look,
        source.bucket,
        options,
        Tombstones(ledger.store, ledger.location, source.bucket, spec.run_id),
        time.time,
        [Location.parse(uri) for uri in spec.options["copies"]],
        source.key,
        spec.created_at,
    )


async def _report_details(ledger: Ledger, spec: RunSpec, plan: Plan) -> dict[str, Any]:
    from jobs.expire.deletions_table import write_deletions  # duckdb and pyarrow load here

    deletions = await write_deletions(ledger, spec.run_id, plan)
    return {"dry_run": not spec.options["delete"], "deletions": deletions, "expiry": dict(plan.expiry)}


def _not_resumed(spec: RunSpec) -> str:
    return (
        f"run {spec.run_id} is an expire run, which the ledger alone cannot continue: give the command again. It "
        "leaves out what is deleted already"
    )


def _not_retried(spec: RunSpec) -> str:
    return f"run {spec.run_id} has ended: to look again at what it kept, start another `sealift expire`"


KIND = Kind(
    "expire",
    _open,
    GROUPS_AT_ONCE,
    not_retried=_not_retried,
    not_resumed=_not_resumed,
    report_details=_report_details,
    deletes=True,
    may_be_empty=True,
    hints=no_hints,
)
