"""Pair options: how a command names a pair of the policy, and what that means."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.cli import policy as policies
from jobs.cli.options import command_options, ledger_location, option, policy_option
from jobs.config import Settings
from jobs.core.model import Location
from jobs.errors import UsageError
from jobs.policy.coverage import Scope, scope
from jobs.policy.model import Pair, Policy


@dataclass(frozen=True, slots=True)
class ChosenPair:
    """A pair, its keys, its policy, and the ledger of its runs."""

    policy: Policy
    pair: Pair
    scope: Scope
    ledger: Location


@command_options
class PairOptions:
    """Which pair of which policy."""

    name: str = option("Which pair of the policy.", name="--pair", metavar="NAME", required=True)
    policy: str | None = policy_option()

    def choose(self, ledger: str | None, settings: Settings) -> ChosenPair:
        """The pair. Must not be called in an event loop. See `choose_pair`."""
        return choose_pair(self.name, self.policy, ledger, settings)


def choose_pair(name: str, policy_file: str | None, ledger: str | None, settings: Settings) -> ChosenPair:
    """The pair of this name. Must not be called in an event loop.

    The ledger is the one of --ledger, SEALIFT_LEDGER or the policy, in this order. Raises
    UsageError, PolicyError, StoreError.
    """
    policy = policies.read(policy_file)
    pair = policy.pair(name)
    if pair is None:
        names = ", ".join(each.name for each in policy.pairs)
        raise UsageError(f"--pair {name!r}: the policy has no such pair, only {names}")
    place = ledger_location(ledger or settings.ledger or policy.ledger.uri, settings)
    return ChosenPair(policy, pair, scope(policy, pair), place)
