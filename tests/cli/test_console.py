"""What a command shows beside its answer."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs.cli import console
from jobs.cli.console import display
from jobs.core.display import shown_key


@pytest.mark.parametrize(("as_json", "shown"), [(False, ["warning", "note"]), (True, ["warning"])])
def test_json_leaves_out_what_it_repeats_and_nothing_that_must_be_seen(
    as_json: bool, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """That another command has taken the run over, say, is in no document."""
    display(as_json).say("warning")
    display(as_json).note("note")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == shown


def test_progress_has_throttling_and_the_latest_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_INTERVAL_SECONDS", 0.0)
    with console.meter("replicate", 10) as shown:
        shown.update(5, 1, 100, throttled=3, last_error="HeadObject s3://b/[red]k\x1b: AccessDenied")
        shown.update(5, 0, 100)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("throttled 3 times; the latest error: HeadObject s3://b/[red]k\\x1b: AccessDenied")
    assert "error:" not in second
    assert "throttled" not in second


def test_progress_of_an_unknown_number_says_no_number_and_no_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing said "218,500 of 0 objects, -10.1 s left"."""
    monkeypatch.setattr(console, "PLAIN_INTERVAL_SECONDS", 0.0)
    with console.meter("inventory", 0) as shown:
        shown.update(218_500, 0, 100)
    line = capsys.readouterr().err
    assert line.startswith("inventory: 218,500 objects, 100 B")
    assert "left" not in line


def test_a_live_bar_counts_what_has_no_end() -> None:
    meter = console._LiveMeter("inventory", 0)
    meter.update(218_500, 0, 100)
    [task] = meter.progress.tasks
    assert (task.total, task.fields["count"]) == (None, "218,500")


def test_a_live_bar_keeps_to_the_terminal_and_the_latest_error_to_a_line_of_its_own() -> None:
    meter, out = console._LiveMeter("replicate", 10_000_000), io.StringIO()
    meter.update(5_000_000, 123_456, 1 << 45, throttled=9, last_error=f"HeadObject s3://b/{'k' * 1000}: AccessDenied")
    Console(file=out, width=80).print(meter)
    bar, error = out.getvalue().splitlines()
    assert max(len(bar), len(error)) <= 80
    assert "5,000,000/10,000,000" in bar
    assert "123,456 errors" in bar
    assert error.startswith("throttled 9 times; the latest error: HeadObject s3://b/k")


def test_a_cut_table_has_one_line_a_row_with_its_first_cell_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    lines = console.table(
        ["run", "source"], [["20261125T003345Z-verify-1f3a02", "s3://docs/" + "k" * 200]], is_cut=True
    )
    _, second = lines.splitlines()
    assert second.startswith("20261125T003345Z-verify-1f3a02 ")
    assert len(second) <= 80


@pytest.mark.parametrize(
    ("key", "expected"), [("a\x1b", "a\\x1b"), ("k" * 96, "k" * 96), ("a" * 600 + "b" * 400, None)]
)
def test_a_long_key_is_shortened_in_the_middle(key: str, expected: str | None) -> None:
    assert shown_key(key) == (expected or f"{'a' * 47}…{'b' * 47}")
