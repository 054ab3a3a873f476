"""Copies options: what `sealift replicate` and `sealift verify` share."""

from __future__ import annotations

from jobs.cli.options import (
    AccessOptions,
    FilterOptions,
    LocationType,
    command_options,
    group,
    ledger_option,
    manifest_option,
    option,
    requester_pays_option,
    versions_option,
)
from jobs.cli.start_options import StartOptions
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.errors import UsageError
from jobs.runs.request import Request


@command_options
class CopiesOptions:
    """Which rows, and where their copies are."""

    source: Location | None = option("What to take: a bucket or a prefix in it.", type=LocationType())
    manifest: str | None = manifest_option(
        "Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows), proven:ID (its others)."
    )
    destination: Location | None = option("Where the copies are or go.", type=LocationType())
    versions: str = versions_option()
    ledger: str | None = ledger_option()
    filters: FilterOptions = group(FilterOptions)
    start: StartOptions = group(StartOptions)
    source_access: AccessOptions = group(AccessOptions, "source")
    destination_access: AccessOptions = group(AccessOptions, "destination")
    requester_pays: bool = requester_pays_option()

    def source_side(self) -> Side | None:
        """The source. None: the manifest says it."""
        return self.source_access.side(self.source) if self.source else None

    def sides(self) -> tuple[Side | None, Side]:
        """Source and destination. Raises UsageError for a missing one."""
        if self.source is None and self.manifest is None:
            raise UsageError("nothing to work on: give --source s3://bucket/prefix or --manifest URI")
        if self.destination is None:
            raise UsageError("no destination: give --destination s3://bucket/prefix")
        return self.source_side(), self.destination_access.side(self.destination)

    def request(self, job: str, sample: tuple[int, int] | None = None) -> Request:
        """The request. `sample`: (number, of), the slice of the keys that is taken."""
        source, destination = self.sides()
        return Request(
            job=job,
            source=source,
            destination=destination,
            manifest=self.manifest,
            selection=self.filters.selection(source, self.versions, sample),
            options={
                "all_versions": self.versions == "all",
                "requester_pays": self.requester_pays,
                "sample": list(sample) if sample else None,
            },
            price_table=self.start.price_table,
        )
