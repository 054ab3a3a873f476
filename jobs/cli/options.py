"""Options that several commands share, and the values of their texts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.core.selection import parse_size, parse_when
from jobs.errors import UsageError
from jobs.s3.http.endpoints import given_endpoint

F = TypeVar("F", bound=Callable[..., Any])

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""A run's id is one folder in the ledger: no slash, and neither `.` nor `..`."""


class LocationType(click.ParamType[Location]):
    """s3://bucket/prefix"""

    name = "s3://bucket/prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """The location, or UsageError."""
        return value if isinstance(value, Location) else Location.parse(value)


class SizeType(click.ParamType[int]):
    """5GiB, 10MB, 1024"""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, or UsageError."""
        return value if isinstance(value, int) else parse_size(value)


class WhenType(click.ParamType[float]):
    """30d, 12h, 2026-11-01 → epoch seconds"""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Epoch seconds, or UsageError."""
        return value if isinstance(value, float) else parse_when(value, time.time())


class RunType(click.ParamType[str]):
    """20261125T003345Z-compact-1f3a"""

    name = "RUN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The run's id, or UsageError."""
        return check_run_id(value, param.opts[-1] if param and param.opts else "RUN")


class TextType(click.ParamType[str]):
    """Any text but the empty one, which a script's unset variable leaves."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, or UsageError."""
        if not value:
            what = param.opts[-1] if param and param.opts else "a value"
            raise UsageError(f"{what} is empty: name what you mean, or leave it out")
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
        raise UsageError(f"{what}: the run's id is empty: see `sealift runs list`")
    if not _RUN_ID.fullmatch(value):
        raise UsageError(f"{what}: {value!r} is not the id of a run: see `sealift runs list`")
    return value


def stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several option decorators as one, in the order of the help text."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def prefix_option(text: str) -> Callable[[F], F]:
    """--prefix"""
    return click.option("--prefix", type=TextType(), callback=lambda _, __, value: value or "", help=text)


def manifest_option(text: str) -> Callable[[F], F]:
    """--manifest"""
    return click.option("--manifest", type=ManifestType(), metavar="URI", help=text)


def checksums_options() -> Callable[[F], F]:
    """--source-checksums, --destination-checksums"""
    text = "Evidence at rest: manifest.json of the report of a Compute checksum job."
    return stack(
        click.option("--source-checksums", type=TextType(), metavar="URI", help=text),
        click.option("--destination-checksums", type=TextType(), metavar="URI", help="The same for the destination."),
    )


def ledger_option() -> Callable[[F], F]:
    """--ledger"""
    text = "Where runs are recorded, s3://bucket/prefix. Default: SEALIFT_LEDGER."
    return click.option("--ledger", metavar="URI", help=text)


def json_option() -> Callable[[F], F]:
    """--json"""
    return click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON document on stdout.")


def _checked_endpoint(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    """Refuse an invalid endpoint, or one with a password, before a run records it.

    Raises ConfigError.
    """
    if url:
        given_endpoint(url)
    return url


def side_options(side: str) -> Callable[[F], F]:
    """--source-endpoint, --source-region, --source-profile (or --destination-…)."""
    return stack(
        click.option(
            f"--{side}-endpoint",
            metavar="URL",
            callback=_checked_endpoint,
            help=f"Endpoint of the {side}. Default: the one that boto3 finds.",
        ),
        click.option(f"--{side}-region", metavar="NAME", help=f"Region of the {side}."),
        click.option(f"--{side}-profile", metavar="NAME", help=f"Credentials profile for the {side}."),
    )


def filter_options() -> Callable[[F], F]:
    """--include … --include-class: which rows of the manifest are taken."""
    repeated = "May be repeated."
    return stack(
        click.option("--include", multiple=True, metavar="GLOB", help=f"Take only keys that match. {repeated}"),
        click.option("--exclude", multiple=True, metavar="GLOB", help=f"Leave out keys that match. {repeated}"),
        click.option("--newer-than", type=WhenType(), help="Take only objects modified after: 30d, 12h, 2026-11-01."),
        click.option("--older-than", type=WhenType(), help="Take only objects modified before."),
        click.option("--min-size", type=SizeType(), help="Take only objects of at least this size: 10MB, 5GiB."),
        click.option("--max-size", type=SizeType(), help="Take only objects of at most this size."),
        click.option(
            "--include-class", multiple=True, metavar="CLASS", help=f"Take only this storage class. {repeated}"
        ),
    )


def plan_options() -> Callable[[F], F]:
    """--dry-run, --max-cost, --max-objects, --yes, --executor."""
    return stack(
        click.option("--dry-run", is_flag=True, help="Print the plan (rows, bytes, requests, dollars) and do nothing."),
        click.option(
            "--max-cost", type=click.FloatRange(min=0), metavar="DOLLARS", help="Refuse a plan that costs more."
        ),
        click.option("--max-objects", type=click.IntRange(min=0), metavar="N", help="Refuse a plan with more objects."),
        click.option(
            "--price-table", type=click.Path(path_type=Path), help="Prices as JSON, like jobs/core/prices/*.json."
        ),
        click.option("--yes", is_flag=True, help="Start without asking (on a terminal it asks)."),
        click.option("--executor", type=click.Choice(["local", "batch"]), help="Default: SEALIFT_EXECUTOR or local."),
    )


def ledger_location(ledger: str | None, settings: Settings) -> Location:
    """The ledger's location. Raises UsageError if nobody names one."""
    uri = ledger or settings.ledger
    if not uri:
        raise UsageError("no ledger: give --ledger s3://bucket/prefix or set SEALIFT_LEDGER")
    return Location.parse(uri)


def side(location: Location, options: Mapping[str, Any], name: str) -> Side:
    """The source's or destination's Side from the options of `side_options`."""
    return Side(location, options[f"{name}_endpoint"], options[f"{name}_region"], options[f"{name}_profile"])
