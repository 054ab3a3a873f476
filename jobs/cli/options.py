"""Options of a command: a frozen dataclass whose fields say what click takes.

    class Show(PromptCommand):
        run_id: str = argument(type=Run, metavar="RUN")
        follow: bool = flag("Wait until the run has ended.")

    Command(Show, "show")

The class's docstring is the help, and its `main` the work. `SHARED` has the options that several
commands take. `--help` shows the options that most need, `--help-all` all of them, the rare ones
last.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from inspect import getdoc
from typing import Any, Self, dataclass_transform

import click
from click.core import ParameterSource

from jobs.cli.console import log_requests
from jobs.core.enums import CHECK_ANNOTATIONS, SKIP_ANNOTATIONS
from jobs.core.model import Location
from jobs.core.sampling import Sample
from jobs.core.selection import parse_age, parse_size, parse_when
from jobs.errors import UsageError
from jobs.s3.http.endpoints import given_endpoint

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
        try:
            return self._parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def _matching(pattern: str, what: str, advice: str, meaning: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """The function that parses texts of a pattern."""

    def parse(text: str) -> Any:
        if not re.fullmatch(pattern, text, re.ASCII | re.DOTALL):
            raise UsageError(f"{text!r} is not {what}", advice=advice)
        return meaning(text)

    return parse


def _parse_rate(text: str) -> tuple[str, float]:
    """`200`: requests a second. `50MiB`: bytes a second. As an option of a run (`RateLimits.of`)."""
    if text.endswith(("B", "b")):
        size_bytes = parse_size(text)
        if size_bytes < MIN_BYTES_A_SECOND:
            raise UsageError(f"{text!r} is too slow", advice="give at least 1KiB a second")
        return "bandwidth_bytes", size_bytes
    return "max_rate", _parse_number(text)


def _parse_sse(text: str) -> dict[str, str | None]:
    """`aws:kms=ARN`: the encryption and its key, as options of a run."""
    kind, _, key = text.partition("=")
    return {"sse": kind, "kms_key_id": key or None}


def _parse_endpoint(text: str) -> str:
    """Refuse an invalid endpoint, or one with a password, before a run records it. Raises ConfigError."""
    given_endpoint(_parse_text(text))
    return text


# The empty text is what a script's unset variable leaves.
_parse_text = _matching(".+", "a value", "name what you mean, or leave it out")
# No number but a finite one: no comparison would end.
_parse_number = _matching(r"(?=.*[1-9])\d{0,15}(\.\d+)?", "a number above zero", "write one, such as 2.5", float)
_RUN = "[A-Za-z0-9][A-Za-z0-9_.-]*"  # one folder in the ledger: no slash, and neither `.` nor `..`

Text = ParsedType("text", _parse_text)
Place = ParsedType("s3://bucket/prefix", Location.parse)
Name = ParsedType("NAME", _matching(_RUN, "a name", "write letters, digits, dots, dashes and underscores"))
Run = ParsedType("RUN", _matching(_RUN, "the id of a run", "see `sealift runs list`"))
Size, Age = ParsedType("size", parse_size), ParsedType("age", parse_age)
When = ParsedType("when", lambda text: parse_when(text, time.time()))
_FILE, _WHY = "(?!run:|proven:).+", "no run's word decides what is deleted: name a file of rows"
Rows = ParsedType("URI", _matching(_FILE, "a file", _WHY))
Manifest = ParsedType(
    "URI", _matching(f"(run|proven):{_RUN}|{_FILE}", "a manifest", "name a file, run:ID or proven:ID")
)
_SHARE = _matching(r"(\d{1,2}(\.\d+)?|100)%", "a share", "write a percentage, such as 50%", lambda text: text[:-1])
Share = ParsedType("PERCENT", lambda text: float(_SHARE(text)) / 100)
Part = ParsedType("K/N", Sample.parse)
Positive = click.IntRange(min=1)


def _shared(help: str, type: click.ParamType[Any] = Text, **attributes: Any) -> dict[str, Any]:
    return {"help": help, "type": type, **attributes}


def choice(*values: str) -> click.Choice[str]:
    """One of these words, for a field's `type`."""
    return click.Choice([str(each) for each in values])


Url = ParsedType("URL", _parse_endpoint)
Account = ParsedType("ID", _matching(r"\d{12}", "an account", "write its 12 digits"))
_KEYS = "write AES256, aws:kms, aws:kms:dsse, or one of the last two =KEY-ARN"
_SSE = ParsedType("KIND[=KEY]", _matching("AES256|aws:kms(:dsse)?(=.+)?", "an encryption", _KEYS, _parse_sse))
_GLOBS: dict[str, Any] = {"multiple": True, "metavar": "GLOB"}
_rare = partial(_shared, is_rare=True)
SHARED: Mapping[str, Mapping[str, Any]] = {
    "source": _shared("What to take: a bucket or a prefix in it.", Place),
    "destination": _shared("Where the copies are or go.", Place),
    "manifest": _shared(
        "Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows), proven:ID (its others).", Manifest
    ),
    "pair": _shared("Which pair of the policy.", metavar="NAME"),
    "versions": _shared("Which versions.", choice("current", "all"), default="current"),
    "include": _shared("Take only keys that match. May be repeated.", **_GLOBS),
    "exclude": _shared("Leave out keys that match. May be repeated.", **_GLOBS),
    "margin": _shared(
        "A difference is in flight, and no finding, if it is younger than a report less this. "
        "Equal objects are the same at any age.",
        Age,
    ),
    "limit": _shared("Show N at most.", Positive, metavar="N", default=50),
    "dry-run": _shared("Print what would be done, and what it costs. Nothing is started.", click.BOOL),
    "yes": _shared("Start without asking (on a terminal it asks).", click.BOOL),
    "json": _shared("Print exactly one JSON document on stdout.", click.BOOL),
    "sse": _rare("Encryption: AES256, aws:kms, aws:kms=KEY-ARN, aws:kms:dsse. Default: the bucket's.", _SSE),
    "max-cost": _rare("Refuse a plan that costs more.", ParsedType("DOLLARS", _parse_number)),
    "max-objects": _rare("Refuse a plan with more objects.", Positive, metavar="N"),
    "max-rate": _rare(
        "At most so many requests (200) or bytes (50MiB) a second, all workers together. One of each: both.",
        ParsedType("RATE", _parse_rate),
        multiple=True,
    ),
    "annotations": _rare("", choice(CHECK_ANNOTATIONS, SKIP_ANNOTATIONS), default=CHECK_ANNOTATIONS),
    "unguarded": _rare(
        "Write to a server that ignores conditions: a write by others at the same moment can be lost.", click.BOOL
    ),
    "executor": _rare(
        "Where the work runs: here, in AWS Batch, or there without waiting for it.",
        choice("local", "batch", "detached"),
    ),
    "policy": _rare("The policy: a path or s3://. Default: SEALIFT_POLICY.", metavar="FILE", envvar="SEALIFT_POLICY"),
}
"""Options that several commands take, as for `click.option`, by name."""
COMMON = ("dry-run", "yes", "json", "executor", "ledger", "policy")
"""The shared options that mean the same wherever they are taken. `sealift --help` lists them once."""
_PLACES = {f"--{name}": place for place, name in enumerate(SHARED)}


def option(help: str | None = None, *, name: str = "", type: click.ParamType[Any] = Text, **attributes: Any) -> Any:
    """A field that is an option, described as for `click.option`.

    `name`: by default the field's, as `--max-cost` for `max_cost`. A text must not be empty: a
    script's unset variable is no value. `is_rare`: only `--help-all` shows it.
    """
    attributes = {"is_flag": type is click.BOOL or None, "show_default": True, **attributes}

    def make(parameter: str) -> click.Parameter:
        declared = [parameter, name or f"--{parameter.replace('_', '-')}"]
        return _Option(declared, help=help, type=type, **attributes)

    return _field(make, attributes)


def shared(name: str, help: str | None = None, **attributes: Any) -> Any:
    """A field that is an option of `SHARED`. What is given replaces what is there."""
    return option(name=f"--{name}", **{**SHARED[name], **({"help": help} if help else {}), **attributes})


def rare(help: str, **attributes: Any) -> Any:
    """A field that is an option which only `--help-all` shows."""
    return option(help, is_rare=True, **attributes)


def flag(help: str, **attributes: Any) -> Any:
    """A field that is an option without a value."""
    return option(help, type=click.BOOL, **attributes)


def argument(**attributes: Any) -> Any:
    """A field that is an argument, described as for `click.argument`."""
    return _field(lambda parameter: click.Argument([parameter], **attributes), attributes)


def _field(make: Callable[[str], click.Parameter], attributes: Mapping[str, Any]) -> Any:
    default = {"default": attributes["default"]} if "default" in attributes else {}
    return field(metadata={"make": make}, **default)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, shared, rare, flag, argument))
class Options(ABC):
    """The base of all options: a class below it is a frozen dataclass."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    def values(self, *names: str) -> dict[str, Any]:
        """These options by name, as a run's spec has them."""
        return {name: getattr(self, name) for name in names}

    def replaced(self, why: str, **values: Any) -> Self:
        """These options with other values. Raises UsageError for what the command line says otherwise."""
        refuse(lambda name: name in values and values[name] != getattr(self, name), why)
        return replace(self, **values)  # type: ignore[type-var]  # a dataclass

    @abstractmethod
    def main(self) -> int:
        """What a command with these options does, outside of any event loop. Returns the exit code."""


class _Option(click.Option):
    """An option that `--help` does not show if it `is_rare`."""

    def __init__(self, *arguments: Any, is_rare: bool = False, **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.is_rare = is_rare

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """What a help says of it, if it does."""
        return super().get_help_record(ctx) if ctx.meta.get(ALL) or not self.is_rare else None


def _acting(name: str, help: str, act: Callable[[click.Context], None], **attributes: Any) -> click.Option:
    """A flag that acts before the command begins."""

    def callback(ctx: click.Context, _: click.Parameter, is_given: bool) -> None:
        if is_given:
            act(ctx)

    return _Option([name], is_flag=True, expose_value=False, callback=callback, help=help, **attributes)


def _show_all(ctx: click.Context) -> None:
    ctx.meta[ALL] = True
    click.echo(ctx.get_help())
    ctx.exit()


ALL = "jobs.cli.help_all"
_HELP_ALL = _acting("--help-all", "Show all options, and everything about them.", _show_all, is_eager=True)
_LOGGED = "Log each request with its time and id on stderr, without anything secret."
DEBUG = _acting("--debug", _LOGGED, lambda ctx: log_requests(), is_rare=True)


class Command(click.Command):
    """A command with the common options, whose `--help` fits a screen."""

    def __init__(self, kind: type[Options], name: str, *, hidden: bool = False):
        made = [each.metadata["make"](each.name) for each in fields(kind)]  # type: ignore[arg-type]  # a dataclass
        made.sort(key=lambda each: (getattr(each, "is_rare", -1), _PLACES.get(each.opts[-1], len(_PLACES))))
        self.kind, self._common = kind, [each for each in made if each.opts[-1].removeprefix("--") in COMMON]
        own = [each for each in made if each not in self._common]

        def main(**values: Any) -> int:
            return kind(**values).main()

        super().__init__(name, params=own, help=getdoc(kind), callback=main, hidden=hidden)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own options, the common ones that it takes, and those of all commands."""
        *own, help = super().get_params(ctx)
        return [*own, *self._common, DEBUG, help, _HELP_ALL]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what it does: the first paragraph and the examples, or all."""
        first, *others = (self.help or "").split("\n\n")
        shown = [first, *(each for each in others if ctx.meta.get(ALL) or each.startswith("\b"))]
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n\n".join(shown))


def refuse(is_refused: Callable[[str], bool], why: str) -> None:
    """Check that the command line has none of these options of the command's own. Raises UsageError."""
    context = click.get_current_context()
    given = [
        each.opts[-1]
        for each in context.command.params
        if isinstance(each, click.Option) and is_refused(str(each.name))
        if context.get_parameter_source(str(each.name)) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(why, advice=f"leave out {', '.join(given)}")
