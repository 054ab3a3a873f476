"""A bucket as of a time: which version of a key was current. Pure.

The answer comes from what is left of the key's history, in two places: versions and delete markers
in the bucket, and versions in archives, whose originals were expired since. For a bucket that
events fill, the journal adds more. S3 dates to the second, so a time includes all that was written
in its second. A version that is in neither place is unknown, and the one below it counts. But a
null version that was written later, while versioning was off or suspended, may have replaced one
that was on top. Then the answer is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jobs.core.histories import in_order, time_of
from jobs.core.model import NULL_VERSION, ObjectVersion, is_exact, is_version
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.restore.as_of_journal import is_event, version_at_by_journal

OVERWRITTEN, ONE_SECOND, NEVER_COPIED = "overwritten", "one second", "never copied"
NO_ARCHIVE, MARKER = "no archive", "delete marker"
NOT_RESTORED = {
    OVERWRITTEN: (Status.BLOCKED, Reason.CURRENT_UNKNOWN, OVERWRITTEN),
    ONE_SECOND: (Status.BLOCKED, Reason.CURRENT_UNKNOWN, ONE_SECOND),
    NEVER_COPIED: (Status.MISSING, Reason.NOT_ARCHIVED, "event"),
    NO_ARCHIVE: (Status.MISSING, Reason.NOT_ARCHIVED, ""),
    MARKER: (Status.LEFT, Reason.IS_MARKER, ""),
}
"""How a row with such an `archive` ends, which names none.

| `archive`    | the version                                                               |
|--------------|---------------------------------------------------------------------------|
| OVERWRITTEN  | perhaps was not on top: a null version replaced another one since         |
| ONE_SECOND   | perhaps is not the newest: another archive holds one of its second        |
| NEVER_COPIED | is in the journal alone                                                   |
| NO_ARCHIVE   | was asked for, and no archive has it                                      |
| MARKER       | was asked for, and is a delete marker                                     |

https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersionSuspendedBuckets.html
"""


def current_at(listed: Sequence[ObjectVersion], archived: Iterable[ObjectVersion], at: float) -> ObjectVersion | None:
    """The version of one key that was current at `at` (epoch seconds). None: none, or a delete
    marker.

    `listed` are the bucket's own versions, oldest first. `archived` are those in archives, the
    preferred of equal ones first. A version that is in both is taken from the bucket. A delete
    marker among `archived` is one by which an expire run hid an object that has a copy: in the
    bucket it does not count. Events among them (`jobs.restore.as_of_journal`) date the versions
    that they are about.
    """
    copies: list[ObjectVersion] = []
    events: list[ObjectVersion] = []
    for each in archived:
        (events if is_event(each) else copies).append(each)
    hiding = {each.version_id for each in copies if each.is_delete_marker}
    own = [each for each in in_order(listed) if not (each.is_delete_marker and each.version_id in hiding)]
    history = merge(own, (each for each in copies if not each.is_delete_marker))
    if events:
        found = version_at_by_journal(history, events, at)
        return found._replace(archive=NEVER_COPIED, beside=None) if found is not None and is_event(found) else found
    before = [each for each in history if time_of(each) <= at]
    if not before or before[-1].is_delete_marker:
        return None
    current = _newest_of(before)
    # A key has one null version at a time. So one that was written later replaced whatever was there.
    is_known = all(is_exact(each.version_id) or time_of(each) <= at for each in history)
    return current if is_known or current.archive == ONE_SECOND else current._replace(archive=OVERWRITTEN)


def merge(listed: Sequence[ObjectVersion], archived: Iterable[ObjectVersion]) -> list[ObjectVersion]:
    """One key's history, oldest first: the bucket's in its own order, the archives' by their times.

    Among the versions of one second, an archived one goes to the top if it was its key's latest
    when it was packed. Else it goes below, because a newer one existed then. Archives have whole
    seconds, and some servers list fractions. A version is taken from the first archive that has it.
    """
    known = {identity(each) for each in listed}
    history = list(listed)
    gone: dict[tuple[str | int | None, ...], ObjectVersion] = {}
    for each in archived:
        if identity(each) not in known:
            gone.setdefault(identity(each), each)
    for version in sorted(gone.values(), key=lambda each: (_second(each), each.is_latest)):
        second = _second(version)
        later = (
            place
            for place, each in enumerate(history)
            if _second(each) > second or (not version.is_latest and _second(each) == second and identity(each) in known)
        )
        history.insert(next(later, len(history)), version)
    return history


def pick(asked: ObjectVersion, archived: Iterable[ObjectVersion]) -> ObjectVersion:
    """A row's archived version: by version id and ETag if it has them, else the newest."""
    if asked.is_delete_marker:
        return asked._replace(archive=MARKER)
    named = [
        each
        for each in merge((), archived)
        if is_version(asked.version_id, each.version_id) and (asked.etag is None or each.etag in (None, asked.etag))
    ]
    return _newest_of(named) if named else asked._replace(archive=NO_ARCHIVE)


def _newest_of(history: Sequence[ObjectVersion]) -> ObjectVersion:
    """The newest version of a key's history, oldest first. `ONE_SECOND` where nothing says which it is.

    An archive has the versions of one second in their order. Of two archives nobody knows that,
    unless one version was its key's latest when it was packed.
    """
    newest = history[-1]
    is_disputed = newest.archive is not None and any(
        each.archive not in (None, newest.archive)
        and (_second(each), each.is_latest) == (_second(newest), newest.is_latest)
        and (each.etag, each.size_bytes) != (newest.etag, newest.size_bytes)
        for each in history
    )
    # A retry takes what has a version id or an ETag for what is wanted.
    return newest._replace(version_id=None, etag=None, archive=ONE_SECOND) if is_disputed else newest


def pick_asked(asked: Sequence[ObjectVersion], archived: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    """The archived versions of rows that name one key.

    Only one of them can be at the destination, so the newest comes last.
    """
    found = [pick(row, archived) for row in asked]
    return sorted(found, key=lambda each: (each.archive not in (NO_ARCHIVE, MARKER), time_of(each), each.is_latest))


def identity(version: ObjectVersion) -> tuple[str | int | None, ...]:
    """The identity of a version within its key.

    Versions without an id of their own replaced one another. ETag and second identify them, because
    the same content may have been written again, long after it was gone.
    """
    if version.version_id in (None, NULL_VERSION) and not version.is_delete_marker:
        return None, version.etag, None if version.last_modified is None else int(version.last_modified)
    return (version.version_id,)


def _second(version: ObjectVersion) -> int:
    return int(version.last_modified or 0.0)
