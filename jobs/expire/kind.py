"""Expiry as a kind of work. The ledger alone neither continues nor retries it."""

from __future__ import annotations

import time
from typing import Any

from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec
from jobs.expire.job import GROUPS_AT_ONCE, Expire, ExpireOptions
from jobs.expire.places import READ_RUNS, command_of
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened, no_hints


def _open(opened: Opened) -> Expire:
    from jobs.expire.announcements import Announcements
    from jobs.expire.announcers import Announcers
    from jobs.expire.copy_checks import Copies
    from jobs.expire.later_disproofs import LaterDisproofs
    from jobs.ledger.tombstones import Tombstones

    spec, ledger, route = opened.spec, opened.ledger, opened.route
    copies = Copies(
        opened.source,
        opened.destination,
        opened.budget,
        bool(spec.options.get("streamed")),
        ignores_annotations=spec.options.get("annotations") == SKIP_ANNOTATIONS,
    )
    tombstones = Tombstones(ledger.store, ledger.location, route.source.bucket, spec.run_id)
    places = [Location.parse(uri) for uri in spec.options.get("copies") or ()] or [route.destination]
    seen = dict(opened.plan.expiry.get(READ_RUNS, ())) if opened.plan else {}
    buckets = {place.bucket for place in places}
    disproofs = LaterDisproofs(ledger, route.source.bucket, buckets, seen)
    concern = Announcers(ledger, spec, places).concern
    return Expire(
        opened.source,
        copies,
        route.source.bucket,
        ExpireOptions.from_dict(spec.options),
        tombstones,
        Announcements(ledger.store, ledger.location, places, concern),
        time.time,
        places,
        route.source.key,
        spec.created_at,
        disproofs,
    )


async def _report_details(ledger: Ledger, spec: RunSpec, plan: Plan) -> dict[str, Any]:
    from jobs.expire.deletions_table import write_deletions  # duckdb and pyarrow load here

    deletions = await write_deletions(ledger, spec.run_id, plan)
    expiry = {name: value for name, value in plan.expiry.items() if name != READ_RUNS}
    return {"dry_run": not spec.options["delete"], "deletions": deletions, "expiry": expiry}


def _not_resumed(spec: RunSpec) -> str:
    return (
        f"run {spec.run_id} is an expire run, which the ledger alone cannot continue. Start it again: it leaves "
        "out what is deleted already. This is the command that the ledger claims: check where originals and copies "
        f"are, then start  {command_of(spec)}"
    )


def _not_retried(spec: RunSpec) -> str:
    return f"run {spec.run_id} has ended: to prove again what it kept, start another `sealift expire`"


KIND = Kind(
    "expire",
    _open,
    GROUPS_AT_ONCE,
    not_retried=_not_retried,
    not_resumed=_not_resumed,
    report_details=_report_details,
    deletes=True,
    hints=no_hints,
)
