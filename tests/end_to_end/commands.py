"""The command, called in the test's own process: it costs half of what a fork of a loaded process costs.

What a command changes in its process is put back: variables, streams, folder, warnings, and the program's own state.
It has no signals, no terminal and no exit of a process: tests of those start one (`World.start`).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import duckdb

from jobs import cli, interrupts
from jobs.cli.console import ANSWER
from jobs.core.request_log import REQUESTS
from jobs.errors import SealiftWarning
from tests.doubles.one_duckdb import connect


def call(
    arguments: Sequence[str], environment: Mapping[str, str], folder: str | os.PathLike[str] = "."
) -> tuple[int, str, str]:
    """Run `sealift` with these arguments → (exit code, stdout, stderr)."""
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    streams: dict[str, Any] = {"stdin": io.StringIO(), "stdout": stdout, "stderr": stderr}
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.multiple(sys, **streams | {"argv": ["sealift", *arguments]}),
        mock.patch.multiple(interrupts, _process=interrupts._Process(), ignore=lambda: None),
        mock.patch.object(ANSWER, "is_given", False),
        mock.patch.object(REQUESTS, "sink", None),
        mock.patch.object(tempfile, "tempdir", None),
        mock.patch.object(duckdb, "connect", connect),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", SealiftWarning)
        code = cli.run(list(arguments))
    return code, _written(stdout), _written(stderr)


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()
