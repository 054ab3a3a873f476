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

    assert asked(maps.source_scope_sql("key"), maps.destination_sql("key")) == [*map(maps.destination_of, keys)]
    assert asked(maps.destination_scope_sql("key"), maps.source_sql("key")) == [*map(maps.source_of, keys)]


def test_overlapping_prefixes_are_refused() -> None:
    for pairs in ((("a", "x"), ("ab", "y")), (("a", "x"), ("b", "x/y"))):
        with pytest.raises(UsageError, match="overlap"):
            PrefixMap(pairs)
