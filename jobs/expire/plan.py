"""Plan of an expire run: the places, what is listed there, the shares, the price."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from jobs.config import Settings
from jobs.core import pricing
from jobs.core.display import Display
from jobs.core.enums import SKIP_ANNOTATIONS, Step
from jobs.core.model import Location
from jobs.core.pricing import PriceTable
from jobs.core.run import Plan
from jobs.errors import ConfigError, Denied, LimitExceeded, NotFound, Rejected, UsageError
from jobs.expire.place_checks import find_policy, refuse_lifecycle, refuse_mirrors, refuse_replicated_deletes
from jobs.expire.places import foreign_places, read_places
from jobs.ledger.ledger import Ledger
from jobs.policy.model import Policy
from jobs.runs.request import Planned, Request, drafting
from jobs.s3.condition_trial import find_ignored, untried_error
from jobs.s3.operations import Operation
from jobs.s3.retries import retry
from jobs.s3.sessions import are_apart, boto_client, open_side
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.expire.candidates import Candidates, Scope


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
    from jobs.core.pricing import own_prices
    from jobs.expire.candidates import Scope, plan_candidates
    from jobs.manifests import open_manifest

    source, destination, options = request.source, request.destination, request.options
    if source is None:
        raise UsageError("nothing to expire", advice="give --source s3://bucket/prefix")
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
        wanted = None
        if request.manifest is not None:
            client = partial(boto_client, None, None, None)
            bucket = source.location.bucket
            manifest = await open_manifest(request.manifest, ledger.store, client, bucket=bucket)
            wanted = draft.digested(manifest.batches)
        older_than, max_share = draft.started - options["grace_seconds"], options["max_share"]
        places = (originals, copies, source.location, copies_at)
        scope = Scope(*places, is_own, older_than, max_share, options["by_checksum"], options["delete"])
        candidates = await plan_candidates(
            scope,
            ArchiveIndex(ledger.store, ledger.location),
            wanted,
            write_shard=draft.write_shard,
            scratch_directory=draft.scratch,
            rows_per_shard=settings.rows_per_shard,
            processes=settings.processes,
        )
        for place in (origin, *others):
            if foreign := foreign_places(candidates.documents.get(place.location, ()), place, origin):
                raise ConfigError(
                    f"{place.location} holds another place, by its document {foreign[0]}",
                    advice="name places that have no key in common, or delete that document",
                )
        for index in candidates.damage:
            lacks = "its index is damaged, and nothing that it lacks counts as a copy"
            display.say(f"{index.archive}: {lacks}: {index.reason}")
        _check_share(candidates, scope, display)
        asked = originals.keeps_annotations and options["annotations"] != SKIP_ANNOTATIONS
        plan = _forecast(candidates, scope, settings, own_prices(), asks_annotations=asked)
        expiry = {
            "current": candidates.current._asdict(),
            "versions": candidates.versions._asdict(),
            "prefix": str(candidates.prefix),
            "source": source.to_dict(),
            "destination": destination.to_dict(),
            "copies": options["copies"],
            "places": msgspec.to_builtins([origin, *others], enc_hook=str),  # a bucket of a policy is a kind of str
            "reads": [{"storage_class": name, "bytes": read} for name, (_, read) in candidates.reads.items()],
        }
        named = request.manifest or f"listing of {source.location}"
        spec = draft.spec(named, {"apart": is_apart, "heeded_steps": heeded})
        return draft.planned(spec, replace(plan, excluded=dict(candidates.excluded), expiry=expiry))


async def heeded_steps(store: Store, originals: Location) -> tuple[Step, ...]:
    """The steps in which the server is known to heed If-Match, now that the bucket keeps versions, or not.

    Raises ConfigError for a server that ignores it, and where that cannot be found out: nothing can be deleted safely
    there. Raises StoreError.
    """
    if store.heeds_conditions:
        return tuple(Step)
    is_versioned = await retry(lambda: store.is_versioned(originals.bucket))
    try:
        ignored = await find_ignored(store, originals, [Operation.DELETE])
    except (NotFound, Denied, Rejected) as error:
        raise untried_error(originals, error) from error
    if ignored:
        raise ConfigError(
            f"the server of {originals} deletes whatever If-Match says, or refuses an ETag that is there: nothing can "
            "be deleted safely there"
        )
    return (Step.HIDE if is_versioned else Step.REMOVE,)


def _check_share(candidates: Candidates, scope: Scope, display: Display) -> None:
    """Raises LimitExceeded when too large a share of the prefix would go. A dry run only says so."""
    for what, share in (("current objects", candidates.current), ("object versions", candidates.versions)):
        goes = f"{share.eligible:,} of the {share.listed:,} {what} in {candidates.prefix} would go"
        text = f"{goes}, more than {scope.max_share:.0%} of them"
        if share.exceeds(scope.max_share):
            if scope.deletes:
                raise LimitExceeded(text, advice="if that is meant, raise --max-share")
            display.say(f"{text}: --yes-delete will refuse that without a larger --max-share")


def _forecast(
    candidates: Candidates, scope: Scope, settings: Settings, prices: PriceTable, *, asks_annotations: bool
) -> Plan:
    """The requests, dollars and seconds of the run: the listings of the plan are done.

    Originals and replicas get two HEADs: before the bytes are read, and before the delete.
    `asks_annotations`: each original's are listed. A plan cannot know how many there are.
    """
    going = candidates.versions.eligible
    requests = {
        "head": candidates.heads,
        "get": sum(gets for gets, _ in candidates.reads.values()),
        "delete": going * scope.deletes,
        "list": candidates.lists + going * asks_annotations,
    }
    read_bytes = sum(size_bytes for _, size_bytes in candidates.reads.values())
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
