"""SeaweedFS's notifications as S3's events. Pure.

| filer event                                       | S3 event                          |
|---------------------------------------------------|-----------------------------------|
| create /buckets/B/KEY.versions/v_ID               | ObjectCreated:Put                 |
| the same, of a delete marker                      | ObjectRemoved:DeleteMarkerCreated |
| delete /buckets/B/KEY.versions/v_ID               | ObjectRemoved:Delete              |
| create or update /buckets/B/KEY                   | ObjectCreated:Put, no versions    |
| delete /buckets/B/KEY                             | ObjectRemoved:Delete, no versions |
| update of the folder /buckets/B/KEY.versions      | none: another version is current  |

A version's id begins with its time, which is the event's sequencer. Sources:
https://github.com/seaweedfs/seaweedfs/wiki/Filer-Notification-Webhook
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote_plus

_BUCKETS = "/buckets/"
_VERSION = re.compile(r"(.+)\.versions/v_([0-9a-f]{32})", re.DOTALL)
_VERSIONS = ".versions"
_UPLOADS = ".uploads/"
_CREATED, _DELETED, _MARKED = "ObjectCreated:Put", "ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"
_INVERTED = 0x4000_0000_0000_0000
"""Ids of at least this much count nanoseconds down, so that the newest version is listed first."""


class Change(NamedTuple):
    """What happened to a key. `name`: of S3's event, empty where S3 sends none."""

    bucket: str
    key: str
    name: str = ""
    version_id: str | None = None
    size_bytes: int | None = None
    etag: str | None = None
    at_ns: int = 0


def read_change(document: Mapping[str, Any], now_ns: int) -> Change | None:
    """The change of a notification, None if it is about no object."""
    message = document["message"]
    new, old = message.get("new_entry"), message.get("old_entry")
    path = f"{message['new_parent_path']}/{new['name']}" if new else str(document["key"])
    bucket, _, key = path.removeprefix(_BUCKETS).partition("/")
    if not path.startswith(_BUCKETS) or not key or key.startswith(_UPLOADS):
        return None
    entry = new or old
    if entry.get("is_directory"):
        return Change(bucket, key.removesuffix(_VERSIONS)) if key.endswith(_VERSIONS) else None
    found = _VERSION.fullmatch(key)
    if found is None:
        return _of_file(Change(bucket, key, _CREATED if new else _DELETED, at_ns=now_ns), entry)
    change = Change(bucket, found[1], version_id=found[2], at_ns=_time_of(found[2]))
    if new is None:
        return change._replace(name=_DELETED, at_ns=now_ns)
    if old is not None:  # it is no longer the current one
        return change
    if _text(entry, "Seaweed-X-Amz-Delete-Marker") == "true":
        return change._replace(name=_MARKED)
    return _of_file(change._replace(name=_CREATED), entry)


def to_record(change: Change) -> dict[str, Any]:
    """The record of S3's notification."""
    fields = {
        "key": quote_plus(change.key, safe="/"),
        "size": change.size_bytes,
        "eTag": change.etag,
        "versionId": change.version_id,
        "sequencer": f"{change.at_ns:018X}",
    }
    return {
        "eventVersion": "2.1",
        "eventTime": datetime.fromtimestamp(change.at_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "eventName": change.name,
        "s3": {
            "bucket": {"name": change.bucket},
            "object": {name: value for name, value in fields.items() if value is not None},
        },
    }


def _of_file(change: Change, entry: Mapping[str, Any]) -> Change:
    size_bytes = int(entry.get("attributes", {}).get("file_size", 0))
    return change._replace(size_bytes=size_bytes, etag=_text(entry, "Seaweed-X-Amz-ETag").strip('"') or None)


def _text(entry: Mapping[str, Any], name: str) -> str:
    return base64.b64decode(entry.get("extended", {}).get(name, "")).decode()


def _time_of(version_id: str) -> int:
    number = int(version_id[:16], 16)
    return 0x7FFF_FFFF_FFFF_FFFF - number if number >= _INVERTED else number
