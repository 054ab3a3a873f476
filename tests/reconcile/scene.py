"""Two reports, as rows that one writes down, and what `reconcile` says of them."""

from __future__ import annotations

import asyncio
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.inventory.find import find_inventory
from jobs.reconcile import rules_sql
from jobs.reconcile.reconcile import ReconcileOptions, Reconciliation, reconcile
from jobs.reconcile.rules import Facts, Judgement
from jobs.reconcile.rules_sql import RuleOptions, judgements
from tests.doubles.list_store import Shelf
from tests.inventory.samples import deliver

MADE = 1_764_000_000.0
OLD = MADE - 86_400.0
NO_STORE: Any = Shelf()
"""Holds nothing: the reports are local."""
ODD_KEYS = ["a b", "a+b", "a%2Bb", "100%", "/x", "a//b", "a/../b", "t/", "é", "e\u0301", "\U00010000", 'q"uote']
ODD_KEYS += [
    "a%2Fb",
    "a%252Fb",
    "b/%2f+",
    "c,omma",
    "new\nline",
    "cr\r\n",
    "tab\t",
    " lead",
    "null",
    "\x7f",
    "=1+1",
    "+x",
    "-x",
    "@x",
    "'",
    "<script>",
]


@cache
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def judge(
    source: Facts | None, destination: Facts | None, *, horizon: float | None, all_versions: bool = False
) -> Judgement:
    options = RuleOptions(None if horizon is None else int(horizon * 1e6), all_versions)
    [code] = rules_sql.judge(connection(), [(source, destination)], options)
    return judgements()[code]


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def row(key: str, content: str = "", **more: Any) -> dict[str, Any]:
    """An object as a report lists it."""
    plain = {
        "Key": key,
        "Size": len(content),
        "ETag": md5(content),
        "LastModifiedDate": OLD,
        "StorageClass": "STANDARD",
    }
    return plain | {"IsMultipartUploaded": False, "EncryptionStatus": "SSE-S3"} | more


def version(key: str, version_id: str, content: str = "", **more: Any) -> dict[str, Any]:
    return row(key, content, VersionId=version_id, IsLatest=True, IsDeleteMarker=False) | more


def marker(key: str, version_id: str, **more: Any) -> dict[str, Any]:
    return {
        "Key": key,
        "VersionId": version_id,
        "IsLatest": True,
        "IsDeleteMarker": True,
        "LastModifiedDate": OLD,
    } | more


def evidence(path: Path, *rows: tuple[str, str, str, str, str, bool, float]) -> Path:
    names = ("key", "version_id", "etag", "algorithm", "value", "is_composite", "computed_at")
    columns: dict[str, Any] = {name: [one[place] for one in rows] for place, name in enumerate(names)}
    columns["computed_at"] = pa.array([int(t * 1e6) for t in columns["computed_at"]], pa.int64()).cast(
        pa.timestamp("us", "UTC")
    )
    pq.write_table(pa.table(columns), path)
    return path


def run(folder: Path, source: Path, destination: Path, *, joined: Any = None, **options: Any) -> Reconciliation:
    async def go() -> Reconciliation:
        one, other = [await find_inventory(NO_STORE, str(path)) for path in (source, destination)]
        how = ReconcileOptions(**{"now": MADE + 600} | options)
        return await reconcile(
            one,
            other,
            how,
            source_store=NO_STORE,
            destination_store=NO_STORE,
            scratch=folder / "scratch",
            **joined or {},
        )

    return asyncio.run(go())


def compare(folder: Path, source: Any, destination: Any, *, joined: Any = None, **options: Any) -> Reconciliation:
    """Deliver the rows as two reports and reconcile them."""
    delivery = {k: options.pop(k) for k in ("fields", "file_format", "files") if k in options}
    one = deliver(folder, "src", source, created_at=MADE, **delivery)
    other = deliver(folder, "dst", destination, created_at=MADE, **delivery)
    return run(folder, one, other, joined=joined, **options)


def counts(answer: Reconciliation) -> dict[str, int]:
    return {category.value: rows for category, (rows, _) in answer.categories.items() if rows}


def differences(answer: Reconciliation) -> dict[str, tuple[str, str]]:
    """Key → category, and the reason with its detail."""
    rows = pq.read_table(answer.differences_parquet).to_pylist()
    return {r["key"]: (r["category"], cause(r["reason"], r["detail"])) for r in rows}


def cause(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if detail else str(reason)
