"""What SeaweedFS posts, as it was recorded of 4.48, and the events that S3 would send."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

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


def document(kind: str, path: str, new: dict[str, Any] | None, old: dict[str, Any] | None = None) -> dict[str, Any]:
    message: dict[str, Any] = {"old_entry": old} if old else {}
    message |= {"new_entry": new, "new_parent_path": path.rpartition("/")[0]} if new else {}
    return {"event_type": kind, "key": path, "message": message}


def change(kind: str, path: str, new: dict[str, Any] | None, old: dict[str, Any] | None = None) -> Change | None:
    return read_change(document(kind, path, new, old), NOW)


VERSION = entry(f"v_{ID}", {"Seaweed-X-Amz-ETag": '"f97c5d29941bfb1b2fdab0874906ab82"'})


def test_a_new_version_is_a_creation_at_its_own_time() -> None:
    found = change("create", f"{FOLDER}/v_{ID}", VERSION)
    assert found == Change("src", KEY, "ObjectCreated:Put", ID, 3, "f97c5d29941bfb1b2fdab0874906ab82", AT)
    (event,) = parse_message(json.dumps({"Records": [to_record(found, "us-east-1")]}))
    assert (event.kind, event.key, event.version_id, event.size_bytes) == (EventKind.CREATED, KEY, ID, 3)
    assert event.event_time is not None
    assert abs(event.event_time - AT / 1e9) < 0.001


def test_newer_versions_have_later_sequencers() -> None:
    later = "67131b243967ee4b4c54d87cf7d64d12"  # SeaweedFS counts down
    both = [change("create", f"{FOLDER}/v_{each}", entry(f"v_{each}")) for each in (ID, later)]
    first, second = (to_record(each, "r")["s3"]["object"]["sequencer"] for each in both if each)
    assert first < second


def test_a_delete_marker_and_a_removed_version() -> None:
    marker = change("create", f"{FOLDER}/v_{ID}", entry(f"v_{ID}", {"Seaweed-X-Amz-Delete-Marker": "true"}))
    assert marker is not None
    assert (marker.name, marker.version_id, marker.at_ns) == ("ObjectRemoved:DeleteMarkerCreated", ID, AT)
    gone = change("delete", f"{FOLDER}/v_{ID}", None, VERSION)
    assert gone == Change("src", KEY, "ObjectRemoved:Delete", ID, at_ns=NOW)


def test_another_current_version_only_touches_the_key() -> None:
    folder = entry(f"{KEY.rpartition('/')[2]}.versions", is_directory=True)
    assert change("update", FOLDER, folder, folder) == Change("src", KEY)
    noncurrent = change("update", f"{FOLDER}/v_{ID}", VERSION, VERSION)
    assert noncurrent is not None
    assert (noncurrent.key, noncurrent.name) == (KEY, "")


def test_a_bucket_without_versions() -> None:
    put = change("create", "/buckets/src/plain", entry("plain", {"Seaweed-X-Amz-ETag": "e"}))
    assert put == Change("src", "plain", "ObjectCreated:Put", None, 3, "e", NOW)
    again = change("update", "/buckets/src/plain", entry("plain"), entry("plain"))
    assert again is not None
    assert again.name == "ObjectCreated:Put"
    gone = change("delete", "/buckets/src/plain", None, entry("plain"))
    assert gone is not None
    assert (gone.name, gone.version_id) == ("ObjectRemoved:Delete", None)


def test_what_is_no_object_says_nothing() -> None:
    for path, made in (
        ("/buckets/src/a", entry("a", is_directory=True)),
        ("/buckets/src/.uploads/91f6/0001.part", entry("0001.part")),
        ("/buckets/src", entry("src", is_directory=True)),
        ("/etc/iam/identity.json", entry("identity.json")),
    ):
        assert change("create", path, made) is None, path
