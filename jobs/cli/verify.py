"""`sealift verify`."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, replace
from typing import Any

import click

from jobs import interrupts
from jobs.cli.options import (
    AccessOptions,
    ChecksumsOptions,
    LocationType,
    SectionedCommand,
    command_options,
    flag,
    group,
    option,
    takes,
)
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.cli.start_options import CopiesOptions
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import RunState, Side
from jobs.core.sampling import Rota, next_number, parse_fraction
from jobs.core.selection import Selection
from jobs.errors import LedgerError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Request, open_ledger

TIMES = ("newer_than", "older_than")
"""The filters that are times."""


@command_options
class VerifyCommand:
    """`sealift verify`, as it was typed."""

    copies: CopiesOptions = group(CopiesOptions)
    deep: bool = flag("Read and compare the bytes of both sides.")
    compares_tags: bool = flag("Read tags and annotations: each copy has all of its source's.", name="--tags")
    checksums: ChecksumsOptions = group(ChecksumsOptions)
    archives: Location | None = option(
        "Instead of copies: read the archives below this once more.", type=LocationType()
    )
    archives_access: AccessOptions = group(AccessOptions, "archives")
    sample: str | None = option("Take one Nth of the keys (or archives), always the same one.", metavar="1/N")
    rotate: bool = flag("With --sample: another Nth each run, everything once in N runs.")


@click.command(cls=SectionedCommand)
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
    sealift verify --source s3://docs --destination s3://copies --deep --sample 1/30 --rotate
    sealift verify --manifest proven:20261125T003345Z-verify-1f3a --destination s3://copies --deep
    sealift verify --archives s3://cold/docs --sample 1/30 --rotate
    """
    if options.rotate and not options.sample:
        raise UsageError("--rotate needs --sample 1/N")
    settings = Settings.from_environment()
    ledger = open_ledger(ledger_location(options.copies.ledger, settings))
    return interrupts.run(
        _verify_archives(options, options.archives, ledger, settings)
        if options.archives
        else _verify(options, ledger, settings)
    )


async def _verify(options: VerifyCommand, ledger: Ledger, settings: Settings) -> int:
    copies = options.copies
    source, destination = copies.sides()
    sample, rota = await _sample(options, ledger, source, destination)
    run_options = {
        "deep": options.deep,
        "compares_tags": options.compares_tags,
        "rota": rota,
        **asdict(options.checksums),
    }
    request = copies.request("verify", sample)
    request = replace(request, options={**run_options, **request.options})
    return await launch_and_report(request, ledger, settings, copies.start)


async def _verify_archives(options: VerifyCommand, place: Location, ledger: Ledger, settings: Settings) -> int:
    copies = options.copies
    if copies.destination is not None:
        raise UsageError("--archives verifies archives, --destination copies", advice="give one of them")
    archives = options.archives_access.side(place)
    sample, rota = await _sample(options, ledger, copies.source_side(), archives)
    of_copies = {
        "source": copies.source,
        "manifest": copies.manifest,
        "deep": options.deep,
        "tags": options.compares_tags,
    }
    of_copies |= asdict(options.checksums) | asdict(copies.filters)
    foreign = [name for name, value in of_copies.items() if value]
    if foreign:
        option = foreign[0].replace("_", "-")
        raise UsageError("--archives reads whole archives", advice=f"leave out --{option}; --sample takes some of them")
    request = Request(
        job="verify",
        source=archives,
        destination=archives,
        manifest=None,
        selection=Selection(versions="all"),
        options={"archives": True, "sample": list(sample) if sample else None, "rota": rota},
        price_table=copies.start.price_table,
    )
    return await launch_and_report(request, ledger, settings, copies.start)


async def _sample(
    options: VerifyCommand, ledger: Ledger, source: Side | None, destination: Side
) -> tuple[tuple[int, int] | None, dict[str, Any] | None]:
    """The slice of the keys to take, (number, of), and the rota that it belongs to.

    None: all keys, and no rota.
    """
    if not options.sample:
        return None, None
    of = parse_fraction(options.sample)
    if not options.rotate:
        return (0, of), None
    rota = rota_of(options, source, destination, of)
    return (await next_slice(ledger, rota, of), of), {"question": rota.question, "times": rota.times}


def rota_of(options: VerifyCommand, source: Side | None, destination: Side, of: int) -> Rota:
    """What has to agree for two runs to take turns. `of` slices.

    The inventory reports of one configuration are one manifest. So are reports of checksums, of
    which each run may have newer ones.
    """
    from jobs.inventory.find import report_series

    manifest = options.copies.manifest
    filters = asdict(options.copies.filters)
    filters |= {name: uri is not None for name, uri in asdict(options.checksums).items()}
    times = {name: value for name, value in filters.items() if name in TIMES and value is not None}
    question = {
        "source": source.to_dict() if source else None,
        "destination": destination.to_dict(),
        "manifest": manifest and report_series(manifest),
        "versions": options.copies.versions,
        "archives": options.archives is not None,
        "deep": options.deep,
        "tags": options.compares_tags,
        "of": of,
        **{name: value for name, value in filters.items() if name not in TIMES},
    }
    return Rota(json.loads(json.dumps(question)), times, time.time())


async def next_slice(ledger: Ledger, rota: Rota, of: int) -> int:
    """The slice after that of the rota's latest complete run.

    A run that was interrupted keeps its slice for the next one, and so does one that cannot be read
    any more. So `of` complete runs take every key, whatever else ran between them.
    """
    for run_id in reversed(await ledger.run_ids()):
        if "-verify-" not in run_id:
            continue
        with contextlib.suppress(LedgerError):
            spec = await ledger.spec(run_id)
            match spec.options:
                case {"rota": {"question": dict(question), "times": dict(times)}, "sample": [int(number), int()]}:
                    is_same = rota.continues(Rota(question, times, spec.created_at))
                    report = await ledger.report(run_id) if is_same else None
                    if report is not None and report["state"] == RunState.COMPLETE:
                        return next_number(number + 1, of)
    return 0
