"""Undo of an expire run: removes the delete markers that it set, and nothing else.

A tombstone only says where to look. S3's own listing of the key must show that the id is a delete
marker's, and that it lies directly above the version that the tombstone names. A version with
content is never removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple, cast

from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Listed, is_exact
from jobs.expire.job import remove_versions
from jobs.expire.rules import ATTEMPT_SECONDS, CLOCKS_SECONDS
from jobs.ledger.ledger import UNDONE, Ledger
from jobs.ledger.owner import claim_run
from jobs.ledger.tombstones import INTENT, Tombstone, Tombstones
from jobs.reports.document import iso_time
from jobs.s3.lookup import key_history
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store

LISTED_AT_ONCE = 16
LAST_SECONDS = 15.0
"""How long after another owner's claim the last delete has ended: it is sent at most 5 s after a look."""


class Problem(NamedTuple):
    """A marker that is still there, or a file of the ledger that was ignored, and why."""

    key: str
    problem: str


class UndoResult(NamedTuple):
    """The number of removed markers, and the problems with others.

    `lost`: the number of versions of the run that S3 no longer has, once for each attempt that
    recorded them. No undo brings them back.
    """

    markers: int
    problems: list[Problem]
    lost: int = 0


async def record_undo(ledger: Ledger, run_id: str, result: UndoResult, now: float) -> None:
    """Write into the run what an undo of it came to. `now`: epoch seconds."""
    document = {"at": iso_time(now), "markers": result.markers, "lost": result.lost, "problems": len(result.problems)}
    await ledger.write_document(run_id, f"{UNDONE}{round(now * 1000):015}.json", document)


async def stop_deletes(ledger: Ledger, tombstones: Tombstones, say: Callable[[str], None]) -> None:
    """Own the run, so that its workers delete nothing more, and wait for what they have sent.

    A worker looks who owns the run after it has written its tombstones. So a delete that may still
    come has an intent in the listing.
    """
    await claim_run(ledger, tombstones.run_id, "sealift expire --undo")
    if any(name.endswith(INTENT) for name in await tombstones.latest()):
        say(f"Run {tombstones.run_id} was stopped in a delete. Its last requests may take {LAST_SECONDS:.0f} s.")
        await asyncio.sleep(LAST_SECONDS)


async def unhide(store: Store, tombstones: Tombstones, prefix: str = "") -> UndoResult:
    """Remove the delete markers of one run, of keys that begin with `prefix`.

    Repeating it is harmless.

    Where an attempt was killed before it confirmed, this removes the marker directly above the
    version, if it was set within `ATTEMPT_SECONDS` of that attempt. Where other versions lie
    between, a person has to look. Versions above a marker stay where they are.
    """
    removed = lost = 0
    problems: list[Problem] = []

    async def find(stone: Tombstone) -> tuple[str | None, str, bool]:
        """The marker to remove, if any, or a problem, and whether the version is gone for good."""
        if not stone.key.startswith(prefix):
            there = f"it is not in s3://{tombstones.bucket}/{prefix}: nothing was done"
            return None, there if stone.step is Step.HIDE else "", False
        history = await retry(partial(key_history, store, tombstones.bucket, stone.key))
        is_lost = not any(_is_named(stone, each) for each in history)
        return (*(_marker(history, stone) if stone.step is Step.HIDE else (None, "")), is_lost)

    async with aclosing(cast("AsyncGenerator[list[Tombstone], None]", tombstones.taken())) as groups:
        async for stones in groups:
            found = await gather_bounded(find, stones, LISTED_AT_ONCE)
            named = [(stone.key, *each) for stone, each in zip(stones, found, strict=True)]
            lost += sum(is_lost for *_, is_lost in named)
            problems += [Problem(key, problem) for key, _, problem, _ in named if problem]
            known = [(key, marker) for key, marker, *_ in named if marker is not None]
            for (key, _), error in zip(known, await remove_versions(store, tombstones.bucket, known), strict=True):
                removed += error is None
                problems += [Problem(key, str(error))] if error else []
    problems += [Problem(name, f"{why}: ignored") for name, why in sorted(tombstones.unreadable.items())]
    return UndoResult(removed, problems, lost)


def _marker(history: Sequence[Listed], stone: Tombstone) -> tuple[str | None, str]:
    """Return the id of the marker that hides a tombstone's version, and a problem if there is one.

    No id: nothing hides it any more, or a person has to look. Of a killed attempt, which recorded
    no marker, it is the first one above the version. A marker whose version is gone meanwhile
    counts if it hides nothing else.
    """
    place = next((at for at, each in enumerate(history) if _is_named(stone, each)), None)
    is_recorded = stone.marker_version_id is not None
    ids = {stone.marker_version_id} if is_recorded else {each.version_id for each in history if each.is_delete_marker}
    first = 0 if is_recorded else len(history) if place is None else place
    at = next((at for at in range(first, len(history)) if history[at].version_id in ids), None)
    if at is None:
        return None, ""
    marker, named = history[at], f"the delete marker {history[at].version_id}"
    seconds = 0.0 if is_recorded else marker.last_modified - stone.recorded_at
    is_apart, is_late = place is not None and at != place + 1, seconds > ATTEMPT_SECONDS
    own = "remove the marker yourself if it should go"
    if not marker.is_delete_marker:
        return None, f"{marker.version_id} is not a delete marker but a version: the ledger was altered"
    if seconds < -CLOCKS_SECONDS or (is_late and is_apart):
        return None, ""
    if is_late:
        since = f"{named} was set {seconds / 3600:.1f} hours after the run announced its delete and was killed"
        return None, f"{since}, so somebody else may have deleted the object: {own}"
    if is_apart:
        between = f"other versions lie between the version {stone.version_id} and {named}"
        return None, f"{between}, which the run has set, or may have: look at the key's versions, and {own}"
    if place is None and at:
        return None, f"the version {stone.version_id}, which the run hid, is gone, and {named} hides an older: {own}"
    if not is_exact(marker.version_id):
        return None, f"its delete marker has the id null, which any write may replace: {own}"
    return marker.version_id, ""


def _is_named(stone: Tombstone, each: Listed) -> bool:
    version_id = stone.version_id or NULL_VERSION
    return (each.version_id or NULL_VERSION) == version_id and not each.is_delete_marker and each.etag == stone.etag
