"""The catalog's SQL against its promise: one proof for each version, and none that was disproved since."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.ledger.catalog import proven_sql
from tests.doubles.examples import examples


class Found(NamedTuple):
    """What a run found of one key's copy."""

    status: str
    version_id: str | None
    etag: str | None
    second: int
    destination_key: str = "copy"
    run_id: str = "run"
    evidence: str = "md5_etag"

    @property
    def own_id(self) -> str | None:
        return None if self.version_id in (None, "", "null") else self.version_id

    @property
    def is_disproof(self) -> bool:
        return self.status in ("mismatched", "missing", "damaged")

    def may_be(self, other: Found) -> bool:
        """Both may be about one object."""
        if self.destination_key != other.destination_key:
            return False
        if self.own_id and other.own_id:
            return self.own_id == other.own_id
        if not self.own_id and not other.own_id:
            return True
        return None in (self.etag, other.etag) or self.etag == other.etag


@cache
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def proven(*found: Found) -> list[Found]:
    """What the catalog keeps, in the order of the arguments."""
    database = connection()
    database.execute(
        "CREATE OR REPLACE TABLE found (place INTEGER, source_bucket VARCHAR, key VARCHAR, destination_bucket VARCHAR, "
        "status VARCHAR, version_id VARCHAR, etag VARCHAR, finished_at TIMESTAMP, destination_key VARCHAR, "
        "run_id VARCHAR, evidence VARCHAR)"
    )
    for place, one in enumerate(found):
        when = datetime(2026, 11, 25, 0, 0, one.second, tzinfo=UTC).replace(tzinfo=None)
        row = [place, "src", "key", "dst", one.status, one.version_id, one.etag, when, one.destination_key, one.run_id]
        database.execute("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [*row, one.evidence])
    return [
        found[row[0]] for row in database.execute(f"SELECT place FROM ({proven_sql('found')}) ORDER BY 1").fetchall()
    ]


founds = st.builds(
    Found,
    st.sampled_from(["copied", "verified", "mismatched", "missing", "damaged", "changed"]),
    st.sampled_from([None, "", "null", "v1", "v2"]),
    st.sampled_from([None, "e1", "e2"]),
    st.integers(1, 4),
    st.sampled_from(["copy", "copy", "other"]),
    st.just("run"),
    st.sampled_from(["md5_etag", "md5_etag", "content"]),
)


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(founds, max_size=7))
def test_no_copy_stays_proven_that_was_disproved_since_however_its_version_is_spelled(found: list[Found]) -> None:
    kept = proven(*found)
    disproofs = [one for one in found if one.is_disproof]
    for one in kept:
        assert one.status in ("copied", "verified")
        assert not [other for other in disproofs if other.second >= one.second and other.may_be(one)]
        by_bytes = [
            other
            for other in disproofs
            if (other.evidence == "content" or other.status == "damaged") and other.may_be(one)
        ]
        assert not by_bytes or one.status == "copied" or one.evidence == "content"
    named = [(one.destination_key, one.own_id) for one in kept]
    assert len(named) == len(set(named))


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(founds, max_size=7))
def test_what_nothing_disproves_stays_proven(found: list[Found]) -> None:
    kept = {(one.destination_key, one.own_id) for one in proven(*found)}
    for one in found:
        doubts = [other for other in found if other.is_disproof and other.may_be(one)]
        if one.status in ("copied", "verified") and one.own_id and not doubts:
            # as itself, or as a later proof of the same object that names no version
            assert kept & {(one.destination_key, one.own_id), (one.destination_key, None)}


def test_what_was_wrong_by_its_bytes_is_proven_again_by_bytes_or_a_new_copy_alone() -> None:
    copied, wrong = Found("copied", "v1", "e1", 1), Found("mismatched", "v1", "e1", 2, evidence="content")
    weak, strong = Found("verified", "v1", "e1", 3), Found("verified", "v1", "e1", 3, evidence="content")
    assert proven(copied, wrong, weak) == []
    assert proven(copied, wrong._replace(evidence="md5_etag"), weak) == [weak]
    assert proven(copied, wrong, strong, weak._replace(second=4)) == [strong]
    assert proven(wrong, copied._replace(second=3)) == [copied._replace(second=3)]


def test_what_a_later_run_found_damaged_is_proven_again_by_bytes_or_a_new_copy_alone() -> None:
    """The source had rotted, perhaps before it was copied, and its copy stayed in the catalog."""
    copied, damaged = Found("copied", "v1", "e1", 1), Found("damaged", "v1", "e1", 2, evidence="none")
    assert proven(copied, damaged) == []
    assert proven(copied, damaged, Found("verified", "v1", "e1", 3)) == []
    mended = Found("verified", "v1", "e1", 3, evidence="content")
    assert proven(copied, damaged, mended) == [mended]


@pytest.mark.parametrize("spelled", [None, "", "null", "v1"])
def test_a_later_verify_disproves_under_every_spelling_of_the_version(spelled: str | None) -> None:
    """A version id, and none at all with the same ETag, are one object."""
    for first in (None, "", "null", "v1"):
        good, bad = Found("copied", first, "e1", 1), Found("mismatched", spelled, "e1", 2)
        assert proven(good, bad) == []
        assert proven(bad._replace(second=1), good._replace(second=2)) == [good._replace(second=2)]
    assert proven(Found("copied", "v1", "e1", 1), Found("missing", None, None, 2)) == []
    assert proven(Found("copied", "v1", "e1", 1), Found("missing", "v2", "e1", 2)) == [Found("copied", "v1", "e1", 1)]


@pytest.mark.parametrize("is_turned", [False, True])
def test_of_outcomes_of_one_time_the_later_runs_counts(is_turned: bool) -> None:
    """Also where an outcome without a version id shows which of two versions it is about."""
    older, newer = Found("copied", "v1", "e1", 1, run_id="run-1"), Found("copied", "v2", "e1", 1, run_id="run-2")
    unnamed = Found("verified", None, "e1", 2, run_id="run-3")
    found = [older, newer, unnamed]
    assert set(proven(*(reversed(found) if is_turned else found))) == {older, unnamed}
    same = [Found("copied", "v1", "e1", 1, run_id=run) for run in ("run-1", "run-2")]
    assert proven(*(reversed(same) if is_turned else same)) == [same[1]]
