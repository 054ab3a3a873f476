"""One DuckDB for all that a process plays: an instance takes 15 ms to make, and a schedule or a night needs dozens.

Each connection has a database of its own in it, which is its default one. So none sees the tables of another, as with
instances of their own. Those of other settings have another instance. Only limits of memory are the instance's.
"""

from __future__ import annotations

import itertools
import os
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

_connect = duckdb.connect
_LIMITS = frozenset({"memory_limit", "temp_directory"})
KEPT = 100
"""So many databases in memory share an instance: nobody says when one is not needed any more.

Some 850 of them filled the 152 MiB that a plan leaves it, and commands ended with 10: no schedule was to blame.
"""


class Instance:
    """An instance of the process, and the files that are attached to it."""

    def __init__(self, settings: dict[str, Any], *before: str) -> None:
        """`before`: statements that each connection in memory begins with."""
        self._numbers, self._settings, self._before = itertools.count(), settings, before
        self._attached: dict[str, Path] = {}
        self._begin()

    def _begin(self) -> None:
        self._root = _connect(":memory:", config=self._settings)
        self._attached.clear()
        self._in_memory = 0

    def open(self, path: Path) -> duckdb.DuckDBPyConnection:
        """A connection whose tables are in the file."""
        for name in [name for name, known in self._attached.items() if not known.exists()]:
            self._root.execute(f"DETACH {name}")
            del self._attached[name]
        name, connection = f"file_{next(self._numbers)}", self._root.cursor()
        connection.execute(f"ATTACH '{path}' AS {name}; USE {name}")
        self._attached[name] = path
        return connection

    def open_in_memory(self) -> duckdb.DuckDBPyConnection:
        """A connection whose tables are in memory. What older connections have goes with the last one of them."""
        if self._in_memory == KEPT:
            self._begin()
        self._in_memory += 1
        name, connection = f"memory_{next(self._numbers)}", self._root.cursor()
        connection.execute("; ".join([f"ATTACH ':memory:' AS {name}", f"USE {name}", *self._before]))
        return connection


@cache
def _instance(process_id: int, settings: tuple[tuple[str, Any], ...]) -> Instance:
    """Its threads are not there in a forked process, which needs another one."""
    return Instance(dict(settings))


def connect(database: str, config: dict[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
    """`duckdb.connect`. What is in memory, whose settings may be locked, stays an instance of its own."""
    if database == ":memory:":
        return _connect(database, config=config or {})
    return _instance(os.getpid(), (("threads", 1),)).open(Path(database))


def connect_unlocked(database: str, config: dict[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
    """The same, where nobody locks settings: memory is shared, too."""
    settings = {name: value for name, value in (config or {}).items() if name not in _LIMITS}
    instance = _instance(os.getpid(), tuple(sorted(settings.items())))
    return instance.open_in_memory() if database == ":memory:" else instance.open(Path(database))


@cache
def _shared(process_id: int) -> Instance:
    return Instance({"threads": 1, "python_enable_replacements": False}, "PRAGMA disable_optimizer")


def connect_to_shared(database: str = ":memory:", config: dict[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
    """A connection in memory and in one thread, without DuckDB's optimizer, whatever file and settings are named.

    For a few rows a better plan of the query costs more than it saves.
    """
    return _shared(os.getpid()).open_in_memory()
