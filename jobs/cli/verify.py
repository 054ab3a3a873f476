"""`sealift verify`."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from jobs.cli.copies_options import copies_options, copies_request, copies_sides
from jobs.cli.options import LocationType, checksums_options, ledger_location, side, side_options
from jobs.cli.run_command import launch_and_report
from jobs.config import Settings
from jobs.core.run import Side
from jobs.core.sampling import next_number, parse_fraction
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Request, open_ledger

_OF_COPIES = (
    *("source", "manifest", "deep", "source_checksums", "destination_checksums"),
    *("include", "exclude", "newer_than", "older_than", "min_size", "max_size", "include_class"),
)
"""Options that are about copies, which --archives does not read."""


@click.command()
@copies_options()
@click.option("--deep", is_flag=True, help="Read and compare the bytes of both sides.")
@checksums_options()
@click.option("--archives", type=LocationType(), help="Instead of copies: read the archives below this once more.")
@side_options("archives")
@click.option("--sample", metavar="1/N", help="Take one Nth of the keys (or archives), always the same one.")
@click.option("--rotate", is_flag=True, help="With --sample: another Nth each run, everything once in N runs.")
def verify(**options: Any) -> int:
    """Prove that each object of a manifest or a listing is the same at the destination.

    Stored checksums prove it, else MD5 ETags. With --deep the bytes of both sides do, or, for the
    rows of proven:ID, the destination's bytes and the checksum in the ledger. Objects that reports
    of checksums at rest prove on both sides are not read. Each row ends as verified, mismatched,
    missing, changed, unverifiable, denied or failed, with the reason.

    With --archives each archive is read whole, and the index proves each of its members.

    \b
    sealift verify --source s3://docs --destination s3://replica
    sealift verify --source s3://docs --destination s3://replica --deep --sample 1/30 --rotate
    sealift verify --manifest proven:20261125T003345Z-verify-1f3a --destination s3://replica --deep
    sealift verify --archives s3://cold/docs --sample 1/30 --rotate
    """
    if options["rotate"] and not options["sample"]:
        raise UsageError("--rotate needs --sample 1/N")
    settings = Settings.from_environment()
    ledger = open_ledger(ledger_location(options["ledger"], settings))
    return asyncio.run(
        _verify_archives(options, ledger, settings) if options["archives"] else _verify(options, ledger, settings)
    )


async def _verify(options: dict[str, Any], ledger: Ledger, settings: Settings) -> int:
    sides = copies_sides(options)
    sample = await _sample(options, ledger, *sides)
    names = ("deep", "rotate", "source_checksums", "destination_checksums")
    request = copies_request("verify", options, sides, {name: options[name] for name in names}, sample)
    return await launch_and_report(request, ledger, settings, options)


async def _verify_archives(options: dict[str, Any], ledger: Ledger, settings: Settings) -> int:
    if options["destination"] is not None:
        raise UsageError("--archives verifies archives, --destination copies: give one of them")
    archives = side(options["archives"], options, "archives")
    source = side(options["source"], options, "source") if options["source"] else None
    sample = await _sample(options, ledger, source, archives)
    foreign = [name for name in _OF_COPIES if options.get(name)]
    if foreign:
        option = foreign[0].replace("_", "-")
        raise UsageError(f"--archives reads whole archives: leave out --{option}; --sample takes some of them")
    request = Request(
        job="verify",
        source=archives,
        destination=archives,
        manifest=None,
        selection=Selection(versions="all"),
        options={"archives": True, "sample": list(sample) if sample else None, "rotate": options["rotate"]},
        price_table=options["price_table"],
    )
    return await launch_and_report(request, ledger, settings, options)


async def _sample(
    options: dict[str, Any], ledger: Ledger, source: Side | None, destination: Side
) -> tuple[int, int] | None:
    """The slice of the keys to take: (number, of). None: all keys."""
    if not options["sample"]:
        return None
    of = parse_fraction(options["sample"])
    return (await _next_slice(ledger, source, destination, of) if options["rotate"] else 0), of


async def _next_slice(ledger: Ledger, source: Side | None, destination: Side, of: int) -> int:
    """The slice after that of the latest rotating run over the same sides."""
    for run_id in reversed(await ledger.run_ids()):
        if "-verify-" not in run_id:
            continue
        spec = await ledger.spec(run_id)
        same = spec.destination == destination and (source is None or spec.source == source)
        sample = spec.options.get("sample")
        if same and spec.options.get("rotate") and sample and sample[1] == of:
            return next_number(sample[0] + 1, of)
    return 0
