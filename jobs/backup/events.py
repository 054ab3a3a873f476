"""Object events: one frozen type for all shapes in which S3 announces them.

    S3 event notification    {"Records": [{"eventVersion": "2.1", "eventName": "ObjectCreated:Put", "s3": …}, …]}
    EventBridge              {"source": "aws.s3", "detail-type": "Object Created", "detail": {"version": "0", …}}
    SNS around either        {"Type": "Notification", "Message": "<one of these>"}
    S3's test message        {"Service": "Amazon S3", "Event": "s3:TestEvent", …}

Unknown fields are ignored, missing optional ones are None, an unknown major version is refused. So
is a value that S3 never sends (a key that is not UTF-8, a numeric sequencer, an infinite size). It
would break the ledger's names and lines, for other events too. Sources:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias
from urllib.parse import unquote_plus

import msgspec
from msgspec import Meta, Struct, field

from jobs.core.display import shown
from jobs.core.model import LATEST_SECONDS, NULL_VERSION, SIZE_LIMIT, parse_time
from jobs.errors import UsageError

KEY_BYTES = 1024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
_SHOWN_CHARACTERS = 200
_NAME_CHARACTERS = 100
_VersionId: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._~=+-]{0,512}\Z")] | None
"""URL-ready text (https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html).
S3's own have 32 characters. Longer ones than 512 would not fit into the ledger's names."""
_ETag: TypeAlias = Annotated[str, Meta(pattern=r"\A[!-~]{0,258}\Z")] | None
_BucketName: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,255}\Z")]
"""Buckets of before 2018 may have capitals and 255 characters."""


class _Bucket(Struct):
    name: _BucketName


class _Object(Struct):
    """An object as a notification or, from `version-id` on, EventBridge spells it."""

    key: Annotated[str, Meta(min_length=1)]
    size: Annotated[int, Meta(ge=0, lt=SIZE_LIMIT)] | None = None
    sequencer: Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f]{0,64}\Z")] | None = None
    version_id: _VersionId = field(name="versionId", default=None)
    etag: _ETag = field(name="eTag", default=None)
    bridged_version_id: _VersionId = field(name="version-id", default=None)
    bridged_etag: _ETag = field(name="etag", default=None)


class _Place(Struct, rename="kebab"):
    """The `s3` of a notification or, with `version` and `deletion-type`, the `detail` of EventBridge."""

    bucket: _Bucket
    object: _Object
    version: Annotated[str, Meta(pattern=r"\A0(\.|\Z)")] = "0"
    deletion_type: str = ""


class _Record(Struct, rename="camel"):
    event_version: Annotated[str, Meta(pattern=r"\A2(\.|\Z)")]
    event_name: str
    s3: _Place
    event_time: str | None = None


class _Message(Struct):
    """Any of the shapes: which one it is, its fields say."""

    type: str = field(name="Type", default="")
    message: str | None = field(name="Message", default=None)
    event: str = field(name="Event", default="")
    bucket: str = field(name="Bucket", default="")
    records: list[_Record] = field(name="Records", default_factory=list)
    detail_type: str | None = field(name="detail-type", default=None)
    source: str = ""
    time: str | None = None
    detail: _Place | None = None


class EventKind(StrEnum):
    """What happened. `removed`: a version went, or a delete marker came, by a user or a lifecycle rule."""

    CREATED = "created"
    REMOVED = "removed"
    RESTORE_COMPLETED = "restore_completed"
    TEST = "test"
    OTHER = "other"


class ObjectEvent(Struct, frozen=True):
    """One event of one object version.

    `name`: as S3 gave it. `key`: raw. `version_id`: None where the bucket keeps no versions.
    `etag`: without quotes. `event_time`: epoch seconds. Fields that the event does not have are
    None.
    """

    kind: EventKind
    name: str
    bucket: str
    key: str = ""
    version_id: str | None = None
    size_bytes: int | None = None
    etag: str | None = None
    sequencer: str | None = None
    event_time: float | None = None


def parse_message(body: str) -> list[ObjectEvent]:
    """Return the events in a message's body, in order.

    Raises UsageError for an invalid or unknown message.
    """
    try:
        return _events(msgspec.json.decode(body, type=_Message))
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:  # msgspec's are ValueErrors
        raise UsageError(f"the message is not an S3 event: {shown(str(error))[:_SHOWN_CHARACTERS]}") from error


def _events(message: _Message) -> list[ObjectEvent]:
    if message.type == "Notification" and message.message is not None:
        return parse_message(message.message)
    if message.event == "s3:TestEvent":
        return [ObjectEvent(EventKind.TEST, "s3:TestEvent", shown(message.bucket)[:_SHOWN_CHARACTERS])]
    if message.detail_type is not None:
        return [_bridged(message.detail_type, message)]
    if not message.records:
        raise ValueError("it has no Records")
    return [_notified(record) for record in message.records]


_KINDS = {
    "ObjectCreated": EventKind.CREATED,
    "ObjectRemoved": EventKind.REMOVED,
    "LifecycleExpiration": EventKind.REMOVED,
    "ObjectRestore:Completed": EventKind.RESTORE_COMPLETED,
    "Object Created": EventKind.CREATED,
    "Object Deleted": EventKind.REMOVED,
    "Object Restore Completed": EventKind.RESTORE_COMPLETED,
}


def _notified(record: _Record) -> ObjectEvent:
    name = record.event_name.removeprefix("s3:")
    key = unquote_plus(record.s3.object.key, errors="surrogateescape")
    return _event(name, name, key, record.s3, record.event_time)


def _bridged(kind: str, message: _Message) -> ObjectEvent:
    detail = message.detail
    if message.source != "aws.s3" or detail is None:
        raise ValueError(f"the event comes from {message.source!r}, not from aws.s3")
    # The journal tells markers from removals by the name, as in a notification's.
    is_marker = kind == "Object Deleted" and detail.deletion_type == "Delete Marker Created"
    name = f"{kind}: Delete Marker" if is_marker else kind
    return _event(kind, name, detail.object.key, detail, message.time)


def _event(kind: str, name: str, key: str, place: _Place, time: str | None) -> ObjectEvent:
    size_bytes = len(key.encode())  # bytes that are not UTF-8 were decoded to lone surrogates, which are no UTF-8
    if size_bytes > KEY_BYTES:
        raise ValueError(f"a key of {size_bytes:,} bytes: S3 has keys of at most {KEY_BYTES:,}")
    thing = place.object
    version_id = thing.version_id or thing.bridged_version_id
    at_seconds = None if time is None else parse_time(time)
    if at_seconds is not None and not 0.0 <= at_seconds <= LATEST_SECONDS:
        raise ValueError("the time is outside of the years 1970 to 9999")
    return ObjectEvent(
        _KINDS.get(kind) or _KINDS.get(kind.partition(":")[0], EventKind.OTHER),
        name[:_NAME_CHARACTERS],
        place.bucket.name,
        key,
        None if version_id in ("", NULL_VERSION) else version_id,
        thing.size,
        (thing.etag or thing.bridged_etag or "").strip('"') or None,
        thing.sequencer or None,
        at_seconds,
    )
