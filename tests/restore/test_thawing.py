"""What thawing takes."""

from __future__ import annotations

from importlib.resources import files

import pytest

from jobs.core.pricing import GIB, load_price_table
from jobs.errors import ConfigError
from jobs.restore.thawing import ColdObjects, Tier, estimate_thaw, refusal

PRICES = load_price_table((files("jobs.core") / "prices" / "us-east-1.json").read_text())


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


def test_objects_of_one_class_may_be_counted_together():
    together = estimate_thaw([ColdObjects("GLACIER", 3 * GIB, objects=3)], Tier.STANDARD, 7, PRICES)
    assert together == estimate_thaw([ColdObjects("GLACIER", GIB)] * 3, Tier.STANDARD, 7, PRICES)


def test_nothing_cold_takes_nothing():
    thaw = estimate_thaw([], Tier.BULK, 7, PRICES)
    assert (thaw.cold, thaw.retrieval, thaw.storage, thaw.hours) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("storage_class", "tier", "problem"),
    [
        ("GLACIER", Tier.EXPEDITED, None),
        ("DEEP_ARCHIVE", Tier.BULK, None),
        ("DEEP_ARCHIVE", Tier.EXPEDITED, "use Standard or Bulk"),
        ("STANDARD", Tier.BULK, "has no Bulk restores"),
    ],
)
def test_a_tier_that_a_class_lacks_is_refused(storage_class, tier, problem):
    why = refusal(storage_class, tier)
    assert why is None if problem is None else problem in (why or "")


def test_a_price_table_without_thawing_is_enough_until_something_is_cold():
    text = (files("jobs.core") / "prices" / "us-east-1.json").read_text()
    start, end = text.index('"thaw"'), text.index('"storage_classes"')
    bare = load_price_table(text[:start] + text[end:])
    assert estimate_thaw([], Tier.BULK, 7, bare).hours == 0
    with pytest.raises(ConfigError, match="lacks thaw"):
        estimate_thaw([ColdObjects("GLACIER", 1)], Tier.BULK, 7, bare)
    with pytest.raises(ConfigError, match=r"thaw\.GLACIER\.Bulk"):
        load_price_table(text.replace('"Bulk": {"per_gib": 0.0, "per_1000": 0.0}', '"Bulk": {"per_gib": 0.0}', 1))
