"""`sealift backfill`: copies what is in a pair's source already, on demand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from jobs import interrupts
from jobs.cli.options import (
    SectionedCommand,
    WhenType,
    check_look,
    command_options,
    group,
    ledger_option,
    look_option,
    manifest_option,
    option,
    prefix_option,
    require_conditions_option,
    required_conditions,
    takes,
)
from jobs.cli.policy_and_ledger import ChosenPair, PairOptions
from jobs.cli.run_command import launch_and_report
from jobs.cli.start_options import StartOptions
from jobs.config import Settings
from jobs.core.enums import Deletes
from jobs.core.selection import Selection
from jobs.errors import LimitExceeded, UsageError
from jobs.policy.run_options import Ceiling, copy_options, globs, prefixes_below, sides
from jobs.replicate.plan import LOOK
from jobs.runs.request import Request, open_ledger


@command_options
class BackfillCommand:
    """`sealift backfill`, as it was typed."""

    pair: PairOptions = group(PairOptions)
    prefix: str = prefix_option("Take only source keys that begin with this.")
    newer_than: float | None = option("Take only objects modified after: 30d, 12h, 2026-11-01.", type=WhenType())
    older_than: float | None = option("Take only objects modified before.", type=WhenType())
    manifest: str | None = manifest_option("Which rows: manifest.json, .csv, .parquet, run:ID. Default: all.")
    require_conditions: bool = require_conditions_option()
    look: bool = look_option()
    ledger: str | None = ledger_option()
    start: StartOptions = group(StartOptions)


@click.command(cls=SectionedCommand)
@takes(BackfillCommand)
def backfill(options: BackfillCommand) -> int:
    """Copy what is in a pair's source already: all of it, below a prefix, between two dates, or
    listed in a file.

    The policy decides which objects are left out, where copies go, and their storage class and key.
    Its limits hold, and options can only be tighter. A backlog's run may cost what it costs, as the
    function's copies do. An object that is already there, and proven the same, is skipped.

    \b
    sealift backfill --pair scans --dry-run
    sealift backfill --pair scans --prefix scans/2026/ --newer-than 2026-11-01 --older-than 2026-11-15
    sealift backfill --pair scans --manifest s3://lists/forgotten.csv --executor batch
    """
    check_look(looks=options.look, dry_run=options.start.dry_run)
    settings = Settings.from_environment()
    return interrupts.run(_backfill(options, options.pair.choose(options.ledger, settings), settings))


async def _backfill(options: BackfillCommand, chosen: ChosenPair, settings: Settings) -> int:
    pair, scope = chosen.pair, chosen.scope
    source, destination = sides(chosen.policy, pair)
    from_events = _from_events(chosen, options.manifest)
    if options.look and from_events:
        raise UsageError("--look sees the current versions alone, and a backlog may have older ones: leave it out")
    include, exclude = globs(scope)
    asked = required_conditions(is_required=options.require_conditions) | ({LOOK: True} if options.look else {})
    request = Request(
        job="replicate",
        source=source,
        destination=destination,
        manifest=options.manifest,
        selection=Selection(
            prefix=options.prefix,
            include=include,
            exclude=exclude,
            newer_than=options.newer_than,
            older_than=options.older_than,
        ),
        options=copy_options(pair) | {"pair": pair.name} | from_events | asked,
        price_table=options.start.price_table,
        prefixes=prefixes_below(scope, options.prefix),
    )
    ceiling = Ceiling.of(pair, options.start.max_cost, options.start.max_objects)
    is_named = bool(options.prefix or options.manifest)
    start = replace(
        options.start,
        max_cost=options.start.max_cost if from_events else ceiling.max_cost,  # what is new is protected at any cost
        max_objects=ceiling.max_objects,
        allow_empty=options.start.allow_empty or bool(from_events) or not is_named,  # a pair may be empty
    )
    try:
        return await launch_and_report(request, open_ledger(chosen.ledger), settings, start)
    except LimitExceeded as error:
        limits = Ceiling.of(pair)
        raise LimitExceeded(
            f"{error} (options cannot exceed the limits of the pair {pair.name} in the policy, "
            f"${limits.max_cost:,.2f} and {limits.max_objects:,} objects)"
        ) from error


def _from_events(chosen: ChosenPair, manifest: str | None) -> dict[str, Any]:
    """Options for rows that the Lambdas left behind, which are events.

    Of those an older version is stored below a newer one (`jobs.backup`).
    """
    if manifest is None or not manifest.startswith(f"{chosen.ledger.join('manifests/')}"):
        return {}
    return {"from_events": True, "mirrors_deletes": chosen.pair.deletes is Deletes.MIRROR}
