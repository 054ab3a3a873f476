"""`sealift restore --as-of` out of a bucket that the backup function filled: how its source was, and when."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.scheduler.conftest import Place
from tests.scheduler.event_samples import batch, notification

DAY = "2026-11-20"
"""Events of some days ago, whose copies are made today."""


@pytest.fixture
def told(place: Place) -> Place:
    """`a` put at 08:00, deleted at 08:20 (which the policy retains), put anew at 08:30; `b` put at 08:10; `lost` put at
    08:10 and removed for good at 08:40, before anybody could copy it."""
    events = [at("08:00", place.put("a", b"first")), at("08:10", place.put("b", b"bee"))]
    lost = place.put("lost")
    marker = place.client.delete_object(Bucket=place.source, Key="a")
    events.append(at("08:20", place.told("a", marker, "ObjectRemoved:DeleteMarkerCreated")))
    events.append(at("08:30", place.put("a", b"second")))
    gone = {"VersionId": lost["s3"]["object"]["versionId"]}
    place.client.delete_object(Bucket=place.source, Key="lost", **gone)
    events.append(at("08:40", place.told("lost", gone, "ObjectRemoved:Delete")))
    with place.function("backup") as backup:
        assert backup.invoke(batch(*map(notification, reversed(events)))).failed == []
        assert backup.invoke(batch(notification(at("08:10", lost)))).failed == []
    return place


def at(hour: str, event: dict[str, Any]) -> dict[str, Any]:
    return event | {"eventTime": f"{DAY}T{hour}:00.000Z"}


def restore(place: Place, when: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The report, and what came back."""
    folder = f"{when.replace(':', '')}/"
    command = [sys.executable, "-m", "jobs", "restore", "--source", f"s3://{place.hot}/copies/"]
    command += ["--as-of", f"{DAY}T{when}:00Z", "--destination", f"s3://{place.ledger}/{folder}", "--json"]
    done = subprocess.run(command, env=place.environment(), capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = place.client.list_objects_v2(Bucket=place.ledger, Prefix=folder).get("Contents", [])
    bodies = {
        entry["Key"].removeprefix(folder): place.client.get_object(Bucket=place.ledger, Key=entry["Key"])["Body"].read()
        for entry in found
    }
    return json.loads(done.stdout), bodies


@pytest.mark.parametrize(
    ("when", "expected", "lost"),
    [
        ("08:15", {"a": b"first", "b": b"bee"}, 1),
        ("08:25", {"b": b"bee"}, 1),
    ],
)
def test_the_source_comes_back_as_it_was_although_the_copies_are_of_today(
    told: Place, when: str, expected: dict[str, bytes], lost: int
) -> None:
    report, bodies = restore(told, when)
    assert bodies == expected
    assert report["outcomes"].get("done", 0) == len(expected)
    assert report["outcomes"].get("missing", 0) == lost
    assert not lost or report["reasons"][0]["detail"] == "event"


def test_what_is_no_journal_is_named_and_nothing_is_restored(told: Place) -> None:
    told.client.put_object(Bucket=told.ledger, Key=f"l/journal/dt={DAY}/forged.json", Body=b'{"key": "a"}\n')
    command = [sys.executable, "-m", "jobs", "restore", "--source", f"s3://{told.hot}/copies/", "--as-of", "1d"]
    command += ["--destination", f"s3://{told.ledger}/back/"]
    done = subprocess.run(command, env=told.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (10, 1)
    assert f"journal/dt={DAY}/forged.json is not a journal: it has no recorded_at" in done.stderr
