"""Policy and ledger of a command: as its options, the environment or the policy say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import interrupts
from jobs.cli.options import command_options, shared
from jobs.config import Settings
from jobs.core.model import Location
from jobs.errors import UsageError

if TYPE_CHECKING:  # commands without a policy do not load it
    from jobs.policy.coverage import Scope
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

    name: str = shared("pair", required=True)
    policy: str | None = shared("policy")

    def choose(self, ledger: str | None, settings: Settings) -> ChosenPair:
        """The pair. Must not be called in an event loop. See `choose_pair`."""
        return choose_pair(self.name, self.policy, ledger, settings)


def choose_pair(name: str, policy_file: str | None, ledger: str | None, settings: Settings) -> ChosenPair:
    """The pair of this name. Must not be called in an event loop.

    The ledger is the one of --ledger, SEALIFT_LEDGER or the policy, in this order. Raises
    UsageError, PolicyError, StoreError.
    """
    from jobs.policy.coverage import scope

    policy = read_policy(policy_file)
    pair = find_pair(policy, name)
    place = ledger_location(ledger or settings.ledger or policy.ledger.uri, settings)
    return ChosenPair(policy, pair, scope(policy, pair), place)


def find_pair(policy: Policy, name: str) -> Pair:
    """The pair of this name. Raises UsageError, with the names that there are."""
    pair = policy.pair(name)
    if pair is not None:
        return pair
    names = ", ".join(str(each.name) for each in policy.pairs)
    raise UsageError(f"--pair {name!r}: the policy has no such pair", advice=f"name one of {names}")


def read_policy(file: str | None) -> Policy:
    """The policy at a path or an s3:// URI. Must not be called in an event loop.

    None: the one at SEALIFT_POLICY. Raises UsageError, PolicyError and StoreError.
    """
    from jobs.policy import reader

    name = file or Settings.from_environment().policy
    if name is None:
        raise UsageError("no policy file", advice="name one, or set SEALIFT_POLICY")
    if not name.startswith("s3://"):
        return reader.read_policy(name)
    from jobs.s3.sessions import open_store

    async def load(uri: str) -> Policy:
        return await reader.load_policy(uri, open_store(None, None, None, max_in_flight=2))

    return interrupts.run(load(name))


def ledger_location(ledger: str | None, settings: Settings) -> Location:
    """The ledger of --ledger, SEALIFT_LEDGER or the policy, in this order.

    Must not be called in an event loop. Raises UsageError if nobody names one.
    """
    uri = ledger or settings.ledger
    if not uri and settings.policy:
        uri = read_policy(settings.policy).ledger.uri
    if not uri:
        raise UsageError(
            "no ledger",
            advice="give --ledger s3://bucket/prefix, or set SEALIFT_LEDGER, or SEALIFT_POLICY to a policy file",
        )
    try:
        return Location.parse(uri)
    except UsageError as error:
        where = f"the ledger (--ledger, SEALIFT_LEDGER or the policy): {error.what}"
        raise UsageError(where, advice=error.own_advice) from None


def is_local() -> bool:
    """True in the environment of `sealift local`, which sends every request to this machine."""
    from jobs.s3.http.endpoints import given_endpoint, is_loopback

    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    return is_loopback(given_endpoint(endpoint)) if endpoint else False
