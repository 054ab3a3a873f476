"""A prefix map says the same in Python and in SQL, for every key."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.prefix_map import PrefixMap
from jobs.errors import UsageError

texts = st.text("ab/'é", max_size=5)


@given(
    st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
    st.lists(texts, max_size=2),
    st.lists(texts, min_size=1, max_size=10),
)
def test_sql_and_python_agree(pairs: list[tuple[str, str]], excluded: list[str], keys: list[str]) -> None:
    try:
        maps = PrefixMap(tuple(pairs), excluded=tuple(excluded))
    except UsageError:  # prefixes that overlap
        return
    connection = duckdb.connect()
    connection.execute("CREATE TABLE keys (key VARCHAR)")
    connection.executemany("INSERT INTO keys VALUES (?)", [[key] for key in keys])

    def asked(scope: str, mapped: str) -> list[str | None]:
        sql = f"SELECT CASE WHEN {scope} THEN {mapped} END FROM keys ORDER BY rowid"
        return [row[0] for row in connection.execute(sql).fetchall()]

    assert asked(maps.scope_sql("key"), maps.destination_sql("key")) == [*map(maps.destination_of, keys)]
    back = maps.inverse
    assert asked(back.scope_sql("key"), back.destination_sql("key")) == [*map(maps.source_of, keys)]


@pytest.mark.parametrize(
    ("excluded", "inside"),
    [((), ["b/k", "b/x/k"]), (("a/x/",), ["b/k"]), (("a/",), []), (("",), []), (("x/",), ["b/k", "b/x/k"])],
)
def test_a_part_of_a_prefix_can_be_left_out_at_both_sides(excluded: tuple[str, ...], inside: list[str]) -> None:
    maps = PrefixMap((("a/", "b/"),), excluded)
    keys = "(VALUES ('b/k'), ('b/x/k'), ('a/k'), ('c')) AS keys(key)"
    found = duckdb.execute(f"SELECT key FROM {keys} WHERE {maps.inverse.scope_sql('key')} ORDER BY key").fetchall()
    assert [key for (key,) in found] == inside
    assert [key for key in ("b/k", "b/x/k", "a/k", "c") if maps.source_of(key) is not None] == inside


def test_a_prefix_is_mapped_beside_one_that_stays() -> None:
    maps = PrefixMap((("x", "x"), ("b/", "c/")))
    keys = "(VALUES ('a'), ('b/k'), ('xk')) AS keys(key)"
    sql = f"SELECT {maps.destination_sql('key')} FROM {keys} WHERE {maps.scope_sql('key')} ORDER BY key"
    assert duckdb.execute(sql).fetchall() == [("c/k",), ("xk",)]


def test_overlapping_prefixes_are_refused() -> None:
    for pairs in ((("a", "x"), ("ab", "y")), (("a", "x"), ("b", "x/y"))):
        with pytest.raises(UsageError, match="overlap"):
            PrefixMap(pairs)


prefixes = st.text("ab/= \n", max_size=6)


@given(st.tuples(prefixes, prefixes))
def test_a_map_is_read_as_it_is_written(pair: tuple[str, str]) -> None:
    maps = PrefixMap((pair,))
    assert PrefixMap.parse(maps.texts()) == maps


def test_a_hive_prefix_is_mapped_whole_or_not_at_all() -> None:
    """Cut at the first `=`, keys below `dt` would have been copied to `2026/=copies/dt=2026/`."""
    for text in ("dt=2026/=copies/dt=2026/", "dt=2026/=copies/", "a=b=c", "a", r"a\=b", ""):
        with pytest.raises(UsageError, match="not a prefix mapping"):
            PrefixMap.parse((text,))
    maps = PrefixMap.parse((r"dt\=2026/=copies/dt\=2026/",))
    assert maps.destination_of("dt=2026/k") == "copies/dt=2026/k"
