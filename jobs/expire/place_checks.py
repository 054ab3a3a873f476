"""Checks of the places of copies: what something removes there later is no copy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

from jobs.aws.bucket_settings import lifecycle_rules, replication_rules
from jobs.aws.clients import prompt_config
from jobs.core.enums import Deletes
from jobs.core.model import Location, ObjectRef, overlap
from jobs.core.run import Side
from jobs.errors import ConfigError, Denied, NotFound, StoreError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.policy.model import Policy
from jobs.policy.resolved import FILE_NAME, decode_policy
from jobs.s3.retries import retry
from jobs.s3.sessions import boto_client

EARLIER_NAME = "policy.yaml"
"""What Terraform put into the ledger before `FILE_NAME`."""


async def find_policy(ledger: Ledger, *, is_given: bool = False) -> Policy | None:
    """The policy that Terraform keeps in the ledger.

    `is_given`: the user names one as well. Raises PolicyError for an invalid one, ConfigError where
    there is only that of an earlier release, unless one is given: its functions may mirror deletes.
    """
    place = ledger.location.join(FILE_NAME)
    try:
        found = await retry(lambda: ledger.store.get(ObjectRef(*place)))
    except NotFound:
        if not is_given:
            await _refuse_earlier(ledger)
        return None
    return decode_policy(found.data, str(place))


async def _refuse_earlier(ledger: Ledger) -> None:
    earlier = ledger.location.join(EARLIER_NAME)
    try:
        await retry(lambda: ledger.store.head(ObjectRef(*earlier)))
    except NotFound:
        return
    raise ConfigError(
        f"{earlier} is the policy of an earlier release, whose functions may mirror deletes to the copies",
        advice="run `terraform apply` of this release first, or give --policy",
    )


def refuse_mirrors(policy: Policy, copies: Sequence[Location]) -> None:
    """Raise UsageError if the deletes of originals reach one of the places."""
    for pair in policy.pairs:
        mirrors = [("deletes: mirror", pair.destination.bucket)] if pair.deletes is Deletes.MIRROR else []
        if pair.replica and pair.replica.delete_markers:
            mirrors.append(("replica.delete_markers", pair.replica.bucket))
        for (setting, bucket), prefix in product(mirrors, pair.source.prefixes):
            reached = Location(bucket, pair.copy_key(prefix))
            if place := next(filter(reached.overlaps, copies), None):
                raise UsageError(
                    f"--destination {place}: the pair {pair.name} of the policy has {setting}, so that deletes of "
                    "originals reach the copies",
                    advice="set it to keep them, or pack the originals and name the archives",
                )


async def refuse_lifecycle(copies: Sequence[Location], side: Side, say: Callable[[str], None]) -> None:
    """Raise ConfigError if a lifecycle rule removes objects in one of the places, or may do so.

    `say` hears of a server that has no lifecycle rules.
    """
    for bucket in dict.fromkeys(place.bucket for place in copies):
        question = partial(lifecycle_rules, bucket=bucket, owner=side.owner)
        rules = await _ask(side, bucket, "lifecycle", question)
        if rules is None:
            say(f"s3://{bucket}: the server has no lifecycle rules that could remove copies")
        for rule in rules or ():
            covered = next((place for place in copies if place.overlaps(Location(bucket, rule.prefix))), None)
            noncurrent = "" if rule.noncurrent_days is None else f"{rule.noncurrent_days} days after they are replaced"
            if covered and (when := rule.expires or noncurrent):
                raise ConfigError(
                    f"--destination {covered}: the lifecycle rule {rule.rule_id!r} of s3://{bucket} removes objects "
                    f"below {rule.prefix!r} {when}: exclude the copies from it, or name a narrower place"
                )


async def refuse_replicated_deletes(source: Side, copies: Location) -> None:
    """Raise ConfigError if S3's replication of the originals' bucket carries deletes to the copies."""
    bucket, prefix = source.location
    rules = await _ask(source, bucket, "replication", partial(replication_rules, bucket=bucket))
    rules = [rule for rule in rules or () if rule.is_enabled and overlap(rule.prefix, prefix)]
    is_named = any(rule.destination == copies.bucket for rule in rules)  # else it may be by another name
    for rule in rules:
        if rule.replicates_markers and (rule.destination == copies.bucket or not is_named):
            raise ConfigError(
                f"--destination {copies}: the replication rule {rule.rule_id!r} of s3://{bucket} carries delete "
                "markers: turn that off, or pack the originals and name the archives"
            )


async def _ask(side: Side, bucket: str, what: str, question: Callable[[Any], Sequence[Any]]) -> Sequence[Any] | None:
    """What the bucket's settings say. None: the server has no such settings. Raises ConfigError, StoreError."""
    client = boto_client(side.endpoint, side.region, side.profile, prompt_config())
    try:
        return await asyncio.to_thread(question, client)
    except (StoreError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, StoreError) and not isinstance(error, Denied):
            if error.status == 501 or error.code == "NotImplemented":
                return None
            raise
        raise ConfigError(
            f"s3://{bucket}: nobody knows whether a {what} rule removes the copies, and nothing is deleted: {error}",
            advice=f"permit s3:Get{what.capitalize()}Configuration",
        ) from error
