"""Plan of an expire run: the places, what is listed there, the shares, the price."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jobs.config import Settings
from jobs.core import pricing
from jobs.core.display import Display
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.model import Location
from jobs.core.pricing import PriceTable
from jobs.core.run import Plan, Side
from jobs.errors import ConfigError, LimitExceeded, UsageError
from jobs.expire.deletes import heeded_steps
from jobs.expire.place_checks import find_policy, refuse_lifecycle, refuse_mirrors, refuse_replicated_deletes
from jobs.expire.places import Place, foreign_places, read_places
from jobs.ledger.ledger import Ledger
from jobs.policy.model import Policy
from jobs.runs.request import Planned, Request, drafting
from jobs.s3.sessions import are_apart, boto_client, open_side

if TYPE_CHECKING:
    from jobs.expire.candidates import Candidates
    from jobs.manifests import Manifest


async def plan_run(
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
    is_own: Callable[[str], bool] | None = None,
    policy: Policy | None = None,
) -> Planned:
    """Check the places, list them, weigh what would go, and cut it into shards.

    `is_own`: which keys belong to the pair of the run. None: all, there is no pair. A pair of
    `policy`, or of the ledger's, must not mirror deletes to the copies. Raises ConfigError,
    UsageError, LimitExceeded, StoreError.
    """
    from jobs.archives.index import ArchiveIndex
    from jobs.expire.candidates import Scope, plan_candidates
    from jobs.runs.planning import read_price_table

    source, destination, options = request.source, request.destination, request.options
    if source is None:
        raise UsageError("nothing to expire: give --source s3://bucket/prefix")
    copies_at = [Location.parse(uri) for uri in options["copies"]]
    for each in (policy, await find_policy(ledger)):
        if each is not None:
            refuse_mirrors(each, copies_at)
    await refuse_lifecycle(copies_at, destination, display.say)
    is_apart = are_apart(source, destination)
    async with AsyncExitStack() as opened:
        draft = opened.enter_context(drafting(request))
        originals, copies = (open_side(side, max_in_flight=16) for side in (source, destination))
        for store in (originals, copies):
            opened.push_async_callback(store.close)
        origin, others = await read_places(
            originals,
            copies,
            source.location,
            copies_at,
            grace_seconds=options["grace_seconds"],
            is_apart=is_apart,
            check_replica=partial(refuse_replicated_deletes, source),
        )
        heeded = await heeded_steps(originals, source.location) if options["delete"] else ()
        manifest = None if request.manifest is None else await open_manifest(request.manifest, ledger, source)
        older_than, max_share = draft.started - options["grace_seconds"], options["max_share"]
        by_checksum = bool(options.get("by_checksum"))
        candidates = await plan_candidates(
            Scope(originals, copies, source.location, copies_at, is_own, older_than, max_share, by_checksum),
            ArchiveIndex(ledger.store, ledger.location),
            None if manifest is None else draft.digested(manifest.batches),
            write_shard=draft.write_shard,
            scratch_directory=draft.scratch,
            rows_per_shard=settings.rows_per_shard,
            processes=settings.processes,
        )
        for place in (origin, *others):
            _refuse_overlap(candidates, place, origin)
        for archive, reason, _ in candidates.damage:
            display.say(f"{archive}: its index is damaged, and nothing that it lacks counts as a copy: {reason}")
        _check_share(candidates, max_share, display, deletes=options["delete"])
        spec = draft.spec(
            request.manifest or f"listing of {source.location}", {"apart": is_apart, "heeded_steps": heeded}
        )
        asked = candidates.rows * (options.get("annotations") != SKIP_ANNOTATIONS)
        forecast = _forecast(candidates, settings, read_price_table(request.price_table), asked)
        expiry = {
            "current": candidates.current._asdict(),
            "versions": candidates.versions._asdict(),
            "prefix": str(candidates.prefix),
            "source": source.to_dict(),
            "destination": destination.to_dict(),
            "copies": options["copies"],
            "places": {"source": origin.to_dict(), "copies": [each.to_dict() for each in others]},
            "reads": [{"storage_class": name, "bytes": read} for name, (_, read) in candidates.reads.items()],
        }
        return draft.planned(spec, replace(forecast, excluded=dict(candidates.excluded), expiry=expiry))


async def open_manifest(uri: str, ledger: Ledger, source: Side) -> Manifest:
    """The manifest at a URI. Raises ConfigError for one of another bucket."""
    from jobs.manifests import open_manifest as opened

    manifest = await opened(uri, ledger.store, lambda: boto_client(None, None, None))
    if manifest.bucket not in (None, source.location.bucket):
        raise ConfigError(
            f"{uri} is about bucket {manifest.bucket}, --source says {source.location.bucket}: name one bucket"
        )
    return manifest


def _refuse_overlap(candidates: Candidates, place: Place, source: Place) -> None:
    foreign = foreign_places(candidates.documents.get(place.location, ()), place, source)
    if foreign:
        raise ConfigError(
            f"{place.location} holds another place, by its document {foreign[0]}: name places that have no key in "
            "common, or delete that document"
        )


def _check_share(candidates: Candidates, max_share: float, display: Display, *, deletes: bool) -> None:
    """Raises LimitExceeded when too large a share of the prefix would go. A dry run only says so."""
    for what, share in (("current objects", candidates.current), ("object versions", candidates.versions)):
        if share.exceeds(max_share):
            text = (
                f"{share.eligible:,} of the {share.listed:,} {what} in {candidates.prefix} would go, "
                f"more than {max_share:.0%} of them"
            )
            if deletes:
                raise LimitExceeded(f"{text}: if that is meant, raise --max-share")
            display.say(f"{text}: --yes-delete will refuse that without a larger --max-share")


def _forecast(candidates: Candidates, settings: Settings, prices: PriceTable, annotations: int) -> Plan:
    """The plan's requests, dollars and seconds.

    Originals and replicas get two HEADs: before the bytes are read, and before the delete.
    `annotations`: of how many originals they are listed. A plan cannot know how many there are.
    """
    read_bytes = sum(size_bytes for _, size_bytes in candidates.reads.values())
    requests = {
        "head": 4 * candidates.rows - 2 * candidates.packed,
        "get": sum(gets for gets, _ in candidates.reads.values()),
        "delete": candidates.rows,
        "list": -(-candidates.versions.listed // 1000) + annotations,
    }
    reads = [(prices.of_class(name), *counts) for name, counts in candidates.reads.items()]
    dollars = {
        "heads": requests["head"] * prices.of_class("STANDARD").get_per_1000 / 1000,
        "gets": sum(gets * price.get_per_1000 / 1000 for price, gets, _ in reads),
        "retrieval": sum(size_bytes / pricing.GIB * price.retrieval_per_gib for price, _, size_bytes in reads),
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
