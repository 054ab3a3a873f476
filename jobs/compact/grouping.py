"""Groups of rows: cut by the rule of `jobs.compact.packing`, and added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute
from msgspec import Struct

from jobs.archives.model import BLOCK_BYTES
from jobs.compact.packing import HEADER_BYTES, PackingRule
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
    rows = archive_bytes = 0  # of the last group
    for batch in batches:
        written, sizes = batch["last_modified"], batch["size_bytes"]
        time = written.cast(pa.timestamp("us"))
        months = pc.add(pc.multiply(pc.year(time), 12), pc.month(time)).to_pylist()
        folders = pc.replace_substring_regex(batch["key"], "[^/]*$", "").to_pylist()
        blocks = pc.divide(pc.add(sizes, BLOCK_BYTES - 1), BLOCK_BYTES)
        tar_bytes = pc.add(pc.multiply(blocks, BLOCK_BYTES), HEADER_BYTES)
        numbers, number = list[int](), len(groups) - 1
        for row_month, row_folder, taken in zip(months, folders, tar_bytes.to_pylist(), strict=True):
            if (
                row_month != month
                or rows >= rule.members_max
                or archive_bytes + taken > rule.target_bytes
                or (row_folder != folder and (2 * archive_bytes >= rule.target_bytes or 2 * rows >= rule.members_max))
            ):
                groups.append(Group(written[len(numbers)].as_py() / 1e6))
                number, rows, archive_bytes = number + 1, 0, 0
            month, folder = row_month, row_folder
            rows += 1
            archive_bytes += taken
            numbers.append(number)
        archive = pa.array(numbers, pa.int64())
        _add(groups, batch, archive, tar_bytes)
        place = batch.schema.get_field_index("archive")
        yield batch.set_column(place, batch.schema.field(place), archive.cast(pa.string()))


def _add(groups: Sequence[Group], rows: pa.RecordBatch, archive: Any, tar_bytes: Any) -> None:
    """Add rows to the groups that have their numbers as `archive`."""
    kinds = {"archive": archive, "class": rows["storage_class"], "is_small": pc.less(rows["size_bytes"], SMALL_BYTES)}
    table = pa.table({**kinds, "size": rows["size_bytes"], "tar": tar_bytes})
    sums: Any = [([], "count_all"), ("size", "sum"), ("tar", "sum")]
    for each in table.group_by([*kinds], use_threads=False).aggregate(sums).to_pylist():
        group, of = groups[each["archive"]], (each["class"] or "STANDARD", each["is_small"])
        count, size_bytes = group.classes.get(of, (0, 0))
        group.classes[of] = count + each["count_all"], size_bytes + each["size_sum"]
        group.rows += each["count_all"]
        group.size_bytes += each["size_sum"]
        group.archive_bytes += each["tar_sum"]


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
