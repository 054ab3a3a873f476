"""One DuckDB for all full schedules of a process: an instance takes 15 ms to make, and each schedule needs several.

A file that the product opens as a database of its own is attached to it, and detached when its folder is gone.
"""

from __future__ import annotations

import itertools
import os
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

_connect = duckdb.connect


class Instance:
    """The process's instance, and the files that are attached to it."""

    def __init__(self) -> None:
        self._root = _connect(":memory:", config={"threads": 2})
        self._numbers = itertools.count()
        self._attached: dict[str, Path] = {}

    def open(self, path: Path) -> duckdb.DuckDBPyConnection:
        """A connection whose tables are in the file."""
        for name in [name for name, known in self._attached.items() if not known.exists()]:
            self._root.execute(f"DETACH {name}")
            del self._attached[name]
        name, connection = f"file_{next(self._numbers)}", self._root.cursor()
        connection.execute(f"ATTACH '{path}' AS {name}; USE {name}")
        self._attached[name] = path
        return connection


@cache
def _instance(process_id: int) -> Instance:
    """Its threads are not there in a forked process, which needs another one."""
    return Instance()


def connect(database: str, config: dict[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
    """`duckdb.connect`. What is in memory, whose settings may be locked, stays an instance of its own."""
    if database == ":memory:":
        return _connect(database, config=config or {})
    return _instance(os.getpid()).open(Path(database))
