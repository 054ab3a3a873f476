from __future__ import annotations

import fnmatch

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.selection import Selection, glob_pattern, parse_age, parse_size, parse_when
from jobs.errors import UsageError
from tests.doubles.selecting import matches_any

NOW = 1_800_000_000.0


def when(text):
    return parse_when(text, NOW)


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("*.pdf", ["a.pdf", "a/b/c.pdf", ".pdf", "line\nbreak.pdf"], ["a.PDF", "a.pdf.gz", "a.pdf\n"]),
        ("a/*", ["a/", "a/b", "a/b/c"], ["a", "b/a/"]),
        ("?", ["x", "é", "\n", "/"], ["", "xy"]),
        ("[ab]?", ["ax", "bx"], ["cx", "a"]),
        ("[!ab]", ["c", "!"], ["a", "b", "cc"]),
        ("[0-9a-c].txt", ["5.txt", "b.txt"], ["d.txt", "-.txt"]),
        ("[ace]", ["a", "c", "e"], ["b", "d", "f"]),
        ("[]]", ["]"], ["[", ""]),
        ("[!]]", ["["], ["]"]),
        ("[z-a]", [], ["a", "m", "z", "-"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("[(?!)]", ["(", "?", "!", ")"], ["a"]),
        ("[a[:alpha:]", ["a", "[", ":", "l"], ["b"]),
        ("[\\d]", ["\\", "d"], ["1"]),
        ("[", ["["], [""]),
        ("[]", ["[]"], ["", "]"]),
        ("[!]", ["[!]"], ["a", "["]),
        ("[abc", ["[abc"], ["a"]),
        ("a.b+c(d)$^|{2}\\", ["a.b+c(d)$^|{2}\\"], ["axb+c(d)$^|{2}\\"]),
        ("", [""], ["a"]),
        ("**", ["", "a/b"], []),
    ],
)
def test_globs(glob, matching, other):
    """To `re`, and to RE2 in DuckDB, which knows other classes."""
    assert [key for key in matching if not matches_any((glob,), key)] == []
    assert [key for key in other if matches_any((glob,), key)] == []
    rows = "SELECT regexp_full_match(unnest(?::VARCHAR[]), ?)"
    found = duckdb.execute(rows, [[*matching, *other], glob_pattern(glob)]).fetchall()
    assert [is_one for (is_one,) in found] == [True] * len(matching) + [False] * len(other)


@given(st.text("ab*?[]!-./", max_size=12), st.text("ab[]!-./", max_size=8))
def test_globs_mean_what_they_mean_to_pythons_own_matcher(glob, key):
    assert matches_any((glob,), key) == fnmatch.fnmatchcase(key, glob)


def test_no_glob_matches_nothing_and_one_of_several_is_enough():
    assert glob_pattern("a***b*") == "(?s:a.*b.*)", "stars in a row are one, so that no key takes long"
    assert not matches_any((), "a")
    assert matches_any(("x", "a*"), "abc")


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (parse_size, "0", 0),
        (parse_size, "1024", 1024),
        (parse_size, "1024B", 1024),
        (parse_size, "10MB", 10_000_000),
        (parse_size, "10mb", 10_000_000),
        (parse_size, "5GiB", 5 * 1024**3),
        (parse_size, "5 GiB", 5 * 1024**3),
        (parse_size, "1.5KiB", 1536),
        (parse_size, "0.1GB", 100_000_000),
        (parse_size, "48.8TiB", 53_656_167_435_468),
        (parse_size, "1PB", 10**15),
        (parse_age, "1s", 1),
        (parse_age, "2m", 120),
        (parse_age, "1.5h", 5400),
        (parse_age, " 1d ", 86_400),
        (parse_age, "2w", 1_209_600),
        (parse_age, "0d", 0),
        (when, "30d", NOW - 30 * 86400),
        (when, "0s", NOW),
        (when, "1.5d", NOW - 129_600),
        (when, "2026-11-01", 1_793_491_200.0),
        (when, "2026-11-01T00:00:00Z", 1_793_491_200.0),
        (when, "2026-11-01T01:00:00+01:00", 1_793_491_200.0),
        (when, "2026-11-01T00:00:00", 1_793_491_200.0),
        (when, "0001-01-01", 0.0),
        (when, "0001-01-01T00:00:00+14:00", 0.0),
        (when, "9999999w", 0.0),
    ],
)
def test_sizes_ages_and_times(read, text, value):
    assert read(text) == value


REFUSED = {
    parse_size: (r"for example|write", ["", "MB", "-1", "1e3", "5G", "5Gi", "5 apples", "1.2.3MB", "1,000", "٣"]),
    parse_age: ("15m or 30d", ["", "1", "d", "-1d", "1 d", "1y", "1d1h", "\u0663d", "1234567890d"]),
    when: (
        r"30d|in the future",
        ["", "yesterday", "30", "d", "-3d", "2026-13-01", "30D", "9999-12-31T23:59:59-10:00"],
    ),
}


@pytest.mark.parametrize(("read", "text"), [(read, text) for read, (_, texts) in REFUSED.items() for text in texts])
def test_what_is_no_size_age_or_time_is_refused_with_an_example(read, text):
    with pytest.raises(UsageError, match=REFUSED[read][0]):
        read(text)


def test_filters_are_those_that_take_less_than_all() -> None:
    assert Selection(prefix="a/", versions="all").filters() == {}
    some = Selection(prefix="a/", include=("*.csv",), max_size_bytes=0, sample=(3, 30))
    assert some.filters() == {"include": ["*.csv"], "max_size_bytes": 0, "sample": [3, 30]}
