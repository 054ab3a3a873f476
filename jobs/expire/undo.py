"""Undo of an expire run: removes the delete markers that it set, and nothing else.

A tombstone only says where to look. S3's own listing of the key must show that the id is a delete
marker's, and that it lies directly above the version that the tombstone names. A version with
content is never removed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import NamedTuple, cast

from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Listed, ObjectRef, is_exact
from jobs.core.outcome import Status
from jobs.errors import Conflict, Denied, LedgerError, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.expire.job import FRESH_SECONDS
from jobs.expire.rules import ATTEMPT_SECONDS
from jobs.ledger.ledger import UNDONE, Ledger
from jobs.ledger.owner import claim_run
from jobs.ledger.tombstones import INTENT, Tombstone, Tombstones
from jobs.reports.document import iso_time
from jobs.s3.lookup import key_history
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
from jobs.tables.rows import read_outcomes

LISTED_AT_ONCE = 16
CLOCKS_SECONDS = 300.0
"""The tolerated difference between a worker's clock and S3's."""
LAST_SECONDS = 15.0
"""How long after another owner's claim the last delete has ended: it is sent at most 5 s after a look."""


class Problem(NamedTuple):
    """A marker that is still there, or a file of the ledger that was ignored, and why."""

    key: str
    problem: str


class UndoResult(NamedTuple):
    """The number of removed markers, and the problems with others.

    `lost`: the number of versions of the run that S3 no longer has. No undo brings them back. `tombstones`: so many
    were read. Several attempts may have announced one delete.
    """

    markers: int
    problems: list[Problem]
    lost: int = 0
    tombstones: int = 0


async def undo_run(
    ledger: Ledger, store: Store, tombstones: Tombstones, prefix: str, say: Callable[[str], None]
) -> UndoResult:
    """Stop the run, remove its delete markers (`unhide`), and write into the run what that came to.

    The run is owned first, so that its workers delete nothing more, and what they have sent is waited
    for. A worker looks who owns the run after it has written its tombstones. So a delete that may
    still come has an intent in the listing.
    """
    run_id = tombstones.run_id
    await claim_run(ledger, run_id, "sealift expire --undo")
    if any(name.endswith(INTENT) for name in await tombstones.latest()):
        say(f"Run {run_id} was stopped in a delete. Its last requests may take {LAST_SECONDS:.0f} s.")
        await asyncio.sleep(LAST_SECONDS)
    undone, now = await unhide(store, tombstones, prefix), time.time()
    if (lacking := await _deletions(ledger, run_id) - undone.tombstones) > 0:
        problem = f"the tombstones of {lacking:,} deletions or more are lost: see the run's report or outcomes"
        undone = undone._replace(problems=[*undone.problems, Problem(run_id, problem)])
    counts = {"markers": undone.markers, "lost": undone.lost, "problems": len(undone.problems)}
    await ledger.write_document(run_id, f"{UNDONE}{round(now * 1000):015}.json", {"at": iso_time(now)} | counts)
    return undone


async def _deletions(ledger: Ledger, run_id: str) -> int:
    """How many versions the run has deleted by its report or, if it has none, by the outcomes that its workers wrote.

    0: nothing can be read, or it was a dry run.
    """
    with suppress(LedgerError, StoreError, LookupError, TypeError, ValueError):
        if report := await ledger.report(run_id):
            return 0 if report["dry_run"] else int(report["deletions"]["rows"])
        done = set[int]()
        for checkpoint in await ledger.checkpoints(run_id):
            outcomes = read_outcomes(await ledger.checkpoint_data(run_id, checkpoint))
            done.update(each.row for each in outcomes if each.status is Status.DONE)
        return len(done)
    return 0


async def unhide(store: Store, tombstones: Tombstones, prefix: str = "") -> UndoResult:
    """Remove the delete markers of one run, of keys that begin with `prefix`.

    Repeating it is harmless. Versions above a marker stay where they are.
    """
    removed = read = 0
    problems: list[Problem] = []
    lost: set[tuple[str, str | None]] = set()
    others: asyncio.Task[set[tuple[str, str]]] | None = None

    async def bring_back(stone: Tombstone) -> str:
        """Return what is wrong, if anything."""
        nonlocal removed, others
        if not stone.key.startswith(prefix):
            there = f"it is not in s3://{tombstones.bucket}/{prefix}: nothing was done"
            return there if stone.step is Step.HIDE else ""
        look = partial(retry, partial(key_history, store, tombstones.bucket, stone.key))
        history = await look()
        if not any(_is_named(stone, each) for each in history):
            lost.add((stone.key, stone.version_id))
        # A delete that names no version makes a marker where the bucket keeps versions, if only since a moment before.
        may_hide = stone.step is Step.HIDE or stone.version_id is None
        marker_id, problem = _marker(history, stone) if may_hide else (None, "")
        if marker_id is None:
            return problem
        if not is_exact(stone.marker_version_id):  # another run may have set the marker, or hidden the version
            others = others or asyncio.ensure_future(tombstones.of_others())
            if {(stone.key, marker_id), (stone.key, stone.version_id or NULL_VERSION)} & await others:
                return _unsure(stone, marker_id)
        send_by = elapsed_seconds() + FRESH_SECONDS if marker_id == NULL_VERSION else None
        if marker_id == NULL_VERSION:
            if not await retry(partial(store.is_versioned, tombstones.bucket)):
                return "its marker is the null version, which the next write replaces: turn versioning on, and repeat"
            # Before versioning was on, a write may have replaced the marker since the look.
            if _marker(await look(), stone)[0] != marker_id:
                return _unsure(stone, marker_id)
        try:
            with suppress(NotFound):  # some servers say so to a delete whose first answer was lost
                await retry(partial(store.delete, ObjectRef(tombstones.bucket, stone.key, marker_id), send_by=send_by))
        except (Conflict, Denied, Rejected, PreconditionFailed) as error:
            return str(error)
        if _marker(await look(), stone)[0] == marker_id:  # SeaweedFS answers so for a null marker
            return f"the server took the delete of its marker {marker_id}, and still lists it: copy the version over it"
        removed += 1
        return ""

    async with aclosing(cast("AsyncGenerator[list[Tombstone], None]", tombstones.taken())) as groups:
        async for stones in groups:
            read += len(stones)
            told = await gather_bounded(bring_back, stones, LISTED_AT_ONCE)
            problems += [Problem(stone.key, each) for stone, each in zip(stones, told, strict=True) if each]
    problems += [Problem(name, f"{why}: ignored") for name, why in sorted(tombstones.unreadable.items())]
    return UndoResult(removed, [*dict.fromkeys(problems)], len(lost), read)  # two attempts may name one version


def _marker(history: Sequence[Listed], stone: Tombstone) -> tuple[str | None, str]:
    """Return the id of the marker that hides a tombstone's version, and a problem if there is one. Pure.

    No id: nothing hides it any more, or a person has to look. The marker that was recorded counts, also where its
    version is gone meanwhile and it hides nothing else. A killed attempt has recorded none, and the id `null` may be
    another one's by now: then it is the first marker above the version, if it was set within `ATTEMPT_SECONDS`.
    """
    place = next((at for at, each in enumerate(history) if _is_named(stone, each)), None)
    above = history if place is None else history[place + 1 :]
    seconds = 0.0
    if is_exact(stone.marker_version_id):
        marker = next((each for each in history if each.version_id == stone.marker_version_id), None)
    else:
        markers = (each for each in above if each.is_delete_marker and place is not None)
        marker = next((each for each in markers if stone.marker_version_id in (None, each.version_id)), None)
        seconds = marker.last_modified - stone.recorded_at if marker else 0.0
    if marker is None or seconds < -CLOCKS_SECONDS:
        return None, ""
    if marker.is_delete_marker and seconds <= ATTEMPT_SECONDS and above[:1] == [marker]:
        return marker.version_id or NULL_VERSION, ""
    return None, _unsure(stone, marker.version_id)


def _unsure(stone: Tombstone, marker_id: str | None) -> str:
    return (
        f"{marker_id} is not surely the delete marker by which the run has hidden the version "
        f"{stone.version_id}, directly above it: look at the key's versions, and remove it yourself if it should go"
    )


def _is_named(stone: Tombstone, each: Listed) -> bool:
    version_id = stone.version_id or NULL_VERSION
    return (each.version_id or NULL_VERSION) == version_id and not each.is_delete_marker and each.etag == stone.etag
