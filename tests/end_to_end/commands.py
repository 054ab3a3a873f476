"""The command, called in the test's own process: it costs half of what a fork of a loaded process costs.

What a command changes in its process is put back: variables, streams, folder, warnings, and the program's own state.
It has no signals, no terminal and no exit of a process: tests of those start one (`World.start`).
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO
from unittest import mock

import duckdb

from jobs import cli, interrupts
from jobs.cli.console import ANSWER
from jobs.core.request_log import REQUESTS
from jobs.errors import SealiftWarning
from jobs.expire import places, undo
from tests.doubles.one_duckdb import connect, connect_unlocked

LOCKING = {"query", "--accept"}
"""Commands that lock DuckDB's settings for good, which no other one may share then."""


def call(
    arguments: Sequence[str], environment: Mapping[str, str], folder: str | os.PathLike[str] = "."
) -> tuple[int, str, str]:
    """Run `sealift` with these arguments → (exit code, stdout, stderr), the latter with what its workers say."""
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with tempfile.TemporaryFile() as errors, _as_stderr(errors.fileno()) as stderr:
        streams: dict[str, Any] = {"stdin": io.StringIO(), "stdout": stdout, "stderr": stderr}
        with (
            contextlib.chdir(folder),
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.multiple(sys, **streams | {"argv": ["sealift", *arguments]}),
            mock.patch.multiple(interrupts, _process=interrupts._Process(), ignore=lambda: None),
            mock.patch.object(ANSWER, "is_given", False),
            mock.patch.object(REQUESTS, "sink", None),
            mock.patch.object(tempfile, "tempdir", None),
            mock.patch.multiple(gc, freeze=lambda: None, set_threshold=lambda *_: None),  # else connections stay open
            mock.patch.object(duckdb, "connect", connect if LOCKING & {*arguments} else connect_unlocked),
            mock.patch.object(places, "SETTLED_SECONDS", 0.0),  # else each test of expiry waits for 10 s
            mock.patch.object(undo, "LAST_SECONDS", 0.0),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", SealiftWarning)
            code = cli.run(list(arguments))
        stdout.flush()
        stderr.flush()
        errors.seek(0)
        return code, stdout.buffer.getvalue().decode(), errors.read().decode()


@contextlib.contextmanager
def _as_stderr(number: int) -> Iterator[TextIO]:
    """A stream to a file that is the standard error of processes that start meanwhile."""
    before = os.dup(2)
    os.dup2(number, 2)
    try:
        with open(number, "w", buffering=1, errors="backslashreplace", closefd=False) as stream:
            yield stream
    finally:
        os.dup2(before, 2)
        os.close(before)
