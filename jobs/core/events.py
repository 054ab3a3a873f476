"""What S3 says happened to an object, whichever way it was told: one frozen type for all shapes.

    S3 event notification    {"Records": [{"eventVersion": "2.1", "eventName": "ObjectCreated:Put", "s3": …}, …]}
    EventBridge              {"source": "aws.s3", "detail-type": "Object Created", "detail": {"version": "0", …}}
    SNS around either        {"Type": "Notification", "Message": "<one of these>"}
    S3's test message        {"Service": "Amazon S3", "Event": "s3:TestEvent", …}

Unknown fields are ignored, missing optional ones are None, an unknown major version is refused. Sources:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote_plus

from jobs.core.model import parse_time
from jobs.errors import UsageError

RECORD_MAJOR = "2"
DETAIL_MAJOR = "0"
_SHOWN_CHARACTERS = 200


class Kind(StrEnum):
    """What happened. `lifecycle_expired`: by a lifecycle rule, an object removed or a delete marker made."""

    CREATED = "created"
    DELETED = "deleted"
    DELETE_MARKER = "delete_marker"
    LIFECYCLE_EXPIRED = "lifecycle_expired"
    RESTORE_COMPLETED = "restore_completed"
    TEST = "test"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One thing that happened to one object version.

    `name` as S3 gave it; `key` raw; `version_id` None where the bucket keeps no versions; `etag` without
    quotes; `event_time` epoch seconds; what the event did not say is None.
    """

    kind: Kind
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
        """Whether an object version is gone for good, not only hidden by a delete marker."""
        return self.kind is Kind.DELETED or (self.kind is Kind.LIFECYCLE_EXPIRED and "Marker" not in self.name)


def order_of(sequencer: str | None) -> str:
    """A text that sorts the events of one key as they happened; an unknown sequencer sorts first.

    S3 compares sequencers as hexadecimal after padding the shorter one with zeros on the right; leaving
    zeros out on the right of both compares alike.
    """
    return (sequencer or "").upper().rstrip("0")


def parse_message(body: str) -> list[ObjectEvent]:
    """The events in the body of one message, in its order. Raises UsageError when it is none, or of an unknown kind."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the message is not JSON ({error}): {_shown(body)}") from error
    return parse_document(document)


def parse_document(document: Any) -> list[ObjectEvent]:
    """The same from parsed JSON, as a function that is invoked without a queue gets it."""
    try:
        return _parse(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UsageError(f"the message is no S3 event ({what}): {_shown(json.dumps(document))}") from error


def _parse(document: Any) -> list[ObjectEvent]:
    if not isinstance(document, dict):
        raise TypeError(f"expected an object, found {type(document).__name__}")
    if document.get("Type") == "Notification" and "Message" in document:
        return parse_message(document["Message"])
    if document.get("Event") == "s3:TestEvent":
        return [ObjectEvent(Kind.TEST, "s3:TestEvent", str(document.get("Bucket", "")))]
    if "detail-type" in document:
        return [_from_eventbridge(document)]
    records = document["Records"]
    if not isinstance(records, list) or not records:
        raise ValueError("Records is no list with something in it")
    return [_from_record(record) for record in records]


_KINDS = {
    "ObjectCreated": Kind.CREATED,
    "ObjectRemoved": Kind.DELETED,
    "LifecycleExpiration": Kind.LIFECYCLE_EXPIRED,
}


def _from_record(record: Mapping[str, Any]) -> ObjectEvent:
    version = str(record["eventVersion"])
    if version.partition(".")[0] != RECORD_MAJOR:
        raise UsageError(f"an S3 event of version {version}; this Sealift reads {RECORD_MAJOR}.x: update it")
    name = str(record["eventName"]).removeprefix("s3:")
    family, _, action = name.partition(":")
    kind = _KINDS.get(family, Kind.OTHER)
    if kind is Kind.DELETED and action == "DeleteMarkerCreated":
        kind = Kind.DELETE_MARKER
    if name == "ObjectRestore:Completed":
        kind = Kind.RESTORE_COMPLETED
    told = record["s3"]
    thing = told["object"]
    return ObjectEvent(
        kind,
        name,
        _text(told["bucket"]["name"]),
        unquote_plus(_text(thing["key"]), errors="surrogateescape"),
        _version(thing.get("versionId")),
        _size(thing.get("size")),
        _etag(thing.get("eTag")),
        thing.get("sequencer"),
        _time(record.get("eventTime")),
    )


def _from_eventbridge(event: Mapping[str, Any]) -> ObjectEvent:
    name, detail = str(event["detail-type"]), event["detail"]
    if event.get("source") != "aws.s3":
        raise ValueError(f"the event comes from {event.get('source')!r}, not from aws.s3")
    version = str(detail["version"])
    if version.partition(".")[0] != DETAIL_MAJOR:
        raise UsageError(f"an EventBridge event of version {version}; this Sealift reads {DETAIL_MAJOR}: update it")
    kind = {"Object Created": Kind.CREATED, "Object Restore Completed": Kind.RESTORE_COMPLETED}.get(name, Kind.OTHER)
    if name == "Object Deleted":
        makes_marker = detail.get("deletion-type") == "Delete Marker Created"
        kind = Kind.DELETE_MARKER if makes_marker else Kind.DELETED
        name += ": Delete Marker" if makes_marker else ""
        if detail.get("reason") == "Lifecycle Expiration":
            kind = Kind.LIFECYCLE_EXPIRED
    thing = detail["object"]
    return ObjectEvent(
        kind,
        name,
        _text(detail["bucket"]["name"]),
        _text(thing["key"]),
        _version(thing.get("version-id")),
        _size(thing.get("size")),
        _etag(thing.get("etag")),
        thing.get("sequencer"),
        _time(event.get("time")),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a name, found {value!r}")
    return value


def _version(value: Any) -> str | None:
    return None if value in (None, "", "null") else _text(value)


def _size(value: Any) -> int | None:
    return None if value is None else int(value)


def _etag(value: Any) -> str | None:
    return None if value in (None, "") else _text(value).strip('"')


def _time(value: Any) -> float | None:
    return None if value is None else parse_time(value)


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
