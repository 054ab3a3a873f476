"""Two reports, as rows that one writes down, and what `reconcile` says of them."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from jobs.core.category import REPAIRABLE
from jobs.core.model import Attributes, Checksum, Location, ObjectInfo
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.inventory.find import find_inventory
from jobs.ledger.ledger import Ledger
from jobs.reconcile.rules import COMPOSITE, Judgement, code_sql, is_sealed_sql, judgements
from jobs.reconcile.run import Report, reconcile
from jobs.tables.duck import quoted
from tests.doubles import one_duckdb
from tests.doubles.list_store import Shelf
from tests.doubles.memory_store import MemoryStore
from tests.inventory.samples import deliver

MADE = 1_764_000_000.0
OLD = MADE - 86_400.0
SIDE_COLUMNS = {
    "joined": "VARCHAR", "is_delete_marker": "BOOLEAN", "size_bytes": "BIGINT", "etag": "VARCHAR",
    "is_multipart": "BOOLEAN", "is_sealed": "BOOLEAN", "modified_us": "BIGINT", "replication": "VARCHAR",
    "checksum_kind": "VARCHAR", "checksum_value": "VARCHAR",
}  # fmt: skip
NO_STORE: Any = Shelf()
"""Holds nothing: the reports are local."""


class Facts(NamedTuple):
    """What one report says of one object version, None where it does not say.

    `etag` has no quotes. `last_modified` is epoch seconds. `encryption_status` and
    `replication_status` are spelled as in the inventory. `checksum` is evidence at rest.
    """

    size_bytes: int | None = None
    etag: str | None = None
    is_multipart: bool | None = None
    encryption_status: str | None = None
    last_modified: float | None = None
    replication_status: str | None = None
    is_delete_marker: bool = False
    checksum: Checksum | None = None

    def select(self, key: str) -> str:
        """The columns of a side in SQL."""
        checksum, modified = self.checksum, self.last_modified
        values: dict[str, str | int | bool | None] = {
            "joined": key,
            "is_delete_marker": self.is_delete_marker,
            "size_bytes": self.size_bytes,
            "etag": self.etag,
            "is_multipart": self.is_multipart,
            "modified_us": None if modified is None else int(modified * 1e6),
            "replication": self.replication_status,
            "checksum_kind": checksum and f"{COMPOSITE if checksum.is_composite else ''}{checksum.algorithm}",
            "checksum_value": checksum and checksum.value,
        }
        columns = {name: f"{_literal(value)}::{SIDE_COLUMNS[name]}" for name, value in values.items()}
        columns["is_sealed"] = is_sealed_sql(f"{_literal(self.encryption_status)}::VARCHAR")
        return ", ".join(f"{value} AS {name}" for name, value in columns.items())

    def info(self, encryption: str | None) -> ObjectInfo:
        """As HEAD would say it. `encryption`: where the report does not say."""
        etag = f"{self.etag or ''}{'-2' if self.is_multipart else ''}"
        sse = {None: encryption, "SSE-KMS": "aws:kms"}.get(self.encryption_status)
        checksums = (self.checksum,) if self.checksum else ()
        return ObjectInfo(self.size_bytes or 0, etag, 0.0, None, "", checksums, Attributes(sse=sse))


def _literal(value: str | int | bool | None) -> str:
    return "NULL" if value is None else quoted(value) if isinstance(value, str) else str(value)


@cache
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def judge(
    source: Facts | None,
    destination: Facts | None,
    *,
    horizon: float | None,
    all_versions: bool = False,
    key: str = "a",
) -> Judgement:
    """The judgement of a pair, as the SQL of the rules makes it."""
    sides = [f"(SELECT {(facts or Facts()).select(key)} WHERE {facts is not None})" for facts in (source, destination)]
    join = f"{sides[0]} s FULL JOIN {sides[1]} d ON s.joined = d.joined"
    [(told, _)] = _judged(join, "1", 1 << 60 if horizon is None else int(horizon * 1e6), all_versions=all_versions)
    return told


def judge_pairs(sides: Sequence[Facts]) -> Iterator[tuple[Facts, Facts, Judgement]]:
    """The judgement of each pair of these, which are all old."""
    rows = " UNION ALL ".join(f"SELECT {n} AS n, {facts.select('a')}" for n, facts in enumerate(sides))
    for told, pair in _judged(f"({rows}) s CROSS JOIN ({rows}) d", f"s.n * {len(sides)} + d.n", 1 << 60):
        source, destination = divmod(pair, len(sides))
        yield sides[source], sides[destination], told


def _judged(join: str, kept: str, horizon_us: int, *, all_versions: bool = False) -> Iterator[tuple[Judgement, int]]:
    s, d = ({name: f"{alias}.{name}" for name in SIDE_COLUMNS} for alias in "sd")
    sql = code_sql(join, s, d, {"kept": kept}, horizon_us=horizon_us, all_versions=all_versions)
    known = judgements()
    for code, number in connection().execute(sql).fetchall():
        yield known[code], number


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


class Reconciliation(NamedTuple):
    """What a comparison found: the folder with its files, and what its report says."""

    folder: Path
    found: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.found[name]

    @property
    def categories(self) -> dict[str, tuple[int, int]]:
        return {name: (each["rows"], each["bytes"]) for name, each in self.found["categories"].items()}

    @property
    def repairable_rows(self) -> int:
        return sum(self.categories[name][0] for name in REPAIRABLE)


def run(
    folder: Path,
    source: Path,
    destination: Path,
    *,
    evidence: Sequence[Path | None] = (None, None),
    doubted: Sequence[Any] = (None, None),
    buckets: Sequence[str | None] = (None, None),
    recorded: tuple[Ledger, RunSpec] | None = None,
    **options: Any,
) -> Reconciliation:
    """Reconcile two reports. What comes in twos is of the source, and of the destination."""

    async def go() -> Reconciliation:
        sides = zip((source, destination), buckets, evidence, doubted, strict=True)
        reports = []
        for path, bucket, file, store in sides:
            inventory = await find_inventory(NO_STORE, str(path))
            side = Side(Location(bucket or inventory.source_bucket))
            reports.append(Report(side, inventory, NO_STORE, [file] if file else [], doubted=store))
        how: dict[str, Any] = {"maps": PrefixMap(), "margin_seconds": 900.0} | options
        store, versions = MemoryStore(buckets=["ledger"]), "all" if how.pop("all_versions", False) else "current"
        both = reports[0].side, reports[1].side
        ledger, spec = recorded or (Ledger(store, Location("ledger")), RunSpec("r", "reconcile", 0.0, *both, "m"))
        spec = replace(spec, options={"versions": versions, **spec.options})
        scratch = Path(tempfile.mkdtemp(dir=folder))
        return Reconciliation(scratch, await reconcile(ledger, spec, reports, scratch, **how))

    with patch("duckdb.connect", one_duckdb.connect_unlocked):
        return asyncio.run(go())


def compare(folder: Path, source: Any, destination: Any, **options: Any) -> Reconciliation:
    """Deliver the rows as two reports and reconcile them."""
    delivery = {k: options.pop(k) for k in ("fields", "file_format", "files") if k in options}
    one = deliver(folder, "src", source, created_at=MADE, **delivery)
    other = deliver(folder, "dst", destination, created_at=MADE, **delivery)
    return run(folder, one, other, **options)


def counts(answer: Reconciliation) -> dict[str, int]:
    return {str(category): rows for category, (rows, _) in answer.categories.items() if rows}


def read(answer: Reconciliation, name: str) -> list[dict[str, Any]]:
    """The rows of one of its files: differences, repair, different."""
    rows: list[dict[str, Any]] = pq.read_table(answer.folder / f"{name}.parquet").to_pylist()
    return rows


def differences(answer: Reconciliation) -> dict[str, tuple[str, str]]:
    """Key → category, and the reason with its detail."""
    return {r["key"]: (r["category"], cause(r["reason"], r["detail"])) for r in read(answer, "differences")}


def cause(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if detail else str(reason)
