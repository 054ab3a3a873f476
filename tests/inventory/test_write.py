"""A report is complete or is none; what it says is what was listed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import Listed, Location
from jobs.errors import ConfigError, NotFound, Unavailable
from jobs.inventory import data_files
from jobs.inventory.write import InventoryWritten, write_inventory
from jobs.s3.retries import once
from tests.doubles.list_store import Shelf

NOW = 1764030820.25  # 2025-11-25T00:33:40Z
FOLDER = "reports/src/sealift/2025-11-25T00-33Z"


def listed(key: str, **changes: Any) -> Listed:
    return Listed(key, None, True, False, 5, "abc", NOW - 60, "STANDARD")._replace(**changes)


def write(shelf: Any, **options: Any) -> InventoryWritten:
    arguments: dict[str, Any] = {"versions": False, "now": NOW, "on_progress": None} | options
    return asyncio.run(write_inventory(shelf, Location("src"), shelf, Location("dst", "reports"), **arguments))


def test_a_report_has_the_shape_of_s3_inventory():
    shelf = Shelf([listed("a"), listed("b", size_bytes=7)])
    written = write(shelf)
    manifest = json.loads(shelf.objects["dst", f"{FOLDER}/manifest.json"])
    data = shelf.objects["dst", manifest["files"][0]["key"]]
    assert manifest["files"][0]["key"].startswith("reports/src/sealift/data/")
    assert manifest["files"][0]["key"].endswith(".parquet")
    assert manifest["files"] == [
        {"key": manifest["files"][0]["key"], "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}
    ]
    del manifest["files"]
    assert manifest.pop("createdBy") == "sealift"  # the one thing that S3's own do not have
    assert manifest == {
        "sourceBucket": "src",
        "destinationBucket": "arn:aws:s3:::dst",
        "version": "2016-11-30",
        "creationTimestamp": "1764030820250",
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); "
        "optional int64 size; optional int64 last_modified_date (TIMESTAMP_MILLIS); optional binary e_tag (UTF8); "
        "optional binary storage_class (UTF8); optional binary checksum_algorithm (UTF8); }",
    }
    assert written == InventoryWritten(f"s3://dst/{FOLDER}/manifest.json", rows=2, size_bytes=12, files=1)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_report_of_the_same_minute_is_refused_before_anything_is_listed_and_is_completed(is_killed):
    """Killed before its checksum, it was none for a night that was started again in that minute, and which could
    write none.
    """
    shelf = Shelf([listed("a")])
    write(shelf)
    before = dict(shelf.objects)
    if is_killed:
        del shelf.objects["dst", f"{FOLDER}/manifest.checksum"]
    with pytest.raises(ConfigError, match=rf"s3://dst/{FOLDER}/manifest\.json exists already"):
        write(shelf, now=NOW + 15)
    assert shelf.objects == before


def test_of_two_reports_at_once_only_one_is_published():
    class Late(Shelf):
        async def head(self, ref, *, part_number=None):
            raise NotFound("HeadObject", str(ref), "NoSuchKey", status=404)

    shelf = Late([listed("a")])
    write(shelf)
    content = shelf.objects["dst", f"{FOLDER}/manifest.json"]
    with pytest.raises(ConfigError, match="exists already"):
        write(shelf)
    assert shelf.objects["dst", f"{FOLDER}/manifest.json"] == content


def test_a_listing_that_breaks_leaves_no_manifest(monkeypatch):
    monkeypatch.setattr("jobs.s3.listing.persist", once)

    class Breaking(Shelf):
        async def list_objects(self, bucket, prefix, *, after=None, delimiter="", max_keys=1000):
            if after is not None:
                raise Unavailable("ListObjectsV2", "s3://src/", "ConnectionLost")
            return await super().list_objects(bucket, prefix, max_keys=max_keys)

    shelf = Breaking([listed(f"k{number:05d}") for number in range(3000)])
    with pytest.raises(Unavailable):
        write(shelf)
    assert not [key for _, key in shelf.objects if "manifest" in key]


@pytest.mark.parametrize(("ahead_seconds", "dated"), [(0.0, 0.5), (30.0, 1.0), (-30.0, 0.0)])
def test_a_report_is_dated_by_the_clock_of_s3(ahead_seconds: float, dated: float) -> None:
    shelf = Shelf([listed("a")], server_clock=NOW - elapsed_seconds())
    manifest = write(shelf, now=NOW + 0.5 + ahead_seconds).manifest.removeprefix("s3://dst/")
    created = int(json.loads(shelf.objects["dst", manifest])["creationTimestamp"]) / 1000
    assert created == pytest.approx(NOW + dated, abs=0.4)


def test_rows_are_written_in_bounded_groups_and_files(monkeypatch):
    monkeypatch.setattr(data_files, "GROUP_ROWS", 1000)
    monkeypatch.setattr(data_files, "FILE_ROWS", 2000)
    groups = []
    add = data_files.ReportFile.add

    def record(file, pages):
        groups.append(sum(map(len, pages)))
        add(file, pages)

    monkeypatch.setattr(data_files.ReportFile, "add", record)
    progress: list[tuple[int, int]] = []
    shelf = Shelf([listed(f"k{number:05d}") for number in range(9500)])
    written = write(shelf, on_progress=lambda rows, size_bytes: progress.append((rows, size_bytes)))
    assert (written.rows, sum(groups)) == (9500, 9500)
    assert max(groups) < 2000
    assert 4 <= written.files <= 5
    assert progress[-1] == (9500, 9500 * 5)
    assert progress == sorted(progress)
