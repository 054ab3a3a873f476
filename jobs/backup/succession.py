"""Which version of a key has to be on top of its copies, and the next step towards it. No I/O.

Events arrive late, twice and in any order, so that what an event says of "newest" is worth nothing: the
source's own history is asked each time. S3 cannot put a version beneath another one; where an older
version comes late it is appended, and then the destination's own copy of the newest one is appended again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import Listed


class Act(StrEnum):
    """`copy` a source version on top; `restore` a destination version on top; `mark` with a delete marker."""

    COPY = "copy"
    RESTORE = "restore"
    MARK = "mark"
    DONE = "done"


class Step(NamedTuple):
    """What to do; `place` is the version's place in its history (the source's or the destination's)."""

    act: Act
    place: int = -1


def can_be_copy(version: Listed, copy: Listed) -> bool:
    """Whether size and time allow `copy` to be a copy of the source's `version`."""
    return (
        not version.is_delete_marker
        and not copy.is_delete_marker
        and version.size_bytes == copy.size_bytes
        and copy.last_modified >= version.last_modified - SKEW_SECONDS
    )


def newest(history: Sequence[Listed], *, mirrors_deletes: bool) -> int | None:
    """The version that has to be on top of the copies; None: the key is to look deleted, or there is nothing."""
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
) -> Step:
    """The next step for one key; `done` when every wanted version is stored and the right one is on top.

    `history` (source) and `copies` (destination) are oldest first. `found`: for wanted versions and the newest one,
    its latest copy, if there is one. `older_on_top`: the top copy is of a source version older than the
    newest. The first line that fits decides:

    | a wanted version | newest of source       | its copy | top of the copies            | step               |
    |------------------|------------------------|----------|------------------------------|--------------------|
    | has no copy      |                        |          |                              | copy it            |
    |                  | none, deletes mirrored |          | an object                    | mark               |
    |                  | none                   |          |                              | done               |
    |                  | there                  | none     |                              | copy it            |
    |                  | there                  | on top   |                              | done               |
    |                  | there                  | beneath  | a delete marker              | restore it         |
    |                  | there                  | beneath  | an older version's           | restore it         |
    |                  | there                  | beneath  | unknown, deletes mirrored    | restore it         |
    |                  | there                  | beneath  | unknown, deletes retained    | done               |

    "Unknown" is a copy whose version the source has no more: with deletes retained it was the newest one until
    somebody removed it there, which leaves the copy as it is.
    """
    for index in wanted:
        if index not in found and not history[index].is_delete_marker:
            return Step(Act.COPY, index)
    top = len(copies) - 1
    target = newest(history, mirrors_deletes=mirrors_deletes)
    if target is None:
        shows_object = bool(copies) and not copies[top].is_delete_marker
        return Step(Act.MARK) if mirrors_deletes and shows_object else Step(Act.DONE)
    if target not in found:
        return Step(Act.COPY, target)
    if found[target] == top:
        return Step(Act.DONE)
    if mirrors_deletes or older_on_top or copies[top].is_delete_marker:
        return Step(Act.RESTORE, found[target])
    return Step(Act.DONE)
