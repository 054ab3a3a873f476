"""Options of commands: one frozen dataclass a command, which holds each value that click has read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass
from typing import Any, get_type_hints

import click
import pytest

from jobs.cli import run
from jobs.cli.options import AccessOptions, SizeType, argument, command_options, flag, group, json_option, option, takes
from jobs.cli.options import read_options as read
from jobs.config import Settings
from jobs.errors import ConfigError, UsageError
from tests.cli.command_tree import COMMANDS


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


WITH_OPTIONS = sorted(path for path, command in COMMANDS.items() if any(each.expose_value for each in command.params))


def test_the_tree_is_walked():
    assert {"replicate", "runs retry", "archives find", "worker"} <= set(WITH_OPTIONS)
    assert set(COMMANDS) == set(WITH_OPTIONS)


@pytest.mark.parametrize("path", WITH_OPTIONS)
def test_a_command_takes_a_frozen_dataclass_with_each_of_its_parameters(path):
    kind, parameters = dataclass_of(path), [each for each in COMMANDS[path].params if each.expose_value]
    values = {str(parameter.name): object() for parameter in parameters}
    options = read(kind, values)
    assert list(map(id, leaves(options))) == list(map(id, values.values())), "each value once, in click's order"
    assert not hasattr(options, "__dict__")
    with pytest.raises(FrozenInstanceError):
        setattr(options, fields(options)[0].name, None)
    for name in values:
        with pytest.raises(KeyError, match=name):
            read(kind, {other: value for other, value in values.items() if other != name})


@pytest.mark.parametrize("path", WITH_OPTIONS)
def test_a_default_of_a_dataclass_is_the_one_of_the_command(path):
    parameters = {parameter.name: parameter for parameter in COMMANDS[path].params}
    for each in fields(dataclass_of(path)):
        if each.default is not MISSING:
            assert parameters[each.name].default == each.default


@command_options
class Sample:
    """A command's options of every sort."""

    place: str = argument()
    max_cost: float | None = option("Dollars.", type=float)
    margin: str = option("An age.", name="--older", default="15m")
    yes: bool = flag("Do not ask.")
    near: AccessOptions = group(AccessOptions, "source")
    far: AccessOptions = group(AccessOptions, "copies")
    as_json: bool = json_option()


def test_click_reads_what_the_fields_say():
    seen: list[Sample] = []

    @click.command()
    @takes(Sample)
    def command(options: Sample) -> None:
        """What it does."""
        seen.append(options)

    words = ["here", "--max-cost", "2", "--older", "1h", "--yes", "--copies-region", "eu-west-1", "--json"]
    command.main(words, standalone_mode=False)
    command.main(["there"], standalone_mode=False)
    nowhere = AccessOptions(endpoint=None, region=None, profile=None, expected_bucket_owner=None)
    far = AccessOptions(endpoint=None, region="eu-west-1", profile=None, expected_bucket_owner=None)
    assert seen == [
        Sample(place="here", max_cost=2.0, margin="1h", yes=True, near=nowhere, far=far, as_json=True),
        Sample(place="there", max_cost=None, yes=False, near=nowhere, far=nowhere, as_json=False),
    ]
    assert command.help == "What it does."
    text = command.get_help(click.Context(command))
    assert "Endpoint of the copies. Default: the one that boto3 finds." in " ".join(text.split())
    assert text.index("--max-cost") < text.index("--source-endpoint") < text.index("--json")


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
    for path, command in sorted(COMMANDS.items())
    for parameter in command.params
    if isinstance(parameter.type, click.types.FloatParamType | click.types.IntParamType | SizeType)
]
ZERO_HAS_A_MEANING = {
    "--max-size": "only empty objects",
    "--min-size": "all objects",
    "--owner": "nobody has claimed the run",
    "--port": "any port",
    "--retry": "at once",
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


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "0", "-1"])
@pytest.mark.parametrize("name", ["SEALIFT_PROCESSES", "SEALIFT_PATIENCE_SECONDS", "SEALIFT_BUFFER_MIB"])
def test_a_variable_is_a_number_above_zero(name: str, text: str):
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({name: text})


@pytest.mark.parametrize("name", ["PROCESSES", "IN_FLIGHT", "CHECKPOINT_ROWS", "ROWS_PER_SHARD"])
def test_half_a_thing_is_none(name: str):
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({f"SEALIFT_{name}": "0.5"})
