"""Options of commands: one frozen dataclass a command, which holds each value that click has read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import click
import pytest

from jobs.cli import run
from jobs.cli.options import AccessOptions, Command, argument, command_options, flag, group, option, shared, takes
from jobs.cli.options import read_options as read
from jobs.config import TUNING, Settings
from jobs.errors import ConfigError
from tests.cli.command_tree import COMMANDS, parameters


def leaves(options: Any) -> Iterator[Any]:
    """The values of a dataclass of options, those of its groups included."""
    for each in fields(options):
        value = getattr(options, each.name)
        yield from leaves(value) if is_dataclass(value) else (value,)


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_a_command_takes_a_dataclass_with_each_of_its_parameters(path: str) -> None:
    function = inspect.unwrap(COMMANDS[path].callback)  # type: ignore[arg-type]  # every command has a callback
    values = {str(parameter.name): object() for parameter in parameters(path)}
    options = read(get_type_hints(function)["options"], values)
    assert sorted(map(id, leaves(options))) == sorted(map(id, values.values())), "each value once"


@command_options
class Sample:
    """A command's options of every sort."""

    place: str = argument()
    max_cost: float | None = option("Dollars.", type=float)
    margin: str = option("An age.", name="--older", default="15m")
    yes: bool = flag("Do not ask.")
    near: AccessOptions = group(AccessOptions, "source")
    far: AccessOptions = group(AccessOptions, "copies")
    as_json: bool = shared("json")


def test_click_reads_what_the_fields_say() -> None:
    seen: list[Sample] = []

    @click.command(cls=Command)
    @takes(Sample)
    def command(options: Sample) -> None:
        """What it does."""
        seen.append(options)

    words = ["here", "--max-cost", "2", "--older", "1h", "--yes", "--copies-profile", "far", "--json"]
    command.main(words, standalone_mode=False)
    command.main(["there"], standalone_mode=False)
    nowhere = AccessOptions(endpoint=None, profile=None, owner=None)
    far = AccessOptions(endpoint=None, profile="far", owner=None)
    assert seen == [
        Sample(place="here", max_cost=2.0, margin="1h", yes=True, near=nowhere, far=far, as_json=True),
        Sample(place="there", max_cost=None, yes=False, near=nowhere, far=nowhere, as_json=False),
    ]
    short = command.get_help(click.Context(command))
    assert ("--max-cost" in short, "--json" in short, "--source-endpoint" in short) == (True, True, False)


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_help_fits_a_screen_and_help_all_shows_every_option(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert run([*path.split(), "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) <= 40
    assert run([*path.split(), "--help-all"]) == 0
    full = capsys.readouterr().out
    shown = [each for each in parameters(path) if isinstance(each, click.Option) and not each.hidden]
    assert [each.opts[0] for each in shown if f"  {each.opts[0]}" not in full] == []


@pytest.mark.parametrize(
    "line",
    [
        "replicate --max-cost nan",
        "replicate --max-cost inf",
        "replicate --max-cost 0",
        "replicate --max-rate 0",
        "replicate --max-rate nan",
        "reconcile --max-objects 0",
        "compact --target-size 0",
        "runs list --limit 0",
    ],
)
def test_a_limit_is_a_number_above_zero(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert run(line.split()) == 2
    assert line.split()[-2] in capsys.readouterr().err


def test_nobody_knows_yet_how_a_bucket_will_be(capsys: pytest.CaptureFixture[str]) -> None:
    line = "restore --source s3://docs --as-of 2999-01-01 --destination s3://back --ledger s3://ledger"
    assert run(line.split()) == 2
    assert "--as-of is in the future" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", ""])
@pytest.mark.parametrize("name", ["processes", "patience_seconds", "buffer_mib"])
def test_a_setting_is_a_number_above_zero(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({TUNING: f"in_flight=2 {name}={text}"})


@pytest.mark.parametrize("text", ["in-flight=2", "in_flight", "=", "in_flight=0.5"])
def test_what_is_no_setting_is_named(text: str) -> None:
    with pytest.raises(ConfigError):
        Settings.from_environment({TUNING: text})


def test_settings_of_one_list() -> None:
    settings = Settings.from_environment({TUNING: "processes=2, buffer_mib=0.5 max_failed_percent=10"})
    assert (settings.processes, settings.batch_processes, settings.buffer_bytes) == (2, 2, 1 << 19)
    assert (settings.max_failed_percent, settings.in_flight) == (10, 512)
