"""Start options: which rows a run takes, how it is planned, limited, asked for, placed, reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import click

from jobs.cli.options import (
    AccessOptions,
    FailureLimitType,
    FilterOptions,
    LocationType,
    NumberRange,
    SizeType,
    command_options,
    detach_option,
    executor_option,
    flag,
    group,
    json_option,
    ledger_option,
    manifest_option,
    max_cost_option,
    max_objects_option,
    option,
    requester_pays_option,
    versions_option,
)
from jobs.core.failure_limit import FailureLimit
from jobs.core.model import Location
from jobs.core.rate_limits import RateLimits
from jobs.core.run import Side
from jobs.errors import UsageError
from jobs.runs.request import Request

MIN_BANDWIDTH_BYTES = 1024


@command_options
class StartOptions:
    """What `launch_and_report()` has to know besides the request."""

    dry_run: bool = flag("Print the plan (rows, bytes, requests, dollars) and do nothing.")
    max_cost: float | None = max_cost_option()
    max_objects: int | None = max_objects_option()
    max_failures: FailureLimit | None = option(
        "End a worker early when more of its rows fail: 10% or a count of rows. Default: 50%. 100%: never.",
        type=FailureLimitType(),
        metavar="N|P%",
    )
    max_rate: float | None = option(
        "At most so many requests a second, all workers together.",
        type=NumberRange(min=0, min_open=True),
        metavar="N",
    )
    bandwidth_bytes: int | None = option(
        "At most so many bytes a second through the workers, read and written, as 100MiB.",
        name="--bandwidth",
        type=SizeType(),
        metavar="SIZE",
    )
    price_table: Path | None = option("Prices as JSON, like jobs/core/prices/*.json.", type=click.Path(path_type=Path))
    allow_empty: bool = flag(
        "A plan without rows is a success. Default: exit code 10, as for a prefix that does not exist."
    )
    yes: bool = flag("Start without asking (on a terminal it asks).")
    executor: str | None = executor_option()
    detach: bool = detach_option()
    as_json: bool = json_option()

    @classmethod
    def of_few(
        cls,
        *,
        executor: str | None,
        detach: bool = False,
        as_json: bool,
        yes: bool,
        dry_run: bool = False,
        max_cost: float | None = None,
        max_objects: int | None = None,
        price_table: Path | None = None,
    ) -> Self:
        """The options for a command that has only these. Its plan may be empty."""
        return cls(
            dry_run=dry_run,
            max_cost=max_cost,
            max_objects=max_objects,
            max_failures=None,
            max_rate=None,
            bandwidth_bytes=None,
            price_table=price_table,
            allow_empty=True,
            yes=yes,
            executor=executor,
            detach=detach,
            as_json=as_json,
        )

    def run_limits(self) -> dict[str, Any]:
        """How much may fail, and what the run may take a second, as options of a request.

        Raises UsageError.
        """
        if self.bandwidth_bytes is not None and self.bandwidth_bytes < MIN_BANDWIDTH_BYTES:
            raise UsageError(f"--bandwidth {self.bandwidth_bytes}", advice="give at least 1KiB a second")
        failures = {} if self.max_failures is None else {"max_failures": str(self.max_failures)}
        return failures | RateLimits(self.max_rate, self.bandwidth_bytes).options()


@command_options
class CopiesOptions:
    """Which rows, and where their copies are: what `replicate` and `verify` share."""

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
            raise UsageError("nothing to work on", advice="give --source s3://bucket/prefix or --manifest URI")
        if self.destination is None:
            raise UsageError("no destination", advice="give --destination s3://bucket/prefix")
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
