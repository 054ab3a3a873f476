"""Options of a command: a frozen dataclass whose fields say what click takes.

    @command_options
    class ShowCommand:
        run_id: str = argument(type=RunType(), metavar="RUN")
        as_json: bool = shared("json")

    @runs.command()
    @takes(ShowCommand)
    def show(options: ShowCommand) -> int: ...

`SHARED` has the options that several commands take. A `group` is a field with a dataclass of its
own. `--help` shows the options that most need, `--help-all` all of them, below their headings.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial, wraps
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Self, TypeVar, dataclass_transform

import click
from click.core import ParameterSource

from jobs.cli.console import log_requests
from jobs.core.enums import AnnotationRule, Encryption, StorageClass
from jobs.core.model import Location
from jobs.core.rate_limits import RateLimits
from jobs.core.run import WITHOUT_CONDITIONS, Side
from jobs.core.selection import Selection, parse_age, parse_size, parse_when
from jobs.errors import UsageError
from jobs.s3.http.endpoints import given_endpoint

if TYPE_CHECKING:
    from jobs.s3.store import Store

T = TypeVar("T")
R = TypeVar("R")

MIN_BYTES_A_SECOND = 1024


class ParsedType(click.ParamType[Any]):
    """A type by the function that parses it. Its UsageError becomes click's, which names the option."""

    def __init__(self, name: str, parse: Callable[[str], Any]):
        self.name, self._parse = name, parse

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The name as it is: `s3://bucket/prefix`."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the text means. Fails as click does."""
        if not isinstance(value, str):
            return value  # a default
        try:
            return self._parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def _parse_size(text: str, *, may_be_zero: bool = False) -> int:
    size_bytes = parse_size(text)
    if not size_bytes and not may_be_zero:
        raise UsageError(f"{text!r} is nothing", advice="write a size of at least one byte, or leave it out")
    return size_bytes


def _parse_text(text: str) -> str:
    """Any text but the empty one, which a script's unset variable leaves."""
    if not text:
        raise UsageError("the value is empty", advice="name what you mean, or leave it out")
    return text


def _parse_age(text: str) -> str:
    parse_age(text)
    return text


def _matching(pattern: str, what: str, advice: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise UsageError(f"{text!r} is not {what}", advice=advice)
        return text

    return parse


# One folder in the ledger: no slash, and neither `.` nor `..`.
_parse_run_id = _matching("[A-Za-z0-9][A-Za-z0-9_.-]*", "the id of a run", "see `sealift runs list`")


def _parse_manifest(text: str) -> str:
    for kind in ("run:", "proven:"):
        if text.startswith(kind):
            _parse_run_id(text.removeprefix(kind))
    return _parse_text(text)


def _parse_rate(text: str) -> RateLimits:
    """`200`: requests a second. `50MiB`: bytes a second."""
    try:
        float(text)
    except ValueError:
        size_bytes = parse_size(text)
        if size_bytes < MIN_BYTES_A_SECOND:
            raise UsageError(f"{text!r} is too slow", advice="give at least 1KiB a second") from None
        return RateLimits(size_bytes=size_bytes)
    return RateLimits(requests=_parse_number(text))


def _parse_number(text: str) -> float:
    """A number above zero. Neither `nan` nor infinity is one: no comparison would end there."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"{text!r} is not a number above zero", advice="write one, such as 2.5")
    return number


def _parse_sse(text: str) -> tuple[str, str | None]:
    """`AES256`, `aws:kms`, `aws:kms=ARN`: the encryption, and its key."""
    kind, _, key = text.partition("=")
    if kind not in set(Encryption) or (key and kind == Encryption.S3):
        raise UsageError(
            f"{text!r} is no encryption", advice="write AES256, aws:kms, aws:kms:dsse, or one of the last two =KEY-ARN"
        )
    return kind, key or None


def _parse_endpoint(text: str) -> str:
    """Refuse an invalid endpoint, or one with a password, before a run records it. Raises ConfigError."""
    if text:
        given_endpoint(text)
    return text


Place = ParsedType("s3://bucket/prefix", Location.parse)
SizeType = partial(ParsedType, "size")
Size, SizeOrZero = SizeType(_parse_size), SizeType(partial(_parse_size, may_be_zero=True))
Text, Age, Run = ParsedType("text", _parse_text), ParsedType("age", _parse_age), ParsedType("RUN", _parse_run_id)
When = ParsedType("when", lambda text: parse_when(text, time.time()))
Manifest = ParsedType("URI", _parse_manifest)
Positive = click.IntRange(min=1)

HEADINGS = FILTERS, COPIES, LIMITS, ACCESS, OTHER, EVERYWHERE = (
    "Filters", "Copies", "Limits", "Access", "Other", "Options of many commands"
)  # fmt: skip
"""The headings of `--help-all`. `--help` shows the options without a heading."""


def _shared(
    help: str, kind: click.ParamType[Any] | None = None, heading: str = "", **attributes: Any
) -> dict[str, Any]:
    kinds = {"is_flag": True} if kind is click.BOOL else {"type": kind or Text}
    return {"help": help, "heading": heading, **kinds, **attributes}


def _choice(*values: str) -> click.Choice[str]:
    return click.Choice([str(each) for each in values])


_URL, _ACCOUNT, _RATE = (
    ParsedType("URL", _parse_endpoint),
    ParsedType("ID", _matching("[0-9]{12}", "an account", "write its 12 digits")),
    ParsedType("RATE", _parse_rate),
)
_FLAG, _SSE = click.BOOL, ParsedType("KIND[=KEY]", _parse_sse)
_GLOBS: dict[str, Any] = {"multiple": True, "metavar": "GLOB"}
SHARED: Mapping[str, Mapping[str, Any]] = {
    "source": _shared("What to take: a bucket or a prefix in it.", Place),
    "destination": _shared("Where the copies are or go.", Place),
    "manifest": _shared(
        "Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows), proven:ID (its others).", Manifest
    ),
    "pair": _shared("Which pair of the policy.", metavar="NAME"),
    "versions": _shared("Which versions.", _choice("current", "all"), default="current", show_default=True),
    "include": _shared("Take only keys that match. May be repeated.", **_GLOBS),
    "exclude": _shared("Leave out keys that match. May be repeated.", **_GLOBS),
    "newer-than": _shared("Take only objects modified after: 30d, 12h, 2026-11-01.", When),
    "older-than": _shared("Take only objects modified before.", When),
    "prefix": _shared("Only keys that begin with this."),
    "storage-class": _shared("Storage class.", _choice(*StorageClass), COPIES),
    "sse": _shared("Encryption: AES256, aws:kms, aws:kms=KEY-ARN, aws:kms:dsse. Default: the bucket's.", _SSE, COPIES),
    "unguarded": _shared(
        "Write to a server that ignores conditions: a write by others at the same moment can be lost.", _FLAG, OTHER
    ),
    "requester-pays": _shared("Agree to pay for requests to the source's bucket.", _FLAG, ACCESS),
    "max-cost": _shared("Refuse a plan that costs more.", ParsedType("DOLLARS", _parse_number), LIMITS),
    "max-objects": _shared("Refuse a plan with more objects.", Positive, LIMITS, metavar="N"),
    "max-rate": _shared(
        "At most so many requests (200) or bytes (50MiB) a second, all workers together. Twice: both.",
        _RATE,
        LIMITS,
        multiple=True,
    ),
    "executor": _shared(
        "Where the work runs: here, in AWS Batch, or there without waiting for it.",
        _choice("local", "batch", "detached"),
        EVERYWHERE,
    ),
    "annotations": _shared(
        "Whether annotations are carried or looked at. skip: as if there were none.",
        _choice(*AnnotationRule),
        COPIES,
        default=AnnotationRule.COPY.value,
    ),
    "limit": _shared("Show N at most.", Positive, metavar="N", default=50, show_default=True),
    "checksums": _shared(
        "Evidence at rest of the {side}: manifest.json of a Compute checksum job.", heading=OTHER, metavar="URI"
    ),
    "endpoint": _shared("Endpoint of the {side}. Default: the one that boto3 finds.", _URL, ACCESS),
    "profile": _shared("Credentials profile for the {side}.", heading=ACCESS, metavar="NAME"),
    "owner": _shared("Account that has to own the bucket of the {side}.", _ACCOUNT, ACCESS),
    "dry-run": _shared("Print what would be done, and what it costs. Nothing is started.", _FLAG),
    "yes": _shared("Start without asking (on a terminal it asks).", _FLAG),
    "json": _shared("Print exactly one JSON document on stdout.", _FLAG),
    "ledger": _shared(
        "Where runs are recorded, s3://bucket/prefix. Default: SEALIFT_LEDGER.", heading=EVERYWHERE, metavar="URI"
    ),
    "policy": _shared("The policy: a path or s3://. Default: SEALIFT_POLICY.", heading=EVERYWHERE, metavar="FILE"),
}
"""Options that several commands take, as for `click.option`, by name."""
COMMON = ("dry-run", "yes", "json", "executor", "ledger", "policy")
"""The shared options that mean the same wherever they are taken. `sealift --help` lists them once."""


def option(help: str | None = None, *, name: str = "", heading: str = "", **attributes: Any) -> Any:
    """A field that is an option, described as for `click.option`.

    `name`: by default the field's, as `--max-cost` for `max_cost`. In the `help` of a group
    `{side}` is the group's side. A text must not be empty: a script's unset variable is no value.
    """
    if not attributes.keys() & {"type", "is_flag"}:
        attributes["type"] = Text
    if not attributes.keys() & {"default", "required", "multiple"}:
        attributes["default"] = False if "is_flag" in attributes else None

    def make(parameter: str, side: str) -> click.Parameter:
        described = help.format(side=side) if side and help else help
        declared = [parameter, name or f"--{parameter.replace('_', '-')}"]
        return _Option(declared, help=described, heading=heading, **attributes)

    return _field(make, attributes)


def shared(name: str, help: str | None = None, **attributes: Any) -> Any:
    """A field that is an option of `SHARED`. What is given replaces what is there."""
    described = {**SHARED[name], **({"help": help} if help else {}), **attributes}
    return option(described.pop("help"), name="" if "{side}" in SHARED[name]["help"] else f"--{name}", **described)


def flag(help: str, *, name: str = "", heading: str = "") -> Any:
    """A field that is an option without a value."""
    return option(help, name=name, is_flag=True, heading=heading)


def argument(**attributes: Any) -> Any:
    """A field that is an argument, described as for `click.argument`."""
    return _field(lambda parameter, side: click.Argument([parameter], **attributes), attributes)


def _field(make: Callable[[str, str], click.Parameter], attributes: Mapping[str, Any]) -> Any:
    default = {"default": attributes["default"]} if "default" in attributes else {}
    return field(metadata={"make": make}, **default)


def group(kind: type[T], side: str = "") -> T:
    """A field that holds shared options. `side`: which side of a run they are about."""
    held: T = field(metadata={"group": (kind, side)})
    return held


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(option, shared, flag, argument, group)
)
def command_options(kind: type[T]) -> type[T]:
    """Make a class a frozen dataclass of options."""
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)


def takes(kind: type[T]) -> Callable[[Callable[[T], R]], Callable[..., R]]:
    """Let a command take the options of a dataclass: its function gets one instance."""

    def decorate(function: Callable[[T], R]) -> Callable[..., R]:
        @wraps(function)
        def command(**values: Any) -> R:
            return function(read_options(kind, values))

        parameters = [*_parameters(kind)]
        own = [each for each in parameters if each.opts[-1].removeprefix("--") not in COMMON]
        command.__click_params__ = own[::-1]  # type: ignore[attr-defined]  # as click's decorators do
        command.common = [each for each in parameters if each not in own]  # type: ignore[attr-defined]
        return command

    return decorate


def read_options(kind: type[T], values: Mapping[str, Any], side: str = "") -> T:
    """An instance of a dataclass of options, from the values of click's parameters."""
    read: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]  # T is a dataclass, which no bound can say
        held = each.metadata.get("group")
        read[each.name] = read_options(held[0], values, held[1]) if held else values[_name(each.name, side)]
    return kind(**read)


def _parameters(kind: type[Any], side: str = "") -> Iterator[click.Parameter]:
    """The parameters of a dataclass of options, in the order of the help text."""
    for each in fields(kind):
        if "group" in each.metadata:
            yield from _parameters(*each.metadata["group"])
        else:
            yield each.metadata["make"](_name(each.name, side), side)


def _name(field_name: str, side: str) -> str:
    """The name of click's parameter for a field."""
    return f"{side}_{field_name}" if side else field_name


class _Option(click.Option):
    """An option with the heading that it has in `--help-all`."""

    def __init__(self, *arguments: Any, heading: str = "", **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.heading = heading


def _show_all(ctx: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given:
        ctx.meta[ALL] = True
        click.echo(ctx.get_help())
        ctx.exit()


ALL = "jobs.cli.help_all"
_HELP_ALL = click.Option(
    ["--help-all"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_all,
    help="Show all options, and everything about them.",
)
DEBUG = _Option(
    ["--debug"],
    heading=EVERYWHERE,
    is_flag=True,
    expose_value=False,
    callback=lambda _, __, is_given: log_requests() if is_given else None,
    help="Log each request with its time and id on stderr, without anything secret.",
)


class Command(click.Command):
    """A command with the common options, whose `--help` fits a screen."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own options, the common ones that it takes, and those of all commands."""
        *own, help = super().get_params(ctx)
        return [*own, *getattr(self.callback, "common", ()), DEBUG, help, _HELP_ALL]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what it does: the first paragraph and the examples, or all."""
        first, *others = cleandoc(self.help or "").split("\n\n")
        if not ctx.meta.get(ALL):
            others = [each for each in others if each.startswith("\b")]
        for each in (first, *others):
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(each)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options that most need, or all below their headings."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ("", *HEADINGS)}
        for parameter in self.get_params(ctx):
            heading = getattr(parameter, "heading", "")
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None and (ctx.meta.get(ALL) or not heading):
                sections[heading].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading or "Options"):
                    formatter.write_dl(records)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def refuse_others(allowed: Collection[str], why: str) -> None:
    """Check that the command line has none of the command's own options but these. Raises UsageError."""
    context = click.get_current_context()
    others = [each for each in context.command.params if isinstance(each, click.Option) and each.name not in allowed]
    given = [each for each in others if context.get_parameter_source(str(each.name)) is ParameterSource.COMMANDLINE]
    if given:
        raise UsageError(why, advice=f"leave out {', '.join(each.opts[-1] for each in given)}")


def unguarded(*, is_agreed: bool) -> dict[str, bool]:
    """The option of a request, if the command line has it."""
    return {WITHOUT_CONDITIONS: True} if is_agreed else {}


def encryption(sse: tuple[str, str | None] | None) -> dict[str, str | None]:
    """`--sse` as options of a request."""
    return dict(zip(("sse", "kms_key_id"), sse or (None, None), strict=True))


@command_options
class AccessOptions:
    """How one side is reached."""

    endpoint: str | None = shared("endpoint")
    profile: str | None = shared("profile")
    owner: str | None = shared("owner")

    def side(self, location: Location) -> Side:
        """The side at this location."""
        return Side(location, self.endpoint, None, self.profile, self.owner)

    def completed(self, account: str | None) -> Self:
        """What was typed, and what the policy says of the bucket where nothing was."""
        return replace(self, owner=self.owner or account)

    def open(self, location: Location) -> Store:
        """The store of the side at this location."""
        from jobs.s3.sessions import open_side

        return open_side(self.side(location))


@command_options
class ChecksumsOptions:
    """Evidence at rest of both sides."""

    source_checksums: str | None = shared("checksums", SHARED["checksums"]["help"].format(side="source"))
    destination_checksums: str | None = shared("checksums", SHARED["checksums"]["help"].format(side="destination"))


@command_options
class StartOptions:
    """How a run is planned, limited, placed and reported."""

    max_cost: float | None = shared("max-cost", default=None)
    max_rate: tuple[RateLimits, ...] = shared("max-rate", default=())
    executor: str | None = shared("executor", default=None)
    dry_run: bool = shared("dry-run", default=False)
    yes: bool = shared("yes", default=False)
    as_json: bool = shared("json", default=False)
    ledger: str | None = shared("ledger", default=None)

    def rates(self) -> RateLimits:
        """What the run may take a second. Raises UsageError for two limits of a kind."""
        requests = [each.requests for each in self.max_rate if each.requests is not None]
        size_bytes = [each.size_bytes for each in self.max_rate if each.size_bytes is not None]
        if len(requests) > 1 or len(size_bytes) > 1:
            raise UsageError("--max-rate: two limits of a kind", advice="give requests and bytes once each")
        return RateLimits(next(iter(requests), None), next(iter(size_bytes), None))


@command_options
class FilterOptions:
    """Which rows of the manifest are taken."""

    include: tuple[str, ...] = shared("include")
    exclude: tuple[str, ...] = shared("exclude")
    newer_than: float | None = shared("newer-than", heading=FILTERS)
    older_than: float | None = shared("older-than", heading=FILTERS)

    def selection(self, source: Side | None, versions: str, sample: tuple[int, int] | None = None) -> Selection:
        """The selected rows of a source. `sample`: (number, of), the slice of the keys that is taken."""
        return Selection(
            prefix=source.location.key if source else "",
            include=self.include,
            exclude=self.exclude,
            newer_than=self.newer_than,
            older_than=self.older_than,
            versions=versions,
            sample=sample,
        )
