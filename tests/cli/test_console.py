"""What a command shows beside its answer."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.live import Live

from jobs.cli import console


def test_progress_has_the_latest_error_and_of_an_unknown_number_no_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_INTERVAL_SECONDS", 0.0)
    with console.meter("replicate", 10) as shown:
        shown.update(5, 1, 100, "[red]k\x1b: AccessDenied")
        shown.update(5, 0, 100)
    with console.meter("inventory", 0) as shown:  # it said "218,500 of 0 objects, -10.1 s left"
        shown.update(218_500, 0, 100)
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.endswith("the latest error: [red]k\\x1b: AccessDenied")
    assert "error:" not in second
    assert third.startswith("inventory: 218,500 objects, 0 errors, 100 B")
    assert "left" not in third


def test_a_live_bar_keeps_to_the_terminal_and_the_latest_error_to_a_line_of_its_own() -> None:
    out = io.StringIO()
    with Live(console=Console(file=out, width=80, force_terminal=True), auto_refresh=False) as live:
        meter = console._Meter("replicate", 10_000_000, live)
        meter.update(5_000_000, 123_456, 1 << 45, f"{'k' * 1000}: AccessDenied")
        shown = live.get_renderable()
    plain = io.StringIO()
    Console(file=plain, width=80).print(shown)
    bar, below = plain.getvalue().splitlines()
    assert max(len(bar), len(below)) <= 80
    assert "5,000,000 of 10,000,000 objects, 123,456 errors" in bar
    assert below.startswith("the latest error: kkk")


def test_a_cut_table_has_one_line_a_row_with_its_first_cell_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    run = {"run_id": "20261125T003345Z-verify-1f3a02", "source": "s3://docs/" + "k" * 200}
    first, second = console.table([run], is_cut=True).splitlines()
    assert first.split() == ["run", "source"]
    assert second.startswith("20261125T003345Z-verify-1f3a02 ")
    assert len(second) <= 80


def test_a_cell_says_the_unit_that_is_in_the_name_of_its_value_and_a_long_key_is_shortened_in_the_middle() -> None:
    numbers = {"rows": 1200, "size_bytes": 1536, "planned_dollars": 0.25, "created_at": 0.0, "version_id": None}
    texts = {"state": "a\x1b", "copy": "k" * 96, "key": "a" * 600 + "b" * 400}
    heads, cells = console.table([numbers | texts]).splitlines()
    assert heads.split() == ["rows", "size", "planned", "created", "version", *texts]
    shown = ["1,200", "1.5", "KiB", "$0.2500", "1970-01-01T00:00:00Z", "–", "a\\x1b"]
    assert cells.split() == [*shown, texts["copy"], f"{'a' * 47}…{'b' * 47}"]


def test_a_query_shows_whole_keys() -> None:
    key = "k" * 200
    lines = console.table([{"key": key, "n": 1}, {"key": "a", "n": 2}], is_exact=True).splitlines()
    assert [line.split() for line in lines] == [["key", "n"], [key, "1"], ["a", "2"]]
    assert len(lines[2]) < 80, "no row is as wide as the longest key of another one"
