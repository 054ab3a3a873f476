"""`sealift replicate` and `sealift verify`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import click

from jobs.aws.batch_arrays import WORK
from jobs.cli import batch_options
from jobs.cli.console import TERMINAL, emit, say
from jobs.cli.options import (
    LocationType,
    SizeType,
    checksums_options,
    filter_options,
    json_option,
    ledger_location,
    ledger_option,
    manifest_option,
    plan_options,
    side,
    side_options,
    stack,
)
from jobs.cli.texts import plan_text, report_text
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec
from jobs.core.sampling import next_number, parse_fraction
from jobs.core.selection import Selection
from jobs.errors import Interrupted, Unavailable, UsageError
from jobs.ledger.ledger import Ledger
from jobs.replicate.decision import Overwrite
from jobs.runs import batch_follow, launch
from jobs.runs import placement as placing
from jobs.runs.batch_executor import Submitted, describe_failure
from jobs.s3.copying import COPY_LIMIT_BYTES, KEEP
from jobs.verify import archives_plan

_COMMON = stack(
    click.option("--source", type=LocationType(), help="What to take: a bucket or a prefix in it."),
    manifest_option("Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows), proven:ID (its others)."),
    click.option("--destination", type=LocationType(), help="Where the copies are or go."),
    click.option("--versions", type=click.Choice(["current", "all"]), default="current", show_default=True),
    ledger_option(),
    filter_options(),
    plan_options(),
    batch_options.batch_options(),
    json_option(),
    side_options("source"),
    side_options("destination"),
    click.option("--requester-pays", is_flag=True, help="Agree to pay for requests to the source's bucket."),
)


@click.command()
@_COMMON
@click.option("--storage-class", default=KEEP, show_default=True, help="For the copies; keep: the source's.")
@click.option(
    "--sse", type=click.Choice(["AES256", "aws:kms"]), help="Encryption of the copies. Default: the bucket's."
)
@click.option("--kms-key-id", metavar="ARN", help="With --sse aws:kms.")
@click.option("--object-lock", is_flag=True, help="Carry retention and legal hold (one more request each).")
@click.option(
    "--overwrite",
    type=click.Choice([each.value for each in Overwrite]),
    default=Overwrite.OLDER.value,
    show_default=True,
    help="Which differing objects at the destination may be replaced.",
)
@click.option(
    "--multipart-threshold", type=SizeType(), default=COPY_LIMIT_BYTES, help="Above it: in parts. Default: 5 GB."
)
@click.option(
    "--part-size", type=SizeType(), default=64 * 1024 * 1024, help="Preferred size of a part. Default: 64MiB."
)
@click.option("--then-verify", is_flag=True, help="Batch: a verify run follows, each shard as soon as it is copied.")
def replicate(**given: Any) -> int:
    """Copy the objects of a manifest or a listing, guarded at both ends, and prove each copy.

    What is there already and proven the same is skipped. Nothing newer is overwritten. Each row
    ends as copied, same, deleted, changed, missing, denied, archived or failed.

    \b
    sealift replicate --source s3://docs/2026/ --destination s3://replica/2026/ --dry-run
    sealift replicate --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --destination s3://replica
    sealift replicate --manifest run:20261125T003345Z-verify-1f3a --destination s3://replica
    """
    if given["multipart_threshold"] > COPY_LIMIT_BYTES:
        raise UsageError("--multipart-threshold: CopyObject takes at most 5 GB (5000000000 bytes)")
    options = {
        "storage_class": given["storage_class"],
        "sse": given["sse"],
        "kms_key_id": given["kms_key_id"],
        "object_lock": given["object_lock"],
        "overwrite": given["overwrite"],
        "multipart_threshold_bytes": given["multipart_threshold"],
        "part_size_bytes": given["part_size"],
    }
    return _start("replicate", given, options, None)


@click.command()
@_COMMON
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
    names = ("deep", "rotate", "source_checksums", "destination_checksums")
    return _start("verify", given, {name: given[name] for name in names}, given["sample"])


def _start(job: str, given: dict[str, Any], options: dict[str, Any], sample: str | None) -> int:
    settings = Settings.from_environment()
    place = ledger_location(given["ledger"], settings)
    return asyncio.run(_start_run(job, given, options, sample, place, settings))


async def _start_run(
    job: str, given: dict[str, Any], options: dict[str, Any], sample: str | None, place: Location, settings: Settings
) -> int:
    ledger = launch.open_ledger(place)
    is_of_archives = given.get("archives") is not None
    if given["source"] is None and given["manifest"] is None and not is_of_archives:
        raise UsageError("nothing to work on: give --source s3://bucket/prefix or --manifest URI")
    if is_of_archives and given["destination"] is not None:
        raise UsageError("--archives and --destination: what shall be verified, archives or copies? Give one of them")
    if not is_of_archives and given["destination"] is None:
        raise UsageError("no destination: give --destination s3://bucket/prefix")
    source = side(given["source"], given, "source") if given["source"] else None
    name = "archives" if is_of_archives else "destination"
    destination = side(given[name], given, name)
    slice_ = None
    if sample:
        of = parse_fraction(sample)
        number = await _next_slice(ledger, job, source, destination, of) if given.get("rotate") else 0
        slice_ = (number, of)
    if is_of_archives:
        request = archives_plan.make_request(given, destination, slice_)
        return await launch_and_report(request, ledger, settings, given, archives_plan.plan_run)
    request = launch.Request(
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
            sample=slice_,
        ),
        options=options
        | {
            "all_versions": given["versions"] == "all",
            "requester_pays": given["requester_pays"],
            "sample": list(slice_) if slice_ else None,
        },
        price_table=given["price_table"],
    )
    return await launch_and_report(request, ledger, settings, given)


async def launch_and_report(
    request: launch.Request,
    ledger: Ledger,
    settings: Settings,
    given: dict[str, Any],
    plan_run: launch.Planner = launch.plan_run,
) -> int:
    """Plan, ask, run and report one request; the exit code."""
    options = batch_options.chosen(given)
    place = placing.place(options, settings, request.job) if placing.is_batch(options, settings) else None
    if place is None:
        planned = await plan_run(request, ledger, settings, TERMINAL)
    else:
        placing.check_sides(request.source, request.destination)
        planning = plan_run(request, ledger, placing.for_planning(settings, options), TERMINAL)
        planned = await _checked(planning, placing.check(place))
    runs = [planned]
    if given.get("then_verify"):
        from jobs.runs.planning import read_price_table

        runs.append(batch_follow.verifying(planned, read_price_table(request.price_table)))
    try:
        as_json = given["as_json"]
        for each in runs:
            launch.check_limits(each.plan, given["max_cost"], given["max_objects"])
        if given["dry_run"]:
            document = _plan_document(planned.spec, planned.plan)
            if len(runs) > 1:
                document["then"] = _plan_document(runs[1].spec, runs[1].plan)
            emit(document, as_json=as_json, text="\n".join(plan_text(each.spec, each.plan) for each in runs))
            return 0
        if not as_json:
            say("\n".join(plan_text(each.spec, each.plan) for each in runs))
        if sys.stdin.isatty() and sys.stderr.isatty() and not given["yes"] and not as_json:
            click.confirm("Start?", abort=True, err=True)
        for each in runs:
            await launch.publish(each, ledger)
    finally:
        planned.discard()
    if place is None or not planned.plan.shards:
        return await run_and_report(planned.spec, planned.plan, ledger, settings, as_json=as_json)
    submitted: list[tuple[Submitted, RunSpec, Plan]] = []
    after = settings.batch_job_id if given["detach"] else None  # else the work would wait for who waits for it
    for each in runs:
        follows = submitted[-1][0].job_ids[WORK] if submitted else None
        jobs = await batch_follow.submit(each.spec, each.plan, ledger, place, after=after, follows=follows)
        submitted.append((jobs, each.spec, each.plan))
    return await follow_and_report(submitted, ledger, as_json=as_json, detach=given["detach"])


async def _checked(planning: Coroutine[Any, Any, launch.Planned], check: Coroutine[Any, Any, None]) -> launch.Planned:
    """A plan that is made while something is checked; the first failure of either ends the other one."""
    try:
        async with asyncio.TaskGroup() as both:
            plan = both.create_task(planning)
            both.create_task(check)
    except BaseExceptionGroup as failed:
        if not plan.cancelled() and plan.exception() is None:
            plan.result().discard()
        raise failed.exceptions[0] from failed
    return plan.result()


async def follow_and_report(
    submitted: Sequence[tuple[Submitted, RunSpec, Plan]], ledger: Ledger, *, as_json: bool, detach: bool = False
) -> int:
    """Follow runs in Batch until they have ended, and print what came of them; the exit code of the first bad one."""
    if detach:
        known = [{"run_id": spec.run_id, "job": spec.job, "jobs": dict(jobs.job_ids)} for jobs, spec, _ in submitted]
        document = known[0] | {"state": "submitted"} | ({"then": known[1]} if len(known) > 1 else {})
        text = "\n".join(
            f"Submitted {each['run_id']}; follow it with  sealift runs watch {each['run_id']}" for each in known
        )
        emit(document, as_json=as_json, text=text)
        return 0
    reports, texts, code = [], [], 0
    for jobs, spec, plan in submitted:
        followed = await batch_follow.follow(jobs, spec, plan, ledger, TERMINAL)
        children = [describe_failure(failure) for failure in followed.failures]
        reports.append(followed.report | ({"failed_children": children} if children else {}))
        texts += [report_text(followed.report), *map(batch_follow.failure_text, children[:10])]
        code = code or launch.run_exit_code(followed.report, followed.codes)
    emit(reports[0] | ({"then": reports[1]} if len(reports) > 1 else {}), as_json=as_json, text="\n".join(texts))
    return code


async def run_and_report(spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, *, as_json: bool) -> int:
    """Work through a published plan and print what came of it; the exit code."""
    codes = await launch.execute(spec, plan, ledger.location, settings, TERMINAL)
    try:
        report = await launch.conclude(spec, plan, ledger, codes)
    except Unavailable as error:
        raise Interrupted(f"{error}; go on when it answers again with: sealift runs retry {spec.run_id}") from error
    emit(report, as_json=as_json, text=report_text(report))
    return launch.run_exit_code(report, codes)


async def _next_slice(ledger: Ledger, job: str, source: Any, destination: Any, of: int) -> int:
    """The slice after that of the latest rotating run over the same pair."""
    for run_id in reversed(await ledger.run_ids()):
        if f"-{job}-" not in run_id:
            continue
        spec = await ledger.spec(run_id)
        same = spec.destination == destination and (source is None or spec.source == source)
        sample = spec.options.get("sample")
        if same and spec.options.get("rotate") and sample and sample[1] == of:
            return next_number(sample[0] + 1, of)
    return 0


def _plan_document(spec: RunSpec, plan: Plan) -> dict[str, Any]:
    return {"run_id": spec.run_id, "job": spec.job, "state": "planned", "dry_run": True, **plan.to_dict()}
