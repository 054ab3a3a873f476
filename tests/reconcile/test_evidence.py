"""What is known beside two reports, and reports that are not what they should be."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.errors import ManifestError
from jobs.reconcile.stage import UnusableReport
from tests.inventory.samples import CURRENT, VERSIONS, deliver
from tests.reconcile.scene import MADE, OLD, compare, differences, evidence, md5, read, row, run, version


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
    known = evidence(tmp_path / "s.parquet", *one), evidence(tmp_path / "d.parquet", *other)
    answer = compare(tmp_path, rows, others, fields=fields, evidence=known)
    assert differences(answer) == {
        "wrong": ("different", "checksum_differs"),
        "late": ("unverifiable", "nothing_comparable: no MD5: in parts"),
        "kinds": ("unverifiable", "nothing_comparable: no MD5: in parts"),
        "replaced": ("unverifiable", "nothing_comparable: no MD5: in parts"),
    }


def test_what_is_missing_takes_its_known_checksum_along(tmp_path):
    known = evidence(tmp_path / "s.parquet", ("a", "null", md5(""), "SHA256", "v=", False, MADE))
    answer = compare(tmp_path, [row("a")], [row("b")], evidence=(known, None))
    assert [each["known_checksum"] for each in read(answer, "repair")] == ["SHA256:v="]


@pytest.mark.parametrize(("more", "problem"), [({"Size": "one"}, "'one'"), ({"Key": ""}, "a row has no key")])
def test_a_row_that_cannot_be_understood_makes_the_report_unusable(tmp_path, more, problem):
    """What it says of an object is unknown. A night lists the bucket instead."""
    rows, fields = [row("good", "x"), row("bad", "x", **more)], ("Bucket", "Key", "Size")
    source = deliver(tmp_path, "src", rows, file_format="CSV", created_at=MADE, fields=fields)
    destination = deliver(tmp_path, "dst", [row("good", "x")], created_at=MADE)
    with pytest.raises(UnusableReport, match=problem) as refused:
        run(tmp_path, source, destination)
    assert str(next(source.parent.parent.glob("data/*"))) in str(refused.value)
    assert str(source) in str(refused.value)


@pytest.mark.parametrize(
    ("source", "destination", "options", "problem"),
    [
        ({}, {"bucket": "src"}, {}, "both of the bucket src"),
        ({}, {}, {"buckets": ("other", None)}, "is of the bucket src, the source is other"),
        ({}, {}, {"buckets": (None, "other")}, "is of the bucket dst, the destination is other"),
        ({"rows": []}, {}, {}, "lists no object of the bucket src: an empty report"),
        ({}, {"rows": []}, {}, "lists no object of the bucket dst: an empty report"),
        ({}, {"files": 0}, {}, "lists no object of the bucket dst: an empty report"),
        ({"rows": [row("a", Bucket="foreign")]}, {}, {}, "names the bucket 'foreign'"),
        ({}, {}, {"all_versions": True}, "lacks the fields versionid, isdeletemarker, islatest, which --versions"),
        (
            {"fields": ("Bucket", "Key", "VersionId")},
            {},
            {},
            "lacks the fields isdeletemarker, islatest, which telling",
        ),
    ],
)
def test_reports_that_cannot_be_compared_are_refused(tmp_path, source, destination, options, problem):
    plain: dict[str, Any] = {"rows": [row("a")], "created_at": MADE}
    one = deliver(tmp_path / "s", **{"bucket": "src"} | plain | source)
    other = deliver(tmp_path / "d", **{"bucket": "dst"} | plain | destination)
    with pytest.raises(ManifestError, match=problem):
        run(tmp_path, one, other, **options)
