"""Where an expire run finds originals and copies: from the command line or the policy, never from the ledger.

Who may write to the ledger could otherwise send a deletion to a server that "has" all copies. What the ledger claims
is shown, in a complete command line, for a person to check.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from posixpath import commonprefix
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from jobs.cli.options import LocationType, side_options, stack
from jobs.cli.pairs import Chosen, choose
from jobs.config import Settings
from jobs.core.coverage import match
from jobs.core.model import Location
from jobs.core.policy_choices import ArchiveSide
from jobs.core.run import RunSpec, Side
from jobs.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

REPLACED = ("source", "copies", "grace", "max_share")
"""What the policy says of a pair, so that the command line may not."""
PROVEN_BY = "proven by "
"""What the manifest of an expire run is called when its rows are those of another run."""


@dataclass(frozen=True, slots=True)
class Places:
    """Originals, and where copies may be. All copies are reached in one way, that of `destination`."""

    source: Side
    copies: tuple[Location, ...]
    destination: Side

    def options(self) -> dict[str, Any]:
        """The places as options of the command line."""
        named: dict[str, Any] = {"--source": str(self.source.location), "--copies": [str(each) for each in self.copies]}
        for name, side in (("source", self.source), ("copies", self.destination)):
            named |= {f"--{name}-{what}": getattr(side, what) for what in ("endpoint", "region", "profile")}
        return named


def places_options() -> Callable[[F], F]:
    """--source, --copies, --pair, and how both sides are reached."""
    return stack(
        click.option("--source", type=LocationType(), help="Where the originals are: only these are deleted."),
        click.option(
            "--copies", type=LocationType(), multiple=True, help="Where copies or archives are. May be repeated."
        ),
        click.option("--pair", "pair_name", metavar="NAME", help="Both places, grace and share as the policy says."),
        click.option("--policy", "file", metavar="FILE", help="With --pair: a path or s3://. Default: SEALIFT_POLICY."),
        side_options("source"),
        side_options("copies"),
    )


def by_pair(given: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The options with the places, the grace period and the share of a pair's archive. Not for an event loop.

    `source` is only as narrow as one prefix can be: `is_own` says which keys below it are the pair's.
    Raises UsageError for a pair that the policy lets nothing expire of, and for options that it replaces.
    """
    context = click.get_current_context()
    for name in REPLACED:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')}: with --pair the policy says it")
    chosen = choose(given, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    if archive is None or archive.expire is None:
        raise UsageError(f"--pair {pair.name}: the policy lets nothing of it expire: write archive.expire there")
    is_source = archive.side is ArchiveSide.SOURCE
    shared = commonprefix(pair.source.prefixes)
    side = pair.source if is_source else pair.destination
    return {
        **given,
        "source": Location(side.bucket, shared if is_source else pair.copy_key(shared)),
        "is_own": _is_own(chosen, pair.copy_key("") if not is_source else ""),
        "source_region": given["source_region"] or side.region,
        "copies": (Location(archive.bucket, archive.prefix),),
        "copies_region": given["copies_region"] or archive.region,
        "grace": f"{archive.expire.grace:.0f}s",
        "max_share": f"{float(archive.expire.max_share) * 100:g}%",
        "ledger": f"s3://{chosen.ledger.bucket}/{chosen.ledger.key}",
    }


def _is_own(chosen: Chosen, added: str) -> Callable[[str], bool]:
    """Whether a key is one of the pair's, as the policy decides it. `added` is what its copies' keys begin with."""
    bucket = chosen.pair.source.bucket

    def is_own(key: str) -> bool:
        return key.startswith(added) and match(chosen.policy, bucket, key[len(added) :]) is chosen.pair

    return is_own


def named_side(given: Mapping[str, Any], name: str, location: Location) -> Side:
    """A side as the command line says it is reached."""
    return Side(location, given[f"{name}_endpoint"], given[f"{name}_region"], given[f"{name}_profile"])


def complete(given: Mapping[str, Any], claims: Places) -> Places:
    """What the command line says. Of a place that it does not name, what the ledger claims."""
    copies = given["copies"] or claims.copies
    source = named_side(given, "source", given["source"] or claims.source.location)
    destination = named_side(given, "copies", copies[0])
    if not given["source"] and not any(_reach(source)):
        source = claims.source
    if not given["copies"] and not any(_reach(destination)):
        destination = claims.destination
    return Places(source, copies, destination)


def is_named(given: Mapping[str, Any]) -> bool:
    """Whether the command line, or the policy, says where originals and copies are."""
    return bool(given["source"] and given["copies"])


def claimed_by(runs: Sequence[RunSpec], bucket: str | None = None) -> Places:
    """What the ledger says of runs, the last of which says how both sides are reached. `bucket`: that of the rows."""
    last = runs[-1]
    source = Side(Location(bucket), *_reach(last.source)) if bucket else last.source
    alike = [spec for spec in runs if _reach(spec.destination) == _reach(last.destination)]
    copies = dict.fromkeys(spec.destination.location for spec in alike)
    return Places(source, tuple(copies), last.destination)


def claimed_by_run(spec: RunSpec) -> Places:
    """What the ledger says of an expire run."""
    uris = spec.options.get("copies") or [str(spec.destination.location)]
    return Places(spec.source, tuple(Location.parse(uri) for uri in uris), spec.destination)


def _reach(side: Side) -> tuple[str | None, ...]:
    return side.endpoint, side.region, side.profile


def command_of(spec: RunSpec) -> str:
    """The command that starts an expire run like this one, as the ledger says it."""
    is_run = spec.manifest.startswith(PROVEN_BY)
    rows = {"--run": spec.manifest.removeprefix(PROVEN_BY)} if is_run else {"--manifest": spec.manifest}
    limits = {
        "--grace": f"{float(spec.options.get('grace_seconds', 0)):.0f}s",
        "--max-share": f"{float(spec.options.get('max_share', 0)) * 100:g}%",
        "--yes-delete": bool(spec.options.get("delete")),
    }
    return command_line("expire", rows | claimed_by_run(spec).options() | limits)


def same_command(places: Places, **flags: bool) -> str:
    """This command as it was typed, with these places, and with flags beside them."""
    context = click.get_current_context()
    typed: dict[str, Any] = {}
    for option in context.command.params:
        if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            typed[option.opts[0]] = context.params[option.name]
    return command_line("expire", typed | places.options() | {f"--{name}": flag for name, flag in flags.items()})


def command_line(verb: str, options: Mapping[str, Any]) -> str:
    """`sealift verb --option value …` as a shell takes it, whatever is in the values."""
    words = ["sealift", verb]
    for name, value in options.items():
        if value is True:
            words.append(name)
            continue
        values = value if isinstance(value, list | tuple) and not isinstance(value, Location) else [value]
        for each in values:
            words += [name, str(each)] if each not in (None, False) else []
    return shlex.join(words)
