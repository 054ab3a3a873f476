"""Planted in the event-driven path: function, journal, backlog, removals, which version is on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_plus

import jobs.backup.copy_candidates
import jobs.backup.events
import jobs.backup.key_backup
import jobs.backup.version_match
import scheduler.backlog
import scheduler.backup
import scheduler.removed_versions
from jobs.backup import succession
from jobs.backup.job import Backup
from jobs.backup.key_backup import KeyBackup
from jobs.backup.succession import Act, NextStep
from jobs.backup.version_match import VersionMatcher
from jobs.core.evidence import Verdict
from jobs.core.model import Listed
from jobs.core.outcome import Evidence
from jobs.s3.store import UNGUARDED, Guard
from tests.simulation.bugs.bug import Bug, Replacements


def _bet_wins_always() -> Replacements:
    real = Backup._copy_new_key

    async def copy_new_key(self: Backup, row: Any, matcher: VersionMatcher) -> Any:
        copied = await real(self, row, matcher)
        return copied and copied._replace(is_newest=True)

    return [(Backup, "_copy_new_key", copy_new_key)]


def _no_restore() -> Replacements:
    def next_step(*arguments: Any, **named: Any) -> NextStep:
        step = succession.next_step(*arguments, **named)
        return NextStep(Act.DONE) if step.act is Act.RESTORE else step

    return [(jobs.backup.key_backup, "next_step", next_step)]


def _write_unguarded() -> Replacements:
    def guard(copies: Sequence[Listed]) -> Guard:
        return UNGUARDED

    return [(jobs.backup.key_backup, "_guard", guard)]


def _acknowledge_everything() -> Replacements:
    real = scheduler.backup.handle

    async def handle(*arguments: Any) -> dict[str, Any]:
        await real(*arguments)
        return {"batchItemFailures": []}

    return [(scheduler.backup, "handle", handle)]


def _no_journal() -> Replacements:
    async def write_journal(self: Any) -> None:
        return None

    return [(scheduler.backup._Batch, "_write_journal", write_journal)]


def _decode_twice() -> Replacements:
    def decode(text: str, encoding: str = "utf-8", errors: str = "replace") -> str:
        return unquote_plus(unquote_plus(text, encoding, errors), encoding, errors)

    return [(jobs.backup.events, "unquote_plus", decode)]


def _forget_removals() -> Replacements:
    async def remember(runtime: Any, event: Any) -> None:
        return None

    return [(scheduler.removed_versions, "remember", remember)]


def _mirror_always() -> Replacements:
    real = scheduler.backup._Batch._job

    def job(self: Any, pair: Any) -> Backup:
        made = real(self, pair)
        made.options = replace(made.options, mirrors_deletes=True)
        return made

    return [(scheduler.backup._Batch, "_job", job)]


def _drop_the_backlog() -> Replacements:
    async def add(runtime: Any, pair: str, rows: Any) -> str:
        return ""

    return [(scheduler.backlog, "add", add)]


def _publish_half_the_backlog() -> Replacements:
    real = scheduler.backlog._to_csv

    def to_csv(rows: Sequence[Any]) -> bytes:
        return real(rows[: max(1, len(rows) - 1)])

    return [(scheduler.backlog, "_to_csv", to_csv)]


def _ignore_metadata() -> Replacements:
    return [(jobs.backup.version_match, "_carried", lambda info: ())]


def _equal_size_is_alike() -> Replacements:
    async def compare(self: VersionMatcher, version: Listed, copy: Listed, *, may_read: bool) -> Verdict:
        return Verdict(True, Evidence.CHECKSUM)

    return [(VersionMatcher, "_compare", compare)]


def _trust_the_listing() -> Replacements:
    return [
        (jobs.backup.version_match, "_check_listed", lambda listed, info, ref: None),
        (VersionMatcher, "record_source", lambda self, info: None),  # what was asked before it was listed
    ]


def _hide_what_waits() -> Replacements:
    def newest(history: Sequence[Listed], *, mirrors_deletes: bool) -> int | None:
        return succession.newest(history[:-1], mirrors_deletes=mirrors_deletes)

    return [(jobs.backup.key_backup, "newest", newest)]


def _any_equal_copy_will_do() -> Replacements:
    return [(jobs.backup.copy_candidates, "is_made_after", lambda version, copy: True)]


def _ignore_tags() -> Replacements:
    async def have_same_tags(self: VersionMatcher, ours: Any, theirs: Any) -> bool:
        return True

    return [(VersionMatcher, "_have_same_tags", have_same_tags)]


def _call_the_unfinished_done() -> Replacements:
    real = KeyBackup._result

    def result(self: KeyBackup, sides: Any) -> Any:
        return real(self, sides)._replace(unfinished=None)

    return [(KeyBackup, "_result", result)]


def _restore_its_own_copy_only() -> Replacements:
    real = KeyBackup._restore

    async def restore(self: KeyBackup, look: Any, place: int, target: int, rows: Any) -> bool:
        copy = look.sides.copies.copies[place]
        info = await self.job.destination.head(self._target()._replace(version_id=copy.version_id))
        return not info.is_archived and await real(self, look, place, target, rows)

    return [(KeyBackup, "_restore", restore)]


BUGS = [
    Bug("bet-wins-always", "a new copy is not looked at again", 4_000, _bet_wins_always, "events"),
    Bug("no-restore", "a late older version stays on top", 400, _no_restore, "events"),
    Bug("hot-unguarded", "copies are written without a condition", 2_000, _write_unguarded, "events"),
    Bug("acknowledge-everything", "failed messages are done with", 400, _acknowledge_everything, "events"),
    Bug("no-journal", "nothing is written down", 400, _no_journal, "events"),
    Bug("decode-twice", "keys of events are decoded twice", 400, _decode_twice, "events"),
    Bug("forget-removals", "what was removed for good is not remembered", 400, _forget_removals, "events"),
    Bug("mirror-always", "deletes are mirrored where they are to be retained", 400, _mirror_always, "events"),
    Bug("drop-the-backlog", "what is handed over is lost", 400, _drop_the_backlog, "events"),
    Bug("publish-half", "a manifest leaves a row of the backlog out", 400, _publish_half_the_backlog, "events"),
    Bug("ignore-metadata", "versions of other metadata are taken for copies", 1_000, _ignore_metadata, "events"),
    Bug("equal-size-is-alike", "versions of one size are taken for copies", 400, _equal_size_is_alike, "events"),
    Bug("trust-the-listing", "an overwritten source is copied for the listed one", 4_000, _trust_the_listing, "events"),
    Bug("hide-what-waits", "the newest version does not count", 400, _hide_what_waits, "events"),
    Bug(
        "any-equal-copy-will-do",
        "an earlier copy passes for the newest version",
        1_000,
        _any_equal_copy_will_do,
        "events",
    ),
    Bug("ignore-tags", "versions of other tags are taken for copies", 400, _ignore_tags, "events"),
    Bug(
        "unfinished-is-done", "what cannot be put on top is not handed over", 1_400, _call_the_unfinished_done, "events"
    ),
    Bug("own-copy-only", "an archived copy keeps the older one on top", 400, _restore_its_own_copy_only, "events"),
]
