"""Reports that lack a column, or hold odd values: what is unknown never makes a row quiet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.inventory.samples import CURRENT, FORMATS, VERSIONS, deliver
from tests.reconcile.scene import MADE, compare, counts, differences, marker, read, row, run, version


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
    [repaired] = read(answer, "repair")
    assert (repaired["key"], repaired["is_delete_marker"], repaired["size_bytes"]) == ("lost", False, 1)


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
        "differs": ("different", "etag_differs: unless KMS encrypts it"),
        "none": ("unverifiable", "nothing_comparable: no ETag"),
    }
    [missing] = [each for each in read(answer, "differences") if each["key"] == "differs"]
    assert missing["storage_class"] is None
