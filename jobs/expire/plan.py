"""Plan of an expire run: the runs that prove copies, the shares, the price."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jobs.config import Settings
from jobs.core import pricing
from jobs.core.display import Display
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.model import Location
from jobs.core.pricing import PriceTable
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import ConfigError, LedgerError, LimitExceeded, UsageError
from jobs.expire.places import PROVEN_BY, READ_RUNS
from jobs.expire.rules import PROOFS
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Planned, Request, drafting
from jobs.s3.sessions import are_apart, boto_client, is_of_services, open_side

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.expire.candidates import Candidates
    from jobs.manifests import Manifest


async def plan_run(
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
    is_own: Callable[[str], bool] | None = None,
) -> Planned:
    """Find what is proven, weigh it against its prefix, cut it into shards.

    `is_own`: which keys belong to the pair of the run. Raises LimitExceeded, LedgerError, …
    """
    from jobs.expire.candidates import Scope, plan_candidates
    from jobs.runs.planning import read_price_table

    source, destination = request.source, request.destination
    if source is None:
        raise UsageError("nothing to expire: give --source s3://bucket/prefix")
    scope = Scope(
        source.location,
        [Location.parse(uri) for uri in request.options["copies"]],
        are_apart(source, destination),
        is_own,
        lambda spec: is_of_services(spec, source, destination),
    )
    with drafting(request) as draft:
        wanted = None
        if request.manifest is not None:
            manifest = await open_manifest(request.manifest, ledger)
            if manifest.bucket not in (None, scope.source.bucket):
                raise ConfigError(
                    f"{request.manifest} is about bucket {manifest.bucket}, --source says {scope.source.bucket}: "
                    "name one bucket"
                )
            wanted = draft.digested(manifest.batches)
            runs = await proving_runs(ledger, scope.source.bucket)
        else:
            runs = [await ledger.spec(run_id) for run_id in request.options["proofs"]]

        candidates = await plan_candidates(
            ledger,
            runs,
            wanted,
            scope=scope,
            list_prefix=partial(_listed, source),
            write_shard=draft.write_shard,
            scratch_directory=draft.scratch,
            older_than=draft.started - request.options["grace_seconds"],
            rows_per_shard=settings.rows_per_shard,
            processes=settings.processes,
        )
        what = request.manifest or f"{PROVEN_BY}{runs[0].run_id}"
        _check_share(candidates, request.options["max_share"], display, deletes=request.options["delete"])
        shares = {
            "current": candidates.current._asdict(),
            "versions": candidates.versions._asdict(),
            "prefix": str(candidates.prefix),
        }
        spec = draft.spec(
            what, {"proofs": [each.run_id for each in runs], "streamed": scope.is_apart, "shares": shares}
        )
        plan = replace(
            _forecast(
                candidates,
                settings,
                read_price_table(request.price_table),
                asks_for_annotations=request.options.get("annotations") != SKIP_ANNOTATIONS,
            ),
            excluded=candidates.excluded,
            expiry=shares
            | {
                "source": source.to_dict(),
                "destination": destination.to_dict(),
                "copies": request.options["copies"],
                "claimed": request.options["claimed"],
                READ_RUNS: list(candidates.read_runs.items()),
            },
        )
        return draft.planned(spec, plan)


async def open_manifest(uri: str, ledger: Ledger) -> Manifest:
    """The manifest at a URI."""
    from jobs.manifests import open_manifest as opened

    return await opened(uri, ledger.store, lambda: boto_client(None, None, None))


async def proving_runs(ledger: Ledger, bucket: str) -> list[RunSpec]:
    """All ended runs that may have proven copies of this bucket's objects, oldest first.

    Raises ConfigError.
    """
    runs: list[RunSpec] = []
    for run_id in await ledger.run_ids():
        try:
            spec = await ledger.spec(run_id)
        except LedgerError:  # a run that was never planned
            continue
        if is_proof(spec) and spec.source.location.bucket == bucket and await ledger.report(run_id) is not None:
            runs.append(spec)
    if not runs:
        raise ConfigError(
            f"no run of {ledger.location} has proven a copy of an object in {bucket}: verify copies first"
        )
    return runs


def is_proof(spec: RunSpec) -> bool:
    """True if a run may have proven copies elsewhere."""
    return spec.job in PROOFS and spec.source.location != spec.destination.location


async def _listed(source: Side, prefix: Location) -> AsyncIterator[pa.RecordBatch]:
    """All versions below the prefix, as a manifest has them."""
    from jobs.s3.listing import list_all
    from jobs.tables.rows import manifest_batch

    store = open_side(source, max_in_flight=16)
    try:
        versions = await store.is_versioned(prefix.bucket)
        async with aclosing(list_all(store, prefix, versions=versions)) as pages:
            async for page in pages:
                yield manifest_batch(page)
    finally:
        await store.close()


def _check_share(candidates: Candidates, max_share: float, display: Display, *, deletes: bool) -> None:
    """Raises LimitExceeded when too large a share of the prefix would go.

    A dry run only says so.
    """
    shares = {"current objects": candidates.current, "object versions": candidates.versions}
    for what, share in shares.items():
        if share.exceeds(max_share):
            text = (
                f"{share.eligible:,} of the {share.listed:,} {what} in {candidates.prefix} would go, "
                f"more than {max_share:.0%} of them"
            )
            if deletes:
                raise LimitExceeded(f"{text}: if that is meant, raise --max-share")
            display.say(f"{text}: --yes-delete will refuse that without a larger --max-share")


def _forecast(candidates: Candidates, settings: Settings, prices: PriceTable, *, asks_for_annotations: bool) -> Plan:
    """The plan's requests, dollars and seconds.

    For each original: a HEAD, a DELETE and a list of its annotations, unless they are skipped. For
    each copy: GETs of its bytes, and a HEAD unless an archive holds it. Comparing annotations is
    not counted: a plan cannot know how many there are. Copies are priced in the class of their
    originals.
    """
    classes = [(prices.of_class(name), of_class) for name, of_class in candidates.by_class.items()]
    read_bytes = sum(count.read_bytes for _, count in classes)
    requests = {
        "head": sum(2 * count.rows - count.packed for _, count in classes),
        "get": sum(count.gets for _, count in classes),
        "delete": candidates.rows,
        "list": -(-candidates.versions.listed // 1000) + candidates.rows * asks_for_annotations,
    }
    dollars = {
        "gets": sum((2 * n.rows - n.packed + n.gets) * price.get_per_1000 / 1000 for price, n in classes),
        "retrieval": sum(n.read_bytes / pricing.GIB * price.retrieval_per_gib for price, n in classes),
        "deletes": requests["delete"] * prices.delete_per_1000 / 1000,
        "lists": requests["list"] * prices.list_per_1000 / 1000,
    }
    return Plan(
        rows=candidates.rows,
        size_bytes=candidates.size_bytes,
        shards=tuple(candidates.shards),
        requests={kind: count for kind, count in requests.items() if count},
        dollars={item: amount for item, amount in dollars.items() if amount},
        price_table=prices.name,
        seconds=pricing.estimate_seconds(requests, read_bytes, settings.processes),
    )
