"""The full join of two inventory reports in DuckDB, with a category for each row.

It takes one pass. Rows that are the same, or excluded, fold into their counts. Every other row is
kept. Join and table spill to disk above the memory limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from jobs.core.model import NULL_VERSION
from jobs.core.prefix_map import PrefixMap
from jobs.errors import ConfigError, ManifestError
from jobs.reconcile.rules import COMPOSITE, FOLDED, SIDE_COLUMNS, code_sql, is_sealed_sql, judgements
from jobs.reconcile.stage import StagedReport
from jobs.tables import duck
from jobs.tables.duck import parquet

MEMORY_LIMIT = "640MiB"
_TYPES = {**SIDE_COLUMNS, "version_id": "VARCHAR", "is_latest": "BOOLEAN", "storage_class": "VARCHAR"}


def connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    """Open a connection that spills to `scratch` above the limit.

    The process itself needs about 100 MiB more.
    """
    return duck.connect(scratch, memory_limit=MEMORY_LIMIT, preserve_insertion_order=False)


def join_reports(
    connection: duckdb.DuckDBPyConnection,
    reports: Sequence[StagedReport],
    evidence: Sequence[Sequence[Path]],
    prefixes: PrefixMap,
    horizon_us: int,
    all_versions: bool,
) -> tuple[tuple[int, int], list[JoinSide]]:
    """Make the table `joined`, and `verdicts` (code, and the fields of a `Judgement`), which explains
    its codes.

    `joined` has the columns of `joined_sql`, and how many `rows` a row is, with their `size_bytes`: rows
    that are the same or excluded are few, without key and objects. `reports` and `evidence` (a side's
    Parquet files, see `run.Report`) are those of the source and of the destination.
    `all_versions`: the rows are versions, not current objects. `horizon_us`: epoch microseconds, see
    `jobs.reconcile.rules`. Returns the rows outside of the prefix map with their bytes.

    Raises ManifestError for a report that cannot be read, or lacks columns that the comparison
    needs. Raises ConfigError when the memory limit is too low even with spilling.
    """
    for report in reports:
        _check_fields(report, all_versions=all_versions)
    explained = [{"code": code, **each._asdict()} for code, each in judgements().items()]
    connection.register("rules", pa.Table.from_pylist(explained))
    connection.execute("CREATE TABLE verdicts AS FROM rules")
    sides = [
        JoinSide(report, files, prefixes, all_versions, is_source)
        for report, files, is_source in zip(reports, evidence, (True, False), strict=True)
    ]
    with problems(reports):
        outside = [side.outside(connection) for side in sides]
        _join(connection, sides, horizon_us)
    return (sum(rows for rows, _ in outside), sum(size_bytes for _, size_bytes in outside)), sides


@contextmanager
def problems(reports: Sequence[StagedReport]) -> Iterator[None]:
    """Raise what DuckDB says of memory, disk and data files as errors that say what to do."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise ConfigError("the join does not fit into its memory limit", advice=f"raise it ({error})") from error
    except duckdb.IOException as error:
        raise ConfigError("the join cannot use its scratch folder", advice=f"make room there ({error})") from error
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise ManifestError(
            f"the data files of {' or '.join(str(each.inventory.manifest) for each in reports)} cannot be read: "
            f"{' '.join(str(error).split())[:300]}",
            advice="have the inventories delivered again",
        ) from error


def _join(connection: duckdb.DuckDBPyConnection, sides: Sequence[JoinSide], horizon_us: int) -> None:
    """Make the table `joined`."""
    whole = ("at_source", "at_destination", "is_delete_marker")
    kept = _kept(sides)
    nothing = [f"{value} AS {name}" for name, value in kept.items() if value.startswith("NULL::")]
    packed = ", ".join(f"{n} := {n}" for n, value in kept.items() if n not in whole and not value.startswith("NULL::"))
    connection.execute(
        f"CREATE TABLE joined AS SELECT * EXCLUDE (kept), {', '.join(['kept.*', *nothing])} FROM ("
        f"SELECT code, {', '.join(whole)}, CASE WHEN NOT ({FOLDED}) THEN struct_pack({packed}) END AS kept, "
        "count(*) AS rows, sum(coalesce(source_size_bytes, destination_size_bytes, 0))::BIGINT AS size_bytes "
        f"FROM ({joined_sql(sides, horizon_us)}) GROUP BY ALL)"
    )


def joined_sql(sides: Sequence[JoinSide], horizon_us: int) -> str:
    """SQL for the joined rows, each with its code, and what both sides say.

    The column `joined` is the destination's key. The other columns are the source's, unless their names
    say otherwise. Of a row that is only at the destination, `version_id` is null and
    `is_delete_marker` is the destination's.
    """
    source, destination = sides
    versioned = " AND s.version_id = d.version_id" if source.all_versions else ""
    join = f"({source.select()}) s FULL JOIN ({destination.select()}) d ON s.joined = d.joined{versioned}"
    s, d = source.joined("s"), destination.joined("d")
    return code_sql(join, s, d, _kept(sides), horizon_us=horizon_us, all_versions=source.all_versions)


def _kept(sides: Sequence[JoinSide]) -> dict[str, str]:
    s, d = sides[0].joined("s"), sides[1].joined("d")
    return {
        "at_source": "s.joined IS NOT NULL",
        "at_destination": "d.joined IS NOT NULL",
        "joined": "coalesce(s.joined, d.joined)",
        "version_id": s["version_id"],
        "destination_version_id": d["version_id"],
        "is_latest": s["is_latest"],
        # Never one side's marker for the other's object: reports of current objects list none.
        "is_delete_marker": f"CASE WHEN s.joined IS NOT NULL THEN coalesce({s['is_delete_marker']}, false) "
        f"ELSE coalesce({d['is_delete_marker']}, false) END",
        **{f"source_{name}": s[name] for name in ("size_bytes", "etag", "modified_us")},
        **{f"destination_{name}": d[name] for name in ("size_bytes", "etag", "modified_us")},
        **{name: s[name] for name in ("storage_class", "replication", "checksum_kind", "checksum_value")},
    }


@dataclass(frozen=True, slots=True)
class JoinSide:
    """One report as a side of the join.

    `keys`: a table whose column `joined` has the keys that alone count.
    """

    report: StagedReport
    evidence: Sequence[Path]
    prefixes: PrefixMap
    all_versions: bool
    is_source: bool
    keys: str = ""

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

        A field that the report does not have, or that has one value, takes no memory there.
        """
        columns = {}
        for name, value in self.columns().items():
            if "NULL::" in value and name != "joined":
                columns[name] = f"NULL::{_TYPES[name]}"
            elif name in self._present():
                columns[name] = f"{alias}.{name}"
            else:
                columns[name] = f"CASE WHEN {alias}.joined IS NOT NULL THEN {value} END"
        return columns

    def select(self) -> str:
        """Return the side as SQL, for the join."""
        present = self._present()
        columns = ", ".join(f"{value} AS {name}" for name, value in present.items())
        relation = f"{self.report.relation} r{self._checksums()}"
        sql = f"SELECT {columns} FROM {relation} WHERE {self._current()} AND {self._scope()}"
        return f"FROM ({sql}) SEMI JOIN {self.keys} USING (joined)" if self.keys else sql

    def _present(self) -> dict[str, str]:
        has_columns = ("r.", "e.")
        return {
            name: value
            for name, value in self.columns().items()
            if name == "joined" or ("NULL::" not in value and any(each in value for each in has_columns))
        }

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
        prefixes, key = self.prefixes, self.report.field("key")
        return prefixes.source_scope_sql(key) if self.is_source else prefixes.destination_scope_sql(key)

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


def _check_fields(report: StagedReport, *, all_versions: bool) -> None:
    needed = ["versionid"] if all_versions else []
    if all_versions or "versionid" in report.columns:
        needed += ["isdeletemarker", "islatest"]
    if missing := [field for field in needed if field not in report.columns]:
        purpose = "--versions all" if all_versions else "telling which version is current"
        raise ManifestError(
            f"{report.inventory.manifest} lacks the fields {', '.join(missing)}, which {purpose} needs",
            advice="use an inventory of all versions",
        )
