"""`sealift catalog`: rebuilds the latest proven state of every object version."""

from __future__ import annotations

import asyncio
import time

import click

from jobs.cli.console import emit
from jobs.cli.options import command_options, json_option, ledger_location, ledger_option, takes
from jobs.config import Settings
from jobs.core.model import Location
from jobs.runs.request import open_ledger


@command_options
class RebuildCommand:
    """`sealift catalog rebuild`, as it was typed."""

    ledger: str | None = ledger_option()
    as_json: bool = json_option()


@click.group()
def catalog() -> None:
    """The latest proven state of every object version, for `sealift query` and for people who must
    be sure.
    """


@catalog.command()
@takes(RebuildCommand)
def rebuild(options: RebuildCommand) -> int:
    """Fold the outcomes of all complete runs into a new catalog. The old one stays until then.

    A version that a later run found mismatched or missing is not in it.
    """
    asyncio.run(_rebuild(ledger_location(options.ledger, Settings.from_environment()), options.as_json))
    return 0


async def _rebuild(place: Location, as_json: bool) -> None:
    from jobs.ledger.catalog import rebuild_catalog

    rebuilt = await rebuild_catalog(open_ledger(place), time.time())
    document = {"catalog": rebuilt.uri, "rows": rebuilt.rows, "runs": rebuilt.runs}
    emit(
        document,
        as_json=as_json,
        text=f"{rebuilt.rows:,} object versions out of {rebuilt.runs:,} runs in {rebuilt.uri}",
    )
