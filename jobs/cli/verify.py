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
@click.option("--archives", type=LocationType(), help="Instead of copies: read the archives beneath this once more.")
@side_options("archives")
@click.option("--sample", metavar="1/N", help="Take one Nth of the keys, or archives, always the same one.")
@click.option("--rotate", is_flag=True, help="With --sample: the next Nth each run, everything once in N runs.")
def verify(**given: Any) -> int:
    """Prove that each object of a manifest or a listing is at the destination, the same.

    By stored checksums, then MD5 ETags; with --deep by the bytes of both sides, or, for the rows
    of proven:ID, by the destination's bytes against the checksum that the ledger knows. What reports
    of checksums at rest prove of both sides is not read. Each row ends as verified, mismatched,
    missing, changed, unverifiable, denied or failed, with the reason.

    With --archives each archive is read whole, and each of its members proven against the index.

    \b
    sealift verify --source s3://docs --destination s3://replica
    sealift verify --source s3://docs --destination s3://replica --deep --sample 1/30 --rotate
    sealift verify --manifest proven:20261125T003345Z-verify-1f3a --destination s3://replica --deep
    sealift verify --archives s3://cold/docs --sample 1/30 --rotate
    """
    if given["rotate"] and not given["sample"]:
        raise UsageError("--rotate needs --sample 1/N")
    settings = Settings.from_environment()
    ledger = open_ledger(ledger_location(given["ledger"], settings))
    return asyncio.run(
        _verify_archives(given, ledger, settings) if given["archives"] else _verify(given, ledger, settings)
    )


async def _verify(given: dict[str, Any], ledger: Ledger, settings: Settings) -> int:
    sides = copies_sides(given)
    sample = await _sample(given, ledger, *sides)
    names = ("deep", "rotate", "source_checksums", "destination_checksums")
    request = copies_request("verify", given, sides, {name: given[name] for name in names}, sample)
    return await launch_and_report(request, ledger, settings, given)


async def _verify_archives(given: dict[str, Any], ledger: Ledger, settings: Settings) -> int:
    if given["destination"] is not None:
        raise UsageError("--archives and --destination: what shall be verified, archives or copies? Give one of them")
    archives = side(given["archives"], given, "archives")
    source = side(given["source"], given, "source") if given["source"] else None
    sample = await _sample(given, ledger, source, archives)
    foreign = [name for name in _OF_COPIES if given.get(name)]
    if foreign:
        option = foreign[0].replace("_", "-")
        raise UsageError(f"--archives reads whole archives: leave out --{option}; --sample takes some of them")
    request = Request(
        job="verify",
        source=archives,
        destination=archives,
        manifest=None,
        selection=Selection(versions="all"),
        options={"archives": True, "sample": list(sample) if sample else None, "rotate": given["rotate"]},
        price_table=given["price_table"],
    )
    return await launch_and_report(request, ledger, settings, given)


async def _sample(
    given: dict[str, Any], ledger: Ledger, source: Side | None, destination: Side
) -> tuple[int, int] | None:
    """Which slice of the keys is taken: (number, of). None: all of them."""
    if not given["sample"]:
        return None
    of = parse_fraction(given["sample"])
    return (await _next_slice(ledger, source, destination, of) if given["rotate"] else 0), of


async def _next_slice(ledger: Ledger, source: Side | None, destination: Side, of: int) -> int:
    """The slice after that of the latest rotating run over the same pair."""
    for run_id in reversed(await ledger.run_ids()):
        if "-verify-" not in run_id:
            continue
        spec = await ledger.spec(run_id)
        same = spec.destination == destination and (source is None or spec.source == source)
        sample = spec.options.get("sample")
        if same and spec.options.get("rotate") and sample and sample[1] == of:
            return next_number(sample[0] + 1, of)
    return 0
