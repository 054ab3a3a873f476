"""What a command shows beside its answer."""

from __future__ import annotations

import pytest

from jobs.cli import console
from jobs.cli.console import display


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
    from rich.progress import Progress

    progress = Progress()
    meter = console._LiveMeter(progress, "inventory", 0)
    meter.update(218_500, 0, 100)
    [task] = progress.tasks
    assert (task.total, task.fields["count"]) == (None, "218,500")
    console._LiveMeter(progress, "replicate", 10).update(5, 0, 100)
    assert progress.tasks[1].fields["count"] == "5/10"
