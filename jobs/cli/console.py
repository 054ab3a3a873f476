"""Console: progress on a terminal, plain lines elsewhere, tables, one JSON document.

The module itself is the `Display` of the command line.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from jobs import interrupts
from jobs.core.category import Category
from jobs.core.display import Meter, shown, shown_key, without_passwords
from jobs.errors import Interrupted
from jobs.reports.document import iso_time
from jobs.reports.figures import UNKNOWN, human_bytes, human_dollars, human_seconds

PLAIN_INTERVAL_SECONDS = 10.0
BAR_WIDTH = 10
CELL_WIDTH = 60
"""Cells of a pipe are padded up to this width."""
IN_FLIGHT = f'"{Category.IN_FLIGHT}": ', '"in_flight": '
"""The only name of the ledger's documents that has two words, and what `--json` calls it."""


def say(message: str) -> None:
    """Print a line for people on stderr. Stdout is for the answer.

    A full disk that refuses the line does not stop a run. A reader that is gone ends the command.
    """
    try:
        click.echo(safe(without_passwords(message)), err=True)
    except BrokenPipeError:
        raise
    except OSError:
        return


def log_requests() -> None:
    """Write the requests of this process to stderr, a line each."""
    from jobs.core.request_log import REQUESTS

    REQUESTS.sink = lambda line: say(f"sealift[{os.getpid()}]: {line}")


def asks(*, is_agreed: bool, as_json: bool) -> bool:
    """True if a person at a terminal can answer a question, and has not agreed already."""
    return not (is_agreed or as_json) and sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, is_agreed: bool, as_json: bool) -> bool:
    """Ask a yes-or-no question, if `asks` says so. Nothing else goes on meanwhile.

    Without a question the answer is yes. A signal interrupts it, although an event loop runs.
    Raises Interrupted.
    """
    if not asks(is_agreed=is_agreed, as_json=as_json):
        return True
    try:
        with interrupts.raised():
            return click.confirm(question, err=True)
    except click.Abort:
        raise Interrupted("interrupted: nothing was started") from None


class _Answer:
    """Whether the command has printed its answer: with --json there is one document, also of an
    error.
    """

    is_given = False


ANSWER = _Answer()


def emit(document: Any, *, as_json: bool, text: str) -> None:
    """Print the command's answer on stdout: one JSON document, or text."""
    ANSWER.is_given = True
    if as_json:
        text = json.dumps(document, indent=2, ensure_ascii=False).replace(*IN_FLIGHT)
    click.echo(safe(text, "\n" if as_json else "\n\t"))


def safe(text: str, kept: str = "\n\t") -> str:
    """Escape characters that move the cursor, hide text or reverse its direction, as JSON does.

    JSON stays the same JSON if only its line breaks are `kept`.
    """
    return re.sub("[^ -~]", lambda c: c[0] if c[0].isprintable() or c[0] in kept else json.dumps(c[0])[1:-1], text)


def table(
    documents: Sequence[Mapping[str, Any]], names: Iterable[str] = (), *, is_cut: bool = False, is_exact: bool = False
) -> str:
    """Values of documents as a table: on a terminal as wide as that, with the first column whole, else with whole
    cells, which shift the rest of their row where they are long.

    `names`: of the values. By default all that the first document has. A heading is the name without its unit, which
    the cell says, `is_exact`: the name and the value as they are. `is_cut`: a row is one line, and cells are cut.
    """
    from rich.console import Console
    from rich.table import Table

    names = list(names or documents[0])
    rows = [[_cell("" if is_exact else name, document[name]) for name in names] for document in documents]
    units = "_(id|dollars|count|at)$|(?<=size)_bytes$"
    headings = names if is_exact else [re.sub(units, "", name).replace("_", " ") for name in names]
    if not sys.stdout.isatty():
        widths = [min(CELL_WIDTH, max(map(len, cells))) for cells in zip(headings, *rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in [headings, *rows])
    grid = Table(box=None, pad_edge=False, header_style="")
    for number, heading in enumerate(headings):
        whole = max((len(row[0]) for row in rows), default=0) if is_cut and number == 0 else None
        overflow: Any = "ellipsis" if is_cut else "fold"
        grid.add_column(heading, no_wrap=is_cut or number == 0, overflow=overflow, min_width=whole)
    for row in rows:
        grid.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(grid)
    return capture.get().rstrip("\n")


def _cell(name: str, value: Any) -> str:
    """A value of a document for people. Its name says the unit."""
    if isinstance(value, int | float):
        forms = {"bytes": human_bytes, "dollars": human_dollars, "at": iso_time}
        return forms.get(name.rpartition("_")[2], "{:,}".format)(value)
    if value is None:
        return UNKNOWN
    return shown_key(value) if name in ("key", "copy") else shown(str(value))


@contextmanager
def meter(title: str, total_rows: int) -> Iterator[Meter]:
    """Progress on stderr: on a terminal a live bar, else one plain line per `PLAIN_INTERVAL_SECONDS`.

    `total_rows` 0: the number of rows is not known.
    """
    if not sys.stderr.isatty():
        yield _Meter(title, total_rows)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), transient=True) as live:
        yield _Meter(title, total_rows, live)


class _Meter:
    """How far a run is: plain lines, or on `live` a bar, and below it the latest error, each on one line at most."""

    def __init__(self, title: str, total_rows: int, live: Any = None):
        self._title, self._total, self._live = title, total_rows, live
        self._began = self._last = time.monotonic()

    def update(self, rows: int, bad_rows: int, size_bytes: int, latest_error: str = "") -> None:
        now = time.monotonic()
        trouble = f"the latest error: {shown(without_passwords(latest_error))}" if latest_error else ""
        rate = rows / (now - self._began) if now > self._began else 0.0
        left = f", {human_seconds(max(0.0, self._total - rows) / rate)} left" if self._total and rate else ""
        count = f"{rows:,} of {self._total:,}" if self._total else f"{rows:,}"
        text = f"{count} objects, {bad_rows:,} errors, {human_bytes(size_bytes)}, {rate:,.0f}/s{left}"
        if self._live is not None:
            from rich.console import Group
            from rich.text import Text

            bar = "━" * (BAR_WIDTH * rows // self._total) if self._total else ""
            lines = [f"{self._title} {bar:╌<{BAR_WIDTH}} {text}", *[trouble] * bool(trouble)]
            self._live.update(Group(*(Text(each, no_wrap=True, overflow="ellipsis") for each in lines)))
        elif now - self._last >= PLAIN_INTERVAL_SECONDS:
            self._last = now
            say(f"{self._title}: {text}{f', {trouble}' if trouble else ''}")
