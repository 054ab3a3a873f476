"""The price table against AWS's published prices: each figure with its source and its date.

`published_prices.csv` is the list of us-east-1, the first volume of each price, in dollars. `read`
is the publication date of what was quoted, else the month in which the figure was last known to
hold. AWS counts in GB and means 2^30 bytes. No page was fetched live for this table: A, D and O are
quotations in public repositories, G and K stored copies of pages, M and P what is known of them.
Look at the page before you change a figure. Sources:

- A: answers of the AWS Price List API, AmazonS3, us-east-1
- D: the offer file AmazonS3GlacierDeepArchive, us-east-1
- G: https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
- K: https://repost.aws/knowledge-center/s3-manage-data-retrieval
- M: https://aws.amazon.com/kms/pricing/
- O: the offer file AmazonS3, us-east-1
- P: https://aws.amazon.com/s3/pricing/
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from jobs.core.pricing import ClassPrices, own_prices
from jobs.restore.thawing import HOURS

PUBLISHED = list(csv.DictReader((Path(__file__).parent / "published_prices.csv").open()))
TABLE = own_prices()
SOURCES = set("ADGKMOP")


def ours(row: dict[str, str]) -> Any:
    if row["tier"]:
        return getattr(TABLE.thaw[row["class"]][row["tier"]], row["item"])
    return getattr(TABLE.storage_classes[row["class"]] if row["class"] else TABLE, row["item"])


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row['class']}-{row['item']}-{row['tier']}")
def test_each_price_is_the_published_one(row: dict[str, str]) -> None:
    assert ours(row) == float(row["dollars"])
    assert row["source"] in SOURCES
    assert row["read"][:2] == "20"


def test_every_price_that_is_not_zero_has_a_source() -> None:
    known = {(row["class"], row["item"], row["tier"]) for row in PUBLISHED}
    told = {(name, item, "") for name, of in TABLE.storage_classes.items() for item in ClassPrices.__struct_fields__}
    for name, item, _ in sorted(told - known):
        of = TABLE.storage_classes[name]
        is_put = item == "part_per_1000" and of.part_per_1000 == of.put_per_1000
        is_standard = name == "REDUCED_REDUNDANCY" and getattr(of, item) == getattr(TABLE.of_class("STANDARD"), item)
        assert is_put or is_standard or not getattr(of, item), (name, item)


def test_every_tier_that_can_be_asked_for_has_its_price() -> None:
    assert {name: {*tiers} for name, tiers in TABLE.thaw.items()} == {name: {*tiers} for name, tiers in HOURS.items()}
