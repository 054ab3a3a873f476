"""Plan of `sealift verify --archives`: this run's archives, all members as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.archives.model import ArchiveRecord
from jobs.config import Settings
from jobs.core import pricing
from jobs.core.display import Display
from jobs.core.pricing import GIB, PriceTable
from jobs.core.run import Plan
from jobs.core.sampling import Sample
from jobs.errors import ConfigError
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Planned, Request, drafting
from jobs.s3.sessions import open_side

if TYPE_CHECKING:
    from jobs.verify.archives_rows import PlannedArchives


async def plan_run(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Find the archives, indexed or not, and make their members rows.

    Raises ConfigError if there are none.
    """
    from jobs.archives.files import list_archives
    from jobs.archives.index import ArchiveIndex, Damage
    from jobs.runs.planning import read_price_table
    from jobs.verify.archives_rows import plan_archives

    side = request.destination
    with drafting(request) as draft:
        index = ArchiveIndex(ledger.store, ledger.location)
        store = open_side(side, max_in_flight=16)
        try:
            listed = [location async for location in list_archives(store, side.location)]
        finally:
            await store.close()
        damage: Damage = []
        records = await index.records(side.location, damage)
        known = {record.location for record in records}
        listed += [each.archive for each in damage if each.archive not in listed]
        if not known and not listed:
            raise ConfigError(
                f"no archives are in {side.location}, and the index of {ledger.location} has none there",
                advice="check --archives",
            )
        sample = Sample.from_list(request.options["sample"]) if request.options["sample"] else Sample(0, 1)
        taken = [record for record in records if sample.contains(str(record.location))]
        lost = [each for each in listed if each not in known and sample.contains(str(each))]
        left_out = len(records) + len([each for each in listed if each not in known]) - len(taken) - len(lost)

        planned = await plan_archives(
            index,
            taken,
            lost,
            write_shard=draft.write_shard,
            scratch_directory=draft.scratch,
            rows_per_shard=settings.rows_per_shard,
            processes=settings.processes,
        )
        spec = draft.spec(f"archives in {side.location}", {}, side)
        plan = _forecast(planned, taken, settings, read_price_table(request.price_table), left_out)
        return draft.planned(spec, plan)


def _forecast(
    planned: PlannedArchives, records: Sequence[ArchiveRecord], settings: Settings, prices: PriceTable, left_out: int
) -> Plan:
    """The plan: each archive is read once, by large ranges, then its own index by three
    requests.
    """
    size_bytes = sum(record.size_bytes for record in records)
    gets = {record.location: -(-record.size_bytes // pricing.RANGE_BYTES) + 2 for record in records}
    requests = {"head": 2 * len(records), "get": sum(gets.values())}
    dollars = {"gets": 0.0, "retrieval": 0.0}
    for record in records:
        of_class = prices.of_class(record.storage_class)
        dollars["gets"] += (2 + gets[record.location]) * of_class.get_per_1000 / 1000
        dollars["retrieval"] += record.size_bytes / GIB * of_class.retrieval_per_gib
    return Plan(
        rows=planned.rows,
        size_bytes=planned.size_bytes,
        shards=tuple(planned.shards),
        excluded={"archives_of_other_samples": left_out} if left_out else {},
        requests={kind: count for kind, count in requests.items() if count},
        dollars={item: amount for item, amount in dollars.items() if amount},
        price_table=prices.name,
        seconds=pricing.estimate_seconds(requests, size_bytes, settings.processes),
    )
