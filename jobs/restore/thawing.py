"""Thawing of archived objects: its time by class and tier, and its price.

Times:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from jobs.core.pricing import GIB, PriceTable
from jobs.errors import UsageError
from jobs.ledger.run_ids import run_job

DAYS_A_MONTH = 30.4
DAYS = 7
"""How long S3 keeps the readable copy."""


class Tier(StrEnum):
    """How quickly an archived object becomes readable."""

    EXPEDITED = "Expedited"
    STANDARD = "Standard"
    BULK = "Bulk"


ARCHIVE_ACCESS, DEEP_ARCHIVE_ACCESS = "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"
"""S3's words for the two archive tiers of INTELLIGENT_TIERING, which are thawed by rules of their
own, for good.
"""

_FLEXIBLE = {Tier.EXPEDITED: 5 / 60, Tier.STANDARD: 5.0, Tier.BULK: 12.0}
_DEEP = {Tier.STANDARD: 12.0, Tier.BULK: 48.0}
HOURS: Mapping[str, Mapping[Tier, float]] = {
    "GLACIER": _FLEXIBLE,
    "DEEP_ARCHIVE": _DEEP,
    ARCHIVE_ACCESS: _FLEXIBLE,
    DEEP_ARCHIVE_ACCESS: _DEEP,
}
"""The usual longest time, by class and tier. S3 refuses a pair that is not here."""


def thaw_class(storage_class: str | None, archive_tier: str | None = None) -> str:
    """What decides how an object is thawed: its class, or its tier in INTELLIGENT_TIERING.

    The slower tier if S3 does not say which, as in a listing.
    """
    if storage_class != "INTELLIGENT_TIERING":
        return storage_class or ""
    return ARCHIVE_ACCESS if archive_tier == ARCHIVE_ACCESS else DEEP_ARCHIVE_ACCESS


def days_kept(thawed_class: str) -> int | None:
    """For how many days the readable copy is asked for. None: the object itself is moved, for good."""
    return None if thawed_class in (ARCHIVE_ACCESS, DEEP_ARCHIVE_ACCESS) else DAYS


def usual_time(thawed_class: str, tier: Tier) -> str:
    """How long a thaw takes, for people."""
    hours = HOURS.get(thawed_class, {}).get(tier, 0.0)
    return f"up to {hours:g} hours" if hours >= 1 else "minutes"


class ColdObjects(NamedTuple):
    """Objects to thaw of one class or tier (`thaw_class`), mostly one. `is_restoring`: a request
    for them is under way.
    """

    storage_class: str
    size_bytes: int
    is_restoring: bool = False
    objects: int = 1


class ThawEstimate(NamedTuple):
    """The sum of a thaw: objects, their bytes, dollars by item, hours until all can be read."""

    tier: str
    days: int = DAYS
    cold: int = 0
    restoring: int = 0
    size_bytes: int = 0
    requests: float = 0.0
    retrieval: float = 0.0
    storage: float = 0.0
    hours: float = 0.0


def estimate_thaw(objects: Iterable[ColdObjects], tier: Tier, prices: PriceTable) -> ThawEstimate:
    """The thaw of these objects. One that is under way costs nothing more.

    S3 restores whole objects, bills them by tier, and keeps the copies in STANDARD for `DAYS`. What
    INTELLIGENT_TIERING restores is moved, and has no copy. Raises UsageError for a class that the
    tier cannot thaw.
    """
    found = ThawEstimate(tier.value)
    for each in objects:
        tiers = HOURS.get(each.storage_class, {})
        if tier not in tiers:
            advice = f"use --tier {' or '.join(tiers)}"
            raise UsageError(f"{each.storage_class} has no {tier.value} restores", advice=advice)
        asked, size_bytes = (0, 0) if each.is_restoring else (each.objects, each.size_bytes)
        price, gib = prices.thaw[each.storage_class][tier], size_bytes / GIB
        kept = (days_kept(each.storage_class) or 0) / DAYS_A_MONTH * prices.of_class("STANDARD").storage_per_gib_month
        found = found._replace(
            cold=found.cold + each.objects,
            restoring=found.restoring + each.objects - asked,
            size_bytes=found.size_bytes + size_bytes,
            requests=found.requests + asked * price.per_1000 / 1000,
            retrieval=found.retrieval + gib * price.per_gib,
            storage=found.storage + gib * kept,
            hours=max(found.hours, tiers[tier]),
        )
    return found


NOTED_KEY_BYTES = 512
"""A longer key is noted by its hash, so that the note's own key stays below S3's 1,024 bytes."""


def waiting_name(bucket: str, key: str, run_id: str = "") -> str:
    """The note that a run waits for an object to thaw. Without a run: the folder of all notes."""
    data = key.encode("utf-8", "surrogatepass")
    named = key if len(data) <= NOTED_KEY_BYTES else f"%long/{hashlib.sha256(data).hexdigest()[:32]}"
    return f"thawing/{bucket}/{named}/{run_id and f'{run_id}.json'}"


def can_wait(run_id: str) -> bool:
    """Whether a run may wait for thawed objects: by its id, it is a restore run."""
    return run_job(run_id) == "restore"
