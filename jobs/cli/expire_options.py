"""Options of `sealift expire` that say where originals and copies are, and what a policy's pair makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from posixpath import commonprefix
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from jobs.cli.options import LocationType, side_options, stack
from jobs.cli.pair_options import Chosen, choose
from jobs.config import Settings
from jobs.core.enums import ArchiveSide
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.errors import UsageError
from jobs.expire.places import Places, command_line, reach
from jobs.policy.coverage import match

F = TypeVar("F", bound=Callable[..., Any])

REPLACED = ("source", "copies", "grace", "max_share")
"""What the policy says of a pair, so that the command line may not."""


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
    if not given["source"] and not any(reach(source)):
        source = claims.source
    if not given["copies"] and not any(reach(destination)):
        destination = claims.destination
    return Places(source, copies, destination)


def is_named(given: Mapping[str, Any]) -> bool:
    """Whether the command line, or the policy, says where originals and copies are."""
    return bool(given["source"] and given["copies"])


def same_command(places: Places, **flags: bool) -> str:
    """This command as it was typed, with these places, and with flags beside them."""
    context = click.get_current_context()
    typed: dict[str, Any] = {}
    for option in context.command.params:
        if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            typed[option.opts[0]] = context.params[option.name]
    return command_line("expire", typed | places.options() | {f"--{name}": flag for name, flag in flags.items()})
