"""Requests: what a command wants, and the plan that a planner makes of it.

A planner reads rows, chooses among them, cuts them into shards and prices them. `drafting` gives it
a scratch folder, and the parts of a spec that are the same for every kind of work.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from jobs import __version__, interrupts
from jobs.config import Settings
from jobs.core.bucket_names import is_second_name
from jobs.core.display import Display
from jobs.core.model import Location
from jobs.core.run import OLD_VERSIONS, ROWS_SHA256, Plan, RunSpec, Side, continuation, run_of
from jobs.core.selection import Selection
from jobs.errors import ConfigError, Denied, LedgerError, NoSuchBucket, NotFound, StoreError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.ledger.one_bucket import check_two_places
from jobs.runs.scratch import make_scratch, remove_scratch
from jobs.runs.sharding import Shards
from jobs.s3.retries import promptly, together
from jobs.s3.sessions import account_of, are_apart, endpoint_of, open_store, side_store

if TYPE_CHECKING:
    import pyarrow as pa


class Request(Struct, frozen=True):
    """What the user wants.

    Without a manifest the source is listed: all of it, or its `prefixes` if there are any. `rows`:
    a file of those rows of the manifest that are wanted. `keys`: all that a restore restores, if there
    are any.
    """

    job: str
    source: Side | None
    destination: Side
    manifest: str | None
    selection: Selection
    options: Mapping[str, Any] = {}
    retry_of: str | None = None
    prefixes: tuple[str, ...] = ()
    rows: Path | None = None
    keys: tuple[str, ...] = ()


class Planned(Struct, frozen=True):
    """A plan that waits for a yes.

    Its shards are in a scratch folder, and the ledger has nothing yet.
    """

    spec: RunSpec
    plan: Plan
    scratch: Path

    def discard(self) -> None:
        """Remove the scratch folder."""
        remove_scratch(self.scratch)


Planner = Callable[[Request, Ledger, Settings, Display], Coroutine[Any, Any, Planned]]
"""Reads the requested rows, filters them, spreads them over shards and prices them."""


class Draft:
    """A plan in the making.

    `started`: epoch seconds. `scratch`: the folder that holds its shards.
    """

    def __init__(self, request: Request):
        self.request, self.destination, self.started = request, request.destination, time.time()
        self.scratch = make_scratch("plan")
        self.has_old_versions = False
        self._rows_sha256: str | None = None

    async def write_shard(self, number: int, data: bytes) -> None:
        """Keep a shard's file until the plan is published."""
        (self.scratch / f"{number:05d}.parquet").write_bytes(data)

    def shards(self, settings: Settings) -> Shards:
        """For a planner: where shards go, and how large they are."""
        return Shards(self.write_shard, self.scratch, settings.rows_per_shard, settings.processes)

    async def noting(
        self, batches: AsyncIterator[pa.RecordBatch], *, says_latest: bool
    ) -> AsyncIterator[pa.RecordBatch]:
        """The rows of a manifest as they come. Notes which they are, and whether any names a version, unless
        the manifest says which ones are the latest.
        """
        digest = hashlib.sha256()
        async for batch in batches:
            digest.update(batch.select(["key", "version_id"]).serialize())
            version_id = batch["version_id"]
            self.has_old_versions |= not says_latest and version_id.null_count < len(version_id)
            yield batch
        self._rows_sha256 = digest.hexdigest()

    def spec(self, manifest: str, extra: Mapping[str, Any], source: Side) -> RunSpec:
        """The run's spec.

        `manifest` says where the rows come from. `extra` is what planning adds to the request's
        options.
        """
        selection = self.request.selection
        within = {"prefix": selection.prefix} if selection.prefix not in ("", source.location.key) else {}
        return RunSpec(
            run_id=new_run_id(self.request.job, self.started),
            job=self.request.job,
            created_at=self.started,
            source=source,
            destination=self.destination,
            manifest=manifest,
            options={**self.request.options, **extra, "filters": selection.filters() | within},
            retry_of=self.request.retry_of,
            sealift_version=__version__,
        )

    def ways(self, source: Side) -> dict[str, Any]:
        """How bytes get from the source to the destination, as options of a spec."""
        destination, is_asked = self.destination, bool(self.request.options.get("stream"))
        hops = endpoint_hops(source, destination)
        return {
            "streamed": is_asked or is_streamed(source, destination) or hops > 0,
            "apart": are_apart(source, destination),
            "cross_region": (source.region or "") != (destination.region or ""),
        } | ({"endpoint_hops": hops} if hops else {})

    def planned(self, spec: RunSpec, plan: Plan) -> Planned:
        """The finished plan, which keeps the scratch folder. Its rows have been read."""
        options = {**spec.options, OLD_VERSIONS: self.has_old_versions, ROWS_SHA256: self._rows_sha256}
        return Planned(replace(spec, options=options), plan, self.scratch)


@contextmanager
def drafting(request: Request) -> Iterator[Draft]:
    """A draft whose scratch folder goes away if the block fails."""
    draft = Draft(request)
    try:
        yield draft
    except BaseException:
        remove_scratch(draft.scratch)
        raise


def open_ledger(location: Location) -> Ledger:
    """The ledger at a location, reached by boto3's defaults."""
    return Ledger(open_store(None, None, None, max_in_flight=16), location)


def open_prompt_ledger(location: Location) -> Ledger:
    """The ledger at a location, for commands that a person waits for. Raises as `check_ledger`."""
    interrupts.run(check_ledger(open_ledger(location)))
    return open_ledger(location)


async def check_ledger(ledger: Ledger) -> None:
    """Check that the ledger answers, before a person waits for more. Raises Unavailable, ConfigError."""
    look = partial(ledger.run_ids, "~")  # no id comes after it
    await promptly(look, f"the ledger {ledger.location}", partial(endpoint_of, Side(ledger.location)))


def new_run_id(job: str, now: float) -> str:
    """An id that says when its run began: `20261125T003345Z-replicate-1f3a02`.

    `jobs.ledger.run_ids.begin_order` sorts ids by time, even within a second.
    """
    fraction = int(now % 1 * 4096)
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{job}-{fraction:03x}{secrets.token_hex(2)[1:]}"


def is_streamed(source: Side, destination: Side) -> bool:
    """Whether bytes must pass through the worker, since no service makes such a copy.

    Outside of AWS two profiles may be two accounts, whose bucket names have nothing in common. An
    access point takes copies of its own region alone.
    """
    if are_apart(source, destination):
        return True
    if account_of(source) != account_of(destination) and endpoint_of(source).partition is None:
        return True
    is_point = is_second_name(source.location.bucket) or is_second_name(destination.location.bucket)
    return is_point and source.region != destination.region


def endpoint_hops(source: Side, destination: Side) -> int:
    """How often the bytes of a copy cross a region, where workers reach S3 by VPC endpoints only.

    0 for copies that S3 makes. An endpoint refuses a copy from another region, so such a copy
    passes through a worker: by the endpoint of one region, then by that of the other.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    """
    own = os.environ.get("AWS_REGION") or ""
    regions = [side.region or own for side in (source, destination)]
    if not Settings.from_environment().endpoints_only or regions[0] == regions[1]:
        return 0
    return sum(region != own for region in regions)


SourcedRows = tuple[Side, str, "AsyncIterator[pa.RecordBatch]"]
"""The source of a request, where its rows come from, and the rows."""


async def manifest_rows(request: Request, ledger: Ledger, draft: Draft) -> SourcedRows:
    """The rows of a request, from a listing, an earlier run or a manifest.

    `proven:` and a run's id names the rows that the run has brought to a good end, `run:` its failed
    rows. Rows of an earlier run keep its source. Raises UsageError for places that overlap, as soon as
    the source is known: nothing is listed or opened before.
    """
    source, uri = request.source, request.manifest
    check_apart(source, request.destination, ledger.location)
    if uri is None:
        assert source is not None  # a command has refused a request without any rows
        places = [source.location._replace(key=prefix) for prefix in request.prefixes] or [source.location]
        rows = listed_rows(source, places, versions=request.selection.versions == "all")
        return source, f"listing of {', '.join(map(str, places))}", rows
    file, is_known = uri, not run_of(uri)  # a file of a run may say what the run's own manifest did not
    if run_id := run_of(uri) if uri.startswith(("run:", "proven:")) else "":
        spec = await ledger.spec(run_id)
        _check_has_outcomes(spec)
        source, is_known = source or spec.source, not spec.options.get(OLD_VERSIONS, True)
        check_apart(source, request.destination, ledger.location)
        if uri.startswith("proven:"):
            from jobs.runs.folding import proven_rows  # DuckDB loads here

            proven = proven_rows(ledger, run_id, await ledger.plan(run_id))
            return source, uri, draft.noting(proven, says_latest=is_known)
        file = str(request.rows) if request.rows else await failures_of(ledger, run_id)
    from jobs.manifests import open_manifest

    manifest = await open_manifest(file, ledger.store)
    bucket = manifest.bucket or (source.location.bucket if source else None)
    if bucket is None:
        raise UsageError(f"{file} does not say which bucket its keys are in", advice="add --source s3://bucket")
    if source is not None and bucket != source.location.bucket:
        raise ConfigError(
            f"{file} is about bucket {bucket}, --source says {source.location.bucket}", advice="name one bucket"
        )
    source = source or Side(Location(bucket))
    check_apart(source, request.destination, ledger.location)
    return source, uri, draft.noting(manifest.batches, says_latest=manifest.says_latest and is_known)


async def failures_of(ledger: Ledger, run_id: str) -> str:
    """The URI of the failed rows of a run.

    Raises ConfigError for a run that has none, or has not ended. Raises UsageError for a run that
    only compares.
    """
    _check_has_outcomes(await ledger.spec(run_id))
    earlier = await ledger.report(run_id)
    if earlier is None:
        raise ConfigError(f"run {run_id} has not ended", advice=f"finish it with {continuation(run_id)} first")
    uri, folder = earlier.get("failures_manifest"), ledger.uri(run_id)
    if uri is None and not earlier.get("failures"):
        raise ConfigError(f"run {run_id} has no failed rows", advice="there is nothing to do")
    uri = str(uri)
    if not re.fullmatch(r"failures(-[0-9a-f]{16})?\.parquet", uri.removeprefix(folder)):
        raise LedgerError(
            f"{ledger.uri(run_id, 'report.json')} names {uri} as the failed rows, which is not a file of this run: "
            "the report was altered",
            advice="verify again",
        )
    return uri


def _check_has_outcomes(spec: RunSpec) -> None:
    """Raises UsageError for a run that compared two reports: it worked at no row."""
    if "destination_manifest" in spec.options:
        raise UsageError(
            f"run {spec.run_id} is a reconcile run: it only compared, so it has no failed or proven rows",
            advice=f"what repairs its findings is in `sealift runs show {spec.run_id}`",
        )


async def listed_rows(
    side: Side, places: Sequence[Location], *, versions: bool
) -> AsyncGenerator[pa.RecordBatch, None]:
    """The objects below some places of a side, or all their versions, a page at a time."""
    from jobs.s3.listing import list_all
    from jobs.tables.rows import manifest_batch

    async with side_store(side) as store:
        for place in places:
            async with aclosing(list_all(store, place, versions=versions)) as pages:
                async for page in pages:
                    yield manifest_batch(page)


async def check_sides(
    source: Side,
    destination: Side,
    *,
    all_versions: bool = False,
    in_place: bool = False,
    destination_name: str = "destination",
) -> tuple[Side, Side]:
    """Check that both buckets exist and are readable, before anything is planned.

    `destination_name`: the option that names the destination. Returns the sides, with the regions
    where AWS has the buckets. Raises ConfigError, UsageError and StoreError.
    """

    async def locate(name: str, side: Side, keeps_versions: bool) -> Side:
        look = partial(_locate, name, side, keeps_versions)
        return await promptly(look, f"the {name} {side.location}", partial(endpoint_of, side))

    located = await together(locate("source", source, False), locate(destination_name, destination, all_versions))
    if not in_place:
        if source.location == destination.location and not are_apart(source, destination):
            raise UsageError(f"source and destination are both {source.location}", advice="name two places")
        await check_two_places(*located)
    return located[0], located[1]


async def _locate(name: str, side: Side, all_versions: bool) -> Side:
    """The side with the region of its bucket. Raises ConfigError for a missing bucket, or for one
    that keeps no versions if `all_versions`.
    """
    bucket = side.location.bucket
    try:
        async with side_store(side, max_in_flight=4) as store:
            await store.list_objects(bucket, side.location.key, max_keys=1)
            if all_versions and not await store.is_versioned(bucket):
                raise ConfigError(f"the {name} bucket {bucket} keeps no versions", advice="leave out --versions all")
            return replace(side, region=store.region_of(bucket) or side.region)
    except (NotFound, NoSuchBucket) as error:
        advice = f"check its name and region, in --{name} or the policy"
        raise ConfigError(f"the {name} bucket {bucket} does not exist", advice=advice) from error
    except StoreError as error:
        is_owner_in_doubt = side.owner and isinstance(error, Denied)
        doubt = f" (or the bucket does not belong to the account {side.owner})" if is_owner_in_doubt else ""
        raise error.recast(type(error), target=f"{name} {side.location}", detail=error.detail + doubt) from error


def check_apart(source: Side | None, destination: Side | None, ledger: Location) -> None:
    """Check that a run reads and overwrites neither its own copies nor its ledger.

    None: a side that is not known yet. Raises UsageError.
    """
    places = {"destination": destination, "source": source, "ledger": Side(ledger)}
    for (name, side), (other_name, other) in combinations(places.items(), 2):
        if side and other and side.location.overlaps(other.location) and not are_apart(side, other):
            raise UsageError(
                f"the {name} {side.location} and the {other_name} {other.location} overlap, so one would be taken for "
                "a part of the other, copied again, or written over",
                advice="name places of their own",
            )


def check_outside(destination: Side, ledger: Location) -> None:
    """Check that nothing is restored into the ledger. Raises UsageError.

    The destination may contain the ledger, as where a bucket with its ledger is restored in place.
    """
    place = destination.location
    if place.bucket == ledger.bucket and place.key.startswith(ledger.key) and not are_apart(destination, Side(ledger)):
        raise UsageError(f"the destination {place} and the ledger {ledger} overlap", advice="name places of their own")
