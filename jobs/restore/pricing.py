"""Pricing of a restore: archives as they are now, requests, dollars, hours."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.archives.files import head_archive
from jobs.archives.model import ArchiveRecord
from jobs.archives.spans import SPAN_BYTES
from jobs.core import pricing
from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import ObjectInfo
from jobs.core.pricing import GIB, PricedWork, PriceTable
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import REFUSALS
from jobs.restore.thawing import DAYS, ColdObjects, Tier, estimate_thaw, thaw_class
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import open_side

if TYPE_CHECKING:
    from jobs.restore.plan import RestoreSelection

LOOKS_AT_ONCE = 64


async def look_at_archives(side: Side | None, records: Mapping[str, ArchiveRecord]) -> dict[str, ObjectInfo]:
    """The archives as S3 has them now, by URI. Those that cannot be read are left to the run."""
    if side is None or not records:
        return {}
    store = open_side(side, max_in_flight=LOOKS_AT_ONCE)
    found: dict[str, ObjectInfo] = {}

    async def look(uri: str) -> None:
        with contextlib.suppress(*REFUSALS):
            found[uri] = (await head_archive(store, records[uri]))[1]

    try:
        await gather_bounded(look, list(records), LOOKS_AT_ONCE)
    finally:
        await store.close()
    return found


def forecast(
    chosen: RestoreSelection,
    archives: Mapping[str, ObjectInfo],
    spec: RunSpec,
    processes: int,
    prices: PriceTable,
    without_event: int = 0,
) -> Plan:
    """The plan of a restore: archives to thaw, then to read by ranges or copy, then to write.

    Reading costs at most a request for each `SPAN_BYTES` of an archive's members, if they are
    together. Raises UsageError if the tier cannot thaw an archive, or versions that the bucket
    still has.
    """
    tier = Tier(spec.options["tier"])
    work = PricedWork.of(spec, is_copying=True)
    cold = {
        uri: ColdObjects(thaw_class(info), info.size_bytes, info.is_restoring)
        for uri, info in archives.items()
        if info.is_archived
    }
    # A listing does not say which versions are thawed already.
    versions = [
        ColdObjects(group.storage_class, group.size_bytes, objects=group.rows)
        for group in chosen.histogram.groups
        if spec.options["is_history"] and group.storage_class in ARCHIVE_CLASSES
    ]
    thaw = estimate_thaw([*cold.values(), *versions], tier, DAYS, prices)
    requests: Counter[str] = Counter()
    dollars: defaultdict[str, float] = defaultdict(float)
    if spec.options["is_history"] and chosen.histogram.groups:  # versions that the bucket still has are copied
        requests.update(pricing.requests_for(work, chosen.histogram))
        dollars.update(pricing.estimate(work, chosen.histogram, prices))
    per_gib = pricing.far_per_gib(work, prices)
    names = {each.archive for each in chosen.archives}
    requests["head"] += len(names)
    for taken in chosen.archives:
        info = archives.get(taken.archive)
        read = prices.of_class(info.storage_class if info else "STANDARD")
        written = prices.of_class(taken.storage_class if work.storage_class == "keep" else work.storage_class)
        gets = -(-taken.size_bytes // SPAN_BYTES) + 1
        requests.update(get=gets, put=taken.rows)
        dollars["gets"] += gets * read.get_per_1000 / 1000
        dollars["retrieval"] += taken.size_bytes / GIB * read.retrieval_per_gib
        dollars["puts"] += taken.rows * written.put_per_1000 / 1000
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
        restore=thaw._asdict()
        | {
            "archives": len(names),
            "members": sum(each.rows for each in chosen.archives),
            "without_event": without_event,
            "cold": sorted(cold),
            "cold_versions": sum(each.objects for each in versions),
        },
    )
