"""Groups of rows, cut by the rules of `jobs.compact.packing` and weighed, in columns.

A plan has many millions of rows, so nothing here is done for each row in Python. A worker cuts and
weighs the rows of its shard by the same functions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute

from jobs.archives.model import BLOCK_BYTES
from jobs.compact.packing import HEADER_BYTES, SERVER_SIDE_BYTES, PackingRule, TarSize, folder_of, period
from jobs.compact.savings import DAYS_A_MONTH, MONITORED_BYTES, Economy, Savings, of_archive
from jobs.core.enums import ArchiveFormat
from jobs.core.model import NULL_VERSION, ObjectVersion
from jobs.core.part_sizes import COPY_PART_BYTES, MAX_OBJECT_BYTES, MAX_PART_BYTES
from jobs.core.pricing import GIB
from jobs.tables.rows import manifest_schema, version_batch

pc: Any = pyarrow.compute  # its stubs know too few overloads

WINDOW_ROWS = 65_536
"""The rows to read before the next groups are cut. The rows of an unfinished group are held too."""

TOO_LARGE_BYTES = MAX_OBJECT_BYTES + 1
"""As good as any larger size: an archive cannot hold it."""

FOLDER_ROWS = 1_024
"""Rows that are first searched for the end of a folder."""


class Group(NamedTuple):
    """The rows of one archive, added up. `unknown_sizes`: rows whose size the manifest lacks."""

    rows: int
    size_bytes: int
    unknown_sizes: int
    archive: TarSize
    savings: Savings


def group_rows(
    batches: Iterator[pa.RecordBatch], rule: PackingRule, economy: Economy
) -> Iterator[tuple[pa.Table, list[Group]]]:
    """Yield some whole groups at a time, behind the table of their rows.

    `batches`: rows in packing order, in a manifest's columns, with times in microseconds.
    """
    pending: list[pa.RecordBatch] = []
    rows, enough = 0, WINDOW_ROWS
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        if rows >= enough:
            window = pa.Table.from_batches(pending).combine_chunks()
            groups = _groups(window, rule, economy, is_last=False)
            taken = sum(group.rows for group in groups)
            yield window.slice(0, taken), groups
            pending, rows = window.slice(taken).to_batches(), rows - taken
            enough = rows + WINDOW_ROWS
    if rows:
        window = pa.Table.from_batches(pending).combine_chunks()
        yield window, _groups(window, rule, economy, is_last=True)


def cut(rows: Iterable[ObjectVersion], rule: PackingRule) -> Iterator[list[ObjectVersion]]:
    """The rows, in the order of `packing.sort_key`, group by group. No row is lost, no group is
    empty.
    """
    left = iter(rows)
    pending: list[ObjectVersion] = []
    is_last = False
    while not is_last:
        window = list(islice(left, WINDOW_ROWS))
        pending += window
        is_last = len(window) < WINDOW_ROWS
        ends = _Rows.of(_table(pending), rule).ends(is_last=is_last)
        yield from (pending[start:end] for start, end in pairwise(ends))
        del pending[: ends[-1]]


def weigh(rows: Sequence[ObjectVersion], economy: Economy, rule: PackingRule) -> Group:
    """The group that these rows would be, all in one archive. There is at least one row."""
    return _Rows.of(_table(rows), rule).weigh([0, len(rows)], economy)[0]


def _table(rows: Sequence[ObjectVersion]) -> pa.Table:
    """Rows as a sort yields them: times are numbers of microseconds."""
    table = pa.Table.from_batches([version_batch(rows)] if rows else [], manifest_schema())
    place = table.schema.get_field_index("last_modified")
    return table.set_column(place, "last_modified", table["last_modified"].cast(pa.int64()))


def count_lookups(rows: pa.Table) -> int:
    """The number of rows that `jobs.compact.packing.is_unknown` is true for."""
    version_id = _array(rows, "version_id")
    is_inexact = pc.fill_null(pc.equal(version_id, NULL_VERSION), True)
    is_undescribed = pc.or_(pc.is_null(_array(rows, "etag")), pc.is_null(_array(rows, "last_modified")))
    unknown = pc.or_(pc.is_null(_array(rows, "size_bytes")), pc.and_(is_inexact, is_undescribed))
    return int(pc.sum(pc.and_not(unknown, _array(rows, "is_delete_marker"))).as_py() or 0)


def _groups(window: pa.Table, rule: PackingRule, economy: Economy, *, is_last: bool) -> list[Group]:
    """The groups of a window. Unless it `is_last`, later rows may belong to its last group."""
    rows = _Rows.of(window, rule)
    return rows.weigh(rows.ends(is_last=is_last), economy)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a window in columns.

    The numbers are running sums: the one at i is that of all rows before row i.
    """

    rule: PackingRule
    columns: pa.Table
    sizes_bytes: Sequence[int]
    tar_bytes: Sequence[int]
    copied_bytes: Sequence[int]
    copied_parts: Sequence[int]

    @classmethod
    def of(cls, columns: pa.Table, rule: PackingRule) -> _Rows:
        """What was written before a copy becomes a part of its own, however small."""
        size = pc.fill_null(_array(columns, "size_bytes"), 0)
        size = pc.min_element_wise(size, TOO_LARGE_BYTES)  # so that sums stay within 64 bits
        tar_bytes = pc.add(pc.multiply(_pieces(size, BLOCK_BYTES), BLOCK_BYTES), HEADER_BYTES)
        is_copied = pc.greater_equal(size, SERVER_SIDE_BYTES)
        if rule.format is not ArchiveFormat.TAR:
            is_copied = pc.and_(is_copied, False)
        is_huge = pc.greater(size, 1000 * COPY_PART_BYTES)
        parts = pc.add(pc.if_else(is_huge, _pieces(size, MAX_PART_BYTES), _pieces(size, COPY_PART_BYTES)), 1)
        copied = (pc.if_else(is_copied, each, 0) for each in (size, parts))
        return cls(rule, columns, *map(_running_sum, (size, tar_bytes, *copied)))

    def ends(self, *, is_last: bool) -> list[int]:
        """Where groups end, after a 0. Unless it `is_last`, without the last one's end."""
        ends = [0]
        while ends[-1] < self.columns.num_rows:
            ends.append(self._end_of_group(ends[-1]))
        return ends if is_last else ends[:-1]

    def _end_of_group(self, start: int) -> int:
        """Where the group ends that begins at `start`. Sums only grow: each limit is bisected."""
        rule, tar_bytes = self.rule, self.tar_bytes
        end = min(start + max(rule.members_max, 1), self.columns.num_rows)
        end = bisect_right(tar_bytes, tar_bytes[start] + rule.target_bytes, start + 2, end + 1) - 1
        if self._tar_size(start, end).part_bytes() is None:
            end = _first(range(start + 1, end), lambda row: self._tar_size(start, row + 1).part_bytes() is None)
        month = self._month(start)
        if self._month(end - 1) != month:
            end = _first(range(start + 1, end), lambda row: self._month(row) != month)
        half_bytes = tar_bytes[start] + -(-rule.target_bytes // 2)
        by_bytes = bisect_left(tar_bytes, half_bytes, start + 1, end + 1)
        half_full = max(min(by_bytes, start + -(-rule.members_max // 2)), start + 1)
        return self._end_of_folder(half_full, end) if half_full < end else end

    def weigh(self, ends: Sequence[int], economy: Economy) -> list[Group]:
        """The groups between these ends."""
        if len(ends) < 2:
            return []
        rows = self.columns.slice(0, ends[-1])
        added = _costs(rows, economy).append_column("group", pa.chunked_array([_group_numbers(ends)]))
        summed: Any = [(name, "sum") for name in ("size_bytes", "unknown", "before", "early_delete")]
        sums = added.group_by(["group", "class"], use_threads=False).aggregate([([], "count_all"), *summed])
        dollars: list[defaultdict[str, float]] = [defaultdict(float) for _ in ends[1:]]
        unknown = [0] * len(dollars)
        for each in sums.to_pylist():
            prices, of_group = economy.of_class(each["class"]), dollars[each["group"]]
            count, gib = each["count_all"], each["size_bytes_sum"] / GIB
            of_group["before"] += each["before_sum"]
            of_group["early_delete"] += each["early_delete_sum"]
            of_group["gets"] += count * prices.get_per_1000 / 1000
            of_group["retrieval"] += gib * prices.retrieval_per_gib
            of_group["thaw"] += gib * prices.thaw_per_gib + count * prices.thaw_per_1000 / 1000
            unknown[each["group"]] += each["unknown_sum"]
        groups = []
        for number, (start, end) in enumerate(pairwise(ends)):
            archive, size_bytes = self._tar_size(start, end), self.sizes_bytes[end] - self.sizes_bytes[start]
            savings = of_archive(end - start, size_bytes, archive, dollars[number], economy)
            groups.append(Group(end - start, size_bytes, unknown[number], archive, savings))
        return groups

    def _tar_size(self, start: int, end: int) -> TarSize:
        return TarSize(*(sums[end] - sums[start] for sums in (self.tar_bytes, self.copied_bytes, self.copied_parts)))

    def _month(self, row: int) -> str:
        micros = self.columns["last_modified"][row].as_py()
        return period(None if micros is None else micros / 1e6)

    def _end_of_folder(self, start: int, end: int) -> int:
        """The first row, from `start` on, that has another folder than the row before it."""
        folder = folder_of(self.columns["key"][start - 1].as_py())
        keys, depth, rows = _array(self.columns, "key"), folder.count("/"), FOLDER_ROWS
        while start < end:
            piece = keys.slice(start, min(rows, end - start))
            is_inside = pc.and_(pc.starts_with(piece, folder), pc.equal(pc.count_substring(piece, "/"), depth))
            other = pc.index(is_inside, False).as_py()
            if other >= 0:
                return start + int(other)
            start, rows = start + len(piece), rows * 4
        return end


def _costs(rows: pa.Table, economy: Economy) -> pa.Table:
    """What each row costs a month, and to be deleted now, with its class.

    An original that leaves its class before its minimum stay is billed for the rest of it.
    """
    known = _array(rows, "size_bytes")
    size = pc.fill_null(known, 0)
    name = pc.fill_null(_array(rows, "storage_class"), "")
    name = pc.if_else(pc.equal(name, ""), "STANDARD", name).dictionary_encode()
    billings = [economy.billing(each) for each in name.dictionary.to_pylist()]

    def of_class(field: str) -> Any:
        return pa.array([getattr(billing, field) for billing in billings]).take(name.indices)

    billed_bytes = pc.add(pc.max_element_wise(size, of_class("minimum_bytes")), of_class("overhead_bytes"))
    is_monitored = pc.greater_equal(size, MONITORED_BYTES)
    rate = pc.if_else(is_monitored, of_class("monitored_per_gib"), of_class("per_gib"))
    monthly = pc.divide(pc.add(pc.multiply(billed_bytes, rate), of_class("overhead_gib_dollars")), float(GIB))
    monthly = pc.add(monthly, pc.if_else(is_monitored, of_class("monitoring"), 0.0))
    modified = pc.divide(_array(rows, "last_modified").cast(pa.float64(), safe=False), 1e6)
    age_days = pc.divide(pc.subtract(economy.at, modified), 86_400.0)
    days = of_class("minimum_days").cast(pa.float64())
    days_left = pc.if_else(pc.equal(days, 0.0), 0.0, pc.max_element_wise(pc.subtract(days, age_days), 0.0))
    months_left = pc.divide(pc.if_else(pc.is_null(age_days), 0.0, days_left), DAYS_A_MONTH)
    return pa.table(
        {
            "class": name,
            "size_bytes": size,
            "unknown": pc.and_not(pc.is_null(known), _array(rows, "is_delete_marker")).cast(pa.int64()),
            "before": monthly,
            "early_delete": pc.multiply(monthly, months_left),
        }
    )


def _group_numbers(ends: Sequence[int]) -> Any:
    """The number of each row's group."""
    numbers = pa.array(range(len(ends) - 1), pa.int64())
    return pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(pa.array(ends[1:], pa.int32()), numbers))


def _first(rows: range, is_beyond: Callable[[int], bool]) -> int:
    """The first row beyond a limit, as all rows after it are. The end of the range if none is."""
    return rows.start + bisect_left(rows, True, key=is_beyond)


def _pieces(size_bytes: Any, piece_bytes: int) -> Any:
    """How many pieces of so many bytes hold the size."""
    return pc.divide(pc.add(size_bytes, piece_bytes - 1), piece_bytes)


def _running_sum(values: Any) -> Sequence[int]:
    """Running sums, from 0. Raises ArrowInvalid where they are beyond 64 bits."""
    sums = pc.cumulative_sum_checked(pa.concat_arrays([pa.array([0], pa.int64()), values]))
    return memoryview(sums.buffers()[1]).cast("q")


def _array(rows: pa.Table, name: str) -> Any:
    """A column of a window, which is in one piece."""
    return rows[name].combine_chunks()
