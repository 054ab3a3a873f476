"""Two reports in, one answer out: equal to set algebra, whatever the order, the split and the format of the rows."""

from __future__ import annotations

import csv
import time
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.core.category import Category
from jobs.core.prefix_map import PrefixMap
from jobs.errors import ManifestError
from jobs.tables.rows import manifest_schema
from tests.inventory.samples import FORMATS, ODD_KEYS, VERSIONS, deliver
from tests.reconcile.scene import (
    MADE,
    OLD,
    cause,
    compare,
    counts,
    differences,
    marker,
    md5,
    read,
    row,
    run,
    version,
)


def test_every_category_has_its_line_and_reason(tmp_path):
    young, kms = MADE - 60, {"EncryptionStatus": "SSE-KMS"}
    source = [row("same", "x"), row("gone", "abc"), row("other", "x"), row("newer", "x", LastModifiedDate=OLD + 5)]
    source += [row("young", LastModifiedDate=young), row("waits", ReplicationStatus="PENDING"), row("kms", "x", **kms)]
    source += [row("failed", ReplicationStatus="FAILED"), row("healed", "x", ReplicationStatus="FAILED")]
    destination = [row("same", "x"), row("other", "y"), row("newer", "yy"), row("kms", "y"), row("more", "four")]
    destination += [row("healed", "x")]
    answer = compare(tmp_path, source, destination)
    assert differences(answer) == {
        "gone": ("missing", "copy_missing"),
        "other": ("different", "etag_differs"),
        "newer": ("stale", "size_differs"),
        "young": ("in flight", "too_new"),
        "waits": ("in flight", "replication: PENDING"),
        "kms": ("unverifiable", "nothing_comparable: no MD5: encrypted"),
        "failed": ("missing", "copy_missing: S3's replication of it FAILED"),
        "more": ("extra", "source_gone"),
    }
    assert counts(answer) == {
        "same": 2, "missing": 2, "extra": 1, "different": 1, "stale": 1, "in flight": 2, "unverifiable": 1
    }  # fmt: skip
    assert answer.findings == 5
    assert answer.categories[Category.EXTRA] == (1, 4)
    assert {cause(each["reason"], each["detail"]): each["rows"] for each in answer.unjudged} == {
        "nothing_comparable: no MD5: encrypted": 1,
        "too_new": 1,
        "replication: PENDING": 1,
        "replication: FAILED": 1,
    }
    repair = {r["key"]: r for r in read(answer, "repair")}
    assert sorted(repair) == ["failed", "gone", "newer", "other"]
    assert [(r["key"], r["condemned_etag"]) for r in read(answer, "different")] == [("other", md5("y"))]
    assert {r["condemned_etag"] for r in repair.values()} == {None}
    overwriting = compare(tmp_path / "x", source, destination, repairs_different=True)
    assert {r["key"]: r["condemned_etag"] for r in read(overwriting, "repair") if r["condemned_etag"]} == {
        "other": md5("y")
    }
    assert repair["gone"] == dict.fromkeys(manifest_schema().names) | {
        "key": "gone",
        "is_latest": True,
        "is_delete_marker": False,
        "size_bytes": 3,
        "etag": md5("abc"),
        "last_modified": datetime.fromtimestamp(OLD, UTC),
        "storage_class": "STANDARD",
    }
    assert [field.type for field in pq.read_schema(answer.folder / "repair.parquet")] == [
        field.type for field in manifest_schema()
    ]
    assert list(answer.prefixes) == [{"prefix": "", "category": None, "rows": 5, "bytes": 9}]
    assert (answer.source["rows"], answer.destination["rows"]) == (9, 6)


def test_no_margin_judges_up_to_the_older_report(tmp_path):
    one = deliver(tmp_path, "src", [row("k", LastModifiedDate=MADE - 10)], created_at=MADE)
    other = deliver(tmp_path, "dst", [row("x")], created_at=MADE - 5)
    assert differences(run(tmp_path, one, other, margin_seconds=0))["k"][0] == "missing"
    assert differences(run(tmp_path, one, other, margin_seconds=6))["k"][0] == "in flight"


@pytest.mark.parametrize("file_format", FORMATS)
def test_odd_keys_meet_and_their_csv_is_safe_to_open(tmp_path, file_format):
    answer = compare(
        tmp_path, [row(k, "x") for k in ODD_KEYS], [row(k, "y") for k in ODD_KEYS], file_format=file_format
    )
    assert sorted(differences(answer)) == sorted(ODD_KEYS)
    with (answer.folder / "differences.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    expected = {}
    for key in ODD_KEYS:
        visible = "".join(c if c.isprintable() or c in "\t\n" else f"\\u{ord(c):04x}" for c in key)
        expected[f"'{visible}" if key[0] in "=+-@\t\r" else visible] = key
    assert {line["key"] for line in lines} == expected.keys()
    for line in lines:
        assert line["escaped"] == str(line["key"] != expected[line["key"]]).lower()


def test_fields_that_are_not_there_limit_the_answer_and_it_says_so(tmp_path):
    answer = compare(tmp_path, [row("a"), row("b")], [row("b"), row("c")], fields=("Key", "Bucket"))
    assert counts(answer) == {"missing": 1, "extra": 1, "unverifiable": 1}
    assert [each for each in answer.limits if "src" in each and "Size, ETag" in each]


@pytest.mark.parametrize("file_format", FORMATS)
def test_current_objects_of_reports_of_all_versions(tmp_path, file_format):
    source = [version("a", "a1", "old", IsLatest=False), version("a", "a2", "new"), marker("gone", "g2")]
    source += [version("gone", "g1", "x", IsLatest=False), version("kept", "k", "x"), marker("both", "b")]
    destination = [version("a", "x1", "new"), version("gone", "x2", "x"), marker("kept", "x3"), marker("both", "x4")]
    answer = compare(tmp_path, source, destination, fields=VERSIONS, file_format=file_format)
    assert differences(answer) == {
        "gone": ("extra", "deleted: source"),
        "kept": ("missing", "deleted: destination"),
    }
    assert counts(answer) == {"same": 1, "extra": 1, "missing": 1, "excluded": 1}
    assert [(r["key"], r["version_id"]) for r in read(answer, "repair")] == [("kept", None)]


@pytest.mark.parametrize("file_format", FORMATS)
def test_versions_meet_by_their_ids(tmp_path, file_format):
    source = [version("a", "a1", "old", IsLatest=False), version("a", "a2", "new"), version("b", "", "x")]
    source += [marker("c", "c1"), version("r", "r1", "x")]
    destination = [version("a", "a1", "old", IsLatest=False), version("a", "a2", "bad"), version("b", "", "x")]
    destination += [version("r", "r2", "x")]
    how: dict[str, Any] = {"fields": VERSIONS, "file_format": file_format, "all_versions": True}
    answer = compare(tmp_path, source, destination, **how)
    found = read(answer, "differences")
    assert [(r["key"], r["version_id"], r["destination_version_id"], r["category"]) for r in found] == [
        ("a", "a2", "a2", "different"),
        ("c", "c1", None, "missing"),
        ("r", "r1", None, "missing"),
        ("r", None, "r2", "extra"),
    ]
    assert counts(answer) == {"same": 2, "different": 1, "missing": 2, "extra": 1}
    repair = read(answer, "repair")
    assert [(r["key"], r["version_id"], r["is_delete_marker"]) for r in repair] == [
        ("a", "a2", False),
        ("c", "c1", True),
        ("r", "r1", False),
    ]


def test_prefixes_are_mapped_and_what_lies_outside_is_excluded(tmp_path):
    source = [row("in/a'b", "x"), row("in/é", "xy"), row("in/", "x"), row("out/c", "xyz")]
    destination = [row("copy/of/a'b", "x"), row("copy/of/more", "x"), row("copy/of/", "x"), row("in/é", "xy")]
    answer = compare(tmp_path, source, destination, maps=PrefixMap.parse(("in/=copy/of/",)))
    found = read(answer, "differences")
    assert [(r["key"], r["destination_key"], r["category"]) for r in found] == [
        ("in/more", "copy/of/more", "extra"),
        ("in/é", "copy/of/é", "missing"),
    ]
    assert counts(answer) == {"same": 2, "extra": 1, "missing": 1, "excluded": 2}
    assert answer.categories[Category.EXCLUDED] == (2, 5)
    assert [r["key"] for r in read(answer, "repair")] == ["in/é"]


@pytest.mark.parametrize("versions", ["current", "all"])
def test_objects_of_sealift_are_excluded_at_both_sides(tmp_path, versions):
    one, other = f"in/.sealift/place-{'0a' * 16}.json", f"copy/a\n/.sealift/trial-{'0b' * 16}\n"
    source = [version("in/k", "v1", "x"), version(one, "v2", "xyz"), version("in/.sealift/place-names", "v3")]
    destination = [version("copy/k", "v1", "x"), version(other, "v4", "xy"), version(one, "v5", "x")]
    how = {"maps": PrefixMap.parse(("in/=copy/",)), "fields": VERSIONS, "all_versions": versions == "all"}
    answer = compare(tmp_path, source, destination, **how)
    assert {key: category for key, (category, _) in differences(answer).items()} == {
        "in/.sealift/place-names": "missing"
    }
    assert answer.categories[Category.EXCLUDED] == (3, 6)


@pytest.mark.parametrize("future", ["src", "dst"])
def test_a_report_of_the_future_is_refused(tmp_path, future):
    """Its good verdicts would outdate bad ones of later looks."""
    ahead, reports = {"src": 3_500.0, "dst": 3_500.0, future: 3_700.0}, []
    for bucket, seconds in ahead.items():
        reports.append(deliver(tmp_path, bucket, [row("a")], created_at=time.time() + seconds))
    with pytest.raises(ManifestError, match=f"{future}.*not yet"):
        run(tmp_path, *reports)
    reports = [deliver(tmp_path, bucket, [row("a")], created_at=time.time() + 3_500.0) for bucket in ahead]
    assert counts(run(tmp_path, *reports)) == {"same": 1}
