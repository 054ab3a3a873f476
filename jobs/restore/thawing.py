"""Thawing of archived objects: its time by class and tier, and its price.

Times:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from jobs.core.model import ObjectInfo
from jobs.core.pricing import GIB, PriceTable
from jobs.errors import UsageError
from jobs.ledger.run_ids import run_job

DAYS_A_MONTH = 30.4
DAYS = 7
"""How long S3 keeps the readable copy, by default."""


class Tier(StrEnum):
    """How quickly an archived object becomes readable."""

    EXPEDITED = "Expedited"
    STANDARD = "Standard"
    BULK = "Bulk"


ARCHIVE_ACCESS, DEEP_ARCHIVE_ACCESS = "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"
"""S3's words for the two archive tiers of INTELLIGENT_TIERING, which are thawed by rules of their
own, for good.
"""

HOURS = {
    ("GLACIER", Tier.EXPEDITED): 5 / 60,
    ("GLACIER", Tier.STANDARD): 5.0,
    ("GLACIER", Tier.BULK): 12.0,
    ("DEEP_ARCHIVE", Tier.STANDARD): 12.0,
    ("DEEP_ARCHIVE", Tier.BULK): 48.0,
    (ARCHIVE_ACCESS, Tier.EXPEDITED): 5 / 60,
    (ARCHIVE_ACCESS, Tier.STANDARD): 5.0,
    (ARCHIVE_ACCESS, Tier.BULK): 12.0,
    (DEEP_ARCHIVE_ACCESS, Tier.STANDARD): 12.0,
    (DEEP_ARCHIVE_ACCESS, Tier.BULK): 48.0,
}
"""The usual longest time. S3 refuses a pair that is not here."""


def thaw_class(info: ObjectInfo) -> str:
    """What decides how an object is thawed: its class, or its tier in INTELLIGENT_TIERING.

    The slower tier if S3 does not say which.
    """
    return tier_of_class(info.storage_class, info.archive_tier)


def tier_of_class(storage_class: str | None, archive_tier: str | None = None) -> str:
    """`thaw_class` of an object of which no more is known."""
    if storage_class != "INTELLIGENT_TIERING":
        return storage_class or ""
    return ARCHIVE_ACCESS if archive_tier == ARCHIVE_ACCESS else DEEP_ARCHIVE_ACCESS


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
    days: int
    cold: int = 0
    restoring: int = 0
    size_bytes: int = 0
    requests: float = 0.0
    retrieval: float = 0.0
    storage: float = 0.0
    hours: float = 0.0


def estimate_thaw(objects: Iterable[ColdObjects], tier: Tier, days: int, prices: PriceTable) -> ThawEstimate:
    """The thaw of these objects. One that is under way costs nothing more.

    S3 restores whole objects, bills them by tier, and keeps the copies in STANDARD for `days`. What
    INTELLIGENT_TIERING restores is moved, and has no copy. Raises UsageError for a class that the
    tier cannot thaw.
    """
    found = ThawEstimate(tier.value, days)
    for each in objects:
        hours = HOURS.get((each.storage_class, tier))
        if hours is None:
            known = " or ".join(other.value for other in Tier if (each.storage_class, other) in HOURS)
            raise UsageError(f"{each.storage_class} has no {tier.value} restores", advice=f"use --tier {known}")
        found = found._replace(cold=found.cold + each.objects, hours=max(found.hours, hours))
        if each.is_restoring:
            found = found._replace(restoring=found.restoring + each.objects)
            continue
        price, gib = prices.thaw_price(each.storage_class, tier), each.size_bytes / GIB
        has_copy = each.storage_class not in (ARCHIVE_ACCESS, DEEP_ARCHIVE_ACCESS)
        kept = prices.of_class("STANDARD").storage_per_gib_month if has_copy else 0.0
        found = found._replace(
            size_bytes=found.size_bytes + each.size_bytes,
            requests=found.requests + each.objects * price.per_1000 / 1000,
            retrieval=found.retrieval + gib * price.per_gib,
            storage=found.storage + gib * kept * days / DAYS_A_MONTH,
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
