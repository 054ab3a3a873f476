"""What thawing takes."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from jobs.core.pricing import GIB, own_prices
from jobs.errors import UsageError
from jobs.restore.thawing import HOURS, ColdObjects, Tier, estimate_thaw, thaw_class

PRICES = own_prices()


def test_whole_archives_are_billed_once_and_the_slowest_counts():
    cold = [
        ColdObjects("GLACIER", 100 * GIB),
        ColdObjects("DEEP_ARCHIVE", 10 * GIB),
        ColdObjects("DEEP_ARCHIVE", 5 * GIB, True),
    ]
    thaw = estimate_thaw(cold, Tier.STANDARD, PRICES)
    assert (thaw.cold, thaw.restoring, thaw.size_bytes, thaw.hours) == (3, 1, 110 * GIB, 12.0)
    assert thaw.retrieval == pytest.approx(100 * 0.01 + 10 * 0.02)
    assert thaw.requests == pytest.approx((0.05 + 0.1) / 1000)
    assert thaw.storage == pytest.approx(110 * 0.023 * 7 / 30.4)


def test_an_archive_tier_is_thawed_by_rules_of_its_own():
    assert thaw_class("GLACIER") == "GLACIER"
    for tier, name in (("ARCHIVE_ACCESS", "ARCHIVE_ACCESS"), (None, "DEEP_ARCHIVE_ACCESS")):
        assert thaw_class("INTELLIGENT_TIERING", tier) == name


def test_expedited_costs_the_premium_in_intelligent_tiering_too():
    thaw = estimate_thaw([ColdObjects("ARCHIVE_ACCESS", 100 * GIB, objects=10)], Tier.EXPEDITED, PRICES)
    assert [thaw.requests, thaw.retrieval, thaw.storage] == pytest.approx([0.1, 3.0, 0.0])
    assert thaw.hours < 1
    free = estimate_thaw([ColdObjects("ARCHIVE_ACCESS", 100 * GIB, objects=10)], Tier.STANDARD, PRICES)
    assert (free.requests, free.retrieval, free.hours) == (0.0, 0.0, 5.0)


@pytest.mark.parametrize("storage_class", HOURS)
def test_a_tier_that_a_class_lacks_is_refused(storage_class):
    assert estimate_thaw([ColdObjects(storage_class, 1)], Tier.BULK, PRICES).cold == 1
    is_refused = storage_class in ("DEEP_ARCHIVE", "DEEP_ARCHIVE_ACCESS")
    with pytest.raises(UsageError, match="use --tier Standard or Bulk") if is_refused else nullcontext():
        estimate_thaw([ColdObjects(storage_class, 1)], Tier.EXPEDITED, PRICES)
