"""`sealift inventory`."""

from __future__ import annotations

import time

from msgspec import to_builtins

from jobs.cli.command import Answer, JsonCommand, SidesAccess
from jobs.cli.console import meter
from jobs.cli.options import Place, argument, shared
from jobs.core.model import Location
from jobs.inventory.write import write_inventory
from jobs.reports.figures import human_bytes, human_seconds
from jobs.s3.sessions import open_side


class Inventory(SidesAccess, JsonCommand):
    """List LOCATION (s3://bucket/prefix), in parallel, into a report of S3 Inventory's own shape.

    For stores without S3 Inventory, and for people who cannot wait a day. The report's
    manifest.json is what `sealift replicate --manifest` and `sealift verify --manifest` take.

    \b
    sealift inventory s3://docs --destination s3://reports/inventory --versions all
    """

    location: Location = argument(type=Place)
    destination: Location = shared("destination", "Where the report goes.", required=True)
    versions: str = shared("versions")

    async def run(self) -> Answer:
        """List, and write the report."""
        started, target = time.time(), open_side(self.destination_side(self.destination))
        where = self.destination  # is it there? The listing may take hours
        await target.list_objects(where.bucket, where.key, max_keys=1)
        with meter("inventory", 0) as shown:
            written = await write_inventory(
                open_side(self.source_side(self.location)),
                self.location,
                target,
                self.destination,
                versions=self.versions == "all",
                now=started,
                on_progress=lambda rows, size_bytes: shown.update(rows, 0, size_bytes),
            )
        seconds = time.time() - started
        document = {"job": "inventory", "state": "complete", **to_builtins(written), "seconds": round(seconds, 3)}
        text = f"{written.rows:,} objects ({human_bytes(written.size_bytes)}) of {self.location} "
        return Answer(document, f"{text}listed in {human_seconds(seconds)}\n{written.manifest}")
