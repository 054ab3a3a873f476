"""The journal's lines, and that they have the columns that are documented."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.outcome import Evidence, Outcome, Status
from jobs.ledger.journal import SETTLED, Ending, Entry, file_name, from_document, to_lines


def entry(key: str = "k", ending: Ending = Ending.COPIED) -> Entry:
    return Entry(1e9, "ObjectCreated:Put", "bucket", key, "v", "FF", ending)


def test_what_ends_badly_comes_again() -> None:
    assert {ending.value for ending in Ending if ending not in SETTLED} == {
        "changed",
        "denied",
        "failed",
    }


ENTRIES = st.lists(
    st.builds(
        Entry,
        recorded_at=st.integers(0, 1 << 40).map(lambda millis: millis / 1000),
        key=st.text(),
        event=st.text(),
        source_bucket=st.text(),
        status=st.sampled_from(Ending),
        size_bytes=st.none() | st.integers(0, (1 << 63) - 1),
        event_at=st.none() | st.integers(0, 1 << 40).map(lambda millis: millis / 1000),
    )
)


@given(ENTRIES)
def test_each_entry_is_a_line_that_is_read_as_it_was_written(written: list[Entry]) -> None:
    assert [from_document(json.loads(line)) for line in to_lines(written).split(b"\n")[:-1]] == written


@pytest.mark.parametrize(
    "change",
    [
        {"key": None},
        {"event": 5},
        {"size_bytes": -1},
        {"size_bytes": 1 << 63},
        {"status": "lost"},
        {"event_at": "yesterday"},
    ],
)
def test_what_is_no_line_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  msgspec's own words
        from_document(json.loads(to_lines([entry()])) | change)


@pytest.mark.parametrize("key", ["a\udc80b", "\ud800", "\udfff\ud800"])
def test_a_lone_surrogate_does_not_make_the_file_unreadable(key: str, tmp_path: Path) -> None:
    """DuckDB and Athena refuse a whole file with such a line, and with it each query of the journal."""
    file = tmp_path / "journal.json"
    file.write_bytes(to_lines([entry("good"), entry(key), msgspec.structs.replace(entry("also good"), reason=key)]))
    query = f"SELECT key, reason FROM read_json('{file}', format = 'newline_delimited')"
    rows = duckdb.connect().execute(query).fetchall()
    escaped = "".join(f"\\u{ord(letter):04x}" if letter > "\ud7ff" else letter for letter in key)
    assert rows == [("good", ""), (escaped, ""), ("also good", escaped)]


def test_an_outcome_adds_what_is_known_of_the_copy() -> None:
    outcome = Outcome(0, "k", "v", Status.DONE, "", Evidence.CHECKSUM, 5, "e", "dv", "de", "SHA256:x")
    proven = entry().with_outcome(outcome)
    assert (proven.evidence, proven.size_bytes, proven.destination_version_id, proven.checksum) == (
        "checksum",
        5,
        "dv",
        "SHA256:x",
    )


def test_files_sort_by_time_within_their_day() -> None:
    assert file_name(1e9, "x") == "journal/dt=2001-09-09/1000000000000-x.json"
