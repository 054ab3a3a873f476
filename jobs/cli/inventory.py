"""`sealift inventory`."""

from __future__ import annotations

import time

import click

from jobs import interrupts
from jobs.cli.console import emit, meter
from jobs.cli.options import AccessOptions, Command, Place, argument, command_options, group, shared, takes
from jobs.core.model import Location
from jobs.errors import ConfigError, NoSuchBucket
from jobs.inventory.write import write_inventory
from jobs.reports.figures import human_bytes, human_seconds


@command_options
class InventoryCommand:
    """`sealift inventory`, as it was typed."""

    location: Location = argument(type=Place)
    destination: Location = shared("destination", "Where the report goes.", required=True)
    versions: str = shared("versions")
    as_json: bool = shared("json")
    source_access: AccessOptions = group(AccessOptions, "source")
    destination_access: AccessOptions = group(AccessOptions, "destination")


@click.command(cls=Command)
@takes(InventoryCommand)
def inventory(options: InventoryCommand) -> int:
    """List LOCATION (s3://bucket/prefix), in parallel, into a report of S3 Inventory's own shape.

    For stores without S3 Inventory, and for people who cannot wait a day. The report's
    manifest.json is what `sealift replicate --manifest` and `sealift verify --manifest` take.

    \b
    sealift inventory s3://docs --destination s3://reports/inventory --versions all
    """
    return interrupts.run(_inventory(options))


async def _check_target(options: InventoryCommand) -> None:
    """Check that the report can be written, before a listing that may take hours."""
    store = options.destination_access.open(options.destination)
    try:
        await store.list_objects(options.destination.bucket, options.destination.key, max_keys=1)
    except NoSuchBucket as error:
        raise ConfigError(
            f"--destination {options.destination}: the bucket {options.destination.bucket} does not exist",
            advice="create it, or name another one",
        ) from error
    finally:
        await store.close()


async def _inventory(options: InventoryCommand) -> int:
    started = time.time()
    await _check_target(options)
    with meter("inventory", 0) as shown:
        written = await write_inventory(
            options.source_access.open(options.location),
            options.location,
            options.destination_access.open(options.destination),
            options.destination,
            versions=options.versions == "all",
            now=started,
            on_progress=lambda rows, size_bytes: shown.update(rows, 0, size_bytes),
        )
    seconds = time.time() - started
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
        f"{written.rows:,} objects ({human_bytes(written.size_bytes)}) of {options.location} "
        f"listed in {human_seconds(seconds)}\n{written.manifest}"
    )
    emit(document, as_json=options.as_json, text=text)
    return 0
