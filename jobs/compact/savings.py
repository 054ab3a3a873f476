"""Savings of packing: what it saves a month, what it costs, whether it pays.

S3 bills small objects of the cold classes for more than their bytes. Rules of the classes:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html and
https://aws.amazon.com/s3/pricing/ (its footnotes). The saving begins when the originals are
expired.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jobs.compact.packing import part_bytes
from jobs.core.part_sizes import count_parts
from jobs.core.pricing import GIB, PriceTable, ThawPrice

SMALL_BYTES = 128 * 1024
"""The cold classes bill objects as if they had so much, and INTELLIGENT_TIERING moves them from this size on."""
HAVE_MINIMUM = frozenset({"STANDARD_IA", "ONEZONE_IA", "GLACIER_IR"})

OVERHEAD_BYTES = {"GLACIER": (32 * 1024, 8 * 1024), "DEEP_ARCHIVE": (32 * 1024, 8 * 1024)}
"""Billed for each object in addition: bytes in its class, and bytes in STANDARD."""

MINIMUM_DAYS = {"STANDARD_IA": 30, "ONEZONE_IA": 30, "GLACIER_IR": 90, "GLACIER": 90, "DEEP_ARCHIVE": 180}
"""The minimum stay that S3 bills: https://aws.amazon.com/s3/storage-classes/"""

DAYS_A_MONTH = 30.4
INDEX_BYTES_PER_MEMBER = 200
"""Of the index, which is kept in STANDARD."""

PAYBACK_MONTHS = 24.0
"""Groups that take longer to pay are left alone."""


class Objects(NamedTuple):
    """Objects of one class, all of them smaller than `SMALL_BYTES` or none."""

    storage_class: str
    is_small: bool
    objects: int
    size_bytes: int

    def monthly(self, prices: PriceTable) -> float:
        """Their dollars a month.

        Nobody reads what is worth packing, so INTELLIGENT_TIERING has it in its Archive Instant
        Access tier.
        """
        of_class, standard = prices.of_class(self.storage_class), prices.of_class("STANDARD")
        overhead_bytes, in_standard = OVERHEAD_BYTES.get(self.storage_class, (0, 0))
        has_minimum = self.is_small and self.storage_class in HAVE_MINIMUM
        billed_bytes = (self.objects * SMALL_BYTES if has_minimum else self.size_bytes) + self.objects * overhead_bytes
        rate = of_class.storage_per_gib_month
        if not self.is_small:
            rate = of_class.idle_storage_per_gib_month or rate
        dollars = (billed_bytes * rate + self.objects * in_standard * standard.storage_per_gib_month) / GIB
        return dollars if self.is_small else dollars + self.objects * of_class.monitoring_per_1000 / 1000


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

    @property
    def pays(self) -> bool:
        """True if it pays within `PAYBACK_MONTHS`."""
        months = self.break_even_months
        return months is not None and months <= PAYBACK_MONTHS

    def plus(self, other: Savings) -> Savings:
        """The sum of both."""
        return Savings._make(a + b for a, b in zip(self, other, strict=True))


def of_archive(
    objects: Iterable[Objects], archive_bytes: int, age_days: float, storage_class: str, prices: PriceTable
) -> Savings:
    """The savings of an archive of these objects, of about this age, in a storage class."""
    found = Savings()
    for each in objects:
        of_class, gib = prices.of_class(each.storage_class), each.size_bytes / GIB
        thaw = min(prices.thaw.get(each.storage_class, {}).values(), default=ThawPrice(0.0, 0.0))
        days_left = max(MINIMUM_DAYS.get(each.storage_class, 0) - age_days, 0.0)
        monthly = each.monthly(prices)
        found = found.plus(
            Savings(
                members=each.objects,
                size_bytes=each.size_bytes,
                before=monthly,
                gets=each.objects * of_class.get_per_1000 / 1000,
                retrieval=gib * of_class.retrieval_per_gib,
                early_delete=monthly * days_left / DAYS_A_MONTH,
                thaw=gib * thaw.per_gib + each.objects * thaw.per_1000 / 1000,
            )
        )
    written = prices.of_class(storage_class)
    parts = count_parts(archive_bytes, part_bytes(archive_bytes))
    # One PutObject, or the begin and the parts of an upload, and its completion.
    requests = written.put_per_1000 + ((parts + 1) * written.part_per_1000 if parts > 1 else 0.0)
    index_gib = found.members * INDEX_BYTES_PER_MEMBER / GIB
    archive = Objects(storage_class, archive_bytes < SMALL_BYTES, 1, archive_bytes)
    after = archive.monthly(prices) + index_gib * prices.of_class("STANDARD").storage_per_gib_month
    return found._replace(archive_bytes=archive_bytes, after=after, puts=requests / 1000, parts=parts)
