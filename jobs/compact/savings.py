"""Savings of packing: what it saves a month, what it costs, whether it pays.

S3 bills small objects of the cold classes for more than their bytes. Rules of the classes:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html and
https://aws.amazon.com/s3/pricing/ (its footnotes). The saving begins when the originals are
expired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import structs

from jobs.compact.packing import TarSize
from jobs.core.enums import StorageClass
from jobs.core.pricing import GIB, PriceTable, ThawPrice
from jobs.core.reasons import Cause, Reason
from jobs.errors import ConfigError

MINIMUM_BYTES = {"STANDARD_IA": 128 * 1024, "ONEZONE_IA": 128 * 1024, "GLACIER_IR": 128 * 1024}
"""The least bytes that an object is billed for."""

OVERHEAD_BYTES = {"GLACIER": (32 * 1024, 8 * 1024), "DEEP_ARCHIVE": (32 * 1024, 8 * 1024)}
"""Billed for each object in addition: bytes in its class, and bytes in STANDARD."""

MINIMUM_DAYS = {each.value: each.minimum_days for each in StorageClass}

MONITORED_BYTES = 128 * 1024
"""From this size on INTELLIGENT_TIERING moves objects to cheaper tiers."""

DAYS_A_MONTH = 30.4
INDEX_BYTES_PER_MEMBER = 200
"""Of the index, which is kept in STANDARD."""


class Prices(NamedTuple):
    """The prices of a storage class that matter to packing. Dollars."""

    storage_per_gib_month: float
    put_per_1000: float
    part_per_1000: float
    get_per_1000: float
    retrieval_per_gib: float
    idle_storage_per_gib_month: float = 0.0
    monitoring_per_1000: float = 0.0
    thaw_per_gib: float = 0.0
    thaw_per_1000: float = 0.0


PAYBACK_MONTHS = 24.0
"""Groups that take longer to pay are left alone."""


@dataclass(frozen=True, slots=True)
class Economy:
    """The inputs of the decision: prices by class, the archives' class, the user's patience. They
    are in a run's options, so that workers decide by the numbers of the plan.

    `payback_months` None packs everything. The early deletion of originals is computed for the time
    `at` (epoch seconds).
    """

    prices: Mapping[str, Prices]
    storage_class: str
    at: float
    payback_months: float | None = PAYBACK_MONTHS

    @classmethod
    def of(cls, table: PriceTable, storage_class: str, at: float, payback_months: float | None) -> Economy:
        """From a price table. Raises ConfigError if it lacks prices of storage."""
        silent = [name for name, of in table.storage_classes.items() if not of.storage_per_gib_month]
        if silent and payback_months is not None:
            raise ConfigError(f"the price table's {silent[0]} lacks storage_per_gib_month: what packing saves needs it")
        prices = {}
        for name, of in table.storage_classes.items():
            thaw = min(table.thaw.get(name, {}).values(), default=ThawPrice(0.0, 0.0))
            known = structs.asdict(of)
            named = {field: known[field] for field in Prices._fields if field in known}
            prices[name] = Prices(**named, thaw_per_gib=thaw.per_gib, thaw_per_1000=thaw.per_1000)
        return cls(prices, storage_class, at, payback_months)

    def of_class(self, name: str | None) -> Prices:
        """The prices of a class. The highest of each kind if the table lacks the class."""
        known = self.prices.get(name or "STANDARD")
        return known or Prices(*map(max, zip(*self.prices.values(), strict=True)))

    def billing(self, name: str | None) -> Billing:
        """How objects of a class are billed."""
        name = name or "STANDARD"
        prices, standard = self.of_class(name), self.of_class("STANDARD")
        overhead_bytes, in_standard = OVERHEAD_BYTES.get(name, (0, 0))
        return Billing(
            prices,
            MINIMUM_BYTES.get(name, 0),
            overhead_bytes,
            in_standard * standard.storage_per_gib_month,
            prices.storage_per_gib_month,
            prices.idle_storage_per_gib_month or prices.storage_per_gib_month,
            prices.monitoring_per_1000 / 1000,
            MINIMUM_DAYS.get(name, 0),
        )


class Billing(NamedTuple):
    """How an object of a class is billed.

    Nobody reads what is worth packing, so INTELLIGENT_TIERING has it in its Archive Instant Access
    tier. Smaller objects it never moves: `monitored_per_gib` and `monitoring` are for the others.
    """

    prices: Prices
    minimum_bytes: int
    overhead_bytes: int
    overhead_gib_dollars: float
    per_gib: float
    monitored_per_gib: float
    monitoring: float
    minimum_days: int

    def monthly(self, size_bytes: int) -> float:
        """The dollars of an object a month."""
        billed = max(size_bytes, self.minimum_bytes) + self.overhead_bytes
        is_monitored = size_bytes >= MONITORED_BYTES
        rate = self.monitored_per_gib if is_monitored else self.per_gib
        return (billed * rate + self.overhead_gib_dollars) / GIB + is_monitored * self.monitoring


class Savings(NamedTuple):
    """Savings of one group or, added up, of many. Dollars.

    `before` and `after` are a month's. `early_delete` is what S3 bills once for originals that
    leave their class before its minimum stay. `thaw` is what making archived originals readable
    costs by the cheapest tier, before they can be packed. `cost` is the whole price of packing,
    both included. Compression does not count, because the content of objects is unknown before they
    are read.
    """

    members: int = 0
    size_bytes: int = 0
    archive_bytes: int = 0
    before: float = 0.0
    after: float = 0.0
    gets: float = 0.0
    retrieval: float = 0.0
    puts: float = 0.0
    early_delete: float = 0.0
    thaw: float = 0.0
    parts: int = 0

    @property
    def cost(self) -> float:
        """The one-time cost of thawing, packing and expiring."""
        return self.gets + self.retrieval + self.puts + self.early_delete + self.thaw

    @property
    def break_even_months(self) -> float | None:
        """After how many months it has paid. None: never."""
        saved = self.before - self.after
        return self.cost / saved if saved > 0 else None

    def plus(self, other: Savings) -> Savings:
        """The sum of both."""
        return Savings._make(a + b for a, b in zip(self, other, strict=True))


def of_archive(
    members: int, size_bytes: int, archive: TarSize, dollars: Mapping[str, float], economy: Economy
) -> Savings:
    """The savings of an archive, from what its members cost by field of `Savings`."""
    written = economy.of_class(economy.storage_class)
    parts = archive.parts
    # One PutObject, or the begin and the parts of an upload, and its completion.
    requests = written.put_per_1000 + ((parts + 1) * written.part_per_1000 if parts > 1 else 0.0)
    index_per_gib = economy.of_class("STANDARD").storage_per_gib_month
    return Savings(
        members,
        size_bytes,
        archive.size_bytes,
        after=economy.billing(economy.storage_class).monthly(archive.size_bytes)
        + members * INDEX_BYTES_PER_MEMBER / GIB * index_per_gib,
        puts=requests / 1000,
        parts=parts,
        **dollars,
    )


def refusal(savings: Savings, economy: Economy) -> Cause | None:
    """Why a group is left alone. None: packing it pays.

    | the archive costs a month      | paid back within `payback_months` | packed?            |
    |--------------------------------|-----------------------------------|--------------------|
    | anything, and patience is None |                                   | yes                |
    | as much as the originals, more |                                   | no, never pays     |
    | less                           | yes                               | yes                |
    | less                           | no                                | no, says how long  |
    """
    if economy.payback_months is None:
        return None
    months = savings.break_even_months
    if months is None:
        return Cause(Reason.DOES_NOT_PAY)
    if months > economy.payback_months:
        return Cause(Reason.DOES_NOT_PAY, f"{months:.0f}" if months < 10_000 else "more than 10,000")
    return None
