"""`sealift inventory`."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal, cast

import click

from jobs.cli.console import emit, meter
from jobs.cli.options import LocationType, json_option, side_options
from jobs.core.model import Location
from jobs.inventory.write import write_inventory
from jobs.reports.figures import human_bytes, human_seconds
from jobs.s3.sessions import open_store


@click.command()
@click.argument("location", type=LocationType())
@click.option("--to", type=LocationType(), required=True, help="Where the report goes.")
@click.option("--versions", type=click.Choice(["current", "all"]), default="current", show_default=True)
@click.option(
    "--format", "file_format", type=click.Choice(["parquet", "orc", "csv"]), default="parquet", show_default=True
)
@json_option()
@side_options("source")
@side_options("destination")
def inventory(location: Location, to: Location, versions: str, file_format: str, as_json: bool, **options: Any) -> int:
    """List LOCATION (s3://bucket/prefix), in parallel, into a report of S3 Inventory's own shape.

    For stores without S3 Inventory, and for people who cannot wait a day. The report's
    manifest.json is what `sealift replicate --manifest` and `sealift verify --manifest` take.

    \b
    sealift inventory s3://docs --to s3://reports/inventory --versions all
    """
    return asyncio.run(_inventory(location, to, versions == "all", file_format, as_json, options))


async def _inventory(
    location: Location, to: Location, versions: bool, file_format: str, as_json: bool, options: dict[str, Any]
) -> int:
    source, target = (
        open_store(options[f"{name}_endpoint"], options[f"{name}_region"], options[f"{name}_profile"])
        for name in ("source", "destination")
    )
    began = time.time()
    with meter("inventory", 0) as shown:
        written = await write_inventory(
            source,
            location,
            target,
            to,
            versions=versions,
            file_format=cast(Literal["parquet", "orc", "csv"], file_format),
            now=began,
            on_progress=lambda rows, size_bytes: shown.update(rows, 0, size_bytes),
        )
    seconds = time.time() - began
    document = {
        "job": "inventory",
        "state": "complete",
        "manifest": written.manifest,
        "rows": written.rows,
        "bytes": written.size_bytes,
        "files": written.files,
        "seconds": round(seconds, 3),
    }
    text = (
        f"{written.rows:,} objects ({human_bytes(written.size_bytes)}) of {location} "
        f"listed in {human_seconds(seconds)}\n{written.manifest}"
    )
    emit(document, as_json=as_json, text=text)
    return 0
