"""What is known beside two reports, and reports that are not what they should be."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.errors import ManifestError
from jobs.reconcile.reconcile import EvidenceFiles
from jobs.reconcile.rules import UNDATED
from tests.inventory.samples import CURRENT, FORMATS, VERSIONS, deliver
from tests.reconcile.scene import MADE, OLD, compare, counts, differences, evidence, md5, row, run, version


@pytest.mark.parametrize("fields", [CURRENT, VERSIONS], ids=["current", "versions"])
def test_checksums_at_rest_decide_what_etags_cannot(tmp_path, fields):
    keys = ["proven", "wrong", "late", "kinds", "replaced"]
    rows = [version(key, "null", "x", ETag=f"{md5('x')}-2", IsMultipartUploaded=True) for key in keys]
    others = [one | {"ETag": f"{md5('y')}-3"} for one in rows]
    times = {"late": OLD - 1}
    # Replaced while the job ran: the report's time is its end, so that only the ETag tells.
    seen = {"replaced": md5("another")}
    one = [(k, "null", seen.get(k, f"{md5('x')}-2"), "SHA256", "v", False, times.get(k, OLD + 1)) for k in keys]
    other = [
        (k, "", f"{md5('y')}-3", "CRC32" if k == "kinds" else "SHA256", "w" if k == "wrong" else "v", False, MADE)
        for k in keys
    ]
    known = EvidenceFiles([evidence(tmp_path / "s.parquet", *one)], [evidence(tmp_path / "d.parquet", *other)])
    answer = compare(tmp_path, rows, others, fields=fields, joined={"evidence": known})
    assert differences(answer) == {
        "wrong": ("stale", f"checksum_differs: {UNDATED}"),
        "late": ("unverifiable", "nothing_comparable: no MD5: in parts"),
        "kinds": ("unverifiable", "nothing_comparable: no MD5: in parts"),
        "replaced": ("unverifiable", "nothing_comparable: no MD5: in parts"),
    }


def test_what_is_missing_takes_its_known_checksum_along(tmp_path):
    known = EvidenceFiles([evidence(tmp_path / "s.parquet", ("a", "null", md5(""), "SHA256", "v=", False, MADE))])
    answer = compare(tmp_path, [row("a")], [row("b")], joined={"evidence": known})
    assert pq.read_table(answer.manifest_parquet)["known_checksum"].to_pylist() == ["SHA256:v="]


def test_csv_rows_that_cannot_be_understood_are_counted_and_listed(tmp_path):
    source = deliver(
        tmp_path, "src", [row("good", "x")], file_format="CSV", created_at=MADE, fields=("Bucket", "Key", "Size")
    )
    data = next(source.parent.parent.glob("data/*"))
    lines = [
        '"src","good","1"',
        '"src","bad","one"',
        '"src","%FF","1"',
        '"src","","1"',
        '"src","few"',
        '"src","many","1","2"',
    ]
    body = gzip.compress("\n".join(lines).encode() + b"\n")
    data.write_bytes(body)
    manifest = json.loads(source.read_text())
    manifest["files"][0] |= {"size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()}
    source.write_text(json.dumps(manifest))
    source.with_suffix(".checksum").write_text(hashlib.md5(source.read_bytes()).hexdigest())
    answer = run(tmp_path, source, deliver(tmp_path, "dst", [row("good", "x"), row("bad", "x")], created_at=MADE))
    assert answer.unparsed_rows == 5
    assert answer.unparsed_parquet
    assert pq.read_table(answer.unparsed_parquet).num_rows == 5
    assert {
        (one.problem, one.row.split(",")[1].strip('"')) for one in answer.unparsed if "columns" not in one.problem
    } == {("size is no number", "bad"), ("the key is no UTF-8", "%FF"), ("the row has no key", "")}
    assert {one.line for one in answer.unparsed if "columns" in one.problem} == {5, 6}
    assert {one.file for one in answer.unparsed} == {str(data)}
    assert counts(answer) == {"unverifiable": 2}


@pytest.mark.parametrize("file_format", ["ORC", "Parquet"])
def test_rows_without_a_key_are_listed_in_binary_formats_too(tmp_path, file_format):
    source = [row("a", "x"), row("a", "x") | {"Key": None}]
    answer = compare(tmp_path, source, [row("a", "x")], file_format=file_format)
    assert counts(answer) == {"same": 1}
    assert [one.problem for one in answer.unparsed] == ["the row has no key"]


@pytest.mark.parametrize(
    ("source", "destination", "options", "problem"),
    [
        ({}, {"bucket": "src"}, {}, "both of the bucket src"),
        ({}, {}, {"source_bucket": "other"}, "is of the bucket src, the source is other"),
        ({}, {}, {"destination_bucket": "other"}, "is of the bucket dst, the destination is other"),
        ({"rows": []}, {}, {}, "lists no object of the bucket src: an empty report"),
        ({}, {"rows": []}, {}, "lists no object of the bucket dst: an empty report"),
        ({}, {"files": 0}, {}, "lists no object of the bucket dst: an empty report"),
        ({"created_at": MADE + 9999}, {}, {}, "clocks disagree"),
        ({"rows": [row("a", LastModifiedDate=MADE + 3 * 86_400)]}, {}, {}, "clocks disagree"),
        ({"rows": [row("a", Bucket="foreign")]}, {}, {}, "names the bucket 'foreign'"),
        ({}, {}, {"versions": "all"}, "lacks the fields versionid, isdeletemarker, islatest, which --versions"),
        (
            {"fields": ("Bucket", "Key", "VersionId")},
            {},
            {},
            "lacks the fields isdeletemarker, islatest, which telling",
        ),
    ],
)
@pytest.mark.parametrize("file_format", FORMATS)
def test_reports_that_cannot_be_compared_are_refused_and_leave_nothing(
    tmp_path, source, destination, options, problem, file_format
):
    plain: dict[str, Any] = {"rows": [row("a")], "created_at": MADE, "file_format": file_format}
    one = deliver(tmp_path / "s", **{"bucket": "src"} | plain | source)
    other = deliver(tmp_path / "d", **{"bucket": "dst"} | plain | destination)
    with pytest.raises(ManifestError, match=problem):
        run(tmp_path, one, other, **options)
    assert not list((tmp_path / "scratch").glob("*"))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:9] + bytes([b[9] ^ 1]) + b[10:], lambda b: None])
def test_a_damaged_data_file_is_refused_and_leaves_nothing(tmp_path, file_format, damage):
    one, other = (deliver(tmp_path, b, [row("a"), row("b")], file_format=file_format, files=2) for b in ("src", "dst"))
    victim = sorted(other.parent.parent.glob("data/*"))[1]
    body = damage(victim.read_bytes())
    victim.unlink()
    if body is not None:
        victim.write_bytes(body)
    with pytest.raises(ManifestError, match=victim.name):
        run(tmp_path, one, other)
    assert not list((tmp_path / "scratch").glob("*"))
