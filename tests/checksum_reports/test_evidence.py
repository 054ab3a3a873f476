"""Reports of checksums into evidence: nothing is trusted unverified, nothing is dropped, each object is there once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.checksum_reports.evidence import AMBIGUOUS, EvidenceSummary, evidence_schema, write_evidence
from jobs.core.model import Checksum
from jobs.errors import ManifestError, UsageError
from tests.checksum_reports.samples import manifest, result_file, task
from tests.doubles.list_store import Shelf

# After AWS's documented examples, the unbalanced quotes of the failure messages included.
DOCUMENTED = (
    rb'amzn-s3-demo-bucket1,s3-standard-1mb-test-object,,succeeded,200,,"{""checksum_base64"":""bS9TOQ\u003d\u003d"",'
    rb'""etag"":""3c3c1813042989094598e4b57ecbdc82"",""checksumAlgorithm"":""CRC32"",""checksumType"":""FULL_OBJECT"",'
    rb'""checksum_hex"":""6D2F5339""}"'
    b"\n"
)
FAILURES = b"".join(
    b'amzn-s3-demo-bucket1,%s,,failed,200,PermanentFailure,"error details: {""failureMessage"":"Task %s", '
    b'""errorCode"": "%s"}"\n' % each
    for each in (
        (b"image_14975", b"1 SSE-C encryption type is not supported for this operation", b"400"),
        (b"image_14976", b"2 Key not found", b"404"),
        (b"image_14977", b"3 Internal server error, please retry", b"500"),
    )
)
CREATED = 1554486519.725
EMPTY: Any = Shelf()
CRC = Checksum("CRC32", "bS9TOQ==")
OTHER = Checksum("CRC32", "AAAAAA==")


def shelve(**results: bytes) -> Any:
    files = {f"{name}.csv": data for name, data in results.items()}
    shelf = Shelf(objects={("reports", f"job-1/results/{name}"): data for name, data in files.items()})
    shelf.objects["reports", "job-1/manifest.json"] = manifest("reports", "job-1", files, CREATED)
    return shelf


def read(shelf: Any, folder: Path, **options: str) -> tuple[EvidenceSummary, list[dict]]:
    path = folder / "evidence.parquet"
    summary = asyncio.run(write_evidence(shelf, "s3://reports/job-1/manifest.json", path, **options))
    table = pq.read_table(path)
    assert table.schema.names == evidence_schema().names
    return summary, table.to_pylist()


def test_the_documented_report(tmp_path: Path) -> None:
    summary, rows = read(shelve(good=DOCUMENTED, failed=FAILURES), tmp_path, bucket="amzn-s3-demo-bucket1")
    assert (summary.rows, summary.evidence, summary.failed, summary.rejected) == (4, 1, 3, 0)
    assert summary.computed_at == CREATED
    [one] = [row for row in rows if row["value"]]
    assert (one["key"], one["version_id"], one["etag"]) == (
        "s3-standard-1mb-test-object",
        None,
        "3c3c1813042989094598e4b57ecbdc82",
    )
    assert (one["algorithm"], one["value"], one["is_composite"]) == ("CRC32", "bS9TOQ==", False)
    assert one["computed_at"].timestamp() == CREATED
    reasons = {row["key"]: row["reason"] for row in rows if row["reason"]}
    assert set(reasons) == {"image_14975", "image_14976", "image_14977"}
    assert "SSE-C encryption type is not supported" in reasons["image_14975"]
    assert all(reason.startswith("no evidence, because") for reason in reasons.values())


def test_lines_that_cannot_be_used_are_counted_and_listed(tmp_path: Path) -> None:
    data = DOCUMENTED + b'half,a "line\n\n\xff\xfe,k,,succeeded,200,,x\n' + result_file([task("b2", "k", CRC)])
    summary, rows = read(shelve(good=data), tmp_path, bucket="amzn-s3-demo-bucket1")
    assert (summary.rows, summary.evidence, summary.rejected, len(rows)) == (4, 1, 3, 1)
    assert [(each.line, each.problem) for each in summary.examples] == [
        (2, "2 fields instead of 7"),
        (4, "0 fields instead of 7"),
        (5, "it is about the bucket b2"),
    ]
    assert summary.examples[0].text == 'half,a "line'


def test_an_object_that_the_report_names_twice_is_evidence_only_if_it_says_the_same(tmp_path: Path) -> None:
    rows = [
        task("b", "same", CRC),
        task("b", "same", CRC),
        task("b", "two", CRC),
        task("b", "two", OTHER),
        task("b", "versions", CRC, version_id="1"),
        task("b", "versions", OTHER, version_id="2"),
        task("b", "changed", CRC, etag="e1"),
        task("b", "changed", CRC, etag="e2"),
        ["b", "late", "", "failed", "503", "InternalError", "try again"],
        task("b", "late", CRC),
    ]
    summary, found = read(shelve(good=result_file(rows)), tmp_path)
    assert (summary.evidence, summary.ambiguous, summary.failed) == (4, 2, 0)
    by_key = {(row["key"], row["version_id"]): (row["value"], row["reason"]) for row in found}
    assert by_key == {
        ("same", None): (CRC.value, None),
        ("two", None): (None, AMBIGUOUS),
        ("versions", "1"): (CRC.value, None),
        ("versions", "2"): (OTHER.value, None),
        ("changed", None): (None, AMBIGUOUS),
        ("late", None): (CRC.value, None),
    }


def test_a_changed_or_missing_file_is_refused(tmp_path: Path) -> None:
    changed = shelve(good=DOCUMENTED)
    changed.objects["reports", "job-1/results/good.csv"] += b" "
    with pytest.raises(ManifestError, match="the file was changed"):
        read(changed, tmp_path)
    missing = shelve(good=DOCUMENTED)
    del missing.objects["reports", "job-1/results/good.csv"]
    with pytest.raises(ManifestError, match="is missing"):
        read(missing, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"nothing", b'{"Format": "Report_CSV_20990101"}', b'{"Format": "Report_CSV_20180820"}'],
)
def test_what_is_no_report_is_refused(content: bytes, tmp_path: Path) -> None:
    shelf = Shelf(objects={("reports", "job-1/manifest.json"): content})
    with pytest.raises(ManifestError, match=r"not the manifest\.json of a completion report"):
        read(shelf, tmp_path)


def test_reports_of_another_job_or_bucket_are_refused(tmp_path: Path) -> None:
    copied = result_file([["b", "k", "", "succeeded", "200", "", "{u'CopyObjectResult': {}}"]])
    with pytest.raises(ManifestError, match="give a report of a Compute checksum job"):
        read(shelve(good=copied), tmp_path)
    with pytest.raises(ManifestError, match="over the bucket mine"):
        read(shelve(good=DOCUMENTED), tmp_path, bucket="mine")
    with pytest.raises(ManifestError, match="does not exist"):
        asyncio.run(write_evidence(EMPTY, "s3://reports/nothing.json", tmp_path / "e.parquet"))
    with pytest.raises(UsageError, match=r"name one at s3:// or at a local path"):
        asyncio.run(write_evidence(EMPTY, "ftp://reports/manifest.json", tmp_path / "e.parquet"))


def test_a_report_that_was_copied_is_read_from_beside_its_manifest(tmp_path: Path) -> None:
    files = {"good.csv": DOCUMENTED}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "good.csv").write_bytes(DOCUMENTED)
    (tmp_path / "manifest.json").write_bytes(manifest("elsewhere", "job-1", files, CREATED))
    summary = asyncio.run(write_evidence(EMPTY, str(tmp_path / "manifest.json"), tmp_path / "e.parquet"))
    assert summary.evidence == 1
