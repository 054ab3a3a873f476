"""Options of commands: one frozen dataclass a command, which holds each value that click has read."""

from __future__ import annotations

from dataclasses import fields

import click
import pytest

from jobs.cli import run
from jobs.cli.options import SHARED, Command, Options, argument, flag, option, rare, shared
from jobs.config import TUNING, Settings
from jobs.errors import ConfigError
from tests.cli.command_tree import COMMANDS, parameters


class Sides(Options):
    """Options of several commands."""

    source: str | None = rare("A profile.", name="--source-profile")
    copies: str | None = rare("Another one.", name="--destination-profile")


seen: list[Options] = []


class Sample(Sides):
    """What it does."""

    margin: str = option("An age.", name="--older", default="15m")
    place: str = argument()
    max_cost: float | None = option("Dollars.", type=click.FLOAT)
    yes: bool = flag("Do not ask.")
    as_json: bool = shared("json")

    def main(self) -> int:
        seen.append(self)
        return 3


def test_click_reads_what_the_fields_say() -> None:
    command = Command(Sample, "sample")
    words = ["here", "--max-cost", "2", "--older", "1h", "--yes", "--destination-profile", "far", "--json"]
    assert command.main(words, standalone_mode=False) == 3
    command.main(["there"], standalone_mode=False)
    assert seen == [
        Sample(place="here", max_cost=2.0, margin="1h", yes=True, source=None, copies="far", as_json=True),
        Sample(place="there", max_cost=None, yes=False, source=None, copies=None, as_json=False),
    ]
    with pytest.raises(click.BadOptionUsage):
        command.main(["here", "--source-profile"], standalone_mode=False)
    short, own = command.get_help(click.Context(command)), [each.name for each in command.params]
    assert ("--max-cost" in short, "--json" in short, "--source-profile" in short) == (True, True, False)
    assert own == ["place", "max_cost", "margin", "source", "copies"], "rare ones last, common ones apart"


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_help_fits_a_screen_and_help_all_shows_every_option(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert run([*path.split(), "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) <= 40
    assert run([*path.split(), "--help-all"]) == 0
    full, command = capsys.readouterr().out, COMMANDS[path]
    shown = [each for each in parameters(path) if isinstance(each, click.Option) and not each.hidden]
    assert [each.opts[0] for each in shown if f"  {each.opts[0]}" not in full] == []
    assert isinstance(command, Command)
    assert sorted(each.name for each in fields(command.kind)) == sorted(str(each.name) for each in parameters(path))  # type: ignore[arg-type]  # a dataclass


@pytest.mark.parametrize(("text", "dollars"), [("2.5", 2.5), (".5", 0.5), ("0.01", 0.01), ("200", 200.0)])
def test_a_number_above_zero_is_read(text: str, dollars: float) -> None:
    assert SHARED["max-cost"]["type"].convert(text, None, None) == dollars


@pytest.mark.parametrize("text", ["", ".", "0", ".0", "5.", "-1", "1e999", "inf", "nan"])
def test_no_other_number_is_read(text: str) -> None:
    with pytest.raises(click.BadParameter):
        SHARED["max-cost"]["type"].convert(text, None, None)


WRONG = [f"{name}={text}" for name in ("processes", "buffer_mib") for text in ("nan", "inf", "0", "-1", "")]


@pytest.mark.parametrize("text", [*WRONG, "in-flight=2", "in_flight", "=", "in_flight=0.5"])
def test_what_is_no_setting_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=text.partition("=")[0] or TUNING):
        Settings.from_environment({TUNING: f"patience_seconds=2 {text}"})
    with pytest.raises(ConfigError, match="SEALIFT_ENDPOINTS_ONLY"):
        Settings.from_environment({"SEALIFT_ENDPOINTS_ONLY": text or "maybe"})


def test_settings_of_one_list() -> None:
    settings = Settings.from_environment({TUNING: "processes=2, buffer_mib=0.5 max_failed_percent=10"})
    assert (settings.processes, settings.batch_processes, settings.buffer_bytes) == (2, 2, 1 << 19)
    assert (settings.max_failed_percent, settings.in_flight) == (10, 512)
