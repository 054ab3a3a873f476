"""Planted in expiry: proofs before deletes, tombstones, grace and undo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jobs.archives.reader
import jobs.compact.job
import jobs.compact.member_reader
import jobs.expire.job
import jobs.expire.rules
import jobs.expire.undo
import jobs.restore.as_of
import jobs.restore.member_writer
import jobs.s3.uploads
import jobs.verify.archives_job
from jobs.core.evidence import Verdict
from jobs.core.model import Listed
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.expire.copy_checks import Copies
from jobs.expire.deletes import ExactDeletes
from jobs.expire.job import Expire, ExpireOptions
from jobs.ledger.tombstones import INTENT, Tombstone, Tombstones
from jobs.s3.store import Deleted
from tests.simulation.bugs.bug import Bug, Replacements


def _believe_old_proofs() -> Replacements:
    async def compare(self: Copies, pairs: Sequence[Any]) -> list[Verdict]:
        return [Verdict(True, Evidence.CHECKSUM)] * len(pairs)

    return [(Copies, "compare", compare)]


def _delete_unasked() -> Replacements:
    async def delete_current(self: ExactDeletes, key: str, etag: str) -> Deleted:
        return await self.store.delete(self.bucket, key)

    return [(ExactDeletes, "delete_current", delete_current)]


def _announce_afterwards() -> Replacements:
    waiting: dict[str, Sequence[Tombstone]] = {}
    real = Tombstones.confirm

    async def announce(self: Tombstones, intents: Sequence[Tombstone]) -> str:
        name = self._name(intents)
        waiting[name] = intents
        return name

    async def confirm(self: Tombstones, name: str, gone: Sequence[Tombstone]) -> None:
        await self._write(name + INTENT, waiting.pop(name))
        await real(self, name, gone)

    return [(Tombstones, "announce", announce), (Tombstones, "confirm", confirm)]


def _forget_announcements() -> Replacements:
    async def announced(self: Tombstones, first_row: int, last_row: int) -> dict[int, Tombstone]:
        return {}

    return [(Tombstones, "announced", announced)]


def _hide_nothing() -> Replacements:
    async def delete_current(self: ExactDeletes, key: str, etag: str) -> Deleted:
        return Deleted(None, True)

    return [(ExactDeletes, "delete_current", delete_current)]


def _two_steps_at_once() -> Replacements:
    """Two things keep a run from it: its tombstone, and that nothing is due that was hidden after the plan."""
    real = Expire.__post_init__

    def forget_the_plan(self: Expire) -> None:
        object.__setattr__(self, "planned_at", math.inf)
        real(self)

    return [
        (jobs.expire.job, "_hides", lambda stone: False),
        (Expire, "__post_init__", forget_the_plan),
    ]


def _dry_runs_delete() -> Replacements:
    def from_dict(data: Any) -> ExpireOptions:
        return ExpireOptions(data["grace_seconds"], delete=True)

    return [(ExpireOptions, "from_dict", from_dict)]


def _no_grace() -> Replacements:
    return [(jobs.expire.rules, "_in_grace", lambda proof, original, terms: "")]


def _no_locks() -> Replacements:
    return [(jobs.expire.rules, "_locked", lambda lock, now: "")]


def _kept_is_expired() -> Replacements:
    def kept(row: Any, reason: str, *, waits: bool = False) -> Outcome:
        return Outcome.of(row, Status.EXPIRED, reason)

    return [(jobs.expire.job, "kept_outcome", kept), (jobs.expire.removals, "kept_outcome", kept)]


def _empty_is_proven() -> Replacements:
    async def check_there(self: Copies, record: Any) -> None:
        return None

    return [(Copies, "_check_there", check_there)]


def _undo_the_version() -> Replacements:
    def marker(history: Sequence[Listed], stone: Tombstone) -> str | None:
        return stone.version_id

    return [(jobs.expire.undo, "_marker", marker)]


def _undo_what_is_known() -> Replacements:
    def marker(history: Sequence[Listed], stone: Tombstone) -> str | None:
        return stone.marker_version_id

    return [(jobs.expire.undo, "_marker", marker)]


BUGS = [
    Bug("believe-old-proofs", "an original goes on what the ledger says", 400, _believe_old_proofs, "archives"),
    Bug("delete-unasked", "the current object goes, whichever it is by now", 4_000, _delete_unasked, "archives"),
    Bug("announce-afterwards", "tombstones are written when it has gone", 400, _announce_afterwards, "archives"),
    Bug("forget-announcements", "what this run took is missing", 2000, _forget_announcements, "archives"),
    Bug("hide-nothing", "hidden is said, and no marker is there", 400, _hide_nothing, "archives"),
    Bug("two-steps-at-once", "a run removes what it has hidden", 2000, _two_steps_at_once, "archives"),
    Bug("no-grace", "the grace period is not heeded", 400, _no_grace, "archives"),
    Bug("no-locks", "what is under legal hold or retention is hidden", 1000, _no_locks, "archives"),
    Bug("kept-is-expired", "a kept original is counted as expired", 400, _kept_is_expired, "archives"),
    Bug("empty-is-proven", "an empty original goes with no archive there", 400, _empty_is_proven, "archives"),
    Bug("undo-the-version", "undo removes the version, not its marker", 400, _undo_the_version, "archives"),
    Bug("undo-what-is-known", "undo leaves the markers of killed attempts", 4_000, _undo_what_is_known, "archives"),
    Bug("dry-runs-delete", "a dry run deletes", 400, _dry_runs_delete, "archives"),
]
