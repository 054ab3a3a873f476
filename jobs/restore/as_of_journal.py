"""A key's history at the source, by the journal of its events. Pure.

S3 dates a copy when it is made: seconds after its original, or days later after a backlog. And if a
policy retains what is deleted at the source, no delete marker records the deletion. The journal has
the time of each event and its result. Its rows are `ObjectVersion`s: `version_id` and `etag` are
the source's, `last_modified` is the event's time, and `archive` is `JOURNAL` and then the copy's
version id, if the journal has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import ObjectVersion
from jobs.ledger.journal import Entry

JOURNAL = "journal:"
_MULTIPART = "-"


def row_from_entry(entry: Entry) -> ObjectVersion | None:
    """A journal's line as a row. None for an event that is not about a version, or has no copy.

    A deletion without a version id hides the key, as a delete marker does. The deletion of a
    version, which may be a marker, removes that version: its row is a marker that is not
    `is_latest`.
    """
    family, _, action = entry.event.replace(" ", "").partition(":")
    is_creation = family == "ObjectCreated"
    is_deletion = family in ("ObjectRemoved", "ObjectDeleted", "LifecycleExpiration")
    if entry.destination_key is None or not (is_creation or is_deletion):
        return None
    hides = is_deletion and ("Marker" in action or entry.version_id is None)
    return ObjectVersion(
        0,
        entry.destination_key,
        entry.version_id,
        is_creation or hides,
        is_deletion,
        entry.size_bytes if is_creation else None,
        entry.etag if is_creation else None,
        entry.recorded_at if entry.event_at is None else entry.event_at,
        archive=JOURNAL + (entry.destination_version_id or ""),
    )


def version_at_by_journal(
    history: Sequence[ObjectVersion], events: Sequence[ObjectVersion], at: float
) -> ObjectVersion | None:
    """The version of one key that was current at the source at `at` (epoch seconds).

    None when there was none, or a delete marker. `history` is the rest of the copies, oldest first.
    An event whose copy is not among them, because it was never made or is gone, is returned itself,
    with its `archive` that is not an archive. Copies without an event (a run's) count by their own
    date.
    """
    removed = {
        each.version_id: each.last_modified or 0.0 for each in events if each.is_delete_marker and not each.is_latest
    }
    places = {copy.version_id: place for place, copy in enumerate(history)}
    dated: dict[int, float] = {}
    moments: list[tuple[float, ObjectVersion]] = []
    for event in _once(events):
        time = event.last_modified or 0.0
        named = (event.archive or "").removeprefix(JOURNAL)
        place = places.get(named) if named else _likely_place(event, history, dated)
        if place is not None:
            dated[place] = min(time, dated.get(place, time))
        if removed.get(event.version_id, at + 1) > at:
            moments.append((time, event if place is None or event.is_delete_marker else history[place]))
    for place, copy in enumerate(history):
        if place not in dated and not _is_made_again(place, history, dated):
            moments.append((copy.last_modified or 0.0, copy))
    # Python's sort is stable: of equal times, copies without an event are the later ones.
    found = [version for time, version in sorted(moments, key=lambda each: each[0]) if time <= at]
    return found[-1] if found and not found[-1].is_delete_marker else None


def _once(events: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    """Each event once, by time: of retries and duplicates the one with its copy, else the first."""
    chosen: dict[tuple[object, ...], ObjectVersion] = {}
    for event in sorted(events, key=lambda each: each.last_modified or 0.0):
        if not event.is_latest:
            continue
        unversioned = event.last_modified if event.version_id is None else None
        identity = (event.version_id, event.is_delete_marker, event.etag, unversioned)
        first = chosen.setdefault(identity, event)
        if first.archive == JOURNAL != event.archive:
            chosen[identity] = first._replace(archive=event.archive)
    return list(chosen.values())


def _likely_place(event: ObjectVersion, history: Sequence[ObjectVersion], dated: Mapping[int, float]) -> int | None:
    """The place of an event's copy that the journal does not name: the first that fits.

    A copy in parts has another ETag than its original.
    """
    likely = [
        place
        for place, copy in enumerate(history)
        if place not in dated
        and copy.is_delete_marker == event.is_delete_marker
        and (copy.is_delete_marker or event.size_bytes in (None, copy.size_bytes))
        and (copy.last_modified or 0.0) >= (event.last_modified or 0.0) - SKEW_SECONDS
    ]
    alike = [place for place in likely if history[place].etag == event.etag]
    in_parts = [
        place for place in likely if _MULTIPART in (history[place].etag or "") or _MULTIPART in (event.etag or "")
    ]
    return next(iter(alike or in_parts), None)


def _is_made_again(place: int, history: Sequence[ObjectVersion], dated: Mapping[int, float]) -> bool:
    """True for the newest version's copy, put back on top of a late older one
    (`backup.succession`).
    """
    late = dated.get(place - 1)
    return late is not None and any(
        _content(history[before]) == _content(history[place]) and dated.get(before, late) > late
        for before in range(place - 1)
    )


def _content(version: ObjectVersion) -> tuple[bool, str | None, int | None]:
    return version.is_delete_marker, version.etag, version.size_bytes
