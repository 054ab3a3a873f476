"""Histories of one key: their order, and the rows that name their versions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TypeVar

from jobs.core.model import NULL_VERSION, Listed, ObjectVersion

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
    if all(time_of(each) <= time_of(null) for each in before) and all(time_of(null) <= time_of(each) for each in after):
        return list(listed)
    put = next((place for place, each in enumerate(rest) if time_of(each) > time_of(null)), len(rest))
    return [*rest[:put], null, *rest[put:]]


def is_in_order(rows: Sequence[ObjectVersion]) -> bool:
    """Whether the rows of one key surely are oldest first, by their own dates. A manifest may not
    have dates, and versions of one second may come in any order.
    """
    dates = [(row.is_latest, row.last_modified) for row in rows if row.last_modified is not None]
    return len(dates) == len(rows) and all(older < newer for older, newer in itertools.pairwise(dates))


def time_of(version: ObjectVersion | Listed) -> float:
    """Its last change, in epoch seconds. 0 where it is not known."""
    return version.last_modified or 0.0


def keys_of(rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
    """The rows of a shard, those of one key together. They hold the key once: each was read with its own."""
    for key, versions in itertools.groupby(rows, key=attrgetter("key")):
        yield [row if row.key is key else row._replace(key=key) for row in versions]
