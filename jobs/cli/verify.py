"""`sealift verify`."""

from __future__ import annotations

from dataclasses import asdict

import click

from jobs import interrupts
from jobs.cli.copies import CopiesOptions
from jobs.cli.options import (
    ChecksumsOptions,
    Command,
    Place,
    command_options,
    flag,
    group,
    option,
    refuse_others,
    takes,
)
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.sampling import Sample
from jobs.core.selection import Selection
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Request, open_ledger

_WITH_ARCHIVES = ("archives", "sample", "max_cost", "max_rate", "source_endpoint", "source_profile", "source_owner")


@command_options
class VerifyCommand:
    """`sealift verify`, as it was typed."""

    copies: CopiesOptions = group(CopiesOptions)
    deep: bool = flag("Read and compare the bytes of both sides.")
    compares_tags: bool = flag("Read tags and annotations: each copy has all of its source's.", name="--tags")
    checksums: ChecksumsOptions = group(ChecksumsOptions)
    archives: Location | None = option("Instead of copies: read the archives below this once more.", type=Place)
    sample: str | None = option("Take the Kth of N equal parts of the keys (or archives).", metavar="K/N")


@click.command(cls=Command)
@takes(VerifyCommand)
def verify(options: VerifyCommand) -> int:
    """Prove that each object of a manifest or a listing is the same at the destination.

    Stored checksums prove it, else MD5 ETags. With --deep the bytes of both sides do, or, for the
    rows of proven:ID, the destination's bytes and the checksum in the ledger. User metadata and
    content headers are compared where both sides are looked at. Objects that reports
    of checksums at rest prove on both sides are not read. Each row ends as verified, different,
    damaged, missing, changed, unknown or blocked, with the reason.

    With --archives each archive is read whole, and the index proves each of its members.

    \b
    sealift verify --source s3://docs --destination s3://copies
    sealift verify --source s3://docs --destination s3://copies --deep --sample 1/30
    sealift verify --manifest proven:20261125T003345Z-verify-1f3a --destination s3://copies --deep
    sealift verify --archives s3://cold/docs --sample 1/30
    """
    settings = Settings.from_environment()
    ledger = open_ledger(ledger_location(options.copies.start.ledger, settings))
    if not options.archives:
        return interrupts.run(_verify(options, ledger, settings))
    refuse_others(_WITH_ARCHIVES, "--archives reads whole archives; --sample takes some of them")
    return interrupts.run(_verify_archives(options, options.archives, ledger, settings))


async def _verify(options: VerifyCommand, ledger: Ledger, settings: Settings) -> int:
    copies = options.copies
    run_options = {"deep": options.deep, "compares_tags": options.compares_tags, **asdict(options.checksums)}
    request = copies.request("verify", run_options, Sample.parse(options.sample))
    return await launch_and_report(request, ledger, settings, copies.start)


async def _verify_archives(options: VerifyCommand, place: Location, ledger: Ledger, settings: Settings) -> int:
    copies = options.copies
    archives, sample = copies.source_access.side(place), Sample.parse(options.sample)
    request = Request(
        job="verify",
        source=archives,
        destination=archives,
        manifest=None,
        selection=Selection(versions="all", sample=sample),
        options={"archives": True, "sample": list(sample) if sample else None},
    )
    return await launch_and_report(request, ledger, settings, copies.start)
