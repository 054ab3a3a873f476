"""Succession of versions: which one belongs on top, and the next step. No I/O.

Events arrive late, twice and in any order, so an event's word for "newest" is worth nothing. The
caller reads the source's own history each time. S3 cannot put a version below another one. Where an
older version comes late it is appended, and then the destination's own copy of the newest one is
appended again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import Listed, ObjectVersion


class Act(StrEnum):
    """Copy a source version on top, restore a destination version on top, or mark as deleted."""

    COPY = "copy"
    RESTORE = "restore"
    MARK = "mark"
    DONE = "done"


class NextStep(NamedTuple):
    """What to do.

    `place` is the version's index in its history (the source's or the destination's).
    """

    act: Act
    place: int = -1


def can_be_copy(version: Listed, copy: Listed) -> bool:
    """True if size and time allow `copy` to be a copy of the source's `version`."""
    return (
        not version.is_delete_marker
        and not copy.is_delete_marker
        and version.size_bytes == copy.size_bytes
        and copy.last_modified >= version.last_modified - SKEW_SECONDS
    )


def is_older(row: ObjectVersion, version: Listed) -> bool:
    """True if the version of a row was surely written before `version`, to the second.

    The time of an event is not before S3's own date of its version.
    """
    return row.last_modified is not None and int(row.last_modified) <= version.last_modified


def newest(history: Sequence[Listed], *, mirrors_deletes: bool) -> int | None:
    """Return the index of the version that belongs on top.

    None: the key is deleted, or there is no version.
    """
    for index in range(len(history) - 1, -1, -1):
        if not history[index].is_delete_marker:
            return index
        if mirrors_deletes:
            return None
    return None


def next_step(
    history: Sequence[Listed],
    copies: Sequence[Listed],
    wanted: Sequence[int],
    found: Mapping[int, int],
    *,
    older_on_top: bool,
    mirrors_deletes: bool,
) -> NextStep:
    """Return the next step for one key: `done` when every wanted version is stored and the right
    one is on top.

    `history` (source) and `copies` (destination) are oldest first. `found` maps wanted versions and
    the newest one to their latest copies, where they have one. `older_on_top`: the top copy is of a
    source version older than the newest. The first line that fits decides:

    | a wanted version | newest of source       | its copy | top of the copies            | step               |
    |------------------|------------------------|----------|------------------------------|--------------------|
    | has no copy      |                        |          |                              | copy it            |
    |                  | none, deletes mirrored |          | an object                    | mark               |
    |                  | none                   |          |                              | done               |
    |                  | there                  | none     |                              | copy it            |
    |                  | there                  | on top   |                              | done               |
    |                  | there                  | below    | a delete marker              | restore it         |
    |                  | there                  | below    | an older version's           | restore it         |
    |                  | there                  | below    | unknown, deletes mirrored    | restore it         |
    |                  | there                  | below    | unknown, deletes retained    | done               |

    An "unknown" copy is of a version that the source no longer has. With deletes retained, that
    version was the newest one until it was removed there, which leaves the copy as it is. A version
    that was older when its event came is not unknown, though it is gone by now.
    """
    for index in wanted:
        if index not in found and not history[index].is_delete_marker:
            return NextStep(Act.COPY, index)
    top = len(copies) - 1
    target = newest(history, mirrors_deletes=mirrors_deletes)
    if target is None:
        shows_object = bool(copies) and not copies[top].is_delete_marker
        return NextStep(Act.MARK) if mirrors_deletes and shows_object else NextStep(Act.DONE)
    if target not in found:
        return NextStep(Act.COPY, target)
    if found[target] == top:
        return NextStep(Act.DONE)
    if mirrors_deletes or older_on_top or copies[top].is_delete_marker:
        return NextStep(Act.RESTORE, found[target])
    return NextStep(Act.DONE)
