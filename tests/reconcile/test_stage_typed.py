"""CSV data files as Parquet: the quick way takes what the careful way takes without a word, and gives the same rows."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.reconcile.stage import UNPARSED
from jobs.reconcile.stage_csv_rejects import convert_csv
from jobs.reconcile.stage_typed import TypeMismatch, write_typed
from tests.doubles.examples import examples

COLUMNS = ("Bucket", "Key", "VersionId", "IsLatest", "Size", "LastModifiedDate", "ETag", "StorageClass", "Unheard-Of")
GOOD = ("b", "a%2Fb", "v", "true", "3", "2026-01-02T03:04:05.000Z", "e", "STANDARD", "x")
USUAL = (
    ["b"],
    ["a", "a%2Fb", "a+b", "%E2%82%AC", "%252F", "%", "%4", "a%2fb%41", "a%%2F41"],
    ["", "v1", "null"],
    ["true", "false", ""],
    ["", "0", "17", "9223372036854775807", "-1"],
    ["2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05Z", "", "1969-12-31T23:59:59.999Z"],
    ["", "0123456789abcdef0123456789abcdef-3"],
    ["STANDARD", "GLACIER", ""],
    ["x", ""],
)
NUMBERS = ["0x10", "1e3", "1.0", "+5", " 5", "1_000"]
TIMES = [
    "2026-01-02",
    "2026-01-02 03:04:05",
    "2026-01-02T03:04:05.000+01:00",
    "2026-01-02T03:04:05.123456789Z",
    "24:00",
]
WORDS = ["TRUE", "True", "1", "t", "%FF", "%C3%A4", "NULL", "null", "N/A"]
ODD = st.sampled_from([*NUMBERS, *TIMES, *WORDS]) | st.text("ab019-%+_ .:TZx\n\"',Ftrue\u00e4\u20ac", max_size=6)


@st.composite
def rows(draw: st.DrawFn) -> tuple[str, ...]:
    """A row as S3 writes it, or one with an odd value."""
    row = [draw(st.sampled_from(values)) for values in USUAL]
    if draw(st.integers(0, 3)) == 0:
        row[draw(st.integers(0, len(USUAL) - 1))] = draw(ODD)
    return tuple(row)


def quoted(row: Sequence[str]) -> str:
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n"


def put(folder: str | Path, text: str) -> Path:
    path = Path(folder) / "000000.data"
    path.write_bytes(gzip.compress(text.encode()))
    return path


def read(path: Path | str) -> list[tuple[Any, ...]]:
    columns = "bucket, key, versionid, islatest, size, epoch_us(lastmodifieddate), etag, storageclass"
    return sorted(duckdb.execute(f"SELECT {columns} FROM read_parquet('{path}')").fetchall(), key=repr)


def careful(path: Path) -> tuple[list[tuple[Any, ...]], int]:
    """The rows, and how many are in doubt."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(UNPARSED)
    inventory: Any = SimpleNamespace(columns=COLUMNS, manifest="m")
    rows = read(convert_csv(connection, inventory, {str(path): "place"}, path.parent))
    return rows, connection.execute("SELECT count(*) FROM unparsed").fetchall()[0][0]


@settings(max_examples=examples(25), deadline=None)  # databases are opened
@given(st.lists(rows(), min_size=1, max_size=4))
def test_what_is_taken_quickly_is_what_the_careful_way_makes_of_it(lines):
    with TemporaryDirectory() as folder:
        path = put(folder, "".join(map(quoted, lines)))
        try:
            quick = write_typed(path, "CSV", COLUMNS)
        except TypeMismatch:
            return
        assert quick is not None
        expected, doubtful = careful(path)
        assert (read(quick), doubtful) == (expected, 0)


def test_every_field_is_typed_and_a_key_is_decoded_once(tmp_path):
    keys = ["a%2Fb", "a%252Fb", "%E2%82%AC+1", "%2F%2F", "x%2by"]
    rows = [(*GOOD[:1], key, *GOOD[2:]) for key in keys] + [("b", "bare", "", "false", "", "", "", "", "")]
    written = write_typed(put(tmp_path, "".join(map(quoted, rows))), "CSV", COLUMNS)
    assert written is not None
    found = {row[1]: row for row in read(written)}
    assert set(found) == {"a/b", "a%2Fb", "€ 1", "//", "x+y", "bare"}
    assert found["a/b"] == ("b", "a/b", "v", True, 3, 1767323045000000, "e", "STANDARD")
    assert found["bare"] == ("b", "bare", None, False, None, None, None, None)


@pytest.mark.parametrize(
    ("place", "value"),
    [(1, ""), (1, "%FF"), (3, "yes"), (4, "three"), (5, "yesterday"), (4, "9223372036854775808"), (0, 'b","c')],
)
def test_one_value_that_cannot_be_understood_is_enough_to_look_at_the_file_with_care(tmp_path, place, value):
    row = list(GOOD)
    row[place] = value
    text = quoted(GOOD) + ",".join(f'"{cell}"' for cell in row) + "\n"
    with pytest.raises(TypeMismatch):
        write_typed(put(tmp_path, text), "CSV", COLUMNS)
