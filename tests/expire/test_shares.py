"""Shares of an expire run, and since when a proof counts: by S3's listing and clock, never by the ledger's word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from jobs.core.enums import Step
from jobs.core.model import Location, ObjectVersion
from jobs.expire.shares import Share, drop_expired, span_of_listed, span_of_proven, weigh
from jobs.ledger.ledger import Ledger
from jobs.ledger.tombstones import Tombstone, Tombstones
from jobs.tables.rows import version_batch
from tests.doubles.memory_store import MemoryStore

NOW = 1_750_000_000.0


@pytest.mark.parametrize(
    ("share", "limit", "exceeds"),
    [
        (Share(1, 2), 0.5, False),
        (Share(2, 3), 0.5, True),
        (Share(1, 0), 0.99, True),
        (Share(3, 0), 1.0, False),
        (Share(0, 0), 0.0, False),
    ],
)
def test_a_share_is_exceeded_by_more_than_the_limit_unless_all_may_go(
    share: Share, limit: float, exceeds: bool
) -> None:
    assert share.exceeds(limit) is exceeds


def tables(chosen: Sequence[tuple[object, ...]], there: list[ObjectVersion]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE chosen (key VARCHAR, version_id VARCHAR, etag VARCHAR, last_modified DOUBLE, proven_at DOUBLE,"
        " copy_etag VARCHAR, objection VARCHAR)"
    )
    for row in chosen:
        connection.execute("INSERT INTO chosen VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.register("there", pa.Table.from_batches([version_batch(there)]))
    return connection


def weighed(chosen: Sequence[tuple[object, ...]], there: list[ObjectVersion], older_than: float) -> tuple[Share, Share]:
    return weigh(tables(chosen, there), older_than)


def listed(key: str, version_id: str | None, etag: str, *, is_latest: bool = True) -> ObjectVersion:
    return ObjectVersion(0, key, version_id, is_latest=is_latest, etag=etag, last_modified=NOW - 100)


def test_current_objects_and_versions_count_each_for_itself_and_what_is_not_listed_counts_for_both() -> None:
    there = [listed("a", "2", "e"), listed("a", "1", "o", is_latest=False), listed("b", None, "f")]
    rows = [
        ("a", "2", "e", 0.0, NOW - 50, "copy", None),
        ("a", "1", "o", 0.0, NOW - 50, "copy", None),
        ("b", None, "f", NOW + 1e9, NOW - 50, "copy", None),  # whatever a manifest says of its time
        ("gone", None, "g", 0.0, NOW - 50, "copy", None),
        ("b", "null", "other", 0.0, NOW - 50, "copy", None),
        ("unproven", None, "g", 0.0, None, None, None),
        ("b", "null", "f", 0.0, NOW - 50, "copy", "its copy counts for nothing"),
    ]
    assert weighed(rows, there, NOW) == (Share(4, 2), Share(5, 3))
    assert weighed(rows, there, NOW - 60) == (Share(0, 2), Share(0, 3))


def test_the_spans_are_of_the_rows_whose_proofs_count() -> None:
    there = [listed(key, None, key) for key in "bcdef"]
    there[2] = there[2]._replace(is_delete_marker=True)
    rows = [
        ("a", None, "a", 0.0, NOW, "copy", None),  # not listed
        ("b", None, "b", 0.0, NOW, None, None),  # without a proof
        ("c", None, "c", 0.0, NOW, "copy", None),
        ("d", None, "d", 0.0, NOW, "copy", None),  # a marker
        ("e", None, "e", 0.0, NOW, "copy", None),
        ("f", None, "f", 0.0, NOW, "copy", "a verify run disproved it"),
    ]
    assert span_of_proven(tables(rows, there)) == ("a", "e")
    assert span_of_listed(tables(rows, there)) == ("c", "e")
    assert span_of_proven(tables([rows[1], rows[5]], there)) == ("b", "f")
    assert span_of_listed(tables([rows[1], rows[5]], there)) == (None, None)
    assert span_of_proven(tables([], there)) == (None, None)


@pytest.mark.parametrize("is_confirmed", [True, False], ids=["deleted", "announced"])
def test_only_rows_that_a_run_deleted_here_and_that_are_gone_are_left_out(tmp_path: Path, is_confirmed: bool) -> None:
    """A row that somebody else deleted counts, or a wrong manifest would look small."""
    there = [listed("here", "1", "e"), listed("null", None, "e")]
    names: list[tuple[str, str | None, str]] = [
        ("gone", "1", "e"),
        ("gone", None, "e"),  # any version of these bytes
        ("gone", "2", "e"),  # another version
        ("gone", "1", "f"),  # other bytes
        ("here", "1", "e"),  # announced, and still there
        ("null", "null", "e"),  # the listing names no id
        ("never", "1", "e"),  # deleted by somebody else
        ("hidden", "1", "e"),  # below a marker, where it still is, but for the listing
        ("else/where", "1", "e"),  # in a prefix that this run is not about
    ]
    rows = [(*name, 0.0, NOW, "copy", None) for name in names]

    def stone(row: int, key: str, step: Step = Step.REMOVE) -> Tombstone:
        marker = "m" if step is Step.HIDE else None
        return Tombstone(row, key, "1", "e", 1, NOW, step, "s3://c/k", None, "e", "content", marker, NOW)

    async def drop() -> tuple[int, list[tuple[str, str | None, str]]]:
        store = MemoryStore(clock=lambda: NOW)
        store.create_bucket("ledger")
        ledger = Ledger(store, Location("ledger"))
        connection = tables(rows, there)
        assert await drop_expired(connection, ledger, Location("docs"), tmp_path) == 0
        stones = [stone(0, "gone"), stone(1, "here"), stone(2, "hidden", Step.HIDE), stone(3, "else/where")]
        tombstones = Tombstones(store, ledger.location, "docs", "earlier")
        name = await tombstones.announce(stones)
        if is_confirmed:
            await tombstones.confirm(name, stones)
        other = Tombstones(store, ledger.location, "other", "earlier")
        await other.confirm(await other.announce([stone(0, "never")]), [stone(0, "never")])
        count = await drop_expired(connection, ledger, Location("docs", ""), tmp_path)
        left = connection.execute("SELECT key, version_id, etag FROM chosen").fetchall()
        elsewhere = tables([rows[8]], there)
        assert await drop_expired(elsewhere, ledger, Location("docs", "gone"), tmp_path) == 0
        whole = tables([rows[4], rows[5]], there)
        assert await drop_expired(whole, ledger, Location("docs"), tmp_path / "no such folder") == 0
        return count, left

    count, left = asyncio.run(drop())
    assert (count, left) == (3, [*names[2:8]])
