"""Reports that lack a column, or hold odd values: what is unknown never makes a row quiet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.errors import ManifestError
from jobs.reconcile.reconcile import EvidenceFiles
from tests.inventory.samples import CURRENT, FORMATS, VERSIONS, deliver
from tests.reconcile.scene import MADE, compare, counts, differences, marker, row, run, version
from tests.reconcile.test_evidence import evidence


def reports(
    folder: Path, source: Any, destination: Any, fields: tuple[Sequence[str], Sequence[str]], file_format: str = "CSV"
) -> tuple[Path, Path]:
    """Reports of two sides that do not have the same columns."""
    one, other = fields
    return (
        deliver(folder, "src", source, created_at=MADE, fields=one, file_format=file_format),
        deliver(folder, "dst", destination, created_at=MADE, fields=other, file_format=file_format),
    )


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_lost_copy_is_repaired_where_only_the_destination_lists_markers(tmp_path, file_format):
    """The source's report has no IsDeleteMarker, the destination's has: its marker is not the source's."""
    places = reports(
        tmp_path, [row("lost", "a")], [marker("lost", "m1"), version("x", "1")], (CURRENT, VERSIONS), file_format
    )
    answer = run(tmp_path, *places)
    assert (counts(answer), answer.repairable_rows) == ({"missing": 1, "extra": 1}, 1)
    [repaired] = pq.read_table(answer.manifest_parquet).to_pylist()
    assert (repaired["key"], repaired["is_delete_marker"], repaired["size_bytes"]) == ("lost", False, 1)


def test_a_report_of_versions_needs_to_say_which_of_them_are_markers(tmp_path):
    fields = tuple(name for name in VERSIONS if name != "IsDeleteMarker")
    places = reports(tmp_path, [version("a", "1")], [version("a", "1")], (fields, CURRENT))
    with pytest.raises(ManifestError, match="lacks the fields isdeletemarker"):
        run(tmp_path, *places)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("name", ["dt=2026", "key=1", "it's", 'a"b', "[x]*?", "etag=1/size=2/rows=3"])
def test_a_scratch_folder_of_any_name_changes_nothing(tmp_path, name, file_format):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (tmp_path / "x").mkdir()  # what `[x]*?` would match as a pattern
    known = evidence(folder / "known.parquet", ("in parts", "null", "e-2", "SHA256", "v", False, MADE))
    source = [row("a", "x"), row("lost", "y"), row("in parts", "z", ETag="e-2")]
    if file_format == "CSV":
        source.append(row("odd", "x", Size="many"))
    answer = compare(
        folder,
        source,
        [row("a", "x"), row("in parts", "z", ETag="e-2")],
        joined={"evidence": EvidenceFiles([known], [known])},
        file_format=file_format,
    )
    unparsed = int(file_format == "CSV")
    assert (counts(answer), answer.unparsed_rows) == ({"same": 2, "missing": 1 + unparsed}, unparsed)
    assert {each.file.rpartition("/")[2] for each in answer.unparsed if each.file} <= {"2025-11-24T16-00Z-0.csv.gz"}
    assert {one["key"] for one in pq.read_table(answer.manifest_parquet).to_pylist()} >= {"lost"}


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("others", [0, 1])
def test_an_empty_text_is_an_absent_value_in_every_format(tmp_path, file_format, others):
    """CSV has no other way to write it. A status of no text rules out no MD5."""
    alike = {"EncryptionStatus": "", "StorageClass": "", "ReplicationStatus": ""}
    more = [row("other", "z")] * others  # with them, the column has more than one value
    source = [row("same", "x", **alike), row("differs", "x", **alike), row("none", "x", ETag="", **alike), *more]
    destination = [row("same", "x", **alike), row("differs", "y", **alike), row("none", "x", **alike), *more]
    answer = compare(tmp_path, source, destination, file_format=file_format)
    assert differences(answer) == {
        "differs": ("different", "MD5s differ (if no KMS: the reports do not say)"),
        "none": ("unverifiable", "a report has no ETag for it"),
    }
    [missing] = [each for each in pq.read_table(answer.differences_parquet).to_pylist() if each["key"] == "differs"]
    assert missing["storage_class"] is None


def test_an_object_of_the_year_10000_is_a_clock_that_disagrees(tmp_path):
    """Parquet has such times, and no date for people shows them."""
    source = [row("a", "x", LastModifiedDate=260_000_000_000.0)]
    with pytest.raises(ManifestError, match="lists an object of 9999-12-31 23:59:59 UTC: clocks disagree"):
        compare(tmp_path, source, [row("a", "x")], file_format="Parquet")
