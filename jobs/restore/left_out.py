"""Archives without a whole index: what they may hold, and which keys a restore leaves open.

A damaged or missing index concerns its own archive only. A restore takes a key from the other
archives, unless this one may hold a newer version of it. So nobody gets an older version without
asking for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import Location, ObjectRef, ObjectVersion, is_exact
from jobs.core.run import Side
from jobs.errors import StoreError
from jobs.restore.as_of import LEFT_OPEN, why_unrestorable
from jobs.restore.as_of_journal import is_event
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.sessions import open_side
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.archives.index import DamagedIndex
    from jobs.restore.plan import Choose

LOOKS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An archive whose index is damaged or missing, and the bounds of its members.

    `reason`: what is wrong with the index. `keys`: its first and last key, by an earlier index of
    the same archive, or by the one inside. None: it may hold any key. `written_at`: when the
    archive was written (epoch seconds), after all of its members. None: unknown.
    """

    archive: Location
    reason: str
    keys: tuple[str, str] | None = None
    written_at: float | None = None

    def may_hold(self, key: str) -> bool:
        """True unless the key is not between the archive's first and last."""
        return self.keys is None or self.keys[0] <= key <= self.keys[1]

    def may_hold_prefix(self, prefix: str) -> bool:
        """True unless no key between the archive's first and last begins with the prefix."""
        size = len(prefix)
        return self.keys is None or self.keys[0][:size] <= prefix <= self.keys[1][:size]

    def may_hold_newer(self, version: ObjectVersion) -> bool:
        """True unless the archive was written at least `SKEW_SECONDS` before the version."""
        return self.written_at is None or _time(version) <= self.written_at + SKEW_SECONDS


async def look_at_left_out(side: Side, damage: Sequence[DamagedIndex]) -> list[LeftOut]:
    """Return the bounds of the members of each archive in `damage`, by one HEAD each."""
    if not damage:
        return []
    store = open_side(side, max_in_flight=LOOKS_AT_ONCE)
    try:
        return await gather_bounded(lambda each: _look(store, each), damage, LOOKS_AT_ONCE)
    finally:
        await store.close()


async def _look(store: Store, damaged: DamagedIndex) -> LeftOut:
    """Return the bounds of one archive. One that HEAD does not find may have held anything.

    S3 dates an archive by the beginning of its upload, and its members were chosen before that.
    """
    archive, reason, record, _ = damaged
    try:
        info = await retry(lambda: find(store, ObjectRef(*archive)))
    except StoreError:
        info = None
    if info is None:
        return LeftOut(archive, reason)
    if record is None or record.etag != info.etag:
        return LeftOut(archive, reason, written_at=info.last_modified)
    return LeftOut(archive, reason, (record.first_key, record.last_key), info.last_modified)


@dataclass(frozen=True, slots=True)
class SureChoice:
    """Chooses as `choose`, but `LEFT_OPEN` where an archive may hold a newer version of the key.

    A version that was written after an archive is newer than all in it, unless the key has events
    in the journal: then the dates of its versions are those of copies. `is_asked`: rows without an
    archive name what is wanted. A row with a version id gets exactly that version. `at`: as of when
    (epoch seconds, as in `current_at`), infinity without a time.
    """

    choose: Choose
    left_out: Sequence[LeftOut]
    is_asked: bool
    at: float

    def __call__(self, rows: Sequence[ObjectVersion], archived: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        """Return the versions to restore of one key. Those left open have the archive `LEFT_OPEN`."""
        chosen = self.choose(rows, archived)
        first = (*rows, *archived)[0]
        holders = [each for each in self.left_out if each.may_hold(first.key)]
        if any(map(is_event, archived)):
            holders = [replace(each, written_at=None) for each in holders]
        if not holders:
            return chosen
        if self.is_asked:
            named = {row.version_id for row in rows if is_exact(row.version_id)}
            return [
                each if each.archive is None or each.version_id in named else self._decide(each, holders)
                for each in chosen
            ]
        if chosen:
            return [self._decide(each, holders) for each in chosen]
        return [] if self._is_deleted(rows, archived, holders) else [_open(first)]

    def _decide(self, version: ObjectVersion, holders: Sequence[LeftOut]) -> ObjectVersion:
        return version if why_unrestorable(version) or _is_newest(version, holders) else _open(version)

    def _is_deleted(
        self, rows: Sequence[ObjectVersion], archived: Sequence[ObjectVersion], holders: Sequence[LeftOut]
    ) -> bool:
        """True if one of the bucket's delete markers until `at` is newer than all in the archives.

        A delete marker with which `expire` hid an object does not count.
        """
        hiding = {each.version_id for each in archived if each.is_delete_marker}
        markers = [each for each in rows if each.is_delete_marker and each.version_id not in hiding]
        return any(_time(each) <= self.at and _is_newest(each, holders) for each in markers)


def _is_newest(version: ObjectVersion, holders: Sequence[LeftOut]) -> bool:
    return not any(each.may_hold_newer(version) for each in holders)


def _open(version: ObjectVersion) -> ObjectVersion:
    """The row of a key whose newest version is unknown."""
    return version._replace(version_id=None, etag=None, is_delete_marker=False, archive=LEFT_OPEN, beside=None)


def _time(version: ObjectVersion) -> float:
    return version.last_modified or 0.0
