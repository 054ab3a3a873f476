"""The gathering of what objects say: the ledger's documents, inventory reports, and the trial of conditions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import date
from typing import NamedTuple, TypeVar

from jobs.aws.readings import Reading, Unread, refusal
from jobs.core.category import Category
from jobs.core.model import Location
from jobs.core.run import RunState
from jobs.doctor.expected import InventoryPlan, inventory_plans
from jobs.doctor.facts import EndedNight, LedgerFacts, NightFacts
from jobs.errors import AuthenticationFailed, ConfigError, ManifestError, StoreError
from jobs.inventory.find import find_inventory
from jobs.ledger.files import list_files
from jobs.ledger.ledger import Ledger
from jobs.nights.calendar import Stage, parse_label
from jobs.nights.documents import Night, Summary
from jobs.policy.model import Pair, Policy
from jobs.policy.reader import load_policy
from jobs.s3.condition_trial import OF_STREAMS, find_ignored
from jobs.s3.operations import Operation
from jobs.s3.sessions import open_store
from jobs.s3.store import Store

T = TypeVar("T")

NIGHTS_MORE = 3
"""So many summaries are read beyond those in which every slice of keys has its turn."""


class StoredFacts(NamedTuple):
    """`latest`: bucket → when the listing of its last inventory report began."""

    ledger: LedgerFacts
    nights: list[NightFacts]
    latest: dict[str, Reading[float | None]]


async def gather_stored(policy: Policy, now: float) -> StoredFacts:
    """What the ledger and the buckets of reports say at `now`, in epoch seconds."""
    home = str(policy.ledger.region)
    stores = {home: open_store(None, home, None, max_in_flight=16)}
    try:
        place = Location.parse(policy.ledger.uri)
        ledger = Ledger(stores[home], place)
        ignored = await _read(_ignored(ledger))
        enabled = [pair for pair in policy.pairs if pair.nightly.enabled]
        nights = await asyncio.gather(*(_night(policy, ledger, pair, now) for pair in enabled))
        latest: dict[str, Reading[float | None]] = {}
        for plan in inventory_plans(policy):
            if plan.region not in stores:
                stores[plan.region] = open_store(None, plan.region, None, max_in_flight=16)
            report = _latest_report(stores[plan.region], plan, str(policy.name))
            latest[plan.bucket] = await _read(report)
        return StoredFacts(LedgerFacts(ignored), nights, latest)
    finally:
        for each in stores.values():
            await each.close()


async def read_policy_file(uri: str, region: str) -> Reading[Policy]:
    """The policy file at an s3:// URI."""
    store = open_store(None, region, None, max_in_flight=2)
    try:
        return await _read(load_policy(uri, store))
    finally:
        await store.close()


async def _ignored(ledger: Ledger) -> tuple[Operation, ...]:
    return tuple(await find_ignored(ledger.store, ledger.location, OF_STREAMS))


async def _night(policy: Policy, ledger: Ledger, pair: Pair, now: float) -> NightFacts:
    return NightFacts(pair, await _read(_ended_nights(ledger, pair)), int(policy.alarms.night_hours), now)


async def _ended_nights(ledger: Ledger, pair: Pair) -> tuple[EndedNight, ...]:
    """The last nights that have a summary, the latest first: a few more than slices have turns."""
    place, written = ledger.location.join(f"nights/{pair.name}/"), dict[tuple[str, int], float]()
    async for entry in list_files(ledger.store, place):
        name = entry.key[len(place.key) :]
        if name.endswith(".json") and (label := parse_label(name.removesuffix(".json"))):
            written[label] = entry.last_modified
    latest = sorted(written, reverse=True)[: pair.verify.rota + NIGHTS_MORE]
    nights = [Night(ledger, pair.name, date.fromisoformat(day), times) for day, times in latest]
    summaries = await asyncio.gather(*(each.summary() for each in nights))
    return tuple(
        EndedNight(
            date.fromisoformat(label[0]),
            written[label],
            summary.exit_code,
            summary.verdict,
            _slice(summary),
            _unreplicated(summary),
        )
        for label, summary in zip(latest, summaries, strict=True)
        if summary is not None
    )


def _slice(summary: Summary) -> tuple[int, int] | None:
    """The slice that a night proved: (number, of)."""
    found = (each for each in summary.stages if each.stage == Stage.SLICE and each.state == RunState.COMPLETE)
    return next((each.slice for each in found), None)


def _unreplicated(summary: Summary) -> int | None:
    """How many objects of the replica a night found other than in the hot bucket."""
    for each in summary.stages:
        if each.stage == Stage.REPLICA and each.state == RunState.COMPLETE:
            return sum(each.counts.get(name, 0) for name in (Category.MISSING, Category.STALE, Category.DIFFERENT))
    return None


async def _latest_report(store: Store, plan: InventoryPlan, name: str) -> float | None:
    """When the listing of the latest complete report began. None without a report."""
    try:
        report = await find_inventory(store, f"s3://{plan.reports}/{plan.prefix}{plan.bucket}/{name}/")
    except ManifestError:
        return None
    return report.created_at


async def _read(question: Awaitable[T]) -> T | Unread:
    """As `read`, for what has to be awaited."""
    try:
        return await question
    except AuthenticationFailed:
        raise
    except StoreError as error:
        return refusal("s3", error)
    except ConfigError as error:
        return Unread("s3", str(error))
