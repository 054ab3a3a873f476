"""CSV files with invalid rows: read row by row, and each such row listed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from jobs.inventory.data_files import fold_name
from jobs.inventory.fields import FIELDS, FLAG, NUMBER, TEXT, TIME
from jobs.inventory.report import Inventory
from jobs.tables.duck import file_list, identifier, parquet, quoted

_AS_PARQUET = "FORMAT parquet, COMPRESSION lz4, DICTIONARY_SIZE_LIMIT 1000, ROW_GROUP_SIZE 30720"


def convert_csv(
    connection: duckdb.DuckDBPyConnection, inventory: Inventory, places: Mapping[str, str], folder: Path
) -> str:
    """Write typed columns under their folded names into a Parquet file. Returns its path.

    A row with an invalid value stays in, with the values that are valid. The connection's table
    `unparsed` lists such rows, and the lines that are no rows at all.

    Raises duckdb.Error for files that are not CSV.
    """
    names = [fold_name(name) for name in inventory.columns]
    raw = [f"raw {name}" for name in names]
    types = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in raw)
    values, problems = [], []
    for name in names:
        if name in FIELDS:
            value, problem = _value(name)
            values.append(f"{value} AS {name}")
            problems += problem
    read, target = folder / "doubtful.parquet", folder / "typed.parquet"
    text = " || ',' || ".join(f"coalesce({identifier(name)}, '')" for name in raw)
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    connection.execute(
        f"""
        COPY (
            SELECT * EXCLUDE (filename, {", ".join(map(identifier, raw))}),
                   CASE WHEN problem IS NOT NULL THEN filename END AS file,
                   CASE WHEN problem IS NOT NULL THEN {text} END AS text
            FROM (SELECT *, CASE {" ".join(problems)} END AS problem
                  FROM (SELECT {", ".join(values)}, filename, {", ".join(map(identifier, raw))}
                        FROM read_csv({file_list(map(Path, places))}, hive_partitioning = false,
                                      columns = {{{types}}}, header = false, auto_detect = false,
                                      delim = ',', quote = '"', escape = '"', compression = 'gzip', filename = true,
                                      store_rejects = true, max_line_size = 16777216)))
        ) TO {quoted(read)} ({_AS_PARQUET})
        """
    )
    renamed = "CASE file " + " ".join(f"WHEN {quoted(p)} THEN {quoted(q)}" for p, q in places.items()) + " END"
    report = quoted(inventory.manifest)
    connection.execute(
        f"INSERT INTO unparsed SELECT {report}, {renamed}, NULL, problem, text "
        f"FROM {parquet(read)} WHERE problem IS NOT NULL"
    )
    connection.execute(
        f"INSERT INTO unparsed SELECT DISTINCT ON (file, line) {report}, "
        f"{renamed.replace('file', 'file_path', 1)} AS file, line, "
        "lower(replace(error_type::VARCHAR, '_', ' ')), csv_line "
        "FROM reject_errors JOIN reject_scans USING (scan_id, file_id)"
    )
    rows = f"SELECT * EXCLUDE (problem, file, text) FROM {parquet(read)}"
    connection.execute(f"COPY ({rows}) TO {quoted(target)} ({_AS_PARQUET})")
    read.unlink()
    return str(target)


def _value(name: str) -> tuple[str, list[str]]:
    """Return a field as a typed expression, and the WHEN clauses that say what is wrong with it."""
    column = identifier(f"raw {name}")
    if name == "key":
        value = f"TRY(url_decode(replace(nullif({column}, ''), '+', ' ')))"
        return value, [
            f"WHEN coalesce({column}, '') = '' THEN 'the row has no key'",
            "WHEN key IS NULL THEN 'the key is no UTF-8'",
        ]
    if FIELDS[name] == TEXT:
        return f"nullif({column}, '')", []
    kind = {NUMBER: "number", FLAG: "true or false", TIME: "time"}[FIELDS[name]]
    zone = "TZ" if FIELDS[name] == TIME else ""  # else an offset is passed over
    return (
        f"TRY_CAST(nullif({column}, '') AS {FIELDS[name]}{zone})::{FIELDS[name]}",
        [f"WHEN {name} IS NULL AND {column} <> '' THEN '{name} is no {kind}'"],
    )
