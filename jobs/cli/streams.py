"""The process's standard streams: none is missing, and a failed write to stdout names it."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from jobs.errors import ConfigError

_NAMES = ("stdin", "stdout", "stderr")


def open_missing_streams() -> None:
    """Open the null device as each standard stream that the caller closed (`<&-`, `>&-`, `2>&-`).

    Python has None for such a stream. Its number would go to the next file or connection, which would then get what
    this process, or one that it starts, prints.
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


def name_stdout_in_errors() -> None:
    """Have a write to stdout that fails raise ConfigError, whoever writes: a bare OSError does not say of what it is.

    A reader that went away stays a BrokenPipeError.
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
                f"cannot write to stdout: {error.strerror}; free space, or send the output elsewhere"
            ) from error
