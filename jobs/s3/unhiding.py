"""Taking back what an expire run hid: its delete markers are removed, exactly these.

pyarrow loads with this module: import it where it is used.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple, cast

from jobs.errors import StoreError
from jobs.s3.deletes import ExactDeletes
from jobs.s3.lookup import key_history
from jobs.s3.store import Store
from jobs.s3.tombstones import Tombstone, Tombstones
from jobs.s3.tries import try_often

CLOCKS_SECONDS = 300.0
"""How far our clock and S3's may be apart."""


class Problem(NamedTuple):
    """A marker that is still there, and why."""

    key: str
    problem: str


class Unhidden(NamedTuple):
    """How many markers are gone now, and those that are not."""

    markers: int
    problems: list[Problem]


async def unhide(store: Store, tombstones: Tombstones) -> Unhidden:
    """Remove the delete markers of one run; doing so again is harmless.

    Of what an attempt was killed over, the marker directly above the version is taken, if it is not older than that
    attempt. What lies above a marker stays where it is.
    """
    deletes = ExactDeletes(store, tombstones.bucket)
    removed = 0
    problems: list[Problem] = []
    async with aclosing(cast("AsyncGenerator[list[Tombstone], None]", tombstones.hidden())) as groups:
        async for stones in groups:
            named = [(each.key, await _marker(store, tombstones.bucket, each)) for each in stones]
            known = [(key, marker) for key, marker in named if marker is not None]
            for (key, _), error in zip(known, await deletes.remove(known), strict=True):
                removed += error is None
                problems += [Problem(key, str(error))] if isinstance(error, StoreError) else []
    return Unhidden(removed, problems)


async def _marker(store: Store, bucket: str, stone: Tombstone) -> str | None:
    if stone.marker_version_id is not None:
        return stone.marker_version_id
    history = await try_often(lambda: key_history(store, bucket, stone.key))
    ids = [each.version_id for each in history]
    if stone.version_id not in ids[:-1]:
        return None
    above = history[ids.index(stone.version_id) + 1]
    is_ours = above.is_delete_marker and above.last_modified >= stone.recorded_at - CLOCKS_SECONDS
    return above.version_id if is_ours else None
