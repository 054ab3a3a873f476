"""The full join of two inventory reports in DuckDB, with a category for each row.

It takes one pass. Rows that are the same, or excluded, fold into their counts. Every other row is
kept. Join and table spill to disk above the memory limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from msgspec import Struct

from jobs.core.category import Category
from jobs.core.model import NULL_VERSION
from jobs.core.prefix_map import PrefixMap
from jobs.errors import ManifestError
from jobs.reconcile.rules import COMPOSITE, FOLDED, code_sql, is_sealed_sql, judgements
from jobs.reconcile.stage import StagedReport
from jobs.tables.duck import parquet


def join_reports(connection: duckdb.DuckDBPyConnection, sides: Sequence[JoinSide], horizon_us: int) -> tuple[int, int]:
    """Make the table `joined`, and `verdicts` (code, and the fields of a `Judgement`), which explains
    its codes. `compared` has its rows but excluded ones, as they are told: `evidence` is what proves the
    category, at rest where it is a checksum.

    `joined` has a row for each key or version at either side, with its code and what both sides say, and
    how many `rows` it is, with their `size_bytes`: rows that are the same or excluded are few, without
    key and objects, but for keys in the table `odd`. The column `joined` is the destination's key. The
    other columns are the source's, unless their names say otherwise. Of a row that is only at the
    destination, `is_delete_marker` is the destination's. `version_id` is null there, and in a comparison of
    current objects: what is copied of such a row is what is current then. `sides`: source and
    destination. `horizon_us`: epoch microseconds, see `jobs.reconcile.rules`. Returns how many rows are
    outside of the prefix map, and their bytes.
    """
    explained = [{"code": code, **each._asdict()} for code, each in judgements().items()]
    connection.register("rules", pa.Table.from_pylist(explained))
    connection.execute("CREATE TABLE verdicts AS FROM rules")
    source, destination = sides
    versioned = " AND s.version_id = d.version_id" if source.all_versions else ""
    join = f"({source.select()}) s FULL JOIN ({destination.select()}) d ON s.joined = d.joined{versioned}"
    s, d = source.joined("s"), destination.joined("d")
    marker = "coalesce({}, false)".format
    kept = {
        "joined": "coalesce(s.joined, d.joined)",
        "at_destination": f"d.joined IS NOT NULL AND NOT {marker(d['is_delete_marker'])}",
        # A row that names a version is copied although the source has deleted the key since.
        "version_id": s["version_id"] if source.all_versions else "NULL::VARCHAR",
        "destination_version_id": d["version_id"],
        "is_latest": s["is_latest"],
        # Never one side's marker for the other's object: reports of current objects list none.
        "is_delete_marker": f"CASE WHEN s.joined IS NOT NULL THEN {marker(s['is_delete_marker'])} "
        f"ELSE {marker(d['is_delete_marker'])} END",
        **{f"source_{name}": s[name] for name in ("size_bytes", "etag", "modified_us")},
        **{f"destination_{name}": d[name] for name in ("size_bytes", "etag", "modified_us")},
        **{name: s[name] for name in ("storage_class", "replication", "checksum_kind", "checksum_value")},
    }
    more = {
        "at_source": f"s.joined IS NOT NULL AND NOT {marker(s['is_delete_marker'])}",
        "is_odd": f"{kept['joined']} IN (SELECT joined FROM odd)",
    }
    rows = code_sql(join, s, d, kept | more, horizon_us=horizon_us, all_versions=source.all_versions)
    fields = ", ".join(f"{name} := {name}" for name in kept)
    connection.execute(
        "CREATE TABLE joined AS SELECT * EXCLUDE (kept), kept.* FROM ("
        f"SELECT code, at_source, CASE WHEN is_odd OR NOT ({FOLDED}) THEN struct_pack({fields}) END AS kept, "
        "count(*) AS rows, sum(coalesce(source_size_bytes, destination_size_bytes, 0))::BIGINT AS size_bytes "
        f"FROM ({rows}) GROUP BY ALL)"
    )
    connection.execute(
        f"""
        CREATE VIEW compared AS
        SELECT {source.prefixes.inverse.destination_sql("joined")} AS key, joined AS destination_key,
               version_id, destination_version_id,
               category, reason, detail, is_finding, source_size_bytes, destination_size_bytes, source_etag,
               destination_etag, make_timestamptz(source_modified_us) AS source_last_modified,
               make_timestamptz(destination_modified_us) AS destination_last_modified, storage_class,
               is_delete_marker, {"is_latest" if source.all_versions else "true"} AS is_latest,
               replication AS replication_status, checksum_kind, checksum_value, evidence
        FROM joined JOIN verdicts USING (code) WHERE category <> '{Category.EXCLUDED}'"""
    )
    outside = [side.outside(connection) for side in sides]
    return sum(rows for rows, _ in outside), sum(size_bytes for _, size_bytes in outside)


class JoinSide(Struct, frozen=True):
    """One report as a side of the join, with the known checksums of its objects (see `run.Report`).

    `all_versions`: the rows are versions, not current objects. Raises ManifestError for a report without
    the fields that the comparison needs.
    """

    report: StagedReport
    evidence: Sequence[Path]
    prefixes: PrefixMap
    all_versions: bool
    is_source: bool

    def __post_init__(self) -> None:
        needed = ["versionid"] if self.all_versions else []
        if self.all_versions or self._has_versions:
            needed += ["isdeletemarker", "islatest"]
        if missing := [field for field in needed if field not in self.report.columns]:
            purpose = "--versions all" if self.all_versions else "telling which version is current"
            raise ManifestError(
                f"{self.report.inventory.manifest} lacks the fields {', '.join(missing)}, which {purpose} needs",
                advice="use an inventory of all versions",
            )

    def columns(self) -> dict[str, str]:
        """Return the side's columns as expressions over the report `r` and its evidence `e`."""
        r = self.report.field
        key, version, has_evidence = r("key"), r("versionid"), bool(self.evidence)
        return {
            "joined": self.prefixes.destination_sql(key) if self.is_source else key,
            "version_id": f"coalesce(nullif({version}, ''), '{NULL_VERSION}')" if self._has_versions else version,
            "is_latest": r("islatest"),
            "is_delete_marker": r("isdeletemarker"),
            "size_bytes": r("size"),
            "etag": f"nullif({r('etag')}, '')",
            "is_multipart": r("ismultipartuploaded"),
            "is_sealed": is_sealed_sql(f"nullif({r('encryptionstatus')}, '')"),
            "modified_us": f"epoch_us({r('lastmodifieddate')})",
            "storage_class": f"nullif({r('storageclass')}, '')",
            "replication": f"nullif({r('replicationstatus')}, '')",
            "checksum_kind": "e.checksum_kind" if has_evidence else "NULL::VARCHAR",
            "checksum_value": "e.checksum_value" if has_evidence else "NULL::VARCHAR",
        }

    def joined(self, alias: str) -> dict[str, str]:
        """Return the columns as expressions over the side's alias in the full join.

        A field that the report does not have takes no memory there.
        """
        present = self._present()
        return {
            name: f"{alias}.{name}" if name in present else f"CASE WHEN {alias}.joined IS NOT NULL THEN {value} END"
            for name, value in self.columns().items()
        }

    def select(self) -> str:
        """Return the side as SQL, for the join."""
        columns = ", ".join(f"{value} AS {name}" for name, value in self._present().items())
        relation = f"{self.report.relation} r{self._checksums()}"
        return f"SELECT {columns} FROM {relation} WHERE {self._current()} AND {self._scope()}"

    def objects(self) -> str:
        """Return what the side lists as SQL, without delete markers: keys of the destination, ETags, seconds."""
        has = self.joined("o")
        return f"""(SELECT o.joined, {has["etag"]} AS etag, {has["modified_us"]} // 1000000 AS modified_s
                    FROM ({self.select()}) o WHERE NOT coalesce({has["is_delete_marker"]}, false))"""

    def _present(self) -> dict[str, str]:
        columns = self.columns().items()
        return {name: value for name, value in columns if name == "joined" or "r." in value or "e." in value}

    def outside(self, connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
        """Count the rows and bytes of the report that the prefix map leaves out."""
        [(rows, size_bytes)] = connection.execute(
            f"SELECT count(*), coalesce(sum({self.report.field('size')}), 0)::BIGINT FROM {self.report.relation} r "
            f"WHERE {self._current()} AND NOT {self._scope()}"
        ).fetchall()
        return rows, size_bytes

    @property
    def _has_versions(self) -> bool:
        return "versionid" in self.report.columns

    def _scope(self) -> str:
        prefixes = self.prefixes if self.is_source else self.prefixes.inverse
        return prefixes.scope_sql(self.report.field("key"))

    def _current(self) -> str:
        return "true" if self.all_versions else f"coalesce({self.report.field('islatest')}, true)"

    def _checksums(self) -> str:
        """Join evidence by key and version id.

        Where no version id pins the object, its ETag must be the same as well.

        Time alone does not pin it: a report's time is the end of its job, and an object may have
        been overwritten before.

        The latest report counts. Of reports with one time, a checksum of the whole object counts
        before a composite one, then the first by the algorithm's name. If they contradict each
        other about that checksum, none counts.
        """
        if not self.evidence:
            return ""
        columns = self.columns()
        version = f"coalesce(nullif(version_id, ''), '{NULL_VERSION}')"
        by, condition = (
            "key, etag",
            f"e.etag = {columns['etag']} AND epoch_us(e.computed_at) >= {columns['modified_us']}",
        )
        if self._has_versions:
            by = f"key, {version}, CASE WHEN {version} = '{NULL_VERSION}' THEN etag END"
            condition = f"e.version_id = {columns['version_id']} AND (e.version_id <> '{NULL_VERSION}' OR {condition})"
        equals = f"(PARTITION BY {by}, computed_at, is_composite, algorithm)"
        rows = (
            f"SELECT * REPLACE ({version} AS version_id), "
            f"CASE WHEN is_composite THEN '{COMPOSITE}' ELSE '' END || algorithm AS checksum_kind, "
            f"value AS checksum_value FROM {parquet(self.evidence)} WHERE value IS NOT NULL "
            f"QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY computed_at DESC, is_composite, algorithm) = 1 "
            f"AND min(value) OVER {equals} = max(value) OVER {equals}"
        )
        return f" LEFT JOIN ({rows}) e ON e.key = {self.report.field('key')} AND {condition}"
