from __future__ import annotations

import asyncio
import csv
import datetime
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import manifests
from jobs.core.model import Attributes, ObjectRef
from jobs.errors import ConfigError, ManifestError, NoSuchBucket, NotFound, PreconditionFailed, UsageError
from jobs.manifests import open_manifest
from jobs.s3 import downloads
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import manifest_schema
from tests.doubles.examples import examples
from tests.doubles.list_store import Shelf
from tests.doubles.memory_store import MemoryStore

NO_STORE: Any = None  # a local manifest needs none
NO_TEXT = pa.array([b"ok", b"a\xff"]).view(pa.string())
"""Writers of Parquet are not made to look at what they call a text."""
UNKNOWN = dict.fromkeys(manifest_schema().names) | {"is_latest": True, "is_delete_marker": False}


def read(path, store=NO_STORE, **options):
    """(bucket, all rows) of a manifest."""

    async def run():
        manifest = await open_manifest(str(path), store, **options)
        return manifest.bucket, [each async for each in manifest.batches]

    bucket, batches = asyncio.run(run())
    assert all(batch.schema.equals(manifest_schema()) and batch.num_rows for batch in batches)
    return bucket, [row for batch in batches for row in batch.to_pylist()]


def written(path, content):
    """A Parquet file of these columns, or a file of these bytes or this text."""
    if isinstance(content, dict):
        pq.write_table(pa.table(content), path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path, **columns):
    return written(path, columns)


# --- CSV


def test_a_csv_of_batch_operations(tmp_path):
    bucket, rows = read(written(tmp_path / "m.csv", "docs,a+b%2Bc%2F%C3%A9,v1\ndocs,plain/key,\n"))
    assert bucket == "docs"
    assert [(row["key"], row["version_id"]) for row in rows] == [("a b+c/é", "v1"), ("plain/key", None)]
    assert rows[0] == UNKNOWN | {"key": "a b+c/é", "version_id": "v1"}


def test_a_csv_may_say_size_and_time(tmp_path):
    lines = f"docs,a,,,\ndocs,b,v1,{(1 << 50) - 1},2026-11-25T00:33:40.125Z\ndocs,c,,0,2026-11-25T01:33:40+01:00\n"
    _, rows = read(written(tmp_path / "m.csv", lines))
    at = datetime.datetime(2026, 11, 25, 0, 33, 40, tzinfo=datetime.UTC)
    assert [(row["key"], row["version_id"], row["size_bytes"], row["last_modified"]) for row in rows] == [
        ("a", None, None, None),
        ("b", "v1", (1 << 50) - 1, at.replace(microsecond=125_000)),
        ("c", None, 0, at),
    ]


@pytest.mark.parametrize(
    ("line", "key"),
    [("docs,%2525", "%25"), ('docs,"a,b"', "a,b"), ('"docs","a""b"', 'a"b'), ("docs,a%0Ab%0D", "a\nb\r")],
)
def test_keys_are_decoded_exactly_once(tmp_path, line, key):
    assert read(written(tmp_path / "m.csv", line))[1][0]["key"] == key


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
@settings(deadline=None, max_examples=examples(200))
def test_any_key_survives_the_round_trip(tmp_path_factory, key):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(["docs", quote_plus(key, safe="/")])
    assert read(path)[1][0]["key"] == key


def test_a_compressed_csv_longer_than_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "BATCH_ROWS", 10)
    lines = "".join(f"docs,{number}\r\n" for number in range(35))
    _, rows = read(written(tmp_path / "m.CSV.GZ", gzip.compress(b"\xef\xbb\xbf" + lines.encode())))
    assert [row["key"] for row in rows] == [str(number) for number in range(35)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "has no rows"),
        ("docs\n", "row 1: 1 columns; write bucket,key or .* without a header"),
        ("docs,a,v,\u0667,\n", "column size_bytes is not int64"),
        ("docs,a,v,,yesterday\n", "column last_modified is not timestamp"),
        ("bucket,key,version_id,size,time\ndocs,a,v,7,\n", "names the bucket docs, expected bucket"),
        ("docs,a,v,more\n", "row 1: 4 columns"),
        ("docs,a\ndocs,b,v\n", "row 2: 3 columns"),
        ("docs,a\n\ndocs,b\n", "row 2: 0 columns"),
        ("docs,\n", "row 1: the key is empty"),
        (",a\n", "row 1: the bucket is empty"),
        ("docs,a\nother,b\n", "row 2 names the bucket other, expected docs"),
        ("docs,a%20%FF\n", r"the key b'a \\xff' is not UTF-8"),
        (b"docs,\xff\n", "not CSV in UTF-8"),
        ('docs,"a\n', "not CSV"),
        ('docs,"a"b\n', "not CSV"),
        ({"name": ["a"]}, r"has no column key \(it has name\)"),
        ({"key": pa.array([], pa.string())}, "has no rows"),
        ({"key": ["a", None]}, "row 2: the key is empty"),
        ({"key": ["a", ""]}, "row 2: the key is empty"),
        ({"key": pa.array([b"\xff"])}, "column key is not string"),
        ({"key": NO_TEXT}, "column key is not string"),
        ({"key": ["a", "b"], "etag": NO_TEXT}, "column etag is not string"),
        ({"key": ["a", "b"], "bucket": ["docs", "other"]}, "row 2 names the bucket other, expected docs"),
        ({"key": ["a", "b"], "bucket": ["docs", None]}, "row 2: the bucket is empty"),
        ({"key": ["a"], "bucket": [""]}, "row 1: the bucket is empty"),
        ({"key": ["a"], "size": ["large"]}, "column size_bytes is not int64"),
        ({"key": ["a"], "last_modified": [5]}, "column last_modified holds numbers"),
        ({"key": ["a"], "etag": [[1]]}, "column etag is not string"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_row_or_column(tmp_path, content, complaint):
    path = written(tmp_path / ("m.parquet" if isinstance(content, dict) else "m.csv"), content)
    with pytest.raises(ManifestError, match=complaint) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"docs,a\n",
        b"docs,a\n" * 9,
        *(gzip.compress(b"docs,a\n" * 9999, mtime=0)[:cut] for cut in (5, -20)),
        gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20,
    ],
)
def test_a_damaged_gz_is_refused(tmp_path, content):
    with pytest.raises(ManifestError, match="truncated or damaged"):
        read(written(tmp_path / "m.csv.gz", content))


def test_a_mistake_far_behind_the_first_rows_shows_while_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "BATCH_ROWS", 2)
    path = written(tmp_path / "m.csv", "docs,a\n" * 4 + "other,b\n")

    async def run():
        manifest = await open_manifest(str(path), NO_STORE)
        with pytest.raises(ManifestError, match="row 5"):
            [each async for each in manifest.batches]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "content"), [("m.csv", "docs,a\n"), ("m.parquet", {"key": ["a"], "bucket": ["docs"]})]
)
def test_a_manifest_about_another_bucket_than_expected_is_refused(tmp_path, name, content):
    path = written(tmp_path / name, content)
    with pytest.raises(ManifestError, match="names the bucket docs, expected other"):
        read(path, bucket="other")
    assert read(path, bucket="docs")[0] == "docs"


# --- Parquet


def test_a_parquet_with_all_that_can_be_known(tmp_path):
    moment = datetime.datetime(2026, 11, 25, 0, 33, 40, tzinfo=datetime.UTC)
    path = parquet(
        tmp_path / "m.parquet",
        Bucket=["docs", "docs"],
        key=["a+b%20", "b"],
        version_id=["v", ""],
        size=pa.array([7, None], pa.int32()),
        etag=['"abc-2"', None],
        last_modified_date=pa.array([moment, None], pa.timestamp("ms", tz="UTC")),
        storage_class=pa.array(["GLACIER", "STANDARD"]).dictionary_encode(),
        is_latest=[False, None],
        is_delete_marker=[True, None],
        condemned_etag=["x", ""],
        reason=["whatever", "else"],
    )
    bucket, rows = read(path)
    assert bucket == "docs"
    known = {"version_id": "v", "is_latest": False, "is_delete_marker": True, "size_bytes": 7, "etag": "abc-2"}
    known |= {"last_modified": moment, "storage_class": "GLACIER", "condemned_etag": "x"}
    assert rows == [UNKNOWN | {"key": "a+b%20"} | known, UNKNOWN | {"key": "b", "storage_class": "STANDARD"}]


def test_an_older_version_without_an_id_is_the_null_version(tmp_path):
    """An inventory leaves its id empty. Its key alone names the current version, which was copied in its place."""
    latest, ids = [True, False, False, True], ["v", "", None, None]
    _, rows = read(parquet(tmp_path / "m.parquet", key=["k", "k", "l", "m"], version_id=ids, is_latest=latest))
    assert [row["version_id"] for row in rows] == ["v", "null", "null", None]
    _, rows = read(parquet(tmp_path / "m.parquet", key=["k"], is_latest=[False], e_tag=['"0c10f4a0"']))
    assert (rows[0]["version_id"], rows[0]["etag"]) == (None, "0c10f4a0")


def test_a_parquet_of_keys_alone_does_not_say_its_bucket(tmp_path):
    bucket, rows = read(parquet(tmp_path / "m.parquet", key=pa.array(["a", "b"], pa.large_string())))
    assert bucket is None
    assert [row["key"] for row in rows] == ["a", "b"]


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_times_without_a_zone_are_utc(tmp_path, unit):
    naive = pa.array([1_790_000_000], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp(unit))
    _, [row] = read(parquet(tmp_path / "m.parquet", key=["a"], last_modified=naive))
    assert row["last_modified"].timestamp() == 1_790_000_000


def test_what_is_no_parquet_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="not a readable Parquet file"):
        read(written(tmp_path / "m.parquet", "PAR1 or so"))


# --- where from


@pytest.mark.parametrize("uri", ["s3://docs/manifest.txt", "s3://docs/", "m.orc", ""])
def test_another_kind_of_file_is_refused_with_what_is_accepted(uri):
    with pytest.raises(UsageError, match=r"manifest\.json, a \.csv, a \.csv\.gz or a \.parquet"):
        read(uri)


def test_a_local_manifest_is_named_by_path_or_file_address(tmp_path, monkeypatch):
    """A name with a colon is no address."""
    monkeypatch.chdir(tmp_path)
    assert read(f"file://{written(tmp_path / 'm.csv', 'docs,a')}")[0] == "docs"
    assert read(written(Path("x:y.csv"), "docs,a"))[0] == "docs"
    with pytest.raises(UsageError, match="s3:// or a local path"):
        read("https://example.com/m.csv")
    with pytest.raises(ConfigError, match=r"nowhere\.csv: .*No such file"):
        read(tmp_path / "nowhere.csv")


@pytest.fixture
def lists():
    store = MemoryStore()
    store.create_bucket("lists")
    return store


def put(store, key, data):
    asyncio.run(store.put(ObjectRef("lists", key), data, Attributes(), guard=UNGUARDED))


def test_a_manifest_on_s3_is_read_like_a_local_one(lists, tmp_path):
    put(lists, "odd @ key?#.csv.gz", gzip.compress(b"docs,a\n" * 1000))
    put(lists, "m.parquet", parquet(tmp_path / "m.parquet", key=["a"]).read_bytes())
    bucket, rows = read("s3://lists/odd @ key?#.csv.gz", lists)
    assert (bucket, len(rows)) == ("docs", 1000)
    assert [row["key"] for row in read("s3://lists/m.parquet", lists)[1]] == ["a"]


@pytest.mark.parametrize("uri", ["s3://lists/nothing.csv", "s3://lists/nothing.parquet", "s3://no-bucket/m.csv"])
def test_a_manifest_that_is_not_on_s3_is_named(lists, uri):
    with pytest.raises((NoSuchBucket, NotFound), match=uri):
        read(uri, lists)


def test_a_manifest_that_is_replaced_while_it_is_read_is_refused(lists, monkeypatch):
    """A Parquet file's end says where its rows are: of another file they would be other bytes."""
    monkeypatch.setattr(downloads, "RANGE_BYTES", 1000)
    put(lists, "m.csv", b"docs,a\n" * 1000)

    async def replace(request):
        body = await request()
        if request.arguments["start"] == 0:
            await lists.put(ObjectRef("lists", "m.csv"), b"docs,b\n" * 1000, Attributes(), guard=UNGUARDED)
        return body

    lists.hook(get=replace)
    with pytest.raises(PreconditionFailed):
        read("s3://lists/m.csv", lists)


# --- inventories


def inventory(shelf, lines):
    """An inventory of the bucket docs at s3://reports/day/manifest.json."""
    data = gzip.compress(lines)
    files = [{"key": "data/1.csv.gz", "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}]
    content = {
        "sourceBucket": "docs",
        "destinationBucket": "arn:aws:s3:::reports",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": files,
    }
    manifest = json.dumps(content).encode()
    shelf.objects["reports", "day/manifest.json"] = manifest
    shelf.objects["reports", "day/manifest.checksum"] = hashlib.md5(manifest).hexdigest().encode()
    shelf.objects["reports", "data/1.csv.gz"] = data
    return shelf


def read_inventory(shelf, **options):
    async def run():
        manifest = await open_manifest("s3://reports/day/manifest.json", shelf, **options)
        return manifest, [row async for batch in manifest.batches for row in batch.to_pylist()]

    return asyncio.run(run())


def test_an_inventory_is_read_through_the_store():
    manifest, rows = read_inventory(inventory(Shelf(), b'"docs","a+b","7"\n"docs","c","8"\n'))
    assert manifest.bucket == "docs"
    assert [(row["key"], row["size_bytes"]) for row in rows] == [("a b", 7), ("c", 8)]


def test_an_inventory_without_rows_is_refused():
    with pytest.raises(ManifestError, match="has no rows"):
        read_inventory(inventory(Shelf(), b""))


def test_an_inventory_of_another_bucket_than_expected_is_refused():
    with pytest.raises(ManifestError, match="names the bucket docs, expected other"):
        read_inventory(inventory(Shelf(), b'"docs","a","7"\n'), bucket="other")
