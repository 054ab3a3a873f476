"""A key's history at the source, by the journal of its events. Pure.

S3 dates a copy when it is made: seconds after its original, or days later after a backlog. And if a
policy retains what is deleted at the source, no delete marker records the deletion. The journal has
the time of each event and its result. Its rows are `ObjectVersion`s: `version_id` and `etag` are
the source's, `last_modified` is the event's time, and `beside` has what only an event says.

Objects without a version id of their own replace one another: a key has one of them at a time. They
are written while versioning is off or suspended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import ObjectVersion, is_exact
from jobs.ledger.journal import Entry


class Event(NamedTuple):
    """What a row of the journal has beside a version's: the event's sequencer as text that sorts, and the version id of
    its copy. Empty where the journal lacks them.
    """

    order: str = ""
    copy_id: str = ""


def row_from_entry(entry: Entry) -> ObjectVersion | None:
    """A journal's line as a row. None for an event that is not about a version, or has no copy.

    A delete marker hides the key. The deletion of a version, which may be a marker, removes that
    version: its row is a marker that is not `is_latest`. A deletion without a version id removes
    the object that has none, which is all there is where versioning is off.
    """
    family, _, action = entry.event.replace(" ", "").partition(":")
    is_creation = family == "ObjectCreated"
    is_deletion = family in ("ObjectRemoved", "ObjectDeleted", "LifecycleExpiration")
    if entry.destination_key is None or not (is_creation or is_deletion):
        return None
    hides = is_deletion and "Marker" in action
    return ObjectVersion(
        0,
        entry.destination_key,
        entry.version_id,
        is_creation or hides,
        is_deletion,
        entry.size_bytes if is_creation else None,
        entry.etag if is_creation else None,
        entry.recorded_at if entry.event_at is None else entry.event_at,
        # S3 compares sequencers as hexadecimal, padded with zeros on the right.
        beside=Event((entry.sequencer or "").upper().rstrip("0"), entry.destination_version_id or ""),
    )


def is_event(row: ObjectVersion) -> bool:
    """True for a row of the journal."""
    return isinstance(row.beside, Event)


def is_of_event(version: ObjectVersion, rows: Sequence[ObjectVersion]) -> bool:
    """True if one of the rows is the event of this copy: it names it, or has its content."""
    events = [each for each in rows if is_event(each)]
    return any(_copy_id(each) == version.version_id or each.etag == version.etag for each in events)


def version_at_by_journal(
    history: Sequence[ObjectVersion], events: Sequence[ObjectVersion], at: float
) -> ObjectVersion | None:
    """The version of one key that was current at the source at `at` (epoch seconds).

    None when there was none, or a delete marker. `history` is the rest of the copies, oldest first.
    An event whose copy is not among them, because it was never made or is gone, is returned itself.
    Copies without an event (a run's) count by their own date. Of one nobody knows whether its source
    has a version id: where it would come to the top, the removal of what has none hides the key.
    """
    removed = {
        each.version_id: each.last_modified or 0.0 for each in events if _is_removal(each) and is_exact(each.version_id)
    }
    places = {copy.version_id: place for place, copy in enumerate(history)}
    dated: dict[int, float] = {}
    moments: list[_Moment] = []
    for event in _once(events):
        time, order = _when(event)
        copy_id = _copy_id(event)
        place = None if _is_removal(event) else places.get(copy_id) if copy_id else _alike(event, history, dated)
        if place is not None:
            dated[place] = min(time, dated.get(place, time))
        if removed.get(event.version_id, at + 1) > at:
            shown = event if place is None or event.is_delete_marker else history[place]
            moments.append(_Moment(time, False, order, event, shown))
    for place, copy in enumerate(history):
        if place not in dated and not _is_put_back(place, history, dated):
            moments.append(_Moment(copy.last_modified or 0.0, True, "", None, copy))
    before = sorted((each for each in moments if each.time <= at), key=lambda each: each[:3])
    nulls = [place for place, each in enumerate(before) if each.event and not is_exact(each.event.version_id)]
    stack = [each for place, each in enumerate(before) if place not in nulls[:-1]]
    if len(stack) > 1 and stack[-1].event and _is_removal(stack[-1].event) and stack[-2].event:
        stack.pop()  # what has no version id is gone, and shows what is below
    return None if not stack or stack[-1].version.is_delete_marker else stack[-1].version


class _Moment(NamedTuple):
    """A version that came onto the key, at its `time` (epoch seconds).

    Of equal times the copies without an event are the later ones. The sequencers order the events.
    """

    time: float
    is_without_event: bool
    order: str
    event: ObjectVersion | None
    version: ObjectVersion


def _is_removal(event: ObjectVersion) -> bool:
    return event.is_delete_marker and not event.is_latest


def _when(event: ObjectVersion) -> tuple[float, str]:
    """The event's time, and its place among the events of that time."""
    return event.last_modified or 0.0, cast(Event, event.beside).order


def _copy_id(event: ObjectVersion) -> str:
    """The version id of the event's copy, empty if the journal does not name it."""
    return cast(Event, event.beside).copy_id


def _once(events: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    """Each event once, by time: of retries and duplicates the one with its copy, else the first."""
    chosen: dict[tuple[object, ...], ObjectVersion] = {}
    for event in sorted(events, key=_when):
        if _is_removal(event) and is_exact(event.version_id):
            continue
        unversioned = None if is_exact(event.version_id) else _when(event)
        identity = (event.version_id, event.is_delete_marker, event.is_latest, event.etag, unversioned)
        first = chosen.setdefault(identity, event)
        if _copy_id(event) and not _copy_id(first):
            chosen[identity] = first._replace(beside=event.beside)
    return list(chosen.values())


def _alike(event: ObjectVersion, history: Sequence[ObjectVersion], dated: Mapping[int, float]) -> int | None:
    """The first copy of an event's content, where the journal does not name the copy."""
    fits = (
        place
        for place, copy in enumerate(history)
        if place not in dated
        and (copy.is_delete_marker, copy.etag) == (event.is_delete_marker, event.etag)
        and event.size_bytes in (None, copy.size_bytes)
        and (copy.last_modified or 0.0) >= (event.last_modified or 0.0) - SKEW_SECONDS
    )
    return next(fits, None)


def _is_put_back(place: int, history: Sequence[ObjectVersion], dated: Mapping[int, float]) -> bool:
    """True for the newest version's copy, put back on top of a late older one."""
    late = dated.get(place - 1)
    return late is not None and any(
        _content(history[before]) == _content(history[place]) and dated.get(before, late) > late
        for before in range(place - 1)
    )


def _content(version: ObjectVersion) -> tuple[bool, str | None, int | None]:
    return version.is_delete_marker, version.etag, version.size_bytes
