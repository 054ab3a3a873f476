"""The filter of a selection that drops a row: as the product says it, and read plainly."""

from __future__ import annotations

import re
from collections import Counter

from jobs.core.sampling import Sample
from jobs.core.selection import Selection, glob_pattern, is_sealift_object
from jobs.runs.filtering import select_rows
from jobs.tables.rows import fill_batch


def matches_any(globs: tuple[str, ...], key: str) -> bool:
    return any(re.fullmatch(glob_pattern(glob), key) for glob in globs)


def filter_of(selection: Selection, key: str, **known: object) -> str | None:
    """The name of the filter that drops a row. None: it is taken."""
    if (seconds := known.get("last_modified")) is not None:
        known["last_modified"] = int(float(str(seconds)) * 1e6)
    excluded: Counter[str] = Counter()
    taken = select_rows(
        fill_batch({name: [value] for name, value in {"key": key, **known}.items()}, 1), selection, excluded
    )
    assert taken.num_rows + excluded.total() == 1
    return next(iter(excluded), None)


def plain_filter_of(
    selection: Selection,
    key: str,
    *,
    is_latest: bool = True,
    is_delete_marker: bool = False,
    size_bytes: int | None = None,
    last_modified: float | None = None,
) -> str | None:
    """`filter_of` without a table."""
    size, modified, is_current = size_bytes, last_modified, selection.versions == "current"
    most, newer, older = selection.max_size_bytes, selection.newer_than, selection.older_than
    drops = {
        "prefix": not key.startswith(selection.prefix),
        "sealift_object": is_sealift_object(key),
        "include": bool(selection.include) and not matches_any(selection.include, key),
        "exclude": matches_any(selection.exclude, key),
        "sample": selection.sample is not None and not Sample(*selection.sample).contains(key),
        "noncurrent": is_current and not is_latest,
        "delete_marker": is_current and is_delete_marker,
        "max_size": most is not None and size is not None and size > most,
        "newer_than": newer is not None and modified is not None and modified <= newer,
        "older_than": older is not None and modified is not None and modified >= older,
    }
    return next((name for name, drop in drops.items() if drop), None)
