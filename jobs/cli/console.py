"""Console: progress on a terminal, plain lines elsewhere, tables, one JSON document."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import click

from jobs import interrupts
from jobs.core.display import Display, Meter, shown, without_passwords
from jobs.errors import ConfigError, Interrupted, UsageError
from jobs.reports.figures import human_bytes, human_seconds

PLAIN_INTERVAL_SECONDS = 10.0
BAR_WIDTH = 10
PIPE_WIDTH = 100_000


_OURS = re.compile("\x1b\\[[01]m")
"""The only control sequences that Sealift writes itself: headings of tables are bold."""


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
    from jobs.core.request_log import REQUESTS, Exchange

    def write(exchange: Exchange) -> None:
        say(f"sealift[{os.getpid()}]: {exchange.line(time.time())}")

    REQUESTS.sink = write


def ask_to_start(*, is_agreed: bool, as_json: bool) -> None:
    """Ask before a run starts, as `confirm` does. Raises UsageError for a no, and Interrupted."""
    if not confirm("Start?", is_agreed=is_agreed, as_json=as_json):
        raise UsageError("nothing was started, as you said")


def confirm(question: str, *, is_agreed: bool, as_json: bool) -> bool:
    """Ask a yes-or-no question, if a person at a terminal can answer it and has not agreed already.

    Without a question the answer is yes. A signal interrupts it, although an event loop runs.
    Raises Interrupted.
    """
    if is_agreed or as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    before = {number: signal.signal(number, signal.default_int_handler) for number in interrupts.SIGNALS}
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        raise Interrupted("interrupted: nothing was started") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        text = json.dumps(snake_case(document), indent=2, ensure_ascii=False)
    click.echo(visible_json(text) if as_json else safe(text))


_WORDS = re.compile(r"--[a-z]+(?:-[a-z]+)*|[a-z]+(?: [a-z]+)+")
"""An option, or several words. Other keys stay, such as the name of a pair or a region."""


def snake_case(document: Any) -> Any:
    """The document with keys in snake_case.

    The ledger's documents have keys of several words, such as `in flight`.
    """
    if isinstance(document, Mapping):
        return {_key(name): snake_case(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [snake_case(each) for each in document]
    return document


def _key(name: Any) -> Any:
    if isinstance(name, str) and _WORDS.fullmatch(name):
        return re.sub("[ -]+", "_", name.removeprefix("--"))
    return name


def visible_json(text: str) -> str:
    """The same JSON, safe for a terminal and a log."""
    return _visible(text, "\n")


def safe(text: str) -> str:
    """Escape control characters. Keep our own bold markers."""
    return "".join(
        piece if _OURS.fullmatch(piece) else _visible(piece, "\n\t") for piece in re.split(f"({_OURS.pattern})", text)
    )


def _visible(text: str, kept: str) -> str:
    """Escape characters that move the cursor, hide text or reverse its direction, as JSON does."""
    return re.sub("[^ -~]", lambda c: c[0] if c[0].isprintable() or c[0] in kept else json.dumps(c[0])[1:-1], text)


def table(headings: list[str], rows: list[list[str]], *, is_cut: bool = False) -> str:
    """A table as text: on a terminal as wide as that, with the first column whole, else with whole
    cells. `is_cut`: a row is one line, and cells are cut.
    """
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        whole = max((len(shown(row[0])) for row in rows), default=0) if is_cut and number == 0 else None
        grid.add_column(
            heading, no_wrap=is_cut or number == 0, overflow="ellipsis" if is_cut else "fold", min_width=whole
        )
    for row in rows:
        grid.add_row(*(shown(cell) for cell in row))
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(grid)
    return capture.get().rstrip("\n")


@contextmanager
def meter(title: str, total_rows: int) -> Iterator[Meter]:
    """A live bar on a terminal, else one plain line per `PLAIN_INTERVAL_SECONDS`.

    Both on stderr. `total_rows` 0: nobody knows how many there are.
    """
    if not sys.stderr.isatty():
        yield _PlainMeter(title, total_rows)
        return
    from rich.console import Console
    from rich.live import Live

    shown = _LiveMeter(title, total_rows)
    with Live(shown, console=Console(stderr=True), transient=True):
        yield shown


class _PlainMeter:
    def __init__(self, title: str, total_rows: int):
        self._title, self._total, self._began = title, total_rows, time.monotonic()
        self._last = self._began

    def update(self, rows: int, bad_rows: int, size_bytes: int, *, throttled: int = 0, last_error: str = "") -> None:
        now = time.monotonic()
        if now - self._last < PLAIN_INTERVAL_SECONDS:
            return
        self._last = now
        left = max(0.0, (self._total - rows) * (now - self._began) / rows) if rows else 0.0
        troubles = _troubles(throttled, last_error)
        say(
            f"{self._title}: {_count(rows, ' of ', self._total)} objects, "
            f"{_details(rows, bad_rows, size_bytes, now - self._began)}"
            f"{f', {human_seconds(left)} left' if self._total else ''}{f', {troubles}' if troubles else ''}"
        )


class _LiveMeter:
    """A bar of one line, and below it a line for the latest error, each as wide as the terminal at most."""

    def __init__(self, title: str, total_rows: int):
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        narrow = Column(no_wrap=True, overflow="ellipsis")
        self.progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=narrow),
            BarColumn(BAR_WIDTH),
            TextColumn("{task.fields[count]}, {task.fields[details]}", markup=False, table_column=narrow),
            *([TimeRemainingColumn(compact=True)] if total_rows else []),
        )
        self._total, self._began, self.troubles = total_rows, time.monotonic(), ""
        self._task = self.progress.add_task(
            title, total=total_rows or None, details="", count=_count(0, "/", total_rows)
        )

    def update(self, rows: int, bad_rows: int, size_bytes: int, *, throttled: int = 0, last_error: str = "") -> None:
        details = safe(_details(rows, bad_rows, size_bytes, time.monotonic() - self._began))
        self.progress.update(self._task, completed=rows, details=details, count=_count(rows, "/", self._total))
        self.troubles = safe(_troubles(throttled, last_error))

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        line = [Text(self.troubles, no_wrap=True, overflow="ellipsis")] if self.troubles else []
        return Group(self.progress.get_renderable(), *line)


def _count(rows: int, between: str, total_rows: int) -> str:
    return f"{rows:,}{between}{total_rows:,}" if total_rows else f"{rows:,}"


def _troubles(throttled: int, last_error: str) -> str:
    texts = [f"throttled {throttled:,} times"] if throttled else []
    return "; ".join([*texts, *([f"the latest error: {shown(without_passwords(last_error))}"] if last_error else [])])


def _details(rows: int, bad_rows: int, size_bytes: int, seconds: float) -> str:
    rate = rows / seconds if seconds > 0 else 0.0
    return f"{human_bytes(size_bytes)}, {rate:,.0f}/s, {bad_rows:,} errors"


class Terminal:
    """The display of the command line: messages and progress on stderr."""

    say = staticmethod(say)
    note = staticmethod(say)
    meter = staticmethod(meter)


TERMINAL = Terminal()


class _Quiet(Terminal):
    """Messages and progress, but no notes: the one document on stdout has what they say."""

    note = staticmethod(lambda message: None)


def display(as_json: bool) -> Display:
    """The display of a command. It says less if the command prints JSON."""
    return _Quiet() if as_json else TERMINAL


_NAMES = ("stdin", "stdout", "stderr")
_LOCAL_MODES = 3
"""Where termios.tcgetattr() has the flags that ECHO is one of."""


def open_missing_streams() -> None:
    """Open the null device as each standard stream that the caller closed (`<&-`, `>&-`, `2>&-`).

    Python has None for such a stream. Its number would go to the next file or connection, which
    would then get the output of this process, or of one that it starts.
    """
    for number, name in enumerate(_NAMES):
        if getattr(sys, name) is None:
            _occupy(number)
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


def _occupy(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:  # closed
        opened = os.open(os.devnull, os.O_RDWR)
        os.dup2(opened, number)
        if opened == number:
            os.set_inheritable(number, True)
        else:
            os.close(opened)


def remember_terminal() -> Callable[[], None]:
    """Remember how the terminal is set. Returns what turns its echo on again.

    A question for a code (MFA) is asked without echo. A command that ends meanwhile would leave the
    shell without it. Another process may own the terminal by then: it is left alone.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        before = termios.tcgetattr(terminal)
    except (OSError, termios.error):  # nobody is at a terminal
        return lambda: None

    def restore() -> None:
        with suppress(OSError, termios.error):  # it was closed
            lost = before[_LOCAL_MODES] & ~termios.tcgetattr(terminal)[_LOCAL_MODES] & termios.ECHO
            if lost and os.tcgetpgrp(terminal) == os.getpgrp():
                termios.tcsetattr(terminal, termios.TCSADRAIN, before)

    return restore


def name_stdout_in_errors() -> None:
    """Make every failed write to stdout raise ConfigError: a bare OSError does not name the file.

    A reader that is gone stays a BrokenPipeError.
    """
    out = sys.stdout
    if out is not sys.__stdout__ or not isinstance(out, io.TextIOWrapper):
        return  # a test's, or the null device
    out.flush()
    buffer = io.BufferedWriter(_StandardOutput(out.fileno(), "w", closefd=False))
    at_once = out.line_buffering or out.write_through
    sys.stdout = io.TextIOWrapper(buffer, encoding=out.encoding, errors=out.errors, line_buffering=at_once)


class _StandardOutput(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ConfigError(
                f"cannot write to stdout: {error.strerror}", advice="free space, or send the output elsewhere"
            ) from error
