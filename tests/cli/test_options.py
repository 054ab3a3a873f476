"""Options of commands: one frozen dataclass a command, which holds each value that click has read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass
from typing import Any, get_type_hints

import click
import pytest

from jobs.cli import run
from jobs.cli.options import (
    AccessOptions,
    Command,
    ParsedType,
    argument,
    command_options,
    flag,
    group,
    option,
    shared,
    takes,
)
from jobs.cli.options import read_options as read
from jobs.config import TUNING, Settings
from jobs.errors import ConfigError, UsageError
from tests.cli.command_tree import COMMANDS, parameters


def leaves(options: Any) -> Iterator[Any]:
    """The values of a dataclass of options, those of its groups included."""
    for each in fields(options):
        value = getattr(options, each.name)
        yield from leaves(value) if is_dataclass(value) else (value,)


def dataclass_of(path: str) -> type[Any]:
    """What the function of a command takes: one value, `options`."""
    function = inspect.unwrap(COMMANDS[path].callback)  # type: ignore[arg-type]  # every command has a callback
    assert list(inspect.signature(function).parameters) == ["options"], path
    kind: type[Any] = get_type_hints(function)["options"]
    return kind


WITH_OPTIONS = sorted(path for path in COMMANDS if parameters(path))


def test_the_tree_is_walked():
    assert {"replicate", "runs retry", "archives find", "worker"} <= set(WITH_OPTIONS)
    assert set(COMMANDS) == set(WITH_OPTIONS)


@pytest.mark.parametrize("path", WITH_OPTIONS)
def test_a_command_takes_a_frozen_dataclass_with_each_of_its_parameters(path):
    kind = dataclass_of(path)
    values = {str(parameter.name): object() for parameter in parameters(path)}
    options = read(kind, values)
    assert sorted(map(id, leaves(options))) == sorted(map(id, values.values())), "each value once"
    assert not hasattr(options, "__dict__")
    with pytest.raises(FrozenInstanceError):
        setattr(options, fields(options)[0].name, None)
    for name in values:
        with pytest.raises(KeyError, match=name):
            read(kind, {other: value for other, value in values.items() if other != name})


@pytest.mark.parametrize("path", WITH_OPTIONS)
def test_a_default_of_a_dataclass_is_the_one_of_the_command(path):
    by_name = {parameter.name: parameter for parameter in parameters(path)}
    for each in fields(dataclass_of(path)):
        if each.default is not MISSING:
            assert by_name[each.name].default == each.default


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


def test_click_reads_what_the_fields_say():
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
    assert command.help == "What it does."
    short = command.get_help(click.Context(command))
    assert ("--max-cost" in short, "--json" in short, "--source-endpoint" in short) == (True, True, False)


@pytest.mark.parametrize("path", WITH_OPTIONS)
def test_help_fits_a_screen_and_help_all_shows_every_option(capsys: pytest.CaptureFixture[str], path: str) -> None:
    short, full = (called(capsys, *path.split(), option)[1] for option in ("--help", "--help-all"))
    assert len(short.splitlines()) <= 40
    shown = [each for each in parameters(path) if isinstance(each, click.Option) and not each.hidden]
    assert [each.opts[0] for each in shown if f"  {each.opts[0]}" not in full] == []


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command line."""
    code = run([*arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("verb", [("verify",), ("runs", "retry"), ()])
def test_help_of_a_verb_is_the_verbs_help(capsys, verb):
    asked = called(capsys, "help", *verb)
    assert asked == called(capsys, *verb, "--help")
    assert (asked[0], f"Usage: sealift {' '.join(verb)}".strip() in asked[1]) == (0, True)


@pytest.mark.parametrize("group", [[], ["runs"], ["events"]])
def test_without_a_verb_the_help_is_shown_as_it_is(capsys, group):
    code, out, err = called(capsys, *group)
    assert (code, out) == (2, "")
    assert err.strip() == called(capsys, *group, "--help")[1].strip()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("replicate --sorce s3://a", "No such option '--sorce': did you mean --source? See `sealift replicate --help`"),
        ("replicate --xyzzy", "No such option '--xyzzy': see `sealift replicate --help`"),
        ("runs rety latest", "No such command 'rety': did you mean retry? See `sealift runs --help`"),
        ("xyzzy", "No such command 'xyzzy': see `sealift --help`"),
    ],
)
def test_an_unknown_word_has_the_nearest_known_one(capsys, typed, message):
    assert called(capsys, *typed.split()) == (2, "", f"sealift: {message}\n")


def test_help_of_an_unknown_verb_says_what_was_meant(capsys):
    code, out, err = called(capsys, "help", "verfiy")
    assert (code, out, "did you mean verify?" in err) == (2, "", True)


NUMBERS = [
    (path, parameter)
    for path in sorted(COMMANDS)
    for parameter in parameters(path)
    if isinstance(parameter.type, click.types.FloatParamType | click.types.IntParamType | ParsedType)
    and parameter.type.name in ("integer range", "float range", "size")
]
ZERO_HAS_A_MEANING = {
    "--max-size": "only empty objects",
    "--owner": "nobody has claimed the run",
    "--shard": "the first one",
    "--submission": "the first one",
}


def refusal(path: str, parameter: click.Parameter, text: str) -> str:
    """What the command says to the option with this value. click reads what was typed first, first."""
    with pytest.raises((click.UsageError, UsageError)) as raised:
        COMMANDS[path].make_context(path, [parameter.opts[-1], text])
    error = raised.value
    return error.format_message() if isinstance(error, click.UsageError) else str(error)


def test_the_numbers_of_all_commands_are_looked_at():
    names = {(path, parameter.opts[-1]) for path, parameter in NUMBERS}
    assert names >= {("replicate", "--max-cost"), ("compact", "--target-size"), ("reconcile", "--max-objects")}
    assert ZERO_HAS_A_MEANING.keys() <= {name for _, name in names}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "NaN", "1e999"])
@pytest.mark.parametrize(("path", "parameter"), NUMBERS)
def test_no_option_takes_what_is_no_number(path: str, parameter: click.Parameter, text: str):
    assert parameter.opts[-1] in refusal(path, parameter, text)


@pytest.mark.parametrize(
    ("path", "parameter"), [each for each in NUMBERS if each[1].opts[-1] not in ZERO_HAS_A_MEANING]
)
def test_zero_is_refused_where_it_means_nothing(path: str, parameter: click.Parameter):
    assert parameter.opts[-1] in refusal(path, parameter, "0")


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "0", "-1", ""])
@pytest.mark.parametrize("name", ["processes", "patience_seconds", "buffer_mib"])
def test_a_setting_is_a_number_above_zero(name: str, text: str):
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({TUNING: f"in_flight=2 {name}={text}"})


@pytest.mark.parametrize("name", ["processes", "in_flight", "checkpoint_rows", "rows_per_shard"])
def test_half_a_thing_is_none(name: str):
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({TUNING: f"{name}=0.5"})


@pytest.mark.parametrize("text", ["in-flight=2", "in_flight", "=", "in_flight 2"])
def test_what_is_no_setting_is_named(text: str):
    with pytest.raises(ConfigError, match="write NAME=VALUE"):
        Settings.from_environment({TUNING: text})


def test_settings_of_one_list():
    settings = Settings.from_environment({TUNING: "processes=2, buffer_mib=0.5 max_failed_percent=10"})
    assert (settings.processes, settings.batch_processes, settings.buffer_bytes) == (2, 2, 1 << 19)
    assert (settings.max_failed_percent, settings.in_flight) == (10, 512)
