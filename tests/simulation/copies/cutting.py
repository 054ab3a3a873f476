"""The planner in pure Python: a listing's rows cut into shards, for few of them."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from jobs.core.model import ObjectVersion
from jobs.core.run import ShardSummary
from jobs.runs import sharding as shards

_MARK = re.compile(r"\.sealift-[0-9a-f]{16}\Z")
"""How the keys of an expiry's marks end, by the documents."""


class Cut(NamedTuple):
    """A manifest cut into shards."""

    rows: int
    size_bytes: int
    shards: tuple[ShardSummary, ...]
    excluded: dict[str, int]
    slices: list[list[ObjectVersion]]


HashesOf = Callable[[Sequence[str]], Sequence[int]]
"""The hash of each key."""


def crcs(keys: Sequence[str]) -> list[int]:
    """Any hash serves that is the same in each process."""
    return [zlib.crc32(key.encode()) for key in keys]


def cut(
    rows: Sequence[ObjectVersion],
    *,
    all_versions: bool,
    rows_per_shard: int,
    threshold_bytes: int,
    hashes_of: HashesOf = crcs,
) -> Cut:
    """What `jobs.runs.planning.plan_rows` does with the rows of a listing, for few of them."""
    excluded: Counter[str] = Counter()
    taken: list[tuple[int, ObjectVersion]] = []
    for row in rows:
        if not all_versions and not row.is_latest:
            excluded["noncurrent"] += 1
        elif not all_versions and row.is_delete_marker:
            excluded["delete_marker"] += 1
        elif is_mark(row):
            excluded["expire_mark"] += 1
        else:
            taken.append((len(taken), row))
    newest: dict[tuple[str, str | None], tuple[int, ObjectVersion]] = {}
    for place, row in sorted(taken, key=lambda each: (-_micros(each[1]), each[0])):
        newest.setdefault((row.key, row.version_id), (place, row))
    if len(newest) < len(taken):
        excluded["duplicate"] = len(taken) - len(newest)
    kept = list(newest.values())
    size_bytes = sum(row.size_bytes or 0 for _, row in kept)
    count = shards.count_shards(len(kept), size_bytes, rows_per_shard=rows_per_shard, processes=1)
    homes = _homes([row for _, row in kept], count, threshold_bytes, hashes_of)
    kept.sort(
        key=lambda each: (homes[each[1].key], each[1].key.encode(), each[1].is_latest, _micros(each[1]), -each[0])
    )
    numbered = [row._replace(row=number) for number, (_, row) in enumerate(kept)]
    slices = [list(some) for _, some in groupby(numbered, key=lambda row: homes[row.key])]
    summaries = tuple(ShardSummary(len(some), sum(row.size_bytes or 0 for row in some)) for some in slices)
    return Cut(len(numbered), size_bytes, summaries, dict(excluded), slices)


def is_mark(row: ObjectVersion) -> bool:
    """Whether an expiry that was killed left it: no plan takes it."""
    return row.is_delete_marker and _MARK.search(row.key) is not None


def _micros(row: ObjectVersion) -> int:
    return -1 if row.last_modified is None else int(row.last_modified * 1e6)


def _homes(rows: Sequence[ObjectVersion], count: int, threshold_bytes: int, hashes_of: HashesOf) -> dict[str, int]:
    """The shard of each key. Keys of one hash are together."""
    keys = list(dict.fromkeys(row.key for row in rows))
    hashes = dict(zip(keys, hashes_of(keys), strict=True))
    sizes: Counter[int] = Counter()
    for row in rows:
        sizes[hashes[row.key]] += row.size_bytes or 0
    big = {hashes[row.key] for row in rows if (row.size_bytes or 0) > threshold_bytes}
    homes = {each: each % count for each in sizes if each not in big}
    loads = [0] * count
    for each, shard in homes.items():
        loads[shard] += sizes[each]
    order = sorted(big, key=lambda each: (-sizes[each], each))
    homes |= dict(zip(order, shards.pack([sizes[each] for each in order], loads), strict=True))
    return {key: homes[hashes[key]] for key in keys}
