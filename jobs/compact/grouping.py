"""Groups of rows: cut by the rule of `jobs.compact.packing`, and added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute
from msgspec import Struct

from jobs.compact.packing import PackingRule, tar_bytes
from jobs.compact.savings import SMALL_BYTES, Objects, Savings, of_archive
from jobs.core.pricing import PriceTable

pc: Any = pyarrow.compute  # its stubs know too few overloads


class Group(Struct):
    """The rows of one archive, added up.

    `modified`: when the first of them was written (epoch seconds). `classes`: (storage class, is it
    a small object) → (how many, their bytes).
    """

    modified: float
    rows: int = 0
    size_bytes: int = 0
    archive_bytes: int = 0
    classes: dict[tuple[str, bool], tuple[int, int]] = {}

    def savings(self, storage_class: str, at: float, prices: PriceTable) -> Savings:
        """What packing saves at a time (epoch seconds), and costs."""
        objects = [Objects(*of, *added) for of, added in self.classes.items()]
        return of_archive(objects, self.archive_bytes, (at - self.modified) / 86_400, storage_class, prices)


def number_groups(
    batches: Iterable[pa.RecordBatch], rule: PackingRule, groups: list[Group]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows with the number of their group as `archive`, and add the groups to the list.

    `batches`: rows in packing order (`jobs.runs.sorting.Sorting.in_packing_order`), in a manifest's
    columns, with times in microseconds.
    """
    month = folder = None
    for batch in batches:
        time = batch["last_modified"].cast(pa.timestamp("us"))
        months = pc.add(pc.multiply(pc.year(time), 12), pc.month(time)).to_pylist()
        folders = pc.replace_substring_regex(batch["key"], "[^/]*$", "").to_pylist()
        numbers = []
        columns: Any = (months, folders, batch["size_bytes"].to_pylist(), batch["storage_class"].to_pylist())
        for row, (row_month, row_folder, size_bytes, storage_class) in enumerate(zip(*columns, strict=True)):
            taken_bytes = tar_bytes(size_bytes)
            if (
                row_month != month
                or (group := groups[-1]).rows >= rule.members_max
                or group.archive_bytes + taken_bytes > rule.target_bytes
                or (row_folder != folder and _is_half_full(group, rule))
            ):
                groups.append(group := Group(batch["last_modified"][row].as_py() / 1e6))
            month, folder = row_month, row_folder
            group.rows += 1
            group.size_bytes += size_bytes
            group.archive_bytes += taken_bytes
            of = storage_class or "STANDARD", size_bytes < SMALL_BYTES
            count, added_bytes = group.classes.get(of, (0, 0))
            group.classes[of] = count + 1, added_bytes + size_bytes
            numbers.append(str(len(groups) - 1))
        place = batch.schema.get_field_index("archive")
        yield batch.set_column(place, batch.schema.field(place), pa.array(numbers, pa.string()))


def _is_half_full(group: Group, rule: PackingRule) -> bool:
    return 2 * group.archive_bytes >= rule.target_bytes or 2 * group.rows >= rule.members_max


def cut_shards(
    batches: Iterable[pa.RecordBatch], groups: Iterable[Group], rows_each: int, bytes_each: int
) -> Iterator[pa.Table]:
    """Yield a table for each shard: at least one group, and further ones while it is below both limits.

    `batches`: the rows of the groups.
    """
    left: pa.Table | None = None
    reader = iter(batches)
    shard: Counter[str] = Counter()
    for number, group in enumerate(found := list(groups), 1):
        shard.update(rows=group.rows, size_bytes=group.size_bytes)
        if shard["rows"] < rows_each and not shard["size_bytes"] >= bytes_each > 0 and number < len(found):
            continue
        pieces = [] if left is None else [left]
        while sum(each.num_rows for each in pieces) < shard["rows"]:
            pieces.append(pa.Table.from_batches([next(reader)]))
        whole = pa.concat_tables(pieces)
        yield whole.slice(0, shard["rows"])
        left = whole.slice(shard["rows"])
        shard.clear()
