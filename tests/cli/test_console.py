"""What a command shows beside its answer."""

from __future__ import annotations

import pytest

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
