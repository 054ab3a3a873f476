"""What packing saves, against sums done by hand from S3's price page."""

from __future__ import annotations

import json

import msgspec
import pytest

from jobs.compact import grouping
from jobs.compact.job import CompactOptions
from jobs.compact.packing import HEADER_BYTES, EarlierRule, PackingRule
from jobs.compact.savings import INDEX_BYTES_PER_MEMBER, Economy, Savings, refusal
from jobs.core.model import ObjectVersion
from jobs.core.pricing import GIB, load_price_table, own_prices
from jobs.core.reasons import Cause, Reason
from jobs.errors import ConfigError

NOW = 400 * 86_400.0
TABLE = own_prices()
RULE = PackingRule()


def economy(storage_class: str = "GLACIER_IR", payback_months: float | None = 24.0) -> Economy:
    return Economy.of(TABLE, storage_class, NOW, payback_months)


def weigh(rows: list[ObjectVersion], economy: Economy, rule: PackingRule) -> Savings:
    return grouping.weigh(rows, economy, rule).savings


def objects(count: int, size_bytes: int, storage_class: str, last_modified: float | None = 0.0) -> list[ObjectVersion]:
    return [
        ObjectVersion(n, f"k{n}", size_bytes=size_bytes, storage_class=storage_class, last_modified=last_modified)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("storage_class", "monthly"),
    [
        ("STANDARD", 4096 / GIB * 0.023),
        ("STANDARD_IA", 128 * 1024 / GIB * 0.0125),
        ("GLACIER_IR", 128 * 1024 / GIB * 0.004),
        ("GLACIER", (4096 + 32 * 1024) / GIB * 0.0036 + 8 * 1024 / GIB * 0.023),
        ("DEEP_ARCHIVE", (4096 + 32 * 1024) / GIB * 0.00099 + 8 * 1024 / GIB * 0.023),
    ],
)
def test_small_objects_cost_more_than_their_bytes(storage_class: str, monthly: float) -> None:
    found = weigh(objects(1000, 4096, storage_class), economy(), RULE)
    assert found.before == pytest.approx(1000 * monthly)


def test_an_archive_costs_its_bytes_and_its_index() -> None:
    found = weigh(objects(100_000, 4096, "GLACIER_IR"), economy(), RULE)
    archive_bytes = 100_000 * (4096 + HEADER_BYTES)
    index = 100_000 * INDEX_BYTES_PER_MEMBER / GIB * 0.023
    assert found.archive_bytes == archive_bytes
    assert found.after == pytest.approx(archive_bytes / GIB * 0.004 + index)
    assert found.gets == pytest.approx(1.0)
    assert found.retrieval == pytest.approx(100_000 * 4096 / GIB * 0.03)
    assert found.puts == pytest.approx((68 + 2) * 0.02 / 1000, rel=0.1)
    assert found.early_delete == 0.0
    assert found.break_even_months == pytest.approx(found.cost / (found.before - found.after))


def test_leaving_a_class_early_is_billed() -> None:
    young = weigh(objects(10, 4096, "GLACIER_IR", NOW - 30.4 * 86_400), economy(), RULE)
    assert young.early_delete == pytest.approx(young.before * (90 - 30.4) / 30.4)
    assert weigh(objects(10, 4096, "STANDARD", NOW), economy(), RULE).early_delete == 0.0


def test_one_that_never_pays_is_refused_and_says_so() -> None:
    never = weigh(objects(100, 1 << 20, "DEEP_ARCHIVE"), economy("STANDARD"), RULE)
    assert never.break_even_months is None
    assert refusal(never, economy("STANDARD")) == Cause(Reason.DOES_NOT_PAY)
    assert refusal(never, economy("STANDARD", None)) is None


def test_one_that_pays_too_late_is_refused_with_the_months() -> None:
    tiny = weigh(objects(1000, 100, "STANDARD"), economy(payback_months=1e9), RULE)
    assert tiny.break_even_months is None  # 1.5 KiB of header for 100 bytes
    slow = weigh(objects(1000, 2000, "STANDARD"), economy(), RULE)
    assert slow.break_even_months is not None
    months = f"{slow.break_even_months:.0f}"
    assert refusal(slow, economy(payback_months=5.0)) == Cause(Reason.DOES_NOT_PAY, months)
    assert refusal(slow, economy(payback_months=1e9)) is None
    quick = weigh(objects(1000, 64 * 1024, "STANDARD"), economy("DEEP_ARCHIVE"), RULE)
    assert refusal(quick, economy("DEEP_ARCHIVE")) is None


@pytest.mark.parametrize(
    ("storage_class", "size_bytes", "dollars"),
    [
        ("DEEP_ARCHIVE", 1 << 20, 0.05 / 1000),  # one PutObject, in the price of the class
        ("DEEP_ARCHIVE", 20 << 20, (0.05 + 4 * 0.005) / 1000),  # beginning and parts are STANDARD's
        ("GLACIER", 1 << 20, 0.03 / 1000),
        ("GLACIER_IR", 1 << 20, 0.02 / 1000),
        ("GLACIER_IR", 20 << 20, 5 * 0.02 / 1000),
        ("STANDARD", 1 << 20, 0.005 / 1000),
    ],
)
def test_an_archive_of_one_part_is_one_put(storage_class: str, size_bytes: int, dollars: float) -> None:
    assert weigh(objects(1, size_bytes, "STANDARD"), economy(storage_class), RULE).puts == pytest.approx(dollars)


def test_reading_deep_archive_begins_with_thawing_it() -> None:
    found = weigh(objects(1000, 1 << 20, "DEEP_ARCHIVE"), economy(), RULE)
    assert found.thaw == pytest.approx(1000 / 1024 * 0.0025 + 0.025)
    assert found.cost == pytest.approx(found.thaw + found.gets + found.puts + found.early_delete)
    assert weigh(objects(1000, 1 << 20, "GLACIER"), economy(), RULE).thaw == 0.0
    assert weigh(objects(1000, 1 << 20, "STANDARD"), economy(), RULE).thaw == 0.0


def test_intelligent_tiering_monitors_what_it_moves() -> None:
    small, large = 128 * 1024 - 1, 128 * 1024
    assert weigh(objects(1000, small, "INTELLIGENT_TIERING"), economy(), RULE).before == pytest.approx(
        1000 * small / GIB * 0.023
    )
    assert weigh(objects(1000, large, "INTELLIGENT_TIERING"), economy(), RULE).before == pytest.approx(
        1000 * large / GIB * 0.004 + 0.0025
    )


def test_the_worker_decides_by_the_plans_numbers() -> None:
    options = CompactOptions(PackingRule(5, tags={"a": "b"}), economy(), earlier_rules=(EarlierRule("p/", 1.5, 2, {}),))
    written = json.loads(json.dumps(msgspec.to_builtins(options)))
    assert msgspec.convert(written | {"filters": []}, CompactOptions) == options


def test_a_table_without_storage_prices_cannot_decide() -> None:
    lean = '{"put_per_1000": 1, "part_per_1000": 1, "get_per_1000": 1, "retrieval_per_gib": 1}'
    rest = (
        '"list_per_1000": 1, "delete_per_1000": 1, "kms_per_1000": 1, "cross_region_per_gib": 1, "internet_per_gib": 1'
    )
    names = '"region": "r", "as_of": "d", "currency": "USD", "source": "s"'
    table = load_price_table(f'{{{names}, {rest}, "storage_classes": {{"STANDARD": {lean}}}}}')
    with pytest.raises(ConfigError, match="STANDARD lacks storage_per_gib_month"):
        Economy.of(table, "GLACIER", NOW, 24.0)
    assert Economy.of(table, "GLACIER", NOW, None).payback_months is None
