"""What packing saves and costs, by S3's rules of billing."""

from __future__ import annotations

import pytest

from jobs.compact.savings import Objects, Savings, of_archive
from jobs.core.pricing import own_prices

GIB, MIB, KIB = 1 << 30, 1 << 20, 1 << 10
TABLE = own_prices()


@pytest.mark.parametrize(
    ("objects", "dollars"),
    [
        (Objects("STANDARD", True, 1000, 1000 * KIB), 1000 * KIB * 0.023 / GIB),
        (Objects("STANDARD_IA", True, 1000, 1000 * KIB), 1000 * 128 * KIB * 0.0125 / GIB),
        (Objects("STANDARD_IA", False, 10, 10 * MIB), 10 * MIB * 0.0125 / GIB),
        (Objects("DEEP_ARCHIVE", True, 1000, 1000 * KIB), 1000 * (33 * KIB * 0.00099 + 8 * KIB * 0.023) / GIB),
        (Objects("INTELLIGENT_TIERING", True, 1000, 1000 * KIB), 1000 * KIB * 0.023 / GIB),
        (Objects("INTELLIGENT_TIERING", False, 1000, 1000 * MIB), 1000 * MIB * 0.004 / GIB + 0.0025),
    ],
)
def test_objects_are_billed_by_the_rules_of_their_class(objects: Objects, dollars: float) -> None:
    assert objects.monthly(TABLE) == pytest.approx(dollars)


def saved(objects: Objects, storage_class: str = "GLACIER_IR", age_days: float = 400.0) -> Savings:
    return of_archive([objects], objects.size_bytes, age_days, storage_class, TABLE)


def test_many_small_objects_pay_and_a_few_large_ones_do_not() -> None:
    small = saved(Objects("STANDARD_IA", True, 100_000, 100_000 * 10 * KIB))
    assert small.pays
    assert small.after < small.before / 5
    large = saved(Objects("GLACIER_IR", False, 10, 10 * GIB))
    assert (large.pays, large.break_even_months) == (False, None)
    late = saved(Objects("STANDARD", True, 1000, 1000 * KIB), "DEEP_ARCHIVE")
    assert not late.pays
    assert late.break_even_months is not None


def test_originals_that_leave_their_class_early_or_must_be_thawed_cost_more() -> None:
    young = saved(Objects("STANDARD_IA", True, 1000, 1000 * KIB), age_days=10.0)
    assert young.early_delete == pytest.approx(young.before * 20 / 30.4)
    assert saved(Objects("STANDARD_IA", True, 1000, 1000 * KIB)).early_delete == 0.0
    deep = saved(Objects("DEEP_ARCHIVE", False, 1000, 1000 * MIB))
    assert deep.thaw == pytest.approx(1000 / 1024 * 0.0025 + 0.025)
    assert deep.cost == pytest.approx(deep.thaw + deep.gets + deep.puts + deep.early_delete)
    assert deep.plus(deep).members == 2000
