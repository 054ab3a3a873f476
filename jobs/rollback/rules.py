"""What a rollback does to a key, and what became of the key since its plan. Pure.

A version was there at TIME if its Last-Modified is not later than TIME, which S3 says in whole seconds:
what was written in TIME's own second counts. Of several the listing's order decides, also within a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from jobs.core.histories import in_order
from jobs.core.model import NULL_VERSION, Listed, ObjectVersion, is_exact
from jobs.core.outcome import Outcome
from jobs.core.reasons import Reason

REMOVED = "removed"
"""The detail of an outcome that says that a version or a delete marker was removed."""


class Step(StrEnum):
    """What is done to a key.

    COPY: a version is copied on top. HIDE: a delete marker is put on top. UNHIDE: a delete marker is removed.
    REMOVE, of an undo alone: the copy that a run has put on top is removed. LEAVE: nothing says what was current then.
    """

    COPY = "copy"
    HIDE = "hide"
    UNHIDE = "unhide"
    REMOVE = "remove"
    LEAVE = "leave"


class Move(NamedTuple):
    """A step, and what must be on top for it: its version id, and its ETag unless it is a delete marker.

    The row beside it names the version that readers get after the step, or that HIDE hides.
    """

    step: Step
    top_id: str | None
    top_etag: str | None = None


class Found(StrEnum):
    """What a look at a key says of a move.

    AS_PLANNED: the step can be taken. WRITTEN: this run has taken it, if the version that comes along is the
    wanted one. GOAL: others have, if it is. TAKEN: this run has removed what was to go. CHANGED: others came between.
    GONE: the version that readers should get is gone.
    """

    AS_PLANNED = "as planned"
    WRITTEN = "written"
    GOAL = "goal"
    TAKEN = "taken"
    CHANGED = "changed"
    GONE = "gone"


def decide(listed: Sequence[Listed], at: float) -> ObjectVersion | None:
    """Return the row that brings a key back to `at` (epoch seconds): the version that readers get after the step, or
    that HIDE hides, with the `Move` beside it. None: readers get now what they got then.

    `listed`: all versions of the key, oldest first. In this table a letter is an object, `x` a delete marker, `0` the
    null version, `/` the time:

    | history | step    | of | why                                                                    |
    |---------|---------|----|------------------------------------------------------------------------|
    | a /     |         |    | nothing came later                                                     |
    | a b /   |         |    |                                                                        |
    | a x /   |         |    |                                                                        |
    | 0 /     |         |    |                                                                        |
    | / a     | hide    | a  | it came later                                                          |
    | a x / b | hide    | b  | it came again later                                                    |
    | / a x   |         |    | it came and went                                                       |
    | a x / x |         |    | it was deleted then as now                                             |
    | a / b   | copy    | a  | it was overwritten                                                     |
    | 0 / b   | copy    | 0  |                                                                        |
    | a b / c | copy    | b  | the newest one of then                                                 |
    | a / b x | copy    | a  | it was overwritten, then deleted                                       |
    | a / x   | unhide  | a  | it was deleted, and nothing else happened                              |
    | 0 / x   | unhide  | 0  |                                                                        |
    | a / x x | copy    | a  | to remove several markers takes several requests, which may end halfway |
    | / 0     | leave   | 0  | a null version replaces the one before it, which may have been current |
    | a / 0   | leave   | 0  |                                                                        |
    | a / 0 x | leave   | x  |                                                                        |
    """
    history = in_order(listed)
    before = [each for each in history if each.last_modified <= at]
    top, then = history[-1], before[-1] if before else None
    if any(each.last_modified > at and not is_exact(each.version_id) for each in history):
        step, about = Step.LEAVE, top
    elif then is None or then.is_delete_marker:
        step, about = Step.HIDE, top
        if top.is_delete_marker:
            return None
    elif then is top:
        return None
    else:
        step, about = Step.UNHIDE if top.is_delete_marker and history[-2] is then else Step.COPY, then
    move = Move(step, top.version_id, None if top.is_delete_marker else top.etag)
    size_bytes = about.size_bytes if step is Step.COPY else None
    named = (about.version_id, about.is_latest, False, size_bytes, about.etag, about.last_modified)
    return ObjectVersion(0, about.key, *named, about.storage_class, beside=move)


def turn_round(done: Outcome) -> Move:
    """Return the move that takes a step back, by its outcome.

    | reason, detail  | what was done                  | step   | what must be on top         |
    |-----------------|--------------------------------|--------|-----------------------------|
    | hidden          | a delete marker was put on top | unhide | that marker                 |
    | hidden, removed | a delete marker was removed    | hide   | the version that it had hid |
    | others          | a version was copied on top    | remove | that copy                   |
    """
    if done.reason != Reason.HIDDEN:
        return Move(Step.REMOVE, done.destination_version_id, done.destination_etag)
    if done.detail == REMOVED:
        return Move(Step.HIDE, done.version_id, done.etag)
    return Move(Step.UNHIDE, done.destination_version_id)


def judge(
    move: Move, wanted_id: str | None, history: Sequence[Listed], *, may_be_own: bool
) -> tuple[Found, Listed | None]:
    """Return what a look at a key says of a move, and the version to compare with the wanted one, if there is one.

    `history`: all versions, oldest first. `may_be_own`: this run may have taken the step, in
    an earlier attempt or by a request without an answer. In this table `w` is the wanted version, `T` what the plan
    saw on top (an object, of UNHIDE a marker), `n` an object and `x` a delete marker that came later:

    | history | step   | not yet tried | may be tried  | why                                              |
    |---------|--------|---------------|---------------|--------------------------------------------------|
    | w T     | copy   | as planned    | as planned    |                                                  |
    | w T n   | copy   | goal n        | written n     | others, or this run, have copied it              |
    | w T n n | copy   | goal 2        | written 1     | the first one above T is this run's              |
    | w T x   | copy   | changed       | changed       |                                                  |
    | w n     | copy   | goal n        | goal n        | others have removed T                            |
    | T       | copy   | gone          | gone          |                                                  |
    | T       | hide   | as planned    | as planned    |                                                  |
    | T x     | hide   | goal x        | written x     |                                                  |
    | T x n   | hide   | changed       | written x     |                                                  |
    | T n     | hide   | changed       | changed       |                                                  |
    | n       | hide   | changed       | changed       |                                                  |
    | w T     | unhide | as planned    | as planned    |                                                  |
    | w n T   | unhide | changed       | changed       | T hides another version                          |
    | w       | unhide | goal w        | taken         |                                                  |
    | w n     | unhide | goal n        | taken         | and others came later                            |
    | w T n   | unhide | goal n        | written n     | it was copied, where T may not be removed        |
    | T       | unhide | gone          | gone          |                                                  |
    | w T     | remove | as planned    | as planned    |                                                  |
    | w T n   | remove | changed       | changed       | T is no longer what readers get                  |
    | w       | remove | goal w        | taken         | others, or an earlier undo, have removed it      |
    | w n     | remove | goal w        | taken         |                                                  |
    | T       | remove | gone          | gone          | T has the only bytes by now                      |
    """
    step, ids = move.step, [each.version_id or NULL_VERSION for each in history]
    place = _place(history, ids, move)
    if step is not Step.HIDE and (wanted_id or NULL_VERSION) not in ids:
        return Found.GONE, None
    if place is None:
        if is_exact(move.top_id) and (step is Step.REMOVE or (step is Step.UNHIDE and may_be_own)):
            return (Found.TAKEN, None) if may_be_own else (Found.GOAL, history[ids.index(wanted_id or NULL_VERSION)])
        above: Sequence[Listed] = ()
    else:
        above = history[place + 1 :]
        if not above:
            is_direct = step is not Step.UNHIDE or ids[place - 1 : place] == [wanted_id or NULL_VERSION]
            return (Found.AS_PLANNED if is_direct else Found.CHANGED), None
    if step is not Step.REMOVE:
        is_marker = step is Step.HIDE
        if above and may_be_own and above[0].is_delete_marker is is_marker:
            return Found.WRITTEN, above[0]
        if history and history[-1].is_delete_marker is is_marker:
            return Found.GOAL, history[-1]
    return Found.CHANGED, None


def _place(history: Sequence[Listed], ids: Sequence[str], move: Move) -> int | None:
    """Where the version is that the plan saw on top. A marker and an object never pass for each other, and a null
    version is another one by its ETag.
    """
    top_id, is_marker = move.top_id or NULL_VERSION, move.top_etag is None
    for place, (each, version_id) in enumerate(zip(history, ids, strict=True)):
        is_it = version_id == top_id and each.is_delete_marker is is_marker
        if is_it and (is_exact(version_id) or each.etag == move.top_etag):
            return place
    return None
