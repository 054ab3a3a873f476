"""Contradictions in a policy whose single values are all valid.

A finding is a place (steps into the file), the value there, and what was expected instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations, product, starmap
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from jobs.core.enums import Encryption, StorageClass
from jobs.core.model import overlap
from jobs.policy.coverage import scope
from jobs.policy.model import Archive, Batch, Destination, Pair, Policy, Replica, Source
from jobs.policy.words import CREATE, age_text, minutes_of, region_of

Steps = tuple[str | int, ...]
WARNED_DAYS = 366
"""How far `find_warnings` looks ahead."""
LAST_OF_IAM = "\xff"
"""https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html"""
NOTIFICATIONS_MAX = 100
"""https://docs.aws.amazon.com/general/latest/gr/s3.html"""
PATTERN_CHARACTERS_MAX = 2_048
"""https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html"""
_PATTERN_ROOM = 220
"""What stands beside the prefixes: kinds of events, and the bucket."""


_WHOLE = (
    *("region", "account", "notifications", "inventory", "encryption", "kms_key"),
    *("object_lock", "noncurrent_days", "transitions"),
)
"""What a section says of the whole bucket."""


class Finding(NamedTuple):
    """A mistake between values: steps into the file, the value there, what was expected."""

    steps: Steps
    value: object
    expected: str


class _Use(NamedTuple):
    """A section that names a bucket. `writes`: the prefixes that Sealift writes below. `says`: of the whole bucket."""

    pair: int | None
    steps: Steps
    bucket: str
    writes: tuple[str, ...]
    says: dict[str, Any]

    @property
    def section(self) -> str:
        return str(self.steps[-1] if self.pair is not None else self.steps[0])


def find_mistakes(policy: Policy) -> Iterator[Finding]:
    """Everything in the policy that contradicts itself, or what S3 allows."""
    uses = list(_uses(policy))
    yield from _batch(policy.batch)
    yield from _names(policy)
    yield from _sources(policy)
    yield from _places(policy, uses)
    yield from _shared(policy, uses)
    yield from _accounts(policy)
    yield from _inventories(policy)
    yield from _keys(policy)
    topic, home = policy.alarms.topic, policy.ledger.region
    if topic is not None and region_of(topic) != home:
        expected = f"a topic in {home}, where the alarms are: they reach topics of their own region only"
        yield Finding(("alarms", "topic"), topic, expected)
    for number, pair in enumerate(policy.pairs):
        for finding in _pair(pair):
            yield finding._replace(steps=("pairs", number, *finding.steps))


def find_refusals(policy: Policy) -> Iterator[Finding]:
    """What AWS refuses when Terraform applies the policy."""
    for steps, prefix in _leaves(msgspec.to_builtins(policy)):
        # In policies of roles. A tag of this name is in none.
        is_granted = (steps[-1] == "prefix" or "prefixes" in steps) and "tags" not in steps
        if is_granted and any(character > LAST_OF_IAM for character in prefix):
            yield Finding(steps, prefix, "characters up to U+00FF (ÿ): IAM takes no others in policies of roles")
    prefixes: dict[str, list[str]] = {}
    for number, pair in enumerate(policy.pairs):
        source, steps = pair.source, ("pairs", number, "source", "prefixes")
        of_bucket = prefixes.setdefault(source.bucket, [])
        of_bucket += source.prefixes
        if source.notifications == "replace" and source.region == policy.ledger.region:
            is_too_many = len(of_bucket) > NOTIFICATIONS_MAX
            most = f"S3 takes {NOTIFICATIONS_MAX} notifications of a bucket"
        else:
            pattern = json.dumps([{"prefix": prefix} for prefix in of_bucket])
            is_too_many = len(pattern) > PATTERN_CHARACTERS_MAX - _PATTERN_ROOM
            most = f"a rule of EventBridge takes {PATTERN_CHARACTERS_MAX:,} characters"
        if is_too_many:
            yield Finding(steps, f"{len(of_bucket)} prefixes", f"fewer or shorter prefixes: {most}")


def find_warnings(policy: Policy, first: date) -> Iterator[Finding]:
    """What is allowed but loses something: alarms that reach nobody, nights at times that a day does not have, nights
    that miss what the pair lets expire.

    EventBridge Scheduler skips these times:
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html.
    It looks at the `WARNED_DAYS` from `first`.
    """
    if not policy.alarms.emails and not policy.alarms.topic:
        expected = "an address, or alarms.topic: otherwise nobody hears of alarms and of nights that failed"
        yield Finding(("alarms", "emails"), [], expected)
    for number, pair in enumerate(policy.pairs):
        archive = pair.archive
        if archive and archive.expire and archive.side == "destination" and pair.nightly.enabled:
            expected = (
                "no archive.expire, side: source, or nightly.enabled: false: without MD5 ETags on both sides the "
                "slices that a night verifies name each copy that expired as missing"
            )
            yield Finding(("pairs", number, "archive", "side"), archive.side, expected)
        day = _day_without(minutes_of(pair.nightly.hour), ZoneInfo(pair.nightly.time_zone), first)
        if pair.nightly.enabled and day is not None:
            expected = f"a time that every day has: {pair.nightly.time_zone} skips it on {day}, and the night with it"
            yield Finding(("pairs", number, "nightly", "hour"), pair.nightly.hour, expected)


def _leaves(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """The single values of a document, with their places."""
    if isinstance(value, dict):
        below: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):  # `to_builtins` leaves tuples as they are
        below = enumerate(value)
    else:
        yield steps, value
        return
    for step, each in below:
        yield from _leaves(each, (*steps, step))


def _day_without(minutes: int, zone: ZoneInfo, first: date) -> date | None:
    """The first day on which clocks jump over this time."""
    for days in range(WARNED_DAYS):
        local = datetime.combine(first + timedelta(days), time(*divmod(minutes, 60)), zone)
        if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
            return local.date()
    return None


def _uses(policy: Policy) -> Iterator[_Use]:
    """Every section that names a bucket, and what it says of the whole of it."""
    ours = {"account": policy.account, "encryption": Encryption.KMS, "kms_key": CREATE, "object_lock": None}
    kept: dict[str, Any] = {"noncurrent_days": None, "transitions": ()}
    ledger = policy.ledger
    yield _Use(None, ("ledger",), ledger.bucket, (ledger.prefix,), {"region": ledger.region} | ours | kept)
    if policy.inventory:
        for region, bucket in policy.inventory.buckets.items():
            yield _Use(
                None,
                ("inventory", "buckets", region),
                bucket,
                (policy.inventory.prefix,),
                {"region": region} | ours | kept,
            )
    for steps, pair, section, side in policy.sections():
        hot, copies = pair.destination, tuple(map(pair.copy_key, pair.source.prefixes))
        says = {name: getattr(side, name) for name in _WHOLE if hasattr(side, name)}
        if section != "source":
            says = kept | {"noncurrent_days": hot.noncurrent_days if section == "replica" else None} | says
        writes = {"source": (), "archive": (getattr(side, "prefix", ""),)}.get(section, copies)
        yield _Use(int(steps[1]), steps, side.bucket, writes, says)


def _places(policy: Policy, uses: Sequence[_Use]) -> Iterator[Finding]:
    """Sealift never writes to a bucket that it watches (a loop), nor twice to one place."""
    watched = {pair.source.bucket: pair.name for pair in reversed(policy.pairs)}
    written = [use for use in uses if use.writes]
    for use in written:
        if use.bucket in watched:
            expected = (
                f"a bucket that is no source: the pair {watched[use.bucket]} watches it, and copies would be copied"
            )
            yield Finding(_of_bucket(use), use.bucket, expected)
    shared = next((use for use in uses if policy.drill and use.bucket == policy.drill.bucket), None)
    if shared is not None:
        expected = f"a bucket of its own: it is {_owner(policy, shared)}, and drills write and delete"
        yield Finding(("drill", "bucket"), shared.bucket, expected)
    for one, other in combinations(written, 2):
        if one.bucket == other.bucket and any(starmap(overlap, product(one.writes, other.writes))):
            expected = f"a place of its own: {_owner(policy, one)} writes to {one.bucket}/{min(one.writes)} as well"
            yield Finding(_of_bucket(other), f"{other.bucket}/{min(other.writes)}", expected)


def _shared(policy: Policy, uses: Sequence[_Use]) -> Iterator[Finding]:
    """Who shares a bucket has to agree on what is said of the whole of it."""
    first: dict[tuple[str, str], _Use] = {}
    for use in uses:
        for name, value in use.says.items():
            other = first.setdefault((use.bucket, name), use)
            if value != other.says[name]:
                steps = _of_bucket(use)
                if use.pair is not None and name in getattr(policy.pairs[use.pair], use.section).__struct_fields__:
                    steps = (*use.steps, name)
                expected = (
                    f"{_said(other.says[name])} as {_owner(policy, other)} says of {use.bucket}, or another bucket"
                )
                yield Finding(steps, _said(value), f"{name} {expected}" if steps[-1] != name else expected)


def _said(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int) else json.dumps(msgspec.to_builtins(value))


def _of_bucket(use: _Use) -> Steps:
    return use.steps if use.section == "inventory" else (*use.steps, "bucket")


def _owner(policy: Policy, use: _Use) -> str:
    return f"the {use.section}" + ("" if use.pair is None else f" of {policy.pairs[use.pair].name}")


def _names(policy: Policy) -> Iterator[Finding]:
    lists: list[tuple[Steps, str, list[str]]] = [(("pairs",), "pair", [pair.name for pair in policy.pairs])]
    for number, pair in enumerate(policy.pairs):
        rules = [rule.name for rule in pair.archive.rules] if pair.archive else []
        lists.append((("pairs", number, "archive", "rules"), "rule", rules))
    for steps, what, names in lists:
        for number, name in enumerate(names):
            if name in names[:number]:
                yield Finding((*steps, number, "name"), name, f"a name that no other {what} has")


def _sources(policy: Policy) -> Iterator[Finding]:
    """The most specific prefix decides which pair has an object, so no two pairs may share one. A prefix of a pair
    inside another pair's inside a wider one of its own is refused: no list of exclusions can express it.
    """
    owners: dict[tuple[str, str], str] = {}
    for number, pair in enumerate(policy.pairs):
        source, steps = pair.source, ("pairs", number, "source")
        for place, prefix in enumerate(source.prefixes):
            owner = owners.setdefault((source.bucket, prefix), pair.name)
            if owner != pair.name or prefix in source.prefixes[:place]:
                expected = f"a prefix of {source.bucket} that is not given twice: {owner} has it already"
                yield Finding((*steps, "prefixes", place), prefix, expected)
            elif hidden := [out for out in scope(policy, pair).excluded if prefix.startswith(out)]:
                expected = f"a prefix outside {hidden[0] or 'the bucket'}, which exclude or another pair takes"
                yield Finding((*steps, "prefixes", place), prefix, expected)
        for place, out in enumerate(source.exclude):
            if not out.startswith(source.prefixes):
                yield Finding((*steps, "exclude", place), out, "a prefix inside one of the prefixes")


def _accounts(policy: Policy) -> Iterator[Finding]:
    """What only a bucket's owner can set is not for Terraform in our account."""
    for steps, pair, section, side in policy.sections():
        hot, replica = pair.destination, pair.replica
        if policy.account is None and side.account is not None:
            expected = f"the system's account, since the pair {pair.name} names the one of its {section}"
            yield Finding(("account",), None, expected)
        elif policy.is_foreign(side) or (section == "replica" and policy.is_foreign(hot)):
            yield from _foreign_source(side, steps) if isinstance(side, Source) else _foreign(side, steps)
        if side is replica and policy.is_foreign(hot) and side.account not in (policy.account, None, hot.account):
            expected = (
                f"{hot.account}, whose the hot bucket is, or the system's account: only a bucket's owners replicate it"
            )
            yield Finding((*steps, "account"), side.account, expected)


def _foreign_source(source: Source, steps: Steps) -> Iterator[Finding]:
    if source.notifications == "replace":
        expected = f"eventbridge: the bucket's owners, {source.account}, turn it on there"
        yield Finding((*steps, "notifications"), source.notifications, expected)
    if source.inventory:
        yield Finding((*steps, "inventory"), True, f"false: the bucket's owners, {source.account}, set it there")


def _foreign(side: Destination | Replica | Archive, steps: Steps) -> Iterator[Finding]:
    if not isinstance(side, Replica) and side.encryption is not Encryption.S3 and side.kms_key is None:
        expected = f"create, or the ARN of a key of {side.account}: the key that AWS manages is for its own account"
        yield Finding((*steps, "kms_key"), None, expected)
    if side.kms_key is not None and ":alias/" in side.kms_key:
        expected = "the ARN of the key itself: roles of another account are not let in by an alias"
        yield Finding((*steps, "kms_key"), side.kms_key, expected)


def _inventories(policy: Policy) -> Iterator[Finding]:
    """S3 delivers an inventory within a region."""
    for steps, _, side in policy.inventoried():
        if policy.inventory and side.region not in policy.inventory.buckets:
            expected = f"a region with a bucket in inventory.buckets: add {side.region}"
            yield Finding((*steps, "region"), side.region, expected)


def _pair(pair: Pair) -> Iterator[Finding]:
    yield from _lifecycle(pair.destination)
    if pair.archive:
        yield from _archive(pair, pair.archive)


def _keys(policy: Policy) -> Iterator[Finding]:
    """The key that AWS manages for S3 works in its own region only, and replication names the one of each replica."""
    for steps, pair, section, side in policy.sections():
        if isinstance(side, Source):
            continue
        encryption = pair.destination.encryption if isinstance(side, Replica) else side.encryption
        key, uses_kms = side.kms_key, encryption is not Encryption.S3
        if uses_kms and key is None and (section == "replica" or side.region != pair.source.region):
            expected = f"create, or the ARN of a key in {side.region}: replicas, and copies of another region, need one"
            yield Finding((*steps, "kms_key"), None, expected)
        if key and region_of(key) not in (None, side.region):
            yield Finding((*steps, "kms_key"), key, f"a key in {side.region}, the bucket's region")
        if key and not uses_kms and section != "replica":
            yield Finding((*steps, "encryption"), encryption, "aws:kms or aws:kms:dsse where a kms_key is given")


def _lifecycle(hot: Destination) -> Iterator[Finding]:
    """S3 moves objects down the list of classes only, and to the infrequent ones not before 30 days:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html
    """
    before, since = hot.storage_class or StorageClass.STANDARD, 0
    for number, transition in enumerate(hot.transitions):
        steps, target = ("destination", "transitions", number), transition.storage_class
        colder = [*StorageClass][[*StorageClass].index(before) + 1 :]
        if target not in colder:
            yield Finding(
                (*steps, "storage_class"), target, f"a class below {before}: {', '.join(colder) or 'none is'}"
            )
        at_least = max(since + 1, 30 if target in (StorageClass.STANDARD_IA, StorageClass.ONEZONE_IA) else 1)
        if transition.days < at_least:
            yield Finding((*steps, "days"), transition.days, f"{at_least} or more")
        before, since = target, transition.days


def _archive(pair: Pair, archive: Archive) -> Iterator[Finding]:
    kept_days, expire = pair.destination.noncurrent_days, archive.expire
    is_mirrored = archive.side == "source" and pair.deletes == "mirror"
    if expire and is_mirrored and kept_days is not None and kept_days * 86_400 < expire.grace:
        expected = (
            f"at least {age_text(expire.grace)}, the grace of archive.expire: what it deletes is mirrored, and the "
            "copy is removed after so many days"
        )
        yield Finding(("destination", "noncurrent_days"), kept_days, expected)
    scope, excluded = pair.source.prefixes, pair.source.exclude
    for number, rule in enumerate(archive.rules):
        if not any(overlap(rule.prefix, prefix) for prefix in scope) or (excluded and rule.prefix.startswith(excluded)):
            yield Finding(("archive", "rules", number, "prefix"), rule.prefix, f"keys of the pair: {', '.join(scope)}")


_FARGATE_GIB = {1: (2, 8, 1), 2: (4, 16, 1), 4: (8, 30, 1), 8: (16, 60, 4), 16: (32, 120, 8)}
"""Memory that Fargate offers for so many vCPUs: from, to, in steps of:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html"""


def _batch(batch: Batch) -> Iterator[Finding]:
    if batch.max_vcpus < batch.vcpus:
        yield Finding(("batch", "max_vcpus"), batch.max_vcpus, f"at least vcpus, {batch.vcpus}")
    low, high, step = (1024 * gib for gib in _FARGATE_GIB[batch.vcpus])
    if batch.memory_mib not in range(low, high + 1, step):
        expected = f"{low} to {high} in steps of {step} with {batch.vcpus} vCPUs on Fargate"
        yield Finding(("batch", "memory_mib"), batch.memory_mib, expected)
