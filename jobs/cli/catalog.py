"""`sealift catalog`: rebuilds the latest proven state of every object version."""

from __future__ import annotations

import asyncio
import time

import click

from jobs.cli.console import emit
from jobs.cli.options import json_option, ledger_location, ledger_option
from jobs.config import Settings
from jobs.core.model import Location
from jobs.runs.request import open_ledger


@click.group()
def catalog() -> None:
    """The latest proven state of every object version, for `sealift query` and for people who must
    be sure.
    """


@catalog.command()
@ledger_option()
@json_option()
def rebuild(ledger: str | None, as_json: bool) -> int:
    """Fold the outcomes of all complete runs into a new catalog. The old one stays until then.

    A version that a later run found mismatched or missing is not in it.
    """
    asyncio.run(_rebuild(ledger_location(ledger, Settings.from_environment()), as_json))
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
