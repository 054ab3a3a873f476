"""Histories of one key: their order, and the rows that name their versions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TypeVar

from jobs.core.model import NULL_VERSION, Listed, ObjectVersion, is_exact

V = TypeVar("V", bound=ObjectVersion | Listed)

SKEW_SECONDS = 300.0
"""How far apart the clocks of two regions may be. A copy is never older than its source, less
this."""


def in_order(listed: Sequence[V]) -> list[V]:
    """One key's versions, oldest first, from a listing turned round: the null version goes where
    its time puts it.

    S3 lists by time (https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html),
    but some stores list a null version below all others, whenever it was written.
    """
    found = next((place for place, each in enumerate(listed) if each.version_id == NULL_VERSION), None)
    if found is None:
        return list(listed)
    null, before, after = listed[found], listed[:found], listed[found + 1 :]
    rest = [*before, *after]
    if null.is_latest:
        return [*rest, null]
    if all(_time(each) <= _time(null) for each in before) and all(_time(null) <= _time(each) for each in after):
        return list(listed)
    put = next((place for place, each in enumerate(rest) if _time(each) > _time(null)), len(rest))
    return [*rest[:put], null, *rest[put:]]


def with_rows(listed: Sequence[Listed], rows: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    """All versions that the source has of a key (`listed`) or, by the rows of a manifest, had:
    oldest first.

    A version that no row names has -1 as its `row`. The listing says the order, the dates, and what
    is a delete marker: a manifest may be old, or may not say it. A row without a version id means
    the current object.
    """
    ours = {row.version_id: row for row in rows}
    if listed and None in ours and listed[-1].version_id not in ours and _is_listed(ours[None], listed[-1]):
        ours[listed[-1].version_id] = ours.pop(None)
    versions = []
    for each in listed:
        row = ours.get(each.version_id)
        if row is None or not _is_listed(row, each):
            versions.append(as_row(each))
            continue
        del ours[each.version_id]
        versions.append(
            row._replace(
                is_latest=each.is_latest, is_delete_marker=each.is_delete_marker, last_modified=each.last_modified
            )
        )
    for gone in ours.values():
        versions.insert(_place_of(gone, rows, versions), gone)
    return versions


def is_in_order(rows: Sequence[ObjectVersion]) -> bool:
    """Whether the rows of one key surely are oldest first, by their own dates. A manifest may not
    have dates, and versions of one second may come in any order.
    """
    dates = [(row.is_latest, row.last_modified) for row in rows if row.last_modified is not None]
    return len(dates) == len(rows) and all(older < newer for older, newer in itertools.pairwise(dates))


def as_row(there: Listed) -> ObjectVersion:
    """A row for a version that the manifest does not name."""
    key, version_id, is_latest, is_delete_marker, size_bytes, etag, modified, storage_class, _ = there
    return ObjectVersion(-1, key, version_id, is_latest, is_delete_marker, size_bytes, etag, modified, storage_class)


def _is_listed(row: ObjectVersion, there: Listed) -> bool:
    """Whether the version of the row's id is the one that the row means. `null` is written again."""
    return is_exact(row.version_id) or (
        row.is_delete_marker == there.is_delete_marker and row.etag in (None, there.etag)
    )


def _place_of(gone: ObjectVersion, rows: Sequence[ObjectVersion], versions: Sequence[ObjectVersion]) -> int:
    """The index at which a version that is gone belongs: between its neighbours among the rows, by
    time.

    In doubt the index is late, so that no older version is put on top of it.
    """
    at = rows.index(gone)
    places = {each.version_id: index for index, each in enumerate(versions) if each.row >= 0}
    first = max((places[row.version_id] + 1 for row in rows[:at] if row.version_id in places), default=0)
    last = min((places[row.version_id] for row in rows[at + 1 :] if row.version_id in places), default=len(versions))
    if gone.last_modified is None:
        return max(first, last)
    newer = (index for index in range(first, last) if (versions[index].last_modified or 0) > gone.last_modified)
    return next(newer, max(first, last))


def _time(version: ObjectVersion | Listed) -> float:
    return version.last_modified or 0.0


def keys_of(rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
    """The rows of a shard, those of one key together."""
    for _, versions in itertools.groupby(rows, key=attrgetter("key")):
        yield list(versions)
