"""Undo of an expire run: removes the delete markers that it set, and nothing else.

A tombstone only says where to look. S3's own listing of the key must show that the id is a delete
marker's, and that it lies directly above the version that the tombstone names. A version with
content is never removed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple, cast

from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Listed, is_exact
from jobs.expire.deletes import ExactDeletes
from jobs.expire.rules import ATTEMPT_SECONDS, CLOCKS_SECONDS
from jobs.ledger.tombstones import Tombstone, Tombstones
from jobs.s3.lookup import key_history
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store

LISTED_AT_ONCE = 16


class Problem(NamedTuple):
    """A marker that is still there, or a file of the ledger that was ignored, and why."""

    key: str
    problem: str


class UndoResult(NamedTuple):
    """The number of removed markers, and the problems with others.

    `lost`: the number of versions of the run that S3 no longer has. No undo brings them back.
    """

    markers: int
    problems: list[Problem]
    lost: int = 0


class _Refusal(Exception):
    """Raised when a tombstone does not name a marker that its run has set. The message says why."""


async def unhide(store: Store, tombstones: Tombstones, prefix: str = "") -> UndoResult:
    """Remove the delete markers of one run, of keys that begin with `prefix`.

    Repeating it is harmless.

    Where an attempt was killed before it confirmed, this removes the marker directly above the
    version, if it was set within `ATTEMPT_SECONDS` of that attempt. Where other versions lie
    between, a person has to look. Versions above a marker stay where they are.
    """
    deletes = ExactDeletes(store, tombstones.bucket)
    removed = lost = 0
    problems: list[Problem] = []

    async def find(stone: Tombstone) -> tuple[str | None, str, bool]:
        """The marker to remove, if any, or a problem, and whether the version is gone for good."""
        if not stone.key.startswith(prefix):
            there = f"it is not in s3://{tombstones.bucket}/{prefix}: nothing was done"
            return None, there if stone.step is Step.HIDE else "", False
        history = await retry(partial(key_history, store, tombstones.bucket, stone.key))
        is_lost = not any(_is_named(stone, each) for each in history)
        try:
            return _marker(history, stone) if stone.step is Step.HIDE else None, "", is_lost
        except _Refusal as refusal:
            return None, str(refusal), is_lost

    async with aclosing(cast("AsyncGenerator[list[Tombstone], None]", tombstones.taken())) as groups:
        async for stones in groups:
            found = await gather_bounded(find, stones, LISTED_AT_ONCE)
            named = [(stone.key, *each) for stone, each in zip(stones, found, strict=True)]
            lost += sum(is_lost for *_, is_lost in named)
            problems += [Problem(key, problem) for key, _, problem, _ in named if problem]
            known = [(key, marker) for key, marker, *_ in named if marker is not None]
            for (key, _), error in zip(known, await deletes.remove(known), strict=True):
                removed += error is None
                problems += [Problem(key, str(error))] if error else []
    foreign = dict.fromkeys(tombstones.foreign, "this file of the ledger holds tombstones of another run or bucket")
    problems += [Problem(name, f"{why}: ignored") for name, why in sorted({**foreign, **tombstones.unreadable}.items())]
    return UndoResult(removed, problems, lost)


def _marker(history: Sequence[Listed], stone: Tombstone) -> str | None:
    """Return the id of the marker that hides a tombstone's version. None: nothing hides it any more.

    A marker whose version is gone meanwhile counts if it hides nothing else. Raises _Refusal.
    """
    place = next((at for at, each in enumerate(history) if _is_named(stone, each)), None)
    if stone.marker_version_id is not None:
        at = next((at for at, each in enumerate(history) if each.version_id == stone.marker_version_id), None)
    elif place is not None:  # unknown: the first one above
        at = next((at for at, each in enumerate(history) if at > place and each.is_delete_marker), None)
    else:
        at = None
    if at is None:
        return None
    marker, named = history[at], f"the delete marker {history[at].version_id}"
    hours = (marker.last_modified - stone.recorded_at) / 3600
    is_apart = place is not None and at != place + 1
    own = "remove the marker yourself if it should go"
    if not marker.is_delete_marker:
        raise _Refusal(f"{marker.version_id} is not a delete marker but a version: the ledger was altered")
    if stone.marker_version_id is None and hours * 3600 < -CLOCKS_SECONDS:
        return None
    if stone.marker_version_id is None and hours * 3600 > ATTEMPT_SECONDS:
        if is_apart:
            return None
        raise _Refusal(
            f"{named} was set {hours:.1f} hours after the run announced its delete and was killed, so somebody else "
            f"may have deleted the object: {own}"
        )
    if is_apart:
        raise _Refusal(
            f"other versions lie between the version {stone.version_id} and {named}, which the run has set, or may "
            f"have: look at the key's versions, and {own}"
        )
    if place is None and at:
        raise _Refusal(f"the version {stone.version_id}, which the run hid, is gone, and {named} hides an older: {own}")
    if not is_exact(marker.version_id):
        raise _Refusal(f"its delete marker has the id null, which any write may replace: {own}")
    return marker.version_id


def _is_named(stone: Tombstone, each: Listed) -> bool:
    version_id = stone.version_id or NULL_VERSION
    return (each.version_id or NULL_VERSION) == version_id and not each.is_delete_marker and each.etag == stone.etag
