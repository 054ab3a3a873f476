"""The SQL of the rules says of every pair what `judge` says."""

from __future__ import annotations

from functools import cache
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Checksum
from jobs.reconcile.rules import CIRCUMSTANCE, COMPARISON, Facts, Judgement, judge
from jobs.reconcile.rules_sql import COMPOSITE, SIDE_COLUMNS, RuleOptions, is_sealed_sql, judgements, replication_sql
from tests.doubles.examples import examples

MD5, OTHER_MD5 = "d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661"
HORIZON = 1000.0
ODD = "é" * 32

checksums = st.builds(
    Checksum, st.sampled_from(["CRC32", "SHA256", "BLAKE9"]), st.sampled_from(["a", "b"]), st.booleans()
)
facts = st.builds(
    Facts,
    st.none() | st.integers(0, 2),
    st.none()
    | st.sampled_from([MD5, OTHER_MD5, f"{MD5}-2", "opaque", MD5.upper(), f"{MD5[:-1]}\n", f"{MD5}\n", "é" * 32]),
    st.none() | st.booleans(),
    st.none() | st.sampled_from(["SSE-S3", "NOT-SSE", "SSE-KMS", "SSE-C", "new"]),
    st.none() | st.sampled_from([HORIZON - 90_000, HORIZON - 86_400, 1.0, 2.0, HORIZON, HORIZON + 1]),
    st.none() | st.sampled_from(["PENDING", "FAILED", "COMPLETED", "REPLICA"]),
    st.booleans(),
    st.lists(checksums, max_size=1).map(tuple),
    st.booleans(),
    st.just(False),
)
CRC = Facts(1, MD5, False, "SSE-S3", 1.0, checksums=(Checksum("CRC32", "a"),))
one_side = st.none() | facts
pairs = st.lists(st.tuples(one_side, one_side).filter(any), min_size=1, max_size=60)


@cache
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def fill(name: str, side: list[tuple[int, Facts]]) -> None:
    """The facts of one side as a table with the columns that a side of the join has."""
    rows: list[tuple[Any, ...]] = [
        (
            str(number),
            f.is_delete_marker,
            f.size_bytes,
            f.etag,
            f.is_multipart,
            f.encryption_status,
            None if f.last_modified is None else int(f.last_modified * 1e6),
            f.replication_status,
            next((f"{COMPOSITE * each.is_composite}{each.algorithm}" for each in f.checksums), None),
            next((each.value for each in f.checksums), None),
            f.has_unnamed_copy,
        )
        for number, f in side
    ]
    types = SIDE_COLUMNS | {"is_sealed": "VARCHAR"}
    db = connection()
    db.execute(f"CREATE OR REPLACE TABLE raw ({', '.join(f'{name} {kind}' for name, kind in types.items())})")
    if rows:
        db.executemany(f"INSERT INTO raw VALUES ({', '.join('?' * len(types))})", rows)
    db.execute(
        f"CREATE OR REPLACE TABLE {name} AS SELECT * REPLACE ({is_sealed_sql('is_sealed')} AS is_sealed, "
        f"{replication_sql('replication')} AS replication) FROM raw"
    )


def judged(both: list[tuple[Facts | None, Facts | None]], columns: set[str], **how: Any) -> list[Judgement]:
    fill("source", [(n, s) for n, (s, _) in enumerate(both) if s])
    fill("destination", [(n, d) for n, (_, d) in enumerate(both) if d])
    sql = RuleOptions(**how).select(
        "source s FULL JOIN destination d ON s.joined = d.joined",
        {name: f"s.{name}" for name in columns},
        {name: f"d.{name}" for name in columns},
        {"pair": "coalesce(s.joined, d.joined)::INTEGER"},
    )
    codes = dict(connection().execute(f"SELECT pair, code FROM ({sql})").fetchall())
    return [judgements()[codes[number]] for number in range(len(both))]


@settings(max_examples=examples(25), deadline=None)
@given(pairs, st.booleans(), st.none() | st.just(HORIZON))
def test_sql_says_what_judge_says(both, all_versions, horizon):
    us = None if horizon is None else int(horizon * 1e6)
    told = judged(both, set(SIDE_COLUMNS), horizon_us=us, all_versions=all_versions)
    assert told == [judge(*pair, horizon=horizon, all_versions=all_versions) for pair in both]


@settings(max_examples=examples(15), deadline=None)
@given(pairs, st.sets(st.sampled_from(sorted(SIDE_COLUMNS.keys() - {"joined"}))))
def test_a_column_that_no_report_has_is_one_that_says_nothing(both, absent):
    fields: dict[str, dict[str, Any]] = {
        "is_delete_marker": {"is_delete_marker": False},
        "size_bytes": {"size_bytes": None},
        "etag": {"etag": None},
        "is_multipart": {"is_multipart": None},
        "is_sealed": {"encryption_status": None},
        "modified_us": {"last_modified": None},
        "replication": {"replication_status": None},
        "checksum_kind": {"checksums": ()},
        "checksum_value": {"checksums": ()},
        "has_unnamed_copy": {"has_unnamed_copy": False},
    }
    blank: dict[str, Any] = {}
    for name in absent:
        blank |= fields[name]
    without: Any = [tuple(side and side._replace(**blank) for side in pair) for pair in both]
    told = judged(both, set(SIDE_COLUMNS) - absent, horizon_us=int(HORIZON * 1e6), all_versions=True)
    assert told == [judge(*pair, horizon=HORIZON, all_versions=True) for pair in without]


def test_every_code_has_a_meaning():
    assert len(judgements()) == len(COMPARISON) * len(CIRCUMSTANCE) * 3
    assert max(judgements()) < 1 << 16
