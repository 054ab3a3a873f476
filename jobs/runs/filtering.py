"""Filters of a Selection, applied to whole record batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.core.sampling import Sample
from jobs.core.selection import OWN_OBJECT, Selection, glob_pattern


def select_rows(batch: pa.RecordBatch, selection: Selection, excluded: Counter[str]) -> pa.RecordBatch:
    """The rows that no filter drops. The others are counted in `excluded`, by the first filter that drops
    them. A row that does not say its size, time or storage class is never dropped for it.
    """
    taken: Any = None
    for name, drop in _drops(batch, selection):
        drop = pc.fill_null(drop, False)
        dropped = drop if taken is None else pc.and_(taken, drop)
        if count := dropped.true_count:
            excluded[name] += count
            taken = pc.invert(drop) if taken is None else pc.and_not(taken, drop)
    return batch if taken is None else batch.filter(taken)


def _drops(batch: pa.RecordBatch, selection: Selection) -> Iterator[tuple[str, Any]]:
    """Each filter that is set, in the order in which they count, with the rows that it drops (null:
    unknown, taken).
    """
    key: Any = batch["key"]
    size: Any = batch["size_bytes"]
    modified: Any = batch["last_modified"]
    if selection.prefix:
        yield "prefix", pc.invert(pc.starts_with(key, selection.prefix))
    yield "sealift_object", pc.match_substring_regex(key, OWN_OBJECT)
    if selection.include:
        yield "include", pc.invert(pc.match_substring_regex(key, _whole_key(selection.include)))
    if selection.exclude:
        yield "exclude", pc.match_substring_regex(key, _whole_key(selection.exclude))
    if selection.sample is not None:
        sample = Sample(*selection.sample)
        yield "sample", pa.array([not sample.contains(each) for each in key.to_pylist()], pa.bool_())
    if selection.versions == "current":
        yield "noncurrent", pc.invert(batch["is_latest"])
        yield "delete_marker", batch["is_delete_marker"]
    if selection.max_size_bytes is not None:
        yield "max_size", pc.greater(size, pa.scalar(selection.max_size_bytes))
    if selection.newer_than is not None:
        yield "newer_than", pc.less_equal(_epoch_seconds(modified), pa.scalar(selection.newer_than))
    if selection.older_than is not None:
        yield "older_than", pc.greater_equal(_epoch_seconds(modified), pa.scalar(selection.older_than))


def _whole_key(globs: tuple[str, ...]) -> str:
    return f"^(?:{'|'.join(map(glob_pattern, globs))})$"


def _epoch_seconds(column: Any) -> Any:
    """Seconds, of any time. A microsecond of the year 1 or 9999 has no float, which matters to nobody."""
    return pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), 1e6)
