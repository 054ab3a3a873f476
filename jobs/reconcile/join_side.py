"""Sides of the join: a report's rows in scope, in the columns of `rules_sql`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from jobs.core.model import NULL_VERSION
from jobs.core.outcome import Status
from jobs.core.prefix_map import PrefixMap
from jobs.reconcile.rules_sql import COMPOSITE, RuleOptions, is_sealed_sql, replication_sql
from jobs.reconcile.stage import StagedReport
from jobs.tables.duck import parquet, quoted

_ABSENT = "\0"
"""Replaces a field that the report does not have in an expression."""

_FIELD_OF = {
    "is_latest": "islatest",
    "is_delete_marker": "isdeletemarker",
    "is_multipart": "ismultipartuploaded",
    "is_sealed": "encryptionstatus",
    "storage_class": "storageclass",
    "replication": "replicationstatus",
}
"""Column → the only field that it depends on, for fields that may have one value in all rows."""

_ORDER = {"modified_us": 0, "size_bytes": 1, "etag": 2}
"""The columns that decide first which of several rows of one object counts."""

_HAS_COPY = ", ".join(quoted(status.value) for status in (Status.COPIED, Status.SAME, Status.DELETED))
"""The outcomes of rows that have a copy."""

_ASKED_OF_BOTH = ("is_multipart", "is_sealed")
"""The rules use these columns only where both sides have the key (`reconcile/rules.py`)."""


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """How two reports are joined.

    `version_map`: see `reconcile.reconcile`. `…_evidence`: a side's Parquet files.
    """

    rules: RuleOptions
    prefixes: PrefixMap = field(default_factory=PrefixMap)
    version_map: Sequence[Path] = ()
    source_evidence: Sequence[Path] = ()
    destination_evidence: Sequence[Path] = ()

    def versions_sql(self) -> str:
        """Return the version map as SQL: key, version_id, destination_version_id. Empty without
        one.

        Of a version that was copied more than once, it has the latest copy with a version id. Of
        copies with one time, it has the greatest version id. Null: there is a copy, and the server
        did not say its version id.
        """
        if not self.version_map:
            return ""
        return (
            f"SELECT key, coalesce(nullif(version_id, ''), '{NULL_VERSION}') AS version_id, destination_version_id "
            "FROM (SELECT NULL::TIMESTAMPTZ AS finished_at, NULL::VARCHAR AS status WHERE false "
            f"UNION ALL BY NAME FROM {parquet(self.version_map)}) "
            f"WHERE destination_version_id IS NOT NULL OR status IN ({_HAS_COPY}) "
            "QUALIFY row_number() OVER (PARTITION BY key, coalesce(nullif(version_id, ''), 'null') "
            "ORDER BY destination_version_id IS NULL, finished_at DESC NULLS LAST, destination_version_id DESC) = 1"
        )


@dataclass(frozen=True, slots=True)
class SideTotals:
    """The counts of one report: rows in scope, keys (or versions) outside of the prefix map or of
    Sealift's own with their bytes, repeated rows.
    """

    rows: int
    excluded_rows: int
    excluded_bytes: int
    repeated_rows: int = 0

    def without_repeats(self, rows: int) -> SideTotals:
        """Return these totals where only so many rows are left."""
        return replace(self, rows=rows, repeated_rows=self.repeated_rows + self.rows - rows)

    def without_own(self, rows: int, size_bytes: int) -> SideTotals:
        """Return these totals where so many of the rows are Sealift's own objects."""
        excluded_rows, excluded_bytes = self.excluded_rows + rows, self.excluded_bytes + size_bytes
        return replace(self, rows=self.rows - rows, excluded_rows=excluded_rows, excluded_bytes=excluded_bytes)


@dataclass(frozen=True, slots=True)
class JoinSide:
    """One report as a side of the join.

    `is_unique`: repeated rows are folded into the latest of them. Of rows with one time, the
    largest size counts, then the greatest ETag, then the other columns by their names.
    """

    report: StagedReport
    options: JoinOptions
    is_source: bool
    is_unique: bool = False

    def columns(self) -> dict[str, str]:
        """Return the side's columns as expressions over the report, where the report or the
        evidence has them.
        """
        named = {
            "joined": self._joined(),
            "version_id": self._version(),
            "is_latest": self._field("islatest"),
            "is_delete_marker": f"coalesce({self._field('isdeletemarker')}, false)",
            "size_bytes": self._field("size"),
            "etag": self._etag(),
            "is_multipart": self._field("ismultipartuploaded"),
            "is_sealed": is_sealed_sql(self._text("encryptionstatus")),
            "modified_us": f"epoch_us({self._field('lastmodifieddate')})",
            "storage_class": self._text("storageclass"),
            "replication": replication_sql(self._field("replicationstatus")),
        }
        columns = {name: value for name, value in named.items() if _ABSENT not in value}
        if not self.options.rules.all_versions:
            columns.pop("is_latest", None)  # all are
        if not self.is_source:
            for name in ("is_latest", "storage_class", "replication"):
                columns.pop(name, None)
        if self.options.rules.all_versions:
            mapped = "coalesce(m.destination_version_id, {})" if self._has_map else "{}"
            columns["matched"] = mapped.format(columns["version_id"])
        if self.options.rules.all_versions and self.options.version_map:
            columns["has_unnamed_copy"] = self._unnamed()
        if self._evidence:
            columns |= {"checksum_kind": "e.checksum_kind", "checksum_value": "e.checksum_value"}
        return columns

    def joined(self, alias: str) -> dict[str, str]:
        """Return the columns as expressions over the side's alias in the full join, which carries
        no constants.
        """
        columns = {}
        for name, value in self.columns().items():
            if not self._is_constant(name):
                columns[name] = f"{alias}.{name}"
            elif name in _ASKED_OF_BOTH:
                columns[name] = f"({value})"
            else:
                columns[name] = f"CASE WHEN {alias}.joined IS NOT NULL THEN {value} END"
        return columns

    def _is_constant(self, name: str) -> bool:
        return _FIELD_OF.get(name) in self.report.constants

    def select(self) -> str:
        """Return the side as SQL, for the join."""
        columns = ", ".join(
            f"{value} AS {name}" for name, value in self.columns().items() if not self._is_constant(name)
        )
        sql = f"SELECT {columns} FROM {self.report.relation} r{self._map()}{self._checksums()} WHERE {self._scope()}"
        if self.is_unique:
            by = "joined, matched" if self.options.rules.all_versions else "joined"
            names = [name for name in self.columns() if not self._is_constant(name)]
            names.sort(key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
            order = ", ".join(f"{name} DESC NULLS LAST" for name in names)
            sql = f"SELECT * FROM ({sql}) QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY {order}) = 1"
        return sql

    def totals(self, connection: duckdb.DuckDBPyConnection) -> SideTotals:
        """Count the report's rows."""
        if self.is_unique:
            row = connection.execute(f"SELECT count(*) FROM ({self.select()})").fetchone()
            return SideTotals(int(row[0]) if row else 0, 0, 0)
        inside = self._in_scope()
        if (inside, self._current()) == ("true", "true"):
            return SideTotals(self.report.rows, 0, 0)
        row = connection.execute(
            f"SELECT count(*) FILTER ({inside}), count(*) FILTER (NOT {inside}) "
            f"FROM {self.report.relation} r WHERE {self._current()}"
        ).fetchone() or (0, 0)
        keys, size_bytes = self._excluded(connection) if row[1] else (0, 0)
        return SideTotals(row[0], keys, size_bytes, row[1] - keys)

    def _excluded(self, connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
        """Count the keys (or versions) outside of the prefix map, and the bytes of the latest rows
        of each, the largest of one time. Hashes stand for them, because they may be nearly all of
        a report.
        """
        columns = self.columns()
        size = columns.get("size_bytes", "NULL::BIGINT")
        latest = f"arg_max({size}, ({columns['modified_us']}, {size}))" if "modified_us" in columns else f"max({size})"
        identity = [self._field("key"), *([self._version()] if self.options.rules.all_versions else [])]
        row = connection.execute(
            f"SELECT count(*), sum(size_bytes) FROM (SELECT {latest} AS size_bytes FROM {self.report.relation} r "
            f"WHERE {self._current()} AND NOT {self._in_scope()} GROUP BY hash({', '.join(identity)}))"
        ).fetchone() or (0, 0)
        return row[0], int(row[1] or 0)

    @property
    def _evidence(self) -> Sequence[Path]:
        return self.options.source_evidence if self.is_source else self.options.destination_evidence

    @property
    def _has_map(self) -> bool:
        return self.is_source and self.options.rules.all_versions and bool(self.options.version_map)

    def _field(self, name: str) -> str:
        """Return a field's column, or its one value: a literal takes no memory in the join."""
        if (constant := self.report.constants.get(name)) is not None:
            return constant
        column = self.report.column(name)
        return _ABSENT if column is None else f"r.{column}"

    def _text(self, name: str) -> str:
        """Return a field of text, null where it is empty, as in CSV."""
        return f"nullif({self._field(name)}, '')"

    def _version(self) -> str:
        return f"coalesce(nullif({self._field('versionid')}, ''), '{NULL_VERSION}')"

    def _etag(self) -> str:
        return self._field("etag") if self.report.column("etag") is None else f"nullif({self._field('etag')}, '')"

    def _joined(self) -> str:
        prefixes = self.options.prefixes
        return prefixes.destination_sql(self._field("key")) if self.is_source else self._field("key")

    def _in_scope(self) -> str:
        prefixes, key = self.options.prefixes, self._field("key")
        return prefixes.source_scope_sql(key) if self.is_source else prefixes.destination_scope_sql(key)

    def _current(self) -> str:
        conditions = ["true"] if self.report.has_keys else [f"{self._field('key')} IS NOT NULL"]
        if not self.options.rules.all_versions and self.report.column("islatest"):
            conditions.append(f"coalesce({self._field('islatest')}, true)")
        return " AND ".join(conditions)

    def _scope(self) -> str:
        return f"{self._current()} AND {self._in_scope()}"

    def _map(self) -> str:
        if not self._has_map:
            return ""
        return (
            f" LEFT JOIN ({self.options.versions_sql()}) m "
            f"ON m.key = {self._field('key')} AND m.version_id = {self._version()}"
        )

    def _unnamed(self) -> str:
        """Return SQL for `Facts.has_unnamed_copy`."""
        if self.is_source:
            return "(m.key IS NOT NULL AND m.destination_version_id IS NULL)"
        key = self.options.prefixes.destination_sql("key")
        unnamed = f"SELECT {key} FROM ({self.options.versions_sql()}) WHERE destination_version_id IS NULL"
        return f"({self._field('key')} IN ({unnamed}))"

    def _checksums(self) -> str:
        """Join evidence by key and version id.

        Where no version id pins the object, its ETag must be the same as well.

        Time alone does not pin it: a report's time is the end of its job, and an object may have
        been overwritten before.

        The latest report counts. Of reports with one time, a checksum of the whole object counts
        before a composite one, then the first by the algorithm's name. If they contradict each
        other about that checksum, none counts.
        """
        if not self._evidence:
            return ""
        has_versions = self.report.column("versionid") is not None
        modified, etag = self._field("lastmodifieddate"), self._etag()
        is_pinned = "false"
        if _ABSENT not in modified + etag:
            is_pinned = f"(e.etag = {etag} AND epoch_us(e.computed_at) >= epoch_us({modified}))"
        version = f"coalesce(nullif(version_id, ''), '{NULL_VERSION}')"
        by, condition = "key, etag", is_pinned
        if has_versions:
            by = f"key, {version}, CASE WHEN {version} = '{NULL_VERSION}' THEN etag END"
            condition = f"e.version_id = {self._version()} AND (e.version_id <> '{NULL_VERSION}' OR {is_pinned})"
        equals = f"(PARTITION BY {by}, computed_at, is_composite, algorithm)"
        rows = (
            f"SELECT * REPLACE ({version} AS version_id), "
            f"CASE WHEN is_composite THEN '{COMPOSITE}' ELSE '' END || algorithm AS checksum_kind, "
            f"value AS checksum_value FROM {parquet(self._evidence)} WHERE value IS NOT NULL "
            f"QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY computed_at DESC, is_composite, algorithm) = 1 "
            f"AND min(value) OVER {equals} = max(value) OVER {equals}"
        )
        return f" LEFT JOIN ({rows}) e ON e.key = {self._field('key')} AND {condition}"
