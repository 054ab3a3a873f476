"""Contradictions in a policy whose single values are all valid.

A finding is a place (steps into the file), the value there, and what was expected instead.
Terraform's validations and the JSON Schema cannot express most of these rules. The command line and
the Lambdas check them here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations, product, starmap
from typing import NamedTuple
from zoneinfo import ZoneInfo

from jobs.core.enums import ARCHIVE_CLASSES, ArchiveSide, Compute, Deletes, Encryption, StorageClass
from jobs.core.model import overlap
from jobs.policy.model import (
    Archive,
    Batch,
    Destination,
    Pair,
    Policy,
    Replica,
    Source,
)

Steps = tuple[str | int, ...]

SECONDS_PER_DAY = 86_400


class Finding(NamedTuple):
    """A mistake between values: steps into the file, the value there, what was expected."""

    steps: Steps
    value: object
    expected: str


class _Place(NamedTuple):
    """A place that Sealift writes: keys below the prefixes of a bucket (named at `steps`)."""

    pair: int | None
    steps: Steps
    bucket: str
    prefixes: tuple[str, ...]
    what: str


ALARM_HOURS_MAX = 168
"""How far a CloudWatch alarm with periods of an hour looks back:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"""


BACKLOG_DAYS = 90
"""How long the ledger's lifecycle keeps rows of the backlog (`terraform/storage.tf`)."""
BACKLOG_AGE_DAYS_MAX = 60
"""The rest of that time is for the run."""
WARNED_DAYS = 366
"""How far `find_warnings` looks ahead."""


LAST_OF_IAM = "\xff"
"""https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html"""


def find_mistakes(policy: Policy) -> Iterator[Finding]:
    """Everything in the policy that contradicts itself, or what S3 allows."""
    if not policy.pairs:
        yield Finding(("pairs",), [], "at least one pair")
    if policy.alarms.night_hours > ALARM_HOURS_MAX:
        yield Finding(("alarms", "night_hours"), policy.alarms.night_hours, f"{ALARM_HOURS_MAX} at most, a week")
    yield from _batch(policy.batch)
    yield from _names(policy)
    yield from _sources(policy)
    yield from _places(policy)
    yield from _shared_buckets(policy)
    yield from _kept(policy)
    yield from _regions(policy)
    yield from _accounts(policy)
    yield from _inventories(policy)
    for number, pair in enumerate(policy.pairs):
        for finding in _pair(pair):
            yield finding._replace(steps=("pairs", number, *finding.steps))


def find_warnings(policy: Policy, first: date) -> Iterator[Finding]:
    """What is allowed but loses something: alarms that reach nobody, nights at times that a day
    does not have, nights that miss what the pair lets expire, and prefixes that no role of
    Terraform can be allowed.

    EventBridge Scheduler skips these times:
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html.
    It looks at the `WARNED_DAYS` from `first`.
    """
    if not policy.alarms.emails and not policy.alarms.topic:
        expected = "an address, or alarms.topic: otherwise nobody hears of alarms and of nights that failed"
        yield Finding(("alarms", "emails"), [], expected)
    for steps, prefix in _granted(policy):
        if any(character > LAST_OF_IAM for character in prefix):
            expected = (
                "characters up to U+00FF (ÿ): IAM takes no others in policies of roles, and Terraform refuses them"
            )
            yield Finding(steps, prefix, expected)
    for number, pair in enumerate(policy.pairs):
        archive = pair.archive
        if archive and archive.expire and archive.side is ArchiveSide.DESTINATION and pair.nightly.enabled:
            expected = (
                "no archive.expire, side: source, or nightly.enabled: false: the slices that a night verifies name "
                "each copy that expired as missing, and do not look whether an archive has it"
            )
            yield Finding(("pairs", number, "archive", "side"), archive.side, expected)
        day = _day_without(pair.nightly.hour.minutes, ZoneInfo(pair.nightly.time_zone), first)
        if pair.nightly.enabled and day is not None:
            expected = f"a time that every day has: {pair.nightly.time_zone} skips it on {day}, and the night with it"
            yield Finding(("pairs", number, "nightly", "hour"), pair.nightly.hour, expected)


def _granted(policy: Policy) -> Iterator[tuple[Steps, str]]:
    """Every prefix that stands in policies of roles."""
    yield ("ledger", "prefix"), policy.ledger.prefix
    if policy.inventory:
        yield ("inventory", "prefix"), policy.inventory.prefix
    for number, pair in enumerate(policy.pairs):
        for place, prefix in enumerate(pair.source.prefixes):
            yield ("pairs", number, "source", "prefixes", place), prefix
        yield ("pairs", number, "destination", "prefix"), pair.destination.prefix
        if pair.archive:
            yield ("pairs", number, "archive", "prefix"), pair.archive.prefix
            for place, rule in enumerate(pair.archive.rules):
                yield ("pairs", number, "archive", "rules", place, "prefix"), rule.prefix


def _day_without(minutes: int, zone: ZoneInfo, first: date) -> date | None:
    """The first day on which clocks jump over this time."""
    for days in range(WARNED_DAYS):
        local = datetime.combine(first + timedelta(days), time(*divmod(minutes, 60)), zone)
        if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
            return local.date()
    return None


def _names(policy: Policy) -> Iterator[Finding]:
    yield from _doubles([pair.name for pair in policy.pairs], ("pairs",), "pair")
    for number, pair in enumerate(policy.pairs):
        if pair.archive:
            names = [rule.name for rule in pair.archive.rules]
            yield from _doubles(names, ("pairs", number, "archive", "rules"), "rule")


def _doubles(names: Sequence[str], steps: Steps, what: str) -> Iterator[Finding]:
    for number, name in enumerate(names):
        if name in names[:number]:
            yield Finding((*steps, number, "name"), name, f"a name that no other {what} has")


def _sources(policy: Policy) -> Iterator[Finding]:
    """The most specific prefix decides which pair has an object, so no two pairs may share one."""
    owners: dict[tuple[str, str], str] = {}
    for number, pair in enumerate(policy.pairs):
        source, steps = pair.source, ("pairs", number, "source")
        if not source.prefixes:
            yield Finding((*steps, "prefixes"), [], "at least one prefix, or none of this field for all keys")
        for place, prefix in enumerate(source.prefixes):
            owner = owners.setdefault((source.bucket, prefix), pair.name)
            if owner != pair.name or prefix in source.prefixes[:place]:
                expected = f"a prefix of {source.bucket} that is not given twice: {owner} has it already"
                yield Finding((*steps, "prefixes", place), prefix, expected)
            hidden = next((out for out in source.exclude if prefix.startswith(out)), None)
            if hidden is not None:
                expected = f"a prefix outside exclude, which leaves out all of {hidden or 'the bucket'}"
                yield Finding((*steps, "prefixes", place), prefix, expected)
            if between := _between(policy, pair, prefix):
                expected = (
                    f"a prefix outside {between[0]} of the pair {between[1]}, which lies in a wider one of this pair"
                )
                yield Finding((*steps, "prefixes", place), prefix, expected)
        for place, out in enumerate(source.exclude):
            if not any(out.startswith(prefix) for prefix in source.prefixes):
                yield Finding((*steps, "exclude", place), out, "a prefix inside one of the prefixes")


def _between(policy: Policy, pair: Pair, prefix: str) -> tuple[str, str] | None:
    """Another pair's prefix around this one, inside a wider one of ours: ours, theirs, ours."""
    for other in policy.pairs:
        if other is not pair and other.source.bucket == pair.source.bucket:
            for theirs in other.source.prefixes:
                wider = (ours for ours in pair.source.prefixes if ours != prefix and theirs.startswith(ours))
                if prefix.startswith(theirs) and any(True for _ in wider):
                    return theirs, other.name
    return None


def _places(policy: Policy) -> Iterator[Finding]:
    """Sealift never writes to a bucket that it watches (a loop), nor twice to one place."""
    watched: dict[str, str] = {}
    for pair in policy.pairs:
        watched.setdefault(pair.source.bucket, pair.name)
    places = list(_written(policy))
    for place in places:
        if place.bucket in watched:
            own = place.pair is not None and policy.pairs[place.pair].source.bucket == place.bucket
            reader = "this pair" if own else f"the pair {watched[place.bucket]}"
            expected = f"a bucket that is no source: {reader} watches it, and a copy would be copied again"
            yield Finding(place.steps, place.bucket, expected)
    for one, other in combinations(places, 2):
        if one.bucket == other.bucket and any(starmap(overlap, product(one.prefixes, other.prefixes))):
            expected = f"a place of its own: {_owner(policy, one)} writes to {one.bucket}/{min(one.prefixes)} as well"
            prefix = f"{other.bucket}/{min(other.prefixes)}"
            yield Finding(other.steps, prefix, expected)
    for number, pair in enumerate(policy.pairs):
        if pair.replica and pair.replica.bucket == pair.destination.bucket:
            steps = ("pairs", number, "replica", "bucket")
            yield Finding(steps, pair.replica.bucket, "another bucket than the destination's")


def _written(policy: Policy) -> Iterator[_Place]:
    yield _Place(None, ("ledger", "bucket"), policy.ledger.bucket, (policy.ledger.prefix,), "the ledger")
    if policy.inventory:
        for region, bucket in policy.inventory.buckets.items():
            yield _Place(None, ("inventory", "buckets", region), bucket, (policy.inventory.prefix,), "inventory")
    for number, pair in enumerate(policy.pairs):
        steps = ("pairs", number)
        copies = tuple(pair.copy_key(prefix) for prefix in pair.source.prefixes) or (pair.destination.prefix,)
        yield _Place(number, (*steps, "destination", "bucket"), pair.destination.bucket, copies, "destination")
        if pair.replica and pair.replica.bucket != pair.destination.bucket:
            yield _Place(number, (*steps, "replica", "bucket"), pair.replica.bucket, copies, "replica")
        if pair.archive:
            yield _Place(number, (*steps, "archive", "bucket"), pair.archive.bucket, (pair.archive.prefix,), "archive")


def _owner(policy: Policy, place: _Place) -> str:
    return place.what if place.pair is None else f"the {place.what} of {policy.pairs[place.pair].name}"


_OF_THE_BUCKET = {
    "source": ("notifications", "inventory"),
    "destination": ("encryption", "kms_key", "object_lock", "noncurrent_days", "transitions"),
    "replica": ("kms_key",),
    "archive": ("encryption", "kms_key", "object_lock"),
}
"""Settings of a whole bucket. Pairs that share a bucket must agree on them."""


def _shared_buckets(policy: Policy) -> Iterator[Finding]:
    first: dict[tuple[str, str], tuple[Pair, object]] = {}
    for number, pair in enumerate(policy.pairs):
        for section, names in _OF_THE_BUCKET.items():
            side = getattr(pair, section)
            if side is None:
                continue
            owner, earlier = first.setdefault((section, side.bucket), (pair, side))
            for name in names:
                if getattr(side, name) != getattr(earlier, name):
                    expected = f"the same as in the pair {owner.name}: both use the bucket {side.bucket}"
                    yield Finding(("pairs", number, section, name), getattr(side, name), expected)


class _Keeper(NamedTuple):
    """A reason to have a bucket, and what it says of the whole of it.

    `keeps`: how long older versions stay, and where objects move to. `says`: by setting, None where
    it wants nothing.
    """

    section: str
    steps: Steps
    bucket: str
    keeps: object
    says: Mapping[str, object]


def _kept(policy: Policy) -> Iterator[Finding]:
    """Who shares a bucket has to agree on what Terraform says of the whole of it."""
    terms: dict[str, _Keeper] = {}
    said: dict[tuple[str, str], _Keeper] = {}
    for keeper in _keepers(policy):
        other = terms.setdefault(keeper.bucket, keeper)
        if keeper.keeps != other.keeps and (keeper.section != other.section or keeper.section == "replica"):
            expected = (
                f"another bucket than the {other.section}'s, or the same noncurrent_days and transitions: they are "
                "the whole bucket's, and older versions would go that are to stay"
            )
            yield Finding(keeper.steps, keeper.bucket, expected)
        for name, value in keeper.says.items():
            if value is None:
                continue
            other = said.setdefault((keeper.bucket, name), keeper)
            if value != other.says[name] and keeper.section != other.section:
                expected = f"another bucket than the {other.section}'s, or the same {name}: it is the whole bucket's"
                yield Finding(keeper.steps, keeper.bucket, expected)


def _keepers(policy: Policy) -> Iterator[_Keeper]:
    for number, pair in enumerate(policy.pairs):
        hot = pair.destination
        moves = tuple((int(each.days), str(each.storage_class)) for each in hot.transitions)
        terms = {"destination": (hot.noncurrent_days, moves), "replica": (hot.noncurrent_days, ())}
        for section in ("destination", "replica", "archive"):
            if side := getattr(pair, section):
                says = {"object_lock": getattr(side, "object_lock", None), "kms_key": side.kms_key}
                steps = ("pairs", number, section, "bucket")
                yield _Keeper(section, steps, side.bucket, terms.get(section, (None, ())), says)
    own = {"object_lock": None, "kms_key": "create"}
    yield _Keeper("ledger", ("ledger", "bucket"), policy.ledger.bucket, (None, ()), own)
    for region, bucket in policy.inventory.buckets.items() if policy.inventory else ():
        yield _Keeper("inventory", ("inventory", "buckets", region), bucket, (None, ()), own)


def _regions(policy: Policy) -> Iterator[Finding]:
    """A bucket has one region, wherever the file names it. The alarms and their topic have the
    ledger's.
    """
    first: dict[str, str] = {}
    for steps, bucket, region in _named(policy):
        if first.setdefault(bucket, region) != region:
            yield Finding(steps, region, f"{first[bucket]}, the region of {bucket} elsewhere in the file")
    topic, home = policy.alarms.topic, policy.ledger.region
    if topic is not None and topic.region != home:
        expected = f"a topic in {home}, where the alarms are: they reach topics of their own region only"
        yield Finding(("alarms", "topic"), topic, expected)


def _named(policy: Policy) -> Iterator[tuple[Steps, str, str]]:
    """Every bucket of the policy with its region, and the place of that region in the file."""
    yield ("ledger", "region"), policy.ledger.bucket, policy.ledger.region
    for region, bucket in policy.inventory.buckets.items() if policy.inventory else ():
        yield ("inventory", "buckets", region), bucket, region
    for number, pair in enumerate(policy.pairs):
        for section in _OF_THE_BUCKET:
            if side := getattr(pair, section):
                yield ("pairs", number, section, "region"), side.bucket, side.region


def _accounts(policy: Policy) -> Iterator[Finding]:
    """A bucket has one owner. What only the owner can set is not for Terraform in our account."""
    ours = [policy.ledger.bucket, *(policy.inventory.buckets.values() if policy.inventory else ())]
    owners = dict.fromkeys(ours, policy.account)
    for number, pair in enumerate(policy.pairs):
        for section in _OF_THE_BUCKET:
            side, steps = getattr(pair, section), ("pairs", number, section)
            if side is None:
                continue
            if policy.account is None and side.account is not None:
                expected = f"the system's account, since the pair {pair.name} names the one of its {section}"
                yield Finding(("account",), None, expected)
            elif owners.setdefault(side.bucket, side.account) != side.account:
                expected = f"{owners[side.bucket]}, the owner of {side.bucket} elsewhere in the file"
                yield Finding((*steps, "account"), side.account, expected)
            elif policy.is_foreign(side):
                yield from _foreign(side, steps)
        if pair.replica and policy.is_foreign(pair.destination):
            yield from _replica_of_foreign(policy, pair.replica, pair.destination, ("pairs", number, "replica"))


def _replica_of_foreign(policy: Policy, replica: Replica, hot: Destination, steps: Steps) -> Iterator[Finding]:
    """The owners of the hot bucket replicate it, to a bucket of theirs or of the system's."""
    if replica.account != hot.account and policy.is_foreign(replica):
        expected = (
            f"{hot.account}, whose the hot bucket is, or the system's account: only a bucket's owners replicate it"
        )
        yield Finding((*steps, "account"), replica.account, expected)
    elif not policy.is_foreign(replica) and replica.kms_key is not None and replica.kms_key.is_alias:
        expected = "the ARN of the key itself: roles of another account are not let in by an alias"
        yield Finding((*steps, "kms_key"), replica.kms_key, expected)


def _foreign(side: Source | Destination | Replica | Archive, steps: Steps) -> Iterator[Finding]:
    if isinstance(side, Source):
        for name in ("notifications", "inventory"):
            if getattr(side, name):
                yield Finding((*steps, name), True, f"false: the bucket's owners, {side.account}, set it there")
        return
    encryption = Encryption.S3 if isinstance(side, Replica) else side.encryption
    if encryption is not Encryption.S3 and side.kms_key is None:
        expected = f"create, or the ARN of a key of {side.account}: the key that AWS manages is for its own account"
        yield Finding((*steps, "kms_key"), None, expected)
    if side.kms_key is not None and side.kms_key.is_alias:
        expected = "the ARN of the key itself: roles of another account are not let in by an alias"
        yield Finding((*steps, "kms_key"), side.kms_key, expected)


def _inventories(policy: Policy) -> Iterator[Finding]:
    if policy.inventory is None:
        return
    for number, pair in enumerate(policy.pairs):
        regions = [("destination", pair.destination.region)]
        if pair.source.inventory:
            regions.append(("source", pair.source.region))
        if pair.replica:
            regions.append(("replica", pair.replica.region))
        for section, region in regions:
            if region not in policy.inventory.buckets:
                expected = f"a region with a bucket in inventory.buckets (S3 delivers within a region): add {region}"
                yield Finding(("pairs", number, section, "region"), region, expected)


def _pair(pair: Pair) -> Iterator[Finding]:
    hot = pair.destination
    yield from _key(hot, "destination", is_far=pair.is_cross_region)
    yield from _lifecycle(hot)
    if hot.object_lock:
        yield from _stay(hot.storage_class, hot.object_lock.days, ("destination", "object_lock", "days"))
    if pair.replica:
        yield from _replica(hot, pair.replica)
    yield from _backlog(pair)
    if pair.archive:
        yield from _key(pair.archive, "archive", is_far=pair.archive.region != pair.source.region)
        yield from _archive(pair, pair.archive)


def _backlog(pair: Pair) -> Iterator[Finding]:
    """The backlog becomes a run before the ledger forgets it, and a run that may start."""
    limits, age_days = pair.thresholds, pair.thresholds.backlog_age.days
    if age_days > BACKLOG_AGE_DAYS_MAX:
        expected = f"at most {BACKLOG_AGE_DAYS_MAX}d: the ledger keeps rows of the backlog for {BACKLOG_DAYS} days"
        yield Finding(("thresholds", "backlog_age"), str(limits.backlog_age), expected)
    if limits.backlog_rows > pair.limits.max_objects:
        expected = f"at most limits.max_objects, {pair.limits.max_objects}: a run with more rows is refused"
        yield Finding(("thresholds", "backlog_rows"), limits.backlog_rows, expected)


def _key(side: Destination | Archive, section: str, *, is_far: bool) -> Iterator[Finding]:
    """Keys are regional, and the key that AWS manages for S3 works in its own region only."""
    uses_kms = side.encryption is not Encryption.S3
    if uses_kms and is_far and side.kms_key is None:
        expected = f"create, or the ARN of a key in {side.region}: copies cross regions, keys do not"
        yield Finding((section, "kms_key"), None, expected)
    if side.kms_key is not None and not uses_kms:
        yield Finding((section, "encryption"), side.encryption, "aws:kms or aws:kms:dsse where a kms_key is given")
    if side.kms_key is not None and side.kms_key.region not in (None, side.region):
        yield Finding((section, "kms_key"), side.kms_key, f"a key in {side.region}, the bucket's region")


def _replica(hot: Destination, replica: Replica) -> Iterator[Finding]:
    if hot.encryption is not Encryption.S3 and replica.kms_key is None:
        expected = f"create, or the ARN of a key in {replica.region}: the hot bucket uses KMS"
        yield Finding(("replica", "kms_key"), None, expected)
    if replica.kms_key is not None and replica.kms_key.region not in (None, replica.region):
        yield Finding(("replica", "kms_key"), replica.kms_key, f"a key in {replica.region}, the replica's region")


def _stay(storage_class: StorageClass | None, days: float, steps: Steps) -> Iterator[Finding]:
    if storage_class is not None and days < storage_class.minimum_days:
        expected = f"at least {storage_class.minimum_days} days, which {storage_class} is billed for anyway"
        yield Finding(steps, f"{days:g} days", expected)


_COLD = tuple(each for each in StorageClass if each in ARCHIVE_CLASSES)
_MOVES = {
    StorageClass.STANDARD: tuple(each for each in StorageClass if each is not StorageClass.STANDARD),
    StorageClass.STANDARD_IA: (
        StorageClass.INTELLIGENT_TIERING,
        StorageClass.ONEZONE_IA,
        StorageClass.GLACIER_IR,
        *_COLD,
    ),
    StorageClass.INTELLIGENT_TIERING: (StorageClass.ONEZONE_IA, StorageClass.GLACIER_IR, *_COLD),
    StorageClass.ONEZONE_IA: _COLD,
    StorageClass.GLACIER_IR: _COLD,
    StorageClass.GLACIER: (StorageClass.DEEP_ARCHIVE,),
    StorageClass.DEEP_ARCHIVE: (),
}
"""From which class a lifecycle rule moves objects to which:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html"""


def _lifecycle(hot: Destination) -> Iterator[Finding]:
    storage_class, since = hot.storage_class, 0
    for number, transition in enumerate(hot.transitions):
        steps: Steps = ("destination", "transitions", number)
        target = transition.storage_class
        before = storage_class or StorageClass.STANDARD
        if target not in _MOVES[before]:
            named = f"one that S3 moves from {before}: {', '.join(_MOVES[before])}"
            expected = named if _MOVES[before] else f"no transition from {before}: S3 moves it nowhere"
            yield Finding((*steps, "storage_class"), target, expected)
        infrequent = target in (StorageClass.STANDARD_IA, StorageClass.ONEZONE_IA)
        stay = max(storage_class.minimum_days if storage_class else 0, 30 if infrequent else 1)
        if transition.days < since + stay:
            expected = f"{since + stay} or more: {stay} days or longer in {storage_class or 'the class before'}"
            yield Finding((*steps, "days"), transition.days, expected)
        storage_class, since = target, transition.days
    if hot.noncurrent_days is not None:
        yield from _stay(hot.storage_class, hot.noncurrent_days, ("destination", "noncurrent_days"))
        if hot.object_lock and hot.noncurrent_days < hot.object_lock.days:
            expected = f"at least {hot.object_lock.days}: until then Object Lock keeps every version"
            yield Finding(("destination", "noncurrent_days"), hot.noncurrent_days, expected)


def _archive(pair: Pair, archive: Archive) -> Iterator[Finding]:
    kept_days, is_source = pair.destination.noncurrent_days, archive.side is ArchiveSide.SOURCE
    if archive.expire and is_source and pair.deletes is Deletes.MIRROR and kept_days is not None:
        grace_days = archive.expire.grace.days
        if kept_days < grace_days:
            expected = (
                f"at least {grace_days:g}, the grace of archive.expire: what it deletes is mirrored, and the copy is "
                "removed after so many days"
            )
            yield Finding(("destination", "noncurrent_days"), kept_days, expected)
    if not archive.rules:
        yield Finding(("archive", "rules"), [], "at least one rule, or no archive section")
    for number, rule in enumerate(archive.rules):
        steps: Steps = ("archive", "rules", number)
        scope = pair.source.prefixes
        if not any(overlap(rule.prefix, prefix) for prefix in scope) or rule.prefix.startswith(
            pair.source.exclude or ("\0",)
        ):
            yield Finding((*steps, "prefix"), rule.prefix, f"keys of the pair: {', '.join(scope)}")
        if rule.target_size < rule.smaller_than:
            yield Finding((*steps, "target_size"), str(rule.target_size), f"at least smaller_than, {rule.smaller_than}")
        if archive.object_lock:
            yield from _stay(rule.storage_class, archive.object_lock.days, ("archive", "object_lock", "days"))
        if archive.expire and archive.side is ArchiveSide.DESTINATION:
            age_days = (rule.older_than + archive.expire.grace) / SECONDS_PER_DAY
            yield from _stay(pair.destination.storage_class, age_days, ("archive", "expire", "grace"))


_FARGATE_GIB = {1: (2, 8), 2: (4, 16), 4: (8, 30), 8: (16, 60), 16: (32, 120)}
"""Memory that Fargate offers for so many vCPUs:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html"""


def _batch(batch: Batch) -> Iterator[Finding]:
    if batch.max_vcpus < batch.vcpus:
        yield Finding(("batch", "max_vcpus"), batch.max_vcpus, f"at least vcpus, {batch.vcpus}")
    if batch.compute is Compute.EC2_SPOT:
        return
    if batch.vcpus not in _FARGATE_GIB:
        yield Finding(("batch", "vcpus"), batch.vcpus, f"one of {', '.join(map(str, _FARGATE_GIB))} on Fargate")
        return
    low, high = _FARGATE_GIB[batch.vcpus]
    step = {8: 4, 16: 8}.get(batch.vcpus, 1)
    if batch.memory_mib not in range(low * 1024, high * 1024 + 1, step * 1024):
        expected = f"{low * 1024} to {high * 1024} in steps of {step * 1024} with {batch.vcpus} vCPUs on Fargate"
        yield Finding(("batch", "memory_mib"), batch.memory_mib, expected)
    if not 21 <= batch.disk_gib <= 200:
        yield Finding(("batch", "disk_gib"), batch.disk_gib, "21 to 200 on Fargate")
