"""Copies: which rows, and where their copies are. What `replicate` and `verify` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.cli.options import AccessOptions, FilterOptions, StartOptions, command_options, group, shared
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.errors import UsageError
from jobs.runs.request import Request


@command_options
class CopiesOptions:
    """Which rows, and where their copies are."""

    source: Location | None = shared("source")
    manifest: str | None = shared("manifest")
    destination: Location | None = shared("destination")
    versions: str = shared("versions")
    filters: FilterOptions = group(FilterOptions)
    start: StartOptions = group(StartOptions)
    source_access: AccessOptions = group(AccessOptions, "source")
    destination_access: AccessOptions = group(AccessOptions, "destination")
    requester_pays: bool = shared("requester-pays")

    def sides(self) -> tuple[Side | None, Side]:
        """Source and destination. Raises UsageError for a missing one. None: the manifest says it."""
        if self.source is None and self.manifest is None:
            raise UsageError("nothing to work on", advice="give --source s3://bucket/prefix or --manifest URI")
        if self.destination is None:
            raise UsageError("no destination", advice="give --destination s3://bucket/prefix")
        source = self.source_access.side(self.source) if self.source else None
        return source, self.destination_access.side(self.destination)

    def request(self, job: str, options: Mapping[str, Any], sample: tuple[int, int] | None = None) -> Request:
        """The request. `sample`: (number, of), the slice of the keys that is taken."""
        source, destination = self.sides()
        return Request(
            job=job,
            source=source,
            destination=destination,
            manifest=self.manifest,
            selection=self.filters.selection(source, self.versions, sample),
            options={
                **options,
                "all_versions": self.versions == "all",
                "requester_pays": self.requester_pays,
                "sample": list(sample) if sample else None,
            },
        )
