"""Pair options: how a command names a pair of the policy, and what that means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from jobs.cli import policy as policies
from jobs.cli.options import ledger_location, stack
from jobs.config import Settings
from jobs.core.model import Location
from jobs.errors import UsageError
from jobs.policy.coverage import Scope, scope
from jobs.policy.model import Pair, Policy

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ChosenPair:
    """A pair, its keys, its policy, and the ledger of its runs."""

    policy: Policy
    pair: Pair
    scope: Scope
    ledger: Location


def pair_options() -> Callable[[F], F]:
    """--pair, --policy."""
    return stack(
        click.option("--pair", "pair_name", metavar="NAME", required=True, help="Which pair of the policy."),
        click.option("--policy", "file", metavar="FILE", help="A path or s3://. Default: SEALIFT_POLICY."),
    )


def choose(options: Mapping[str, Any], settings: Settings) -> ChosenPair:
    """The pair that the options name. Must not be called in an event loop.

    The ledger is the one of --ledger, SEALIFT_LEDGER or the policy, in this order. Raises
    UsageError, PolicyError, StoreError.
    """
    policy = policies.read(options["file"])
    pair = policy.pair(options["pair_name"])
    if pair is None:
        names = ", ".join(each.name for each in policy.pairs)
        raise UsageError(f"--pair {options['pair_name']!r}: the policy has no such pair, only {names}")
    place = ledger_location(options["ledger"] or settings.ledger or policy.ledger.uri, settings)
    return ChosenPair(policy, pair, scope(policy, pair), place)
