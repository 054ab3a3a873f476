"""What a report says is read exactly; what was tampered with, cut or lost is refused, with the name of the file."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.orc
import pytest

from jobs.core.model import Listed, Location
from jobs.errors import ManifestError
from jobs.inventory.report import open_inventory
from jobs.inventory.write import write_inventory
from jobs.tables.rows import manifest_schema, write_parquet
from tests.doubles.list_store import Shelf
from tests.inventory.samples import ODD_KEYS

NOW = 1764030820.0
MANIFEST = "inv/src/daily/2026-11-25T00-00Z/manifest.json"
CSV_SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"


def read(shelf: Any, location: Any = None) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        inventory = await open_inventory(shelf, location or Location("dst", MANIFEST))
        rows = []
        async for batch in inventory.batches(shelf):
            assert batch.schema == manifest_schema()
            rows += batch.to_pylist()
        return rows

    return asyncio.run(run())


def publish(shelf: Shelf, data: dict[str, bytes], file_format="CSV", schema=CSV_SCHEMA, **changes: Any) -> None:
    """A report as S3 delivers it, with these data files."""
    manifest: dict[str, Any] = {
        "sourceBucket": "src",
        "destinationBucket": "arn:aws:s3:::dst",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": file_format,
        "fileSchema": schema,
        "files": [
            {"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()} for key, body in data.items()
        ],
    }
    shelf.objects |= {("dst", key): body for key, body in data.items()}
    put_manifest(shelf, json.dumps(manifest | changes).encode())


def put_manifest(shelf: Shelf, content: bytes) -> None:
    shelf.objects["dst", MANIFEST] = content
    shelf.objects["dst", MANIFEST.replace(".json", ".checksum")] = hashlib.md5(content).hexdigest().encode() + b"\n"


def csv(*lines: str) -> bytes:
    return gzip.compress("".join(line + "\n" for line in lines).encode())


DATA = "inv/src/daily/data/one.csv.gz"
LINE = '"src","k%C3%A9+y","v1","true","false","12","2016-11-06T21:32:00.000Z","abc","STANDARD"'


@pytest.mark.parametrize("versions", [False, True], ids=["current", "all"])
def test_a_report_that_was_written_reads_the_same(versions):
    named, times = "v1" if versions else None, [NOW - number - 0.125 for number in range(len(ODD_KEYS))]
    entries = [
        Listed(key, named, True, False, number, f"etag{number}", times[number], "GLACIER", "SHA256")
        for number, key in enumerate(ODD_KEYS)
    ]
    if versions:
        entries += [
            Listed("a b", "null", False, False, 0, "e", NOW, "STANDARD"),
            Listed("a b", "v0", False, True, None, None, NOW, None),
        ]
    shelf = Shelf(entries)
    store: Any = shelf
    how: Any = {"versions": versions, "now": NOW, "on_progress": None}
    written = asyncio.run(write_inventory(store, Location("src"), store, Location("dst", "x/"), **how))
    rows = read(shelf, Location.parse(written.manifest))
    expected = [
        dict.fromkeys(manifest_schema().names)
        | {name: value for name, value in entry._asdict().items() if name in manifest_schema().names}
        | {"last_modified": datetime.fromtimestamp(entry.last_modified, UTC)}
        for entry in entries
    ]

    def order(row):
        return row["key"], row["version_id"] or ""

    assert sorted(rows, key=order) == sorted(expected, key=order)


def test_the_manifest_in_the_documentation_is_understood():
    shelf = Shelf()
    schema = CSV_SCHEMA + (
        ", IsMultipartUploaded, ReplicationStatus, EncryptionStatus, ObjectLockRetainUntilDate, ObjectLockMode, "
        "ObjectLockLegalHoldStatus, IntelligentTieringAccessTier, BucketKeyStatus, ChecksumAlgorithm"
    )
    rest = ',"false","","SSE-S3","","","","","DISABLED","SHA256"'
    marker = '"src","gone","","true","true","","2016-11-06T21:32:00.000Z","",""' + ',"false","","","","","","","",""'
    publish(shelf, {DATA: csv(LINE + rest, marker)}, schema=schema)
    when = datetime(2016, 11, 6, 21, 32, tzinfo=UTC)
    assert [list(row.values())[:8] for row in read(shelf)] == [
        ["ké y", "v1", True, False, 12, "abc", when, "STANDARD"],
        ["gone", "null", True, True, None, None, when, None],
    ]
    inventory = asyncio.run(open_inventory(shelf, Location("dst", MANIFEST)))  # type: ignore[arg-type]  # as above
    assert (inventory.source_bucket, inventory.destination_bucket, inventory.created_at) == ("src", "dst", 1514944800.0)
    assert inventory.has_field("VersionId")


def orc(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.orc.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("file_format", "encode", "schema"),
    [
        (
            "Parquet",
            write_parquet,
            "message m {  optional binary e_tag (STRING);  required binary key (STRING);}",
        ),
        ("ORC", orc, "struct<e_tag:string,key:string>"),
    ],
)
def test_columns_come_in_any_order_and_number_and_binary_keys_are_raw(file_format, encode, schema):
    shelf = Shelf()
    table = pa.table({"e_tag": ['"abc"', ""], "key": ["a+b%20c", "x y"]})
    publish(shelf, {"inv/src/daily/data/f": encode(table)}, file_format, schema)
    rows = read(shelf)
    assert [(row["key"], row["etag"], row["version_id"]) for row in rows] == [
        ("a+b%20c", "abc", None),
        ("x y", None, None),
    ]
    assert all(row["is_latest"] and not row["is_delete_marker"] for row in rows)


def test_a_file_of_many_gzip_members_is_read_to_its_end_and_one_without_rows_is_no_error():
    shelf = Shelf()
    publish(shelf, {DATA: csv(), "inv/src/daily/data/two.csv.gz": csv(LINE) + csv(LINE.replace("k%", "z%"))})
    assert [row["key"] for row in read(shelf)] == ["ké y", "zé y"]


def test_a_large_file_is_read_in_bounded_ranges(monkeypatch):
    monkeypatch.setattr("jobs.s3.downloads.RANGE_BYTES", 1000)
    shelf = Shelf()
    lines = [LINE.replace("abc", hashlib.md5(str(number).encode()).hexdigest()) for number in range(2000)]
    publish(shelf, {DATA: csv(*lines)})
    assert len(shelf.objects["dst", DATA]) > 30_000
    assert len(read(shelf)) == 2000
    assert shelf.largest_read_bytes <= max(1000, len(shelf.objects["dst", MANIFEST]))


def flip(body: bytes) -> bytes:
    return body[:20] + bytes([body[20] ^ 1]) + body[21:]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [(flip, "has the MD5"), (lambda body: body[:-1], "truncated or replaced"), (lambda body: None, "is missing")],
    ids=["tampered", "truncated", "lost"],
)
def test_a_damaged_data_file_is_refused_and_gives_no_row(damage, problem):
    shelf: Any = Shelf([Listed(key, None, True, False, 1, "e", NOW, "STANDARD") for key in ODD_KEYS])
    here = Location("dst")
    written = asyncio.run(write_inventory(shelf, here, shelf, here, versions=False, now=NOW, on_progress=None))
    name = next(place for place in shelf.objects if "/data/" in place[1])
    body = damage(shelf.objects.pop(name))
    if body is not None:
        shelf.objects[name] = body
    with pytest.raises(ManifestError, match=problem) as error:
        read(shelf, Location.parse(written.manifest))
    assert name[1] in str(error.value)
    assert written.manifest in str(error.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fileFormat": "Avro"}, "Avro.*fileFormat"),
        ({"version": "2031-01-01"}, "2031-01-01.*version"),
        ({"fileSchema": "Bucket, VersionId"}, "the key among them"),
        ({"fileSchema": "Bucket, Key, Key"}, "each column once"),
        ({"sourceBucket": None}, "sourceBucket"),
        ({"creationTimestamp": "yesterday"}, "creationTimestamp"),
        ({"files": {}}, "files"),
        ({"files": [{"key": "x"}]}, "files"),
        ({"files": [{"key": "x", "size": -1, "MD5checksum": "0"}]}, "files"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(changes, problem):
    shelf = Shelf()
    publish(shelf, {DATA: csv(LINE)}, **changes)
    with pytest.raises(ManifestError, match=problem) as error:
        read(shelf)
    assert str(error.value).startswith(f"s3://dst/{MANIFEST} is not")


def test_a_changed_manifest_is_refused_and_a_report_without_its_checksum_is_not_complete():
    shelf = Shelf()
    publish(shelf, {DATA: csv(LINE)})
    shelf.objects["dst", MANIFEST] += b" "
    with pytest.raises(ManifestError, match="the manifest was changed"):
        read(shelf)
    del shelf.objects["dst", MANIFEST.replace(".json", ".checksum")]
    with pytest.raises(ManifestError, match=r"manifest\.checksum does not exist: the report is not complete"):
        read(shelf)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (LINE + ',"more"', "Expected 9 columns, got 10"),
        (LINE.replace('"12"', '"twelve"'), "twelve"),
        (LINE.replace('"true"', '"maybe"'), "maybe"),
        (LINE.replace("k%C3%A9+y", ""), "a row has no key"),
        (LINE.replace("k%C3%A9+y", "%FF"), "utf-8"),
        (LINE.replace('"src"', '"other"'), "names the bucket 'other'"),
        (LINE.replace("2016-11", "2016-13"), "2016-13"),
    ],
)
def test_a_row_that_cannot_be_understood_is_an_error_and_is_not_dropped(line, problem):
    shelf = Shelf()
    publish(shelf, {DATA: csv(LINE, line)})
    with pytest.raises(ManifestError, match=problem) as error:
        read(shelf)
    assert f"s3://dst/{DATA} cannot be read as CSV" in str(error.value)


@pytest.mark.parametrize("file_format", ["CSV", "ORC", "Parquet"])
def test_a_file_of_another_format_than_promised_is_refused(file_format):
    shelf = Shelf()
    schema = {"CSV": "Key", "ORC": "struct<key:string>", "Parquet": "message m { required binary key (UTF8); }"}
    publish(shelf, {DATA: b"these are no rows"}, file_format, schema[file_format])
    with pytest.raises(ManifestError, match=f"cannot be read as {file_format}"):
        read(shelf)


def test_a_report_that_was_copied_elsewhere_is_read_there():
    shelf = Shelf()
    publish(shelf, {DATA: csv(LINE)})
    for bucket, key in list(shelf.objects):
        shelf.objects["copy", "moved/" + key.removeprefix("inv/")] = shelf.objects.pop((bucket, key))
    assert len(read(shelf, Location("copy", "moved/" + MANIFEST.removeprefix("inv/")))) == 1
    shelf.denied = frozenset({"dst"})
    assert len(read(shelf, Location("copy", "moved/" + MANIFEST.removeprefix("inv/")))) == 1


def test_a_report_on_disk_is_read_from_there_or_from_its_bucket(tmp_path):
    shelf = Shelf()
    publish(shelf, {DATA: csv(LINE)})
    manifest = tmp_path / MANIFEST
    manifest.parent.mkdir(parents=True)
    for suffix in (".json", ".checksum"):
        manifest.with_suffix(suffix).write_bytes(shelf.objects["dst", MANIFEST.replace(".json", suffix)])
    assert len(read(shelf, manifest)) == 1
    (tmp_path / DATA).parent.mkdir()
    (tmp_path / DATA).write_bytes(shelf.objects["dst", DATA])
    assert len(read(Shelf(), manifest)) == 1
    (tmp_path / DATA).write_bytes(flip(shelf.objects["dst", DATA]))
    with pytest.raises(ManifestError, match="has the MD5"):
        read(shelf, manifest)
