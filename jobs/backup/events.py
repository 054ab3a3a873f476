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

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote_plus

from jobs.core.model import LATEST_SECONDS, NULL_VERSION, SIZE_LIMIT, parse_time
from jobs.errors import UsageError

RECORD_MAJOR = "2"
DETAIL_MAJOR = "0"
KEY_BYTES = 1024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
_SHOWN_CHARACTERS = 200
_NAME_CHARACTERS = 100
_SEQUENCER = re.compile(r"[0-9A-Fa-f]{1,64}")
_VERSION_ID = re.compile(r"[A-Za-z0-9._~=+-]{1,512}")
"""URL-ready text (https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html).
S3's own have 32 characters. Longer ones than 512 would not fit into the ledger's names."""
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
"""Buckets of before 2018 may have capitals and 255 characters."""
_ETAG = re.compile(r"[!-~]{1,256}")


class EventKind(StrEnum):
    """What happened.

    `lifecycle_expired`: a lifecycle rule removed an object or made a delete marker.
    """

    CREATED = "created"
    DELETED = "deleted"
    DELETE_MARKER = "delete_marker"
    LIFECYCLE_EXPIRED = "lifecycle_expired"
    RESTORE_COMPLETED = "restore_completed"
    TEST = "test"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ObjectEvent:
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

    @property
    def removes_bytes(self) -> bool:
        """True if an object version is gone for good, not only hidden by a delete marker."""
        return self.kind is EventKind.DELETED or (
            self.kind is EventKind.LIFECYCLE_EXPIRED and "Marker" not in self.name
        )


def order_of(sequencer: str | None) -> str:
    """Return a text that sorts the events of one key as they happened.

    An unknown sequencer sorts first.

    S3 compares sequencers as hexadecimal after padding the shorter one with zeros on the right.
    Without the zeros on the right of both, the comparison is the same.
    """
    return (sequencer or "").upper().rstrip("0")


def parse_message(body: str) -> list[ObjectEvent]:
    """Return the events in a message's body, in order.

    Raises UsageError for an invalid or unknown message.
    """
    try:
        document = json.loads(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the message is not JSON ({error}): {_shown(body)}") from error
    return parse_document(document)


def parse_document(document: Any) -> list[ObjectEvent]:
    """Return the events in parsed JSON, as a function without a queue receives it.

    Raises UsageError.
    """
    try:
        return _parse(document)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        what = _shown(f"{type(error).__name__}: {error}")
        raise UsageError(f"the message is not an S3 event ({what}): {_shown(document)}") from error


def _parse(document: Any) -> list[ObjectEvent]:
    if not isinstance(document, dict):
        raise TypeError(f"expected an object, found {type(document).__name__}")
    if document.get("Type") == "Notification" and "Message" in document:
        return parse_message(document["Message"])
    if document.get("Event") == "s3:TestEvent":
        return [ObjectEvent(EventKind.TEST, "s3:TestEvent", _shown(document.get("Bucket", "")))]
    if "detail-type" in document:
        return [_from_eventbridge(document)]
    records = document["Records"]
    if not isinstance(records, list) or not records:
        raise ValueError("Records is not a list with entries")
    return [_from_record(record) for record in records]


_KINDS = {
    "ObjectCreated": EventKind.CREATED,
    "ObjectRemoved": EventKind.DELETED,
    "LifecycleExpiration": EventKind.LIFECYCLE_EXPIRED,
}


def _from_record(record: Mapping[str, Any]) -> ObjectEvent:
    version = str(record["eventVersion"])
    if version.partition(".")[0] != RECORD_MAJOR:
        raise UsageError(
            f"an S3 event of version {_shown(version)}; this Sealift reads {RECORD_MAJOR}.x", advice="update it"
        )
    name = str(record["eventName"]).removeprefix("s3:")
    family, _, action = name.partition(":")
    kind = _KINDS.get(family, EventKind.OTHER)
    if kind is EventKind.DELETED and action == "DeleteMarkerCreated":
        kind = EventKind.DELETE_MARKER
    if name == "ObjectRestore:Completed":
        kind = EventKind.RESTORE_COMPLETED
    entity = record["s3"]
    thing = entity["object"]
    return ObjectEvent(
        kind,
        name[:_NAME_CHARACTERS],
        _bucket(entity["bucket"]["name"]),
        _key(unquote_plus(_text(thing["key"]), errors="surrogateescape")),
        _version(thing.get("versionId")),
        _size(thing.get("size")),
        _etag(thing.get("eTag")),
        _sequencer(thing.get("sequencer")),
        _time(record.get("eventTime")),
    )


def _from_eventbridge(event: Mapping[str, Any]) -> ObjectEvent:
    name, detail = str(event["detail-type"]), event["detail"]
    if event.get("source") != "aws.s3":
        raise ValueError(f"the event comes from {event.get('source')!r}, not from aws.s3")
    version = str(detail["version"])
    if version.partition(".")[0] != DETAIL_MAJOR:
        raise UsageError(
            f"an EventBridge event of version {_shown(version)}; this Sealift reads {DETAIL_MAJOR}", advice="update it"
        )
    kind = {"Object Created": EventKind.CREATED, "Object Restore Completed": EventKind.RESTORE_COMPLETED}.get(
        name, EventKind.OTHER
    )
    if name == "Object Deleted":
        makes_marker = detail.get("deletion-type") == "Delete Marker Created"
        kind = EventKind.DELETE_MARKER if makes_marker else EventKind.DELETED
        name += ": Delete Marker" if makes_marker else ""
        if detail.get("reason") == "Lifecycle Expiration":
            kind = EventKind.LIFECYCLE_EXPIRED
    thing = detail["object"]
    return ObjectEvent(
        kind,
        name[:_NAME_CHARACTERS],
        _bucket(detail["bucket"]["name"]),
        _key(_text(thing["key"])),
        _version(thing.get("version-id")),
        _size(thing.get("size")),
        _etag(thing.get("etag")),
        _sequencer(thing.get("sequencer")),
        _time(event.get("time")),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a name, found {value!r}")
    return value


def _bucket(value: Any) -> str:
    return _formed("bucket", value, _BUCKET)


def _key(key: str) -> str:
    """Return a valid key.

    Bytes that are not UTF-8 were decoded to a lone surrogate, which is invalid.
    """
    size_bytes = len(key.encode())  # UnicodeEncodeError is a ValueError
    if size_bytes > KEY_BYTES:
        raise ValueError(f"a key of {size_bytes:,} bytes: S3 has keys of at most {KEY_BYTES:,}")
    return key


def _version(value: Any) -> str | None:
    return None if value in (None, "", NULL_VERSION) else _formed("version id", value, _VERSION_ID)


def _sequencer(value: Any) -> str | None:
    return None if value in (None, "") else _formed("sequencer", value, _SEQUENCER)


def _formed(what: str, value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"the {what} is {value!r}")
    return value


def _size(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not math.isfinite(value):
        raise ValueError(f"the size is {value}")
    size_bytes = int(value)
    if not 0 <= size_bytes < SIZE_LIMIT:
        raise ValueError("the size is not a number of bytes that an object can have")
    return size_bytes


def _etag(value: Any) -> str | None:
    return None if value in (None, "") else _formed("ETag", _text(value).strip('"'), _ETAG)


def _time(value: Any) -> float | None:
    if value is None:
        return None
    at_seconds = parse_time(value)
    if not 0.0 <= at_seconds <= LATEST_SECONDS:
        raise ValueError("the time is outside of the years 1970 to 9999")
    return at_seconds


def _shown(value: Any) -> str:
    """Return the beginning of an unknown value, without characters that a file or terminal cannot
    hold.
    """
    text = value if isinstance(value, str) else _spelled(value)
    text = text[:_SHOWN_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    return text if len(text) < _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _spelled(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except (ValueError, RecursionError):  # a document may be nested deeper than can be written
        return f"a {type(value).__name__}"
