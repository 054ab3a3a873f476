"""Pricing of a restore: archives as they are now, requests, dollars, hours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from jobs.archives.files import head_archive
from jobs.archives.model import ArchiveRecord
from jobs.archives.spans import SPAN_BYTES
from jobs.core import pricing
from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import Location, ObjectInfo
from jobs.core.pricing import GIB, PricedWork, PriceTable
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import REFUSALS, UsageError
from jobs.restore.thawing import ColdObjects, Tier, estimate_thaw, refusal, thaw_class
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import open_side

if TYPE_CHECKING:
    from jobs.restore.plan import RestoreSelection

LOOKS_AT_ONCE = 64


def records_of(records: Sequence[ArchiveRecord], archives: Location, bucket: str | None) -> dict[str, ArchiveRecord]:
    """The archives of one bucket's objects, by URI.

    Raises UsageError if there are none, or archives of several buckets.
    """
    buckets = {each.source_bucket for each in records}
    if not records:
        raise UsageError(
            f"the index knows no archives below {archives}",
            advice="check bucket and prefix (`sealift archives list` shows "
            f"what is known), or index what is there: sealift archives reindex --source {archives}",
        )
    if bucket is None and len(buckets) > 1:
        raise UsageError(f"{archives} has archives of {', '.join(sorted(buckets))}", advice="say which with --bucket")
    chosen = {str(each.location): each for each in records if bucket in (None, each.source_bucket)}
    if not chosen:
        raise UsageError(f"{archives} has no archives of {bucket}, only of {', '.join(sorted(buckets))}")
    return chosen


class ArchivesNow(NamedTuple):
    """Archives as S3 has them now, by URI. The index says how they were when they were written.

    `classes`: the storage class of each. `cold`: those that must be thawed.
    """

    classes: Mapping[str, str]
    cold: Mapping[str, ColdObjects]


async def look_at_archives(
    side: Side | None, records: Mapping[str, ArchiveRecord], archives: Sequence[str], tier: Tier
) -> ArchivesNow:
    """The archives as they are now. Unreadable archives are left to the run.

    Raises UsageError if the tier cannot thaw one of them.
    """
    if side is None or not archives:
        return ArchivesNow({}, {})
    store = open_side(side, max_in_flight=LOOKS_AT_ONCE)

    async def look(uri: str) -> ObjectInfo | None:
        try:
            return (await head_archive(store, records[uri]))[1]
        except REFUSALS:
            return None

    try:
        indexed = [uri for uri in archives if uri in records]
        infos = dict(zip(indexed, await gather_bounded(look, indexed, LOOKS_AT_ONCE), strict=True))
    finally:
        await store.close()
    readable = {uri: info for uri, info in infos.items() if info is not None}
    cold = {
        uri: ColdObjects(thaw_class(info), info.size_bytes, info.is_restoring)
        for uri, info in readable.items()
        if info.is_archived
    }
    for uri, each in cold.items():
        if (why := refusal(each.storage_class, tier)) is not None:
            raise UsageError(f"--tier {tier.value}: {uri} cannot be thawed so, {why}")
    return ArchivesNow({uri: info.storage_class for uri, info in readable.items()}, cold)


def forecast(
    chosen: RestoreSelection,
    archives: ArchivesNow,
    spec: RunSpec,
    processes: int,
    prices: PriceTable,
) -> Plan:
    """The plan of a restore: archives to thaw, then to read by ranges or copy, then to write.

    Reading costs at most a request for each `SPAN_BYTES` of an archive's members, if they are
    together. Raises UsageError if the tier cannot thaw versions that the bucket still has.
    """
    tier, days, is_history = Tier(spec.options["tier"]), int(spec.options["days"]), bool(spec.options["is_history"])
    work = PricedWork.of(spec, is_copying=True)
    versions = _cold_versions(chosen) if is_history else []
    for each in versions:
        if (why := refusal(each.storage_class, tier)) is not None:
            raise UsageError(f"--tier {tier.value}: {each.objects:,} versions cannot be thawed so, {why}")
    thaw = estimate_thaw([*archives.cold.values(), *versions], tier, days, prices)
    requests: Counter[str] = Counter()
    dollars: defaultdict[str, float] = defaultdict(float)
    if is_history and chosen.histogram.groups:  # versions that the bucket still has are copied
        requests.update(pricing.requests_for(work, chosen.histogram))
        dollars.update(pricing.estimate(work, chosen.histogram, prices))
    per_gib = pricing.far_per_gib(work, prices)
    for archive in chosen.names:
        requests["head"] += 1
        dollars["gets"] += prices.of_class(archives.classes.get(archive, "STANDARD")).get_per_1000 / 1000
    for taken in chosen.archives:
        read = prices.of_class(archives.classes.get(taken.archive, "STANDARD"))
        written = prices.of_class(taken.storage_class if work.storage_class == "keep" else work.storage_class)
        small = taken.rows - taken.large
        gets = -(-taken.size_bytes // SPAN_BYTES) + 1
        requests.update(get=gets, put=small, create=taken.large, complete=taken.large, part=taken.parts)
        dollars["gets"] += gets * read.get_per_1000 / 1000
        dollars["retrieval"] += taken.size_bytes / GIB * read.retrieval_per_gib
        staged = taken.large + taken.parts
        dollars["puts"] += ((small + taken.large) * written.put_per_1000 + staged * written.part_per_1000) / 1000
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
            "archives": len(chosen.names),
            "members": sum(each.rows for each in chosen.archives),
            "without_event": chosen.without_event,
            "cold": sorted(archives.cold),
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
        if group.storage_class in ARCHIVE_CLASSES
    ]
