"""What SeaweedFS posts, as it was recorded of 4.48, and the events that S3 would send."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from jobs.backup.events import EventKind, parse_message
from jobs.local.filer_events import Change, read_change, to_record

NOW = 1796061990_000000000
ID = "67131b2482d7eda53d19abee0490bd95"
AT = 0x7FFFFFFFFFFFFFFF - 0x67131B2482D7EDA5
"""2026-11-30T18:06:22.98Z, when the version was written."""
KEY = "a/b c+ü.txt"
FOLDER = f"/buckets/src/{KEY}.versions"


def entry(name: str, extended: Mapping[str, str] = {}, *, is_directory: bool = False) -> dict[str, Any]:
    said = {name: base64.b64encode(value.encode()).decode() for name, value in extended.items()}
    return {"name": name, "is_directory": is_directory, "attributes": {"file_size": 3}, "extended": said}


VERSION = entry(f"v_{ID}", {"Seaweed-X-Amz-ETag": '"f97c5d29941bfb1b2fdab0874906ab82"'})
MARKER = entry(f"v_{ID}", {"Seaweed-X-Amz-Delete-Marker": "true"})
VERSIONS, PLAIN = (
    entry(f"{KEY.rpartition('/')[2]}.versions", is_directory=True),
    entry("plain", {"Seaweed-X-Amz-ETag": "e"}),
)
PUT, DELETED, MARKED = "ObjectCreated:Put", "ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"
Entry = dict[str, Any] | None


@pytest.mark.parametrize(
    ("path", "old", "new", "change"),
    [
        (f"{FOLDER}/v_{ID}", None, VERSION, Change("src", KEY, PUT, ID, 3, "f97c5d29941bfb1b2fdab0874906ab82", AT)),
        (f"{FOLDER}/v_{ID}", None, MARKER, Change("src", KEY, MARKED, ID, at_ns=AT)),
        (f"{FOLDER}/v_{ID}", VERSION, None, Change("src", KEY, DELETED, ID, at_ns=NOW)),
        # Another version is the current one.
        (FOLDER, VERSIONS, VERSIONS, Change("src", KEY)),
        (f"{FOLDER}/v_{ID}", VERSION, VERSION, Change("src", KEY, version_id=ID, at_ns=AT)),
        # A bucket without versions.
        ("/buckets/src/plain", None, PLAIN, Change("src", "plain", PUT, None, 3, "e", NOW)),
        ("/buckets/src/plain", PLAIN, PLAIN, Change("src", "plain", PUT, None, 3, "e", NOW)),
        ("/buckets/src/plain", PLAIN, None, Change("src", "plain", DELETED, size_bytes=3, etag="e", at_ns=NOW)),
        # No objects.
        ("/buckets/src/a", None, entry("a", is_directory=True), None),
        ("/buckets/src/.uploads/91f6/0001.part", None, entry("0001.part"), None),
        ("/buckets/src", None, entry("src", is_directory=True), None),
        ("/etc/iam/identity.json", None, entry("identity.json"), None),
    ],
)
def test_what_is_posted_is_the_change_of_a_key(path: str, old: Entry, new: Entry, change: Change | None) -> None:
    message = ({"old_entry": old} if old else {}) | (
        {"new_entry": new, "new_parent_path": path.rpartition("/")[0]} if new else {}
    )
    assert read_change({"event_type": "any", "key": path, "message": message}, NOW) == change


def test_the_event_of_a_change_is_one_of_s3s_and_newer_versions_have_later_sequencers() -> None:
    change = Change("src", KEY, PUT, ID, 3, "e", AT)
    (event,) = parse_message(json.dumps({"Records": [to_record(change)]}))
    assert (event.kind, event.key, event.version_id, event.size_bytes) == (EventKind.CREATED, KEY, ID, 3)
    assert event.event_time is not None
    assert abs(event.event_time - AT / 1e9) < 0.001
    later = "67131b243967ee4b4c54d87cf7d64d12"  # SeaweedFS counts down
    message = {"new_entry": entry(f"v_{later}"), "new_parent_path": FOLDER}
    newer = read_change({"key": "", "message": message}, NOW)
    assert newer is not None
    assert to_record(newer)["s3"]["object"]["sequencer"] > to_record(change)["s3"]["object"]["sequencer"]
