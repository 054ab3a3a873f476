"""The decision about a row of a replicate run, from both sides' facts. No I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from jobs.core.evidence import NOT_THE_ONE_NAMED, Verdict, is_multipart, is_named
from jobs.core.model import ObjectInfo, ObjectVersion
from jobs.core.outcome import Evidence, Status


class Overwrite(StrEnum):
    """When an existing destination object that differs may be replaced."""

    OLDER = "older"
    ALWAYS = "always"
    NEVER = "never"


class Origin(StrEnum):
    """What the destination's object was made from, by the source's history of the key."""

    OLDER_VERSION = "older version"
    UNKNOWN = "unknown"


class Action(NamedTuple):
    """`copy`: copy, and replace only the object with the ETag `replaces` (None: nothing may be
    there).

    `prove`: no stored checksums are comparable, so read both sides and decide again. `trace`: find
    the `Origin` of the destination's object and decide again. Otherwise the row ends with `status`
    and `reason`.
    """

    copy: bool = False
    prove: bool = False
    trace: bool = False
    replaces: str | None = None
    status: Status | None = None
    reason: str = ""


def decide(
    row: ObjectVersion,
    source: ObjectInfo | None,
    destination: ObjectInfo | None,
    verdict: Verdict | None,
    overwrite: Overwrite = Overwrite.OLDER,
    origin: Origin | None = None,
) -> Action:
    """Decide the action for a row of the manifest.

    `source` and `destination` are what HEAD says (None: not there), `verdict` how they compare
    (None when one is not there). A condemned ETag comes from a file in the ledger. It never
    replaces an object that does not differ now. What S3 keeps beside the bytes of a condemned
    object proves nothing: the finding was about the bytes. A damaged source is never copied. Where
    the copy is intact and the source may be damaged, condemning the copy means nothing.
    `origin` is None before it was looked for.

    S3 dates an object that was uploaded in parts by the beginning of its upload. A copy of the
    object before it may be newer than that. So a newer destination says nothing there, and what it
    was made from decides. The first line that fits decides:

    | source            | destination                     | verdict   | overwrite | action                     |
    |-------------------|---------------------------------|-----------|-----------|----------------------------|
    | gone              |                                 |           |           | missing                    |
    | another ETag      |                                 |           |           | changed                    |
    | archived          | not there                       |           |           | archived                   |
    | there             | not there                       |           |           | copy, nothing there        |
    | there             | the condemned ETag              | same      |           | prove                      |
    | archived          | the condemned ETag              | same      |           | archived                   |
    | there             | there                           | same      |           | same                       |
    | there             | there                           | by bytes  |           | same                       |
    | there             | the condemned ETag              | by bytes  |           | same                       |
    | archived          | there                           | same      |           | same                       |
    | archived          | there                           | different |           | archived                   |
    | archived          | there                           | unknown   |           | archived                   |
    | there             | there                           | unknown   |           | prove                      |
    | there             | there                           | damaged   |           | damaged                    |
    | there             | the condemned ETag              | damaged   |           | damaged                    |
    | there             | the condemned ETag              | different |           | copy over it               |
    | there             | the condemned ETag              | intact    | older     | changed: it is newer       |
    | there             | there                           | different | never     | changed: it is in the way  |
    | there             | there                           | different | always    | copy over it               |
    | there             | older than the source           | different | older     | copy over it               |
    | in parts          | as new or newer                 | different | older     | trace                      |
    | in parts          | made from an older version      | different | older     | copy over it               |
    | in parts          | of unknown origin               | different | older     | changed: which is newer    |
    | there             | as new or newer                 | different | older     | changed: it is newer       |
    """
    if source is None:
        return Action(status=Status.MISSING, reason="the source object is gone")
    if not is_named(row, source):
        return Action(status=Status.CHANGED, reason=NOT_THE_ONE_NAMED)
    if destination is None:
        return Action(status=Status.ARCHIVED, reason=_ARCHIVED) if source.is_archived else Action(copy=True)
    if verdict is None:
        raise ValueError("two objects need a verdict")
    is_condemned = row.condemned_etag == destination.etag
    if verdict.same and (verdict.evidence is Evidence.CONTENT or not is_condemned):
        return Action(status=Status.SAME)
    if source.is_archived:
        return Action(status=Status.ARCHIVED, reason=_ARCHIVED)
    if verdict.same is not False:
        return Action(prove=True)
    if verdict.is_source_damaged:
        return Action(status=Status.DAMAGED, reason=verdict.reason)
    if is_condemned and not verdict.is_copy_intact:
        return Action(copy=True, replaces=destination.etag)
    if overwrite is Overwrite.NEVER:
        return Action(status=Status.CHANGED, reason=f"another object is at the destination ({verdict.reason})")
    if overwrite is Overwrite.ALWAYS or destination.last_modified < source.last_modified:
        return Action(copy=True, replaces=destination.etag)
    if not is_multipart(source.etag):
        return Action(status=Status.CHANGED, reason=f"the destination is newer and different ({verdict.reason})")
    if origin is None:
        return Action(trace=True)
    if origin is Origin.OLDER_VERSION:
        return Action(copy=True, replaces=destination.etag)
    return Action(status=Status.CHANGED, reason=f"{_UNSURE if verdict.is_copy_intact else _UNDATED} ({verdict.reason})")


_UNDATED = (
    "the destination differs, and which is newer is unknown: the source was uploaded in parts, S3 dates it by the "
    "beginning of the upload, and the destination's object is no copy of an older version of it: "
    "replace it with --overwrite always, or verify and retry that run"
)
_UNSURE = (
    "one of the two is wrong, and nothing shows which: compare both, then restore the source from what is right, "
    "or replace the copy with --overwrite always"
)
_ARCHIVED = "the source must be restored from its archive class first"
