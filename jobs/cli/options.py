"""Options of a command: a frozen dataclass whose fields say what click takes.

    @command_options
    class ShowCommand:
        run_id: str = argument(type=RunType(), metavar="RUN")
        as_json: bool = json_option()

    @runs.command()
    @takes(ShowCommand)
    def show(options: ShowCommand) -> int: ...

A `group` is a field with a dataclass of its own, which several commands share. If that has a
`HEADING`, its options are below it in the help of a `SectionedCommand`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

import click

from jobs.cli.console import takes_log
from jobs.core.failure_limit import FailureLimit
from jobs.core.model import Location
from jobs.core.run import WITHOUT_CONDITIONS, Side
from jobs.core.selection import Selection, parse_age, parse_size, parse_when
from jobs.errors import UsageError
from jobs.s3.http.endpoints import given_endpoint

if TYPE_CHECKING:
    from jobs.s3.store import Store

T = TypeVar("T")
R = TypeVar("R")

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""A run's id is one folder in the ledger: no slash, and neither `.` nor `..`."""


def named(param: click.Parameter | None, parse: Callable[[str], T], text: str) -> T:
    """What a text means. Raises UsageError that names its option."""
    try:
        return parse(text)
    except UsageError as error:
        option = f"{param.opts[-1]}: " if param and param.opts and param.opts[-1][0] == "-" else ""
        raise UsageError(f"{option}{error.what}", advice=error.own_advice) from None


class LocationType(click.ParamType[Location]):
    """s3://bucket/prefix"""

    name = "s3://bucket/prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """The location, or UsageError."""
        return value if isinstance(value, Location) else named(param, Location.parse, value)


class SizeType(click.ParamType[int]):
    """5GiB, 10MB, 1024. 0 only where it means something."""

    name = "size"

    def __init__(self, *, may_be_zero: bool = False):
        self._may_be_zero = may_be_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, or UsageError."""
        return value if isinstance(value, int) else named(param, self._parse, value)

    def _parse(self, text: str) -> int:
        size_bytes = parse_size(text)
        if not size_bytes and not self._may_be_zero:
            raise UsageError(f"{text!r} is nothing", advice="write a size of at least one byte, or leave it out")
        return size_bytes


class NumberRange(click.FloatRange):
    """A number between bounds. Neither `nan` nor infinity is one: no comparison would end there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails as click does."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number: write one, such as 2.5", param, ctx)
        return number


class FailureLimitType(click.ParamType[FailureLimit]):
    """10% or 10"""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FailureLimit:
        """The limit, or UsageError."""
        return value if isinstance(value, FailureLimit) else named(param, FailureLimit.parse, value)


class WhenType(click.ParamType[float]):
    """30d, 12h, 2026-11-01 → epoch seconds"""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Epoch seconds, or UsageError."""
        return value if isinstance(value, float) else named(param, lambda text: parse_when(text, time.time()), value)


class AgeType(click.ParamType[str]):
    """15m, 2h, as it was typed"""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text of a valid age, or UsageError."""
        named(param, parse_age, value)
        return str(value)


class RunType(click.ParamType[str]):
    """20261125T003345Z-compact-1f3a"""

    name = "RUN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The run's id, or UsageError."""
        return check_run_id(value, param.opts[-1] if param and param.opts else "RUN")


class TagType(click.ParamType[tuple[str, str]]):
    """NAME=VALUE"""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Name and value of a tag, or UsageError. The value may be empty."""
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            raise UsageError(
                f"{param.opts[-1] if param and param.opts else 'a tag'} {value!r}", advice="write NAME=VALUE"
            )
        return name, text


def tags_of(option_name: str, given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The tags of an option that may be repeated. Raises UsageError for two values of one tag."""
    tags = dict(given)
    for name, value in given:
        if value != tags[name]:
            raise UsageError(
                f"{option_name} {name}: it has two values, {value!r} and {tags[name]!r}", advice="give one"
            )
    return tags


class TextType(click.ParamType[str]):
    """Any text but the empty one, which a script's unset variable leaves."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, or UsageError."""
        if not value:
            what = param.opts[-1] if param and param.opts else "a value"
            raise UsageError(f"{what} is empty", advice="name what you mean, or leave it out")
        return str(value)


class ManifestType(TextType):
    """s3://bucket/manifest.json, run:RUN or proven:RUN"""

    name = "URI"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The URI, or UsageError."""
        uri = super().convert(value, param, ctx)
        for kind in ("run:", "proven:"):
            if uri.startswith(kind):
                check_run_id(uri.removeprefix(kind), f"--manifest {kind}")
        return uri


def check_run_id(value: str, what: str) -> str:
    """The id of a run. Raises UsageError for an empty or invalid one."""
    if not value.strip():
        raise UsageError(f"{what}: the run's id is empty", advice="see `sealift runs list`")
    if not _RUN_ID.fullmatch(value):
        raise UsageError(f"{what}: {value!r} is not the id of a run", advice="see `sealift runs list`")
    return value


def option(help: str | None = None, *, name: str = "", **attributes: Any) -> Any:
    """A field that is an option, described as for `click.option`.

    `name`: by default the field's, as `--max-cost` for `max_cost`. In the `help` of a group
    `{side}` is the group's side. A text must not be empty: a script's unset variable is no value.
    """
    if not attributes.keys() & {"type", "is_flag", "default"}:
        attributes["type"] = TextType()
    return _parameter(click.option, name, attributes | {"help": help})


def flag(help: str, *, name: str = "") -> Any:
    """A field that is an option without a value."""
    return option(help, name=name, is_flag=True)


def argument(**attributes: Any) -> Any:
    """A field that is an argument, described as for `click.argument`."""
    return _parameter(click.argument, "", attributes)


def _parameter(declare: Callable[..., Any], name: str, attributes: dict[str, Any]) -> Any:
    default = {"default": attributes["default"]} if "default" in attributes else {}
    return field(metadata={"parameter": (declare, name, attributes)}, **default)


def group(kind: type[T], side: str = "") -> T:
    """A field that holds shared options. `side`: which side of a run they are about."""
    shared: T = field(metadata={"group": (kind, side)})
    return shared


def prefix_option(help: str) -> Any:
    """--prefix"""
    return option(help, type=TextType(), callback=lambda _, __, value: value or "")


def manifest_option(help: str) -> Any:
    """--manifest"""
    return option(help, type=ManifestType(), metavar="URI")


def versions_option() -> Any:
    """--versions"""
    return option(type=click.Choice(["current", "all"]), default="current", show_default=True)


def executor_option(help: str = "Default: SEALIFT_EXECUTOR or local.") -> Any:
    """--executor"""
    return option(help, type=click.Choice(["local", "batch"]))


def detach_option() -> Any:
    """--detach"""
    return flag("With --executor batch: submit and leave. `sealift runs show --follow` follows the run.")


def max_cost_option(what: str = "a plan") -> Any:
    """--max-cost"""
    return option(f"Refuse {what} that costs more.", type=NumberRange(min=0, min_open=True), metavar="DOLLARS")


def max_objects_option(what: str = "a plan") -> Any:
    """--max-objects"""
    return option(f"Refuse {what} with more objects.", type=click.IntRange(min=1), metavar="N")


def check_encryption(sse: str | None, kms_key_id: str | None) -> None:
    """Raises UsageError for a KMS key that no KMS encryption uses."""
    if kms_key_id and sse not in ("aws:kms", "aws:kms:dsse"):
        raise UsageError("--kms-key-id names a key for --sse aws:kms", advice="add that, or leave out the key")


def sse_option(help: str) -> Any:
    """--sse"""
    return option(help, type=click.Choice(["AES256", "aws:kms", "aws:kms:dsse"]))


def unguarded_option() -> Any:
    """--unguarded"""
    return flag("Write to a server that ignores conditions: a write by others at the same moment can be lost.")


def unguarded(*, is_agreed: bool) -> dict[str, bool]:
    """The option of a request, if the command line has it."""
    return {WITHOUT_CONDITIONS: True} if is_agreed else {}


def requester_pays_option() -> Any:
    """--requester-pays"""
    return flag("Agree to pay for requests to the source's bucket.")


def ledger_option() -> Any:
    """--ledger"""
    return option("Where runs are recorded, s3://bucket/prefix. Default: SEALIFT_LEDGER.", metavar="URI")


def policy_option(help: str = "A path or s3://. Default: SEALIFT_POLICY.") -> Any:
    """--policy"""
    return option(help, metavar="FILE")


def json_option(help: str = "Print exactly one JSON document on stdout.") -> Any:
    """--json"""
    return flag(help, name="--json")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(
    option, flag, argument, group, prefix_option, manifest_option, versions_option, executor_option, detach_option,
    sse_option, max_cost_option, max_objects_option, unguarded_option, requester_pays_option, ledger_option,
    policy_option, json_option,
))  # fmt: skip
def command_options(kind: type[T]) -> type[T]:
    """Make a class a frozen dataclass of options."""
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)


def takes(kind: type[T]) -> Callable[[Callable[[T], R]], Callable[..., R]]:
    """Let a command take the options of a dataclass: its function gets one instance."""

    def decorate(function: Callable[[T], R]) -> Callable[..., R]:
        @wraps(function)
        def command(**values: Any) -> R:
            return function(read_options(kind, values))

        for declare in reversed([*_declarations(kind)]):
            command = declare(command)
        return takes_log(command, is_hidden=True)

    return decorate


def read_options(kind: type[T], values: Mapping[str, Any], side: str = "") -> T:
    """An instance of a dataclass of options, from the values of click's parameters."""
    read: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]  # T is a dataclass, which no bound can say
        shared = each.metadata.get("group")
        read[each.name] = read_options(shared[0], values, shared[1]) if shared else values[_name(each.name, side)]
    return kind(**read)


class _SectionOption(click.Option):
    """An option that is shown below a heading of its own."""

    def __init__(self, *arguments: Any, heading: str, **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.heading = heading


class SectionedCommand(click.Command):
    """A command whose help shows some of its options in sections behind the others."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, in the order of their first options."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(parameter, "heading", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _declarations(kind: type[Any], side: str = "") -> Iterator[Callable[[Any], Any]]:
    """The decorators of click for a dataclass of options, in the order of the help text."""
    heading = getattr(kind, "HEADING", None)
    shown = {"cls": _SectionOption, "heading": heading} if heading else {}
    for each in fields(kind):
        if "group" in each.metadata:
            yield from _declarations(*each.metadata["group"])
            continue
        declare, option_name, attributes = each.metadata["parameter"]
        name = _name(each.name, side)
        if declare is click.argument:
            yield declare(name, **attributes)
            continue
        help = attributes["help"].format(side=side) if side else attributes["help"]
        yield declare(name, option_name or f"--{name.replace('_', '-')}", **attributes | {"help": help} | shown)


def _name(field_name: str, side: str) -> str:
    """The name of click's parameter for a field."""
    return f"{side}_{field_name}" if side else field_name


def _checked_endpoint(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    """Refuse an invalid endpoint, or one with a password, before a run records it.

    Raises ConfigError.
    """
    if url:
        given_endpoint(url)
    return url


def _checked_owner(_: click.Context, __: click.Parameter, account: str | None) -> str | None:
    """Refuse what is not the id of an account. Raises UsageError."""
    if account is not None and not re.fullmatch("[0-9]{12}", account):
        raise UsageError(f"expected bucket owner {account!r}", advice="expected the 12 digits of an account")
    return account


@command_options
class AccessOptions:
    """How one side is reached."""

    HEADING: ClassVar = "Access"
    endpoint: str | None = option(
        "Endpoint of the {side}. Default: the one that boto3 finds.", metavar="URL", callback=_checked_endpoint
    )
    region: str | None = option("Region of the {side}.", metavar="NAME")
    profile: str | None = option("Credentials profile for the {side}.", metavar="NAME")
    expected_bucket_owner: str | None = option(
        "Account that has to own the bucket of the {side}.", metavar="ID", callback=_checked_owner
    )

    def side(self, location: Location) -> Side:
        """The side at this location."""
        return Side(location, self.endpoint, self.region, self.profile, self.expected_bucket_owner)

    def completed(self, region: str, account: str | None) -> Self:
        """What was typed, and what the policy says of the bucket where nothing was."""
        return replace(self, region=self.region or region, expected_bucket_owner=self.expected_bucket_owner or account)

    def open(self, location: Location) -> Store:
        """The store of the side at this location."""
        from jobs.s3.sessions import open_side

        return open_side(self.side(location))


@command_options
class ChecksumsOptions:
    """Evidence at rest of both sides."""

    source_checksums: str | None = option(
        "Evidence at rest: manifest.json of the report of a Compute checksum job.", type=TextType(), metavar="URI"
    )
    destination_checksums: str | None = option("The same for the destination.", type=TextType(), metavar="URI")


@command_options
class FilterOptions:
    """Which rows of the manifest are taken."""

    HEADING: ClassVar = "Filters"
    include: tuple[str, ...] = option("Take only keys that match. May be repeated.", multiple=True, metavar="GLOB")
    exclude: tuple[str, ...] = option("Leave out keys that match. May be repeated.", multiple=True, metavar="GLOB")
    newer_than: float | None = option("Take only objects modified after: 30d, 12h, 2026-11-01.", type=WhenType())
    older_than: float | None = option("Take only objects modified before.", type=WhenType())
    min_size: int | None = option(
        "Take only objects of at least this size: 10MB, 5GiB.", type=SizeType(may_be_zero=True)
    )
    max_size: int | None = option("Take only objects of at most this size.", type=SizeType(may_be_zero=True))
    include_class: tuple[str, ...] = option(
        "Take only this storage class. May be repeated.", multiple=True, metavar="CLASS"
    )

    def selection(self, source: Side | None, versions: str, sample: tuple[int, int] | None = None) -> Selection:
        """The selected rows of a source. `sample`: (number, of), the slice of the keys that is taken."""
        return Selection(
            prefix=source.location.key if source else "",
            include=self.include,
            exclude=self.exclude,
            min_size_bytes=self.min_size,
            max_size_bytes=self.max_size,
            newer_than=self.newer_than,
            older_than=self.older_than,
            storage_classes=self.include_class,
            versions=versions,
            sample=sample,
        )
