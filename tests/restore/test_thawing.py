"""What thawing takes."""

from __future__ import annotations

import pytest

from jobs.core.model import ObjectInfo
from jobs.core.pricing import GIB, own_prices
from jobs.errors import UsageError
from jobs.restore.thawing import ColdObjects, Tier, estimate_thaw, thaw_class

PRICES = own_prices()


def test_whole_archives_are_billed_once_and_the_slowest_counts():
    cold = [
        ColdObjects("GLACIER", 100 * GIB),
        ColdObjects("DEEP_ARCHIVE", 10 * GIB),
        ColdObjects("DEEP_ARCHIVE", 5 * GIB, True),
    ]
    thaw = estimate_thaw(cold, Tier.STANDARD, 7, PRICES)
    assert (thaw.cold, thaw.restoring, thaw.size_bytes, thaw.hours) == (3, 1, 110 * GIB, 12.0)
    assert thaw.retrieval == pytest.approx(100 * 0.01 + 10 * 0.02)
    assert thaw.requests == pytest.approx((0.05 + 0.1) / 1000)
    assert thaw.storage == pytest.approx(110 * 0.023 * 7 / 30.4)


@pytest.mark.parametrize(
    ("storage_class", "archive_tier", "name"),
    [
        ("GLACIER", None, "GLACIER"),
        ("INTELLIGENT_TIERING", "ARCHIVE_ACCESS", "ARCHIVE_ACCESS"),
        ("INTELLIGENT_TIERING", "DEEP_ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"),
        ("INTELLIGENT_TIERING", None, "DEEP_ARCHIVE_ACCESS"),
    ],
)
def test_an_archive_tier_is_thawed_by_rules_of_its_own(storage_class, archive_tier, name):
    assert thaw_class(ObjectInfo(1, "e", 0.0, None, storage_class, archive_tier=archive_tier)) == name


def test_expedited_costs_the_premium_in_intelligent_tiering_too():
    thaw = estimate_thaw([ColdObjects("ARCHIVE_ACCESS", 100 * GIB, objects=10)], Tier.EXPEDITED, 7, PRICES)
    assert [thaw.requests, thaw.retrieval, thaw.storage] == pytest.approx([0.1, 3.0, 0.0])
    assert thaw.hours < 1
    free = estimate_thaw([ColdObjects("ARCHIVE_ACCESS", 100 * GIB, objects=10)], Tier.STANDARD, 7, PRICES)
    assert (free.requests, free.retrieval, free.hours) == (0.0, 0.0, 5.0)


@pytest.mark.parametrize(
    ("storage_class", "tier", "problem"),
    [
        ("GLACIER", Tier.EXPEDITED, None),
        ("DEEP_ARCHIVE", Tier.BULK, None),
        ("DEEP_ARCHIVE", Tier.EXPEDITED, "use --tier Standard or Bulk"),
        ("ARCHIVE_ACCESS", Tier.EXPEDITED, None),
        ("DEEP_ARCHIVE_ACCESS", Tier.EXPEDITED, "use --tier Standard or Bulk"),
    ],
)
def test_a_tier_that_a_class_lacks_is_refused(storage_class, tier, problem):
    if problem is None:
        assert estimate_thaw([ColdObjects(storage_class, 1)], tier, 7, PRICES).cold == 1
        return
    with pytest.raises(UsageError, match=problem):
        estimate_thaw([ColdObjects(storage_class, 1)], tier, 7, PRICES)
