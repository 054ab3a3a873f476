"""Pricing of a restore: archives as they are now, requests, dollars, hours."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.archives.files import archive_ref
from jobs.archives.model import ArchiveRecord
from jobs.archives.spans import SPAN_BYTES
from jobs.core import pricing
from jobs.core.model import Location
from jobs.core.pricing import GIB, PriceTable
from jobs.core.run import Plan, Side
from jobs.errors import Denied, NotFound, Redirected, UsageError
from jobs.restore.thawing import ColdObjects, Tier, estimate_thaw, refusal
from jobs.s3.retries import retry
from jobs.s3.sessions import open_store

if TYPE_CHECKING:
    from jobs.restore.plan import RestoreSelection

LOOKS_AT_ONCE = 64
_UNREADABLE = (NotFound, Denied, Redirected)


def records_of(records: Sequence[ArchiveRecord], archives: Location, bucket: str | None) -> dict[str, ArchiveRecord]:
    """The archives of one bucket's objects, by URI.

    Raises UsageError if there are none, or archives of several buckets.
    """
    buckets = {each.source_bucket for each in records}
    if not records:
        raise UsageError(f"the index knows no archives below {archives}: see sealift archives list, or reindex")
    if bucket is None and len(buckets) > 1:
        raise UsageError(f"{archives} has archives of {', '.join(sorted(buckets))}: say which with --bucket")
    chosen = {str(each.location): each for each in records if bucket in (None, each.source_bucket)}
    if not chosen:
        raise UsageError(f"{archives} has no archives of {bucket}, only of {', '.join(sorted(buckets))}")
    return chosen


async def find_cold(
    side: Side | None, records: Mapping[str, ArchiveRecord], archives: Sequence[str], tier: Tier
) -> dict[str, ColdObjects]:
    """The archives that must be thawed, by URI. Unreadable archives are left to the run.

    Raises UsageError if the tier cannot thaw one of them.
    """
    if side is None or not archives:
        return {}
    store = open_store(side.endpoint, side.region, side.profile, max_in_flight=LOOKS_AT_ONCE)
    gate = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def look(uri: str) -> ColdObjects | None:
        async with gate:
            try:
                info = await retry(lambda: store.head(archive_ref(records[uri])))
            except _UNREADABLE:
                return None
        return ColdObjects(info.storage_class, info.size_bytes, info.is_restoring) if info.is_archived else None

    try:
        indexed = [uri for uri in archives if uri in records]
        infos = dict(zip(indexed, await asyncio.gather(*map(look, indexed)), strict=True))
    finally:
        await store.close()
    cold = {uri: each for uri, each in infos.items() if each is not None}
    for uri, each in cold.items():
        if (why := refusal(each.storage_class, tier)) is not None:
            raise UsageError(f"--tier {tier.value}: {uri} cannot be thawed so, {why}")
    return cold


def forecast(
    chosen: RestoreSelection,
    records: Mapping[str, ArchiveRecord],
    cold: Mapping[str, ColdObjects],
    options: Mapping[str, Any],
    processes: int,
    prices: PriceTable,
) -> Plan:
    """The plan of a restore: archives to thaw, then to read by ranges or copy, then to write.

    Reading costs at most a request for each `SPAN_BYTES` of an archive's members, if they are
    together.
    """
    tier, days = Tier(options["tier"]), int(options["days"])
    versions = _cold_versions(chosen) if options["is_history"] else []
    thaw = estimate_thaw([*cold.values(), *versions], tier, days, prices)
    requests, dollars = _copies(chosen, options, prices)
    per_gib = pricing.far_per_gib(options, prices)
    written = prices.of_class("STANDARD" if options["storage_class"] == "keep" else options["storage_class"])
    for taken in chosen.archives:
        read = prices.of_class(records[taken.archive].storage_class if taken.archive in records else "STANDARD")
        small = taken.rows - taken.large
        gets = -(-taken.size_bytes // SPAN_BYTES) + 1
        requests.update(head=1, get=gets, put=small, create=taken.large, complete=taken.large, part=taken.parts)
        dollars["gets"] += (gets + 1) * read.get_per_1000 / 1000
        dollars["retrieval"] += taken.size_bytes / GIB * read.retrieval_per_gib
        dollars["puts"] += (
            (small + 2 * taken.large) * written.put_per_1000 + taken.parts * written.part_per_1000
        ) / 1000
        dollars["transfer"] += taken.size_bytes / GIB * per_gib
    requests["restore"] = thaw.cold - thaw.restoring
    dollars["thaw_requests"] += thaw.requests
    dollars["thaw_retrieval"] += thaw.retrieval
    dollars["thaw_storage"] += thaw.storage
    return Plan(
        rows=chosen.rows,
        size_bytes=chosen.size_bytes,
        shards=tuple(chosen.shards),
        excluded=dict(chosen.excluded),
        requests={kind: count for kind, count in requests.items() if count},
        dollars={item: amount for item, amount in dollars.items() if amount},
        price_table=prices.name,
        seconds=pricing.estimate_seconds(requests, 2 * chosen.size_bytes, processes),
        restore=thaw.to_dict()
        | {
            "archives": len(chosen.archives),
            "members": sum(each.rows for each in chosen.archives),
            "cold": sorted(cold),
            "cold_versions": sum(each.objects for each in versions),
        },
    )


def _cold_versions(chosen: RestoreSelection) -> list[ColdObjects]:
    """Versions in the bucket whose class must be thawed.

    A listing does not say which are thawed already.
    """
    return [
        ColdObjects(group.storage_class, group.size_bytes, objects=group.rows)
        for group in chosen.histogram.groups
        if group.storage_class in ("GLACIER", "DEEP_ARCHIVE")
    ]


def _copies(
    chosen: RestoreSelection, options: Mapping[str, Any], prices: PriceTable
) -> tuple[Counter[str], defaultdict[str, float]]:
    """Requests and dollars of versions that the bucket still has: the run copies them as replicate
    does.
    """
    if not options["is_history"] or not chosen.histogram.groups:
        return Counter(), defaultdict(float)
    requests = Counter(pricing.requests_for("replicate", options, chosen.histogram))
    return requests, defaultdict(float, pricing.estimate("replicate", options, chosen.histogram, prices))
