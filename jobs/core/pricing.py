"""Forecast of a run: requests by kind, dollars by item, seconds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import msgspec
from msgspec import Struct, structs

from jobs.core.enums import AnnotationRule
from jobs.core.part_sizes import COPY_LIMIT_BYTES, PREFERRED_PART_BYTES
from jobs.core.run import Plan, RunSpec

RANGE_BYTES = 8 * 1024**2
"""What the worker reads at once when bytes pass through it, and so the part size of a streamed
copy."""

REQUESTS_PER_SECOND = 1_600
"""One worker process on one core, copying 4 KiB objects with 64 in flight (measured, see
BENCHMARKS.md)."""

WRITES_PER_SECOND = 3_500
"""What S3 takes of copies, puts and deletes in one partitioned prefix:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html"""

BYTES_PER_SECOND = 85_000_000 * 4
"""One worker process with four requests in flight at 85 MB/s, S3's own figure for one request:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html"""

GIB = 1024**3
ENDPOINT_PER_GIB = 0.01
"""Dollars for what an interface endpoint carries: https://aws.amazon.com/privatelink/pricing/"""

_WRITES = ("copy", "put", "create", "part", "complete", "delete")
_DATA_KEYS: Mapping[str | None, int] = {"aws:kms": 1, "aws:kms:dsse": 2}
"""How many data keys of KMS a request takes that writes bytes, by the encryption."""


class PricedWork(Struct, frozen=True):
    """What decides the price of a run: whether it copies or compares, and some of its options.

    `storage_class`: of the copies, `keep`: the source's. `sse`: aws:kms takes data keys, twice with
    dsse. `streamed`: bytes pass through the worker. `apart`: to another service. `cross_region`:
    they leave the source's region, by `endpoint_hops` where the worker carries them. `sides_read`: how many sides
    a deep comparison reads.
    """

    is_copying: bool = True
    all_versions: bool = False
    deep: bool = False
    sides_read: int = 2
    compares_tags: bool = False
    streamed: bool = False
    apart: bool = True
    cross_region: bool = False
    endpoint_hops: int = 0
    object_lock: bool = False
    annotations: str = AnnotationRule.COPY
    storage_class: str = "keep"
    sse: str | None = None

    @classmethod
    def of(cls, spec: RunSpec, *, is_copying: bool) -> PricedWork:
        """The work of a run. An option that its spec does not have is at its default.

        `is_copying`: the run writes copies, else it compares. It has no default, since a comparison
        priced as copies is six times too dear.
        """
        names = [name for name in cls.__struct_fields__ if spec.options.get(name) not in (None, "")]
        return cls(**{name: spec.options[name] for name in names} | {"is_copying": is_copying})


ALIKE, OTHER = "alike", "other"


class Group(NamedTuple):
    """Rows that cost alike: their count, their known bytes, their parts (one each at least).

    `there`: what a list of the destination shows: nothing or not listed (empty), an object that may
    be the copy (ALIKE), or another one (OTHER).
    """

    storage_class: str
    is_multipart: bool
    is_size_known: bool
    is_delete_marker: bool
    rows: int
    size_bytes: int
    parts: int
    there: str = ""


class Histogram(NamedTuple):
    """All rows of a plan by group. `keys` is the number of distinct keys."""

    groups: tuple[Group, ...]
    keys: int

    @property
    def unsized_rows(self) -> int:
        """How many objects do not say their size."""
        return sum(each.rows for each in self.groups if not each.is_size_known and not each.is_delete_marker)


class ClassPrices(Struct, frozen=True):
    """Dollars in one storage class: per 1,000 requests, per GiB read, and per GiB kept for a month
    (0: not known).

    `part_per_1000` is for beginning an upload, too. INTELLIGENT_TIERING keeps a larger object that
    nobody reads for `idle_storage_per_gib_month` (0: as any), and takes `monitoring_per_1000` of
    such objects a month.
    """

    put_per_1000: float
    part_per_1000: float
    get_per_1000: float
    retrieval_per_gib: float
    storage_per_gib_month: float = 0.0
    idle_storage_per_gib_month: float = 0.0
    monitoring_per_1000: float = 0.0


class ThawPrice(Struct, frozen=True, order=True):
    """Dollars of restoring archived objects by one tier: per GiB, and per 1,000 requests."""

    per_gib: float
    per_1000: float


class PriceTable(Struct, frozen=True):
    """The list prices of a region at a date.

    A storage class that it lacks costs what the dearest does. `name`: for people, which table it is.

    `thaw`: storage class, or archive tier → tier of the restore → its price.
    """

    name: str
    source: str
    list_per_1000: float
    kms_per_1000: float
    cross_region_per_gib: float
    internet_per_gib: float
    storage_classes: dict[str, ClassPrices]
    thaw: dict[str, dict[str, ThawPrice]]

    def of_class(self, storage_class: str) -> ClassPrices:
        """The prices of a class, else the highest of each kind."""
        known = self.storage_classes.get(storage_class)
        return known or ClassPrices(*map(max, zip(*map(structs.astuple, self.storage_classes.values()), strict=True)))


@cache
def own_prices() -> PriceTable:
    """The price table that comes with Sealift."""
    from importlib.resources import files

    text = (files("jobs.core") / "prices" / "us-east-1.json").read_bytes()
    return msgspec.json.decode(text, type=PriceTable)


def part_rule(work: PricedWork) -> tuple[int, int]:
    """For a plan's `histogram`: the size from which a job works in parts, and the parts' size."""
    is_read = work.streamed if work.is_copying else work.deep
    return (RANGE_BYTES, RANGE_BYTES) if is_read else (COPY_LIMIT_BYTES, PREFERRED_PART_BYTES)


class Bill:
    """What work takes: `requests` by kind, `dollars` by item of Sealift's own prices, and `moved_bytes`, which are
    copied or read, once for each side that reads them.

    | item        | what is counted                                                                        |
    |-------------|----------------------------------------------------------------------------------------|
    | `puts`      | writes, in the class of the copy                                                       |
    | `gets`      | reads, in the class of what is read                                                    |
    | `lists`     | lists. Deletes cost nothing                                                            |
    | `retrieval` | bytes that are read, in the class of what is read                                      |
    | `kms`       | one data key for each request that writes with a key of KMS, two with dsse. What the   |
    |             | source's key costs no manifest tells                                                   |
    | `transfer`  | `far_per_gib`                                                                          |

    Retries and what is skipped as the same are not counted. `more`: requests that the histogram does not tell.
    """

    def __init__(self, work: PricedWork, histogram: Histogram, **more: int):
        self.work, self.prices, self.moved_bytes = work, own_prices(), 0
        self.requests, self.dollars = Counter[str](), defaultdict[str, float](float)
        for group in histogram.groups:
            size_bytes = 0 if group.there == ALIKE else group.size_bytes
            self.add(requests_of(work, group), group.storage_class, size_bytes)
        lists = _history_lists(work, histogram) if work.all_versions else 0
        self.add(Counter(more) + Counter(list=lists))

    def add(self, requests: Counter[str], stored: str = "STANDARD", size_bytes: int = 0, packed_in: str = "") -> None:
        """Add requests for objects of the storage class `stored`, and their bytes. `packed_in`: the class of the
        archive that holds them.
        """
        work, prices, read = self.work, self.prices, self.prices.of_class(packed_in or stored)
        written = prices.of_class(stored if work.storage_class == "keep" else work.storage_class)
        sides = 1 if work.is_copying else work.sides_read if work.deep else 0
        for item, kinds, per_1000 in (
            ("puts", ("copy", "put", "complete"), written.put_per_1000),
            ("puts", ("create", "part"), written.part_per_1000),  # archive classes bill them as STANDARD does
            ("gets", ("head", "get", "tagging"), read.get_per_1000),
            ("lists", ("list",), prices.list_per_1000),
            ("kms", ("copy", "put", "part"), _DATA_KEYS.get(work.sse, 0) * prices.kms_per_1000),
        ):
            self.dollars[item] += sum(requests[kind] for kind in kinds) * per_1000 / 1000
        self.requests.update(requests)
        self.moved_bytes += sides * size_bytes
        self.dollars["retrieval"] += sides * size_bytes / GIB * read.retrieval_per_gib
        self.dollars["transfer"] += bool(sides) * size_bytes / GIB * far_per_gib(work, prices)

    def of(self, plan: Plan, processes: int) -> Plan:
        """The plan with what it takes. Its seconds are a lower bound: the slowest of client requests, writes in a
        prefix, and bytes.
        """
        writes = sum(self.requests[kind] for kind in _WRITES)
        return structs.replace(
            plan,
            requests={kind: count for kind, count in self.requests.items() if count},
            dollars={item: amount for item, amount in self.dollars.items() if amount},
            price_table=self.prices.name,
            seconds=max(
                self.requests.total() / (REQUESTS_PER_SECOND * processes),
                writes / WRITES_PER_SECOND,
                self.moved_bytes / (BYTES_PER_SECOND * processes),
            ),
        )


def far_per_gib(work: PricedWork, prices: PriceTable) -> float:
    """Dollars for a GiB on its way from the source to the destination.

    | work             | the price                                                         |
    |------------------|-------------------------------------------------------------------|
    | `endpoint_hops`  | for each hop between regions: the transfer, and the VPC endpoint  |
    | `streamed` apart | the internet's: the sides are different services                  |
    | `cross_region`   | the transfer between regions                                      |
    | none of these    | nothing                                                           |
    """
    if work.endpoint_hops:
        return work.endpoint_hops * (prices.cross_region_per_gib + ENDPOINT_PER_GIB)
    if work.streamed and work.apart:
        return prices.internet_per_gib
    return prices.cross_region_per_gib if work.cross_region else 0.0


def requests_of(work: PricedWork, group: Group) -> Counter[str]:
    """Requests by kind if nothing has to be tried again. Rows are new at the destination, unless a
    list of it shows otherwise.

    | copies                                   | requests per row                                        |
    |------------------------------------------|---------------------------------------------------------|
    | one CopyObject                           | copy                                                    |
    | … of unknown size, or with Object Lock   | 2 head, copy                                            |
    | in parts                                 | 2 head, tagging, create, its parts, complete, list      |
    | streamed to another service, small       | 2 head, tagging, get, put, list                         |
    | streamed, in parts                       | 2 head, tagging, create, its parts with a get each, complete, list |
    | another object is there                  | what a first CopyObject is refused for: it, and 2 head  |
    | one that may be the copy                 | the same, or 2 head if none is tried; no bytes          |

    The list is that of annotations, unless they are skipped. The requests for each annotation (a
    PUT, and a GET where S3 does not copy it) are not counted, since no manifest says how many there
    are. Nor is the HEAD after that list, which a source without a version id takes.

    With all versions: a list per key and one more per key of several versions, one head instead of
    two, a delete and 2 head per delete marker.
    Comparisons: 2 head. Deep: and a get of each range on both sides. Tags: and 2 tagging and a list,
    if each object has tags and none has annotations. All versions: a list per key.
    """
    if work.is_copying:
        return _copy_requests(work, group)
    if group.is_delete_marker:
        return Counter()
    requests = Counter(head=2 * group.rows, get=work.sides_read * group.parts if work.deep else 0)
    return requests + Counter(tagging=2 * group.rows, list=group.rows) if work.compares_tags else requests


def _history_lists(work: PricedWork, histogram: Histogram) -> int:
    """Listings of single keys: at the destination of each, at the source of those with several
    versions, as many as there can be.
    """
    versions = sum(group.rows for group in histogram.groups)
    several = min(histogram.keys, max(0, versions - histogram.keys)) if work.is_copying else 0
    return histogram.keys + several


def _copy_requests(work: PricedWork, group: Group) -> Counter[str]:
    rows, parts, streamed = group.rows, group.parts, work.streamed
    if group.is_delete_marker:
        return Counter() if group.there else Counter(delete=rows, head=2 * rows)
    in_parts = group.is_multipart
    is_a_bet = not (in_parts or streamed or work.object_lock or work.all_versions or not group.is_size_known)
    if group.there == ALIKE:
        return Counter(head=2 * rows, copy=rows * is_a_bet)
    looks = 1 if work.all_versions else 0 if is_a_bet and not group.there else 2
    is_refused, is_whole, is_looked_into = is_a_bet and bool(group.there), not in_parts, streamed or in_parts
    requests = Counter(head=looks * rows, copy=rows * is_refused, tagging=rows * is_looked_into)
    requests["list"] = rows * (is_looked_into and work.annotations == AnnotationRule.COPY)
    requests["get"] = parts * streamed
    requests["put" if streamed else "copy"] += rows * is_whole
    return requests + Counter(create=rows * in_parts, part=parts * in_parts, complete=rows * in_parts)
