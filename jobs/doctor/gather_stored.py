"""The gathering of what objects say: the ledger's documents, inventory reports, a probe.

The probe are two objects beside the ledger, which are removed. Nothing else is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from datetime import date
from typing import NamedTuple, TypeVar

from jobs.aws.readings import Reading, Unread, refusal
from jobs.core.model import Location
from jobs.doctor.expected import InventoryPlan, inventory_plans
from jobs.doctor.facts import LastNight, LedgerFacts, NightFacts
from jobs.errors import AuthenticationFailed, ConfigError, ManifestError, StoreError
from jobs.inventory.find import find_inventory
from jobs.ledger.files import list_files
from jobs.ledger.ledger import Ledger
from jobs.nights.records import NightRecords
from jobs.policy.model import Pair, Policy
from jobs.policy.reader import load_policy
from jobs.s3.conditional_writes import HonouredConditions, try_conditions
from jobs.s3.sessions import open_store
from jobs.s3.store import Store

T = TypeVar("T")

PROBE = "doctor"
"""The probe objects' names begin with this, below the ledger."""


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
        conditions = await _read(_conditions(ledger))
        nights = [await _night(policy, ledger, pair, now) for pair in policy.pairs if pair.nightly.enabled]
        latest: dict[str, Reading[float | None]] = {}
        for plan in inventory_plans(policy):
            if plan.region not in stores:
                stores[plan.region] = open_store(None, plan.region, None, max_in_flight=16)
            report = _latest_report(stores[plan.region], plan, str(policy.name))
            latest[plan.bucket] = await _read(report)
        return StoredFacts(LedgerFacts(conditions), nights, latest)
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


async def _conditions(ledger: Ledger) -> tuple[HonouredConditions, ...]:
    place = ledger.location.join(PROBE)
    return tuple(await try_conditions(ledger.store, place.bucket, place.key))


async def _night(policy: Policy, ledger: Ledger, pair: Pair, now: float) -> NightFacts:
    ended = await _read(_nights(ledger, pair))
    nights: Reading[tuple[date, ...]] = ended if isinstance(ended, Unread) else tuple(sorted(ended))
    last: Reading[LastNight | None] = ended if isinstance(ended, Unread) else None
    if not isinstance(ended, Unread) and ended:
        night = max(ended)
        last = await _read(_last(NightRecords(ledger, pair.name, night), ended[night]))
    return NightFacts(pair, nights, last, int(policy.alarms.night_hours), now)


async def _last(records: NightRecords, ended_at: float) -> LastNight:
    summary = await records.summary()
    if summary is None:
        raise ConfigError(f"{records.summary_uri} is gone")
    return LastNight(ended_at, int(summary["exit_code"]), str(summary["verdict"]))


async def _nights(ledger: Ledger, pair: Pair) -> dict[date, float]:
    """The nights of a pair that have a summary, and when S3 says that it was written."""
    found = {}
    place = ledger.location.join(f"nights/{pair.name}/")
    async for entry in list_files(ledger.store, place):
        with contextlib.suppress(ValueError):  # the documents of a night's stages have other names
            found[date.fromisoformat(entry.key[len(place.key) :].removesuffix(".json"))] = entry.last_modified
    return found


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
