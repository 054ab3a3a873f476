"""`sealift query`: SQL over the ledger."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import click
import msgspec

from jobs import interrupts
from jobs.cli.command import LedgerOptions, ledger_location
from jobs.cli.console import safe, say, table
from jobs.cli.options import Run, argument, choice, option
from jobs.errors import ExitCode, UsageError
from jobs.ledger.ledger import Ledger
from jobs.runs.request import open_prompt_ledger
from jobs.runs.summaries import find_run_id, summarize_runs

if TYPE_CHECKING:
    from jobs.tables.duck import Database

TABLE_ROWS = 1_000
"""The most rows of a table on a terminal."""
_JSON = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


class Query(LedgerOptions):
    """Ask the ledger in SQL (DuckDB's): one SELECT over runs, manifest, outcomes, differences,
    state, findings, tombstones, journal.

    Only the files of the tables that the SQL names are fetched, with --run only that run's. They
    are in a scratch folder (TMPDIR) meanwhile. SQL reaches nothing else: it reads no other file,
    has no network, and writes nothing. Without SQL the tables and the
    types of their columns are printed.

    CSV is for people: text that a spreadsheet would take for a formula gets a ' in front, and
    control characters become escapes. Parquet and JSON hold the exact text.

    \b
    sealift query
    sealift query "SELECT status, count(*) FROM outcomes GROUP BY 1" --run 20261125T003345Z-verify-1f3a
    sealift query "SELECT key, reason, detail FROM outcomes WHERE status = 'missing'" --format csv --output missing.csv
    """

    sql: str | None = argument(required=False)
    run_id: str | None = option(
        "Only this run's rows. Default: the whole ledger's.", name="--run", type=Run, metavar="RUN"
    )
    file_format: str = option(name="--format", type=choice("table", "csv", "json", "parquet"), default="table")
    output: IO[bytes] = option(
        "Write to this file, not to stdout.", type=click.File("wb"), metavar="FILE", default="-", show_default=False
    )

    def main(self) -> int:
        """Print or write the answer."""
        if not self.sql:
            from jobs.ledger.views import TABLES

            for name, columns in TABLES.items():
                lines = [f"  {column:<26}{kind}" for column, kind in columns.items()]
                click.echo("\n".join([name, *lines]))
            return int(ExitCode.DONE)
        if self.file_format == "parquet" and self.output.name == "<stdout>" and sys.stdout.isatty():
            raise UsageError("a terminal cannot show Parquet", advice="add --output FILE, or pipe it")
        interrupts.run(_query(self.sql, self, open_prompt_ledger(ledger_location(self.ledger))))
        return int(ExitCode.DONE)


async def _query(sql: str, options: Query, ledger: Ledger) -> None:
    from jobs.ledger.views import TABLES, open_views
    from jobs.tables.duck import check_select, in_thread, named_tables

    check_select(sql)
    run_id = await find_run_id(ledger, options.run_id) if options.run_id else None
    async with open_views(ledger, named_tables(sql, TABLES), run_id, summarize_runs) as database:
        database.lock()
        await database.select(sql, list(TABLES))
        await in_thread(database.connection, _write, database, options.file_format, options.output)


def _write(database: Database, file_format: str, output: IO[bytes]) -> None:
    if file_format in ("csv", "parquet"):
        path = database.write(file_format)
    else:
        path = database.files / "answer"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(_documents(database) if file_format == "json" else [_grid(database), "\n"])
    with path.open("rb") as result:
        shutil.copyfileobj(result, output)


def _documents(database: Database) -> Iterator[str]:
    """The pieces of one JSON array, with an object for each row."""
    start = "["
    for row in database.rows():
        yield f"{start}\n  {safe(_JSON.encode(row).decode(), kept='')}"
        start = ","
    yield "[]\n" if start == "[" else "\n]\n"


def _grid(database: Database) -> str:
    rows = list(database.rows("COLUMNS(*)::VARCHAR", TABLE_ROWS + 1))
    if len(rows) > TABLE_ROWS:
        say(f"the first {TABLE_ROWS:,} rows; --format csv, json or parquet gives all")
    return table(rows[:TABLE_ROWS], database.connection.table("__answer").columns, is_exact=True)
