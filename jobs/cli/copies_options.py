"""Copies options: what `sealift replicate` and `sealift verify` share."""

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


def copies_sides(options: Mapping[str, Any]) -> tuple[Side | None, Side]:
    """Source and destination. Raises UsageError for a missing one."""
    if options["source"] is None and options["manifest"] is None:
        raise UsageError("nothing to work on: give --source s3://bucket/prefix or --manifest URI")
    if options["destination"] is None:
        raise UsageError("no destination: give --destination s3://bucket/prefix")
    source = side(options["source"], options, "source") if options["source"] else None
    return source, side(options["destination"], options, "destination")


def copies_request(
    job: str,
    options: Mapping[str, Any],
    sides: tuple[Side | None, Side],
    run_options: Mapping[str, Any],
    sample: tuple[int, int] | None = None,
) -> Request:
    """The request. `sample`: (number, of), the slice of the keys that is taken."""
    source, destination = sides
    return Request(
        job=job,
        source=source,
        destination=destination,
        manifest=options["manifest"],
        selection=Selection(
            prefix=source.location.key if source else "",
            include=tuple(options["include"]),
            exclude=tuple(options["exclude"]),
            min_size_bytes=options["min_size"],
            max_size_bytes=options["max_size"],
            newer_than=options["newer_than"],
            older_than=options["older_than"],
            storage_classes=tuple(options["include_class"]),
            versions=options["versions"],
            sample=sample,
        ),
        options={
            **run_options,
            "all_versions": options["versions"] == "all",
            "requester_pays": options["requester_pays"],
            "sample": list(sample) if sample else None,
        },
        price_table=options["price_table"],
    )
