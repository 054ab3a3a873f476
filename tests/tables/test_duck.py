"""Queries in threads."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path

import duckdb
import pytest

from jobs.tables import duck
from jobs.tables.duck import connect, in_thread

JOBS = Path(__file__).resolve().parents[2] / "jobs"
HOURS = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range % 7 = b.range % 11"


@pytest.mark.parametrize("cancels", [1, 3])
def test_a_cancelled_query_ends_so_that_its_connection_can_be_closed(tmp_path: Path, cancels: int) -> None:
    begun, ends = threading.Event(), list[str]()

    def ask(connection: duckdb.DuckDBPyConnection) -> None:
        begun.set()
        try:
            connection.execute(HOURS)
        except duckdb.InterruptException:
            ends.append("interrupted")

    async def play() -> None:
        connection = connect(tmp_path, memory_limit="100MB")
        task = asyncio.create_task(in_thread(connection, ask, connection))
        await asyncio.to_thread(begun.wait)
        for _ in range(cancels):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        connection.close()

    asyncio.run(play())
    assert ends == ["interrupted"]


def test_what_a_thread_returns_or_raises_is_passed_on(tmp_path: Path) -> None:
    async def play() -> None:
        with connect(tmp_path, memory_limit="100MB") as connection:
            assert (await in_thread(connection, connection.execute, "SELECT 7")).fetchall() == [(7,)]
            with pytest.raises(duckdb.CatalogException):
                await in_thread(connection, connection.execute, "SELECT * FROM nothing")

    asyncio.run(play())


def test_an_error_of_a_cancelled_thread_is_nobodys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def fail() -> None:
        begun.set()
        goes_on.wait()
        raise ValueError

    async def play() -> None:
        with connect(tmp_path, memory_limit="100MB") as connection:
            task = asyncio.create_task(in_thread(connection, fail))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            await asyncio.sleep(0)
            goes_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(play())
    assert not caplog.records


def test_each_query_in_a_thread_can_be_interrupted() -> None:
    """DuckDB refuses to close a connection at work: Ctrl-C ended a query with a traceback."""
    query = re.compile(r'to_thread\((?:[^()"]*[ (.])?(?:connection|sorting|planning|fold|database)\b')
    files = {path.relative_to(JOBS): path.read_text() for path in JOBS.rglob("*.py")}
    assert [str(name) for name, text in files.items() if query.search(text)] == []


def test_a_release_of_duckdb_without_the_pass_that_is_left_out_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass came with 2.0, and older releases refuse its name."""
    with connect(tmp_path, memory_limit="50MB") as connection:
        left_out = connection.execute("SELECT current_setting('disabled_optimizers')").fetchone()
    assert left_out == (duck.COSTLY_PASS,)
    monkeypatch.setattr(duck, "COSTLY_PASS", "of_another_release")
    with connect(tmp_path, memory_limit="50MB") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(("memory_limit", "cores", "threads"), [("160MB", 64, 2), ("20MB", 64, 1), ("1GiB", 3, 3)])
def test_threads_have_memory_and_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_limit: str, cores: int, threads: int
) -> None:
    """DuckDB takes a thread for each core, and each needs memory of its own: a sort that has none ends."""
    open_any = duckdb.connect
    monkeypatch.setattr(
        duckdb, "connect", lambda database, config: open_any(database, config={"threads": cores} | config)
    )
    with connect(tmp_path, memory_limit=memory_limit) as connection:
        assert connection.sql("SELECT current_setting('threads')").fetchall() == [(threads,)]
