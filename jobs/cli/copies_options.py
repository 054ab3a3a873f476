"""Options and requests of the commands over copies: `sealift replicate` and `sealift verify`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from jobs.cli.batch_options import batch_options
from jobs.cli.options import (
    LocationType,
    filter_options,
    json_option,
    ledger_option,
    manifest_option,
    plan_options,
    side,
    side_options,
    stack,
)
from jobs.core.run import Side
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.runs.request import Request

F = TypeVar("F", bound=Callable[..., Any])


def copies_options() -> Callable[[F], F]:
    """--source … --requester-pays: which rows, and where their copies are."""
    return stack(
        click.option("--source", type=LocationType(), help="What to take: a bucket or a prefix in it."),
        manifest_option("Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows), proven:ID (its others)."),
        click.option("--destination", type=LocationType(), help="Where the copies are or go."),
        click.option("--versions", type=click.Choice(["current", "all"]), default="current", show_default=True),
        ledger_option(),
        filter_options(),
        plan_options(),
        batch_options(),
        json_option(),
        side_options("source"),
        side_options("destination"),
        click.option("--requester-pays", is_flag=True, help="Agree to pay for requests to the source's bucket."),
    )


def copies_sides(given: Mapping[str, Any]) -> tuple[Side | None, Side]:
    """Source and destination. Raises UsageError when one that is needed is missing."""
    if given["source"] is None and given["manifest"] is None:
        raise UsageError("nothing to work on: give --source s3://bucket/prefix or --manifest URI")
    if given["destination"] is None:
        raise UsageError("no destination: give --destination s3://bucket/prefix")
    source = side(given["source"], given, "source") if given["source"] else None
    return source, side(given["destination"], given, "destination")


def copies_request(
    job: str,
    given: Mapping[str, Any],
    sides: tuple[Side | None, Side],
    options: Mapping[str, Any],
    sample: tuple[int, int] | None = None,
) -> Request:
    """What is asked. `sample`: (number, of), the slice of the keys that is taken."""
    source, destination = sides
    return Request(
        job=job,
        source=source,
        destination=destination,
        manifest=given["manifest"],
        selection=Selection(
            prefix=source.location.key if source else "",
            include=tuple(given["include"]),
            exclude=tuple(given["exclude"]),
            min_size_bytes=given["min_size"],
            max_size_bytes=given["max_size"],
            newer_than=given["newer_than"],
            older_than=given["older_than"],
            storage_classes=tuple(given["include_class"]),
            versions=given["versions"],
            sample=sample,
        ),
        options={
            **options,
            "all_versions": given["versions"] == "all",
            "requester_pays": given["requester_pays"],
            "sample": list(sample) if sample else None,
        },
        price_table=given["price_table"],
    )
