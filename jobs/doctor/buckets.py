"""Questions about buckets: where they are, whether they keep versions, whom they notify, how old inventories are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jobs.core.model import Location
from jobs.doctor.model import APPLY, Finding, Question, failure, ok, warning
from jobs.doctor.system import System, region_in
from jobs.errors import ManifestError, NoSuchBucket, NotFound
from jobs.inventory.find import find_inventory
from jobs.nights.calendar import INVENTORY_HOURS_MAX
from jobs.policy.model import Source
from jobs.policy.words import Region
from jobs.s3.condition_trial import OF_COPIES, OF_STREAMS, find_ignored
from jobs.s3.operations import Operation

_TARGETS = {
    "TopicConfigurations": "TopicArn",
    "QueueConfigurations": "QueueArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
_COPIES_UNVERSIONED = failure(
    "it keeps no versions: a write replaces what is there for good", f"enable versioning: {APPLY}"
)
_SOURCE_UNVERSIONED = warning(
    "it keeps no versions: what is overwritten before it is copied is lost", "enable versioning there"
)
_TURN_ON = "its owner turns on Amazon EventBridge in the bucket's properties, which adds to what is there"


def questions(system: System) -> Iterator[Question]:
    """Each bucket once."""
    ledger, written = system.policy.ledger, dict[str, str]()
    places: dict[Location, tuple[str, Sequence[Operation]]] = {Location.parse(ledger.uri): (ledger.region, OF_STREAMS)}
    for pair in system.pairs:
        hot = pair.destination
        written |= {side.bucket: side.region for side in (hot, pair.replica, pair.archive) if side}
        places[Location(hot.bucket, hot.prefix)] = (hot.region, OF_COPIES)
    for bucket, region in (written | {ledger.bucket: ledger.region}).items():
        ask = partial(_bucket, system, bucket, region, _COPIES_UNVERSIONED)
        yield Question("bucket", bucket, ask, needs_aws=False)
    for place, (region, operations) in places.items():
        ask = partial(_conditions, system, place, region, operations)
        yield Question("conditional-writes", str(place), ask, needs_aws=False)
    yield from _of_sources(system, is_before=False)
    sides = (side for _, pair, side in system.policy.inventoried() if pair in system.pairs)
    for bucket, region in {side.bucket: side.region for side in sides}.items():
        yield Question("inventory", bucket, partial(_inventory, system, bucket, region))


def questions_before(system: System) -> Iterator[Question]:
    """What can be asked before Terraform has made anything: what it will take over, and what is there."""
    return _of_sources(system, is_before=True)


def _of_sources(system: System, *, is_before: bool) -> Iterator[Question]:
    for source in {pair.source.bucket: pair.source for pair in system.pairs}.values():
        ask = partial(_bucket, system, source.bucket, source.region, _SOURCE_UNVERSIONED)
        yield Question("source", source.bucket, ask, needs_aws=False)
        yield Question("notifications", source.bucket, partial(_notifications, system, source, is_before=is_before))


def _bucket(system: System, bucket: str, region: str, unversioned: Finding) -> Finding:
    """Whether it is where the policy says, and keeps versions. A server that is not S3 names no region."""
    try:
        answer = system.call("s3", "HeadBucket", bucket, region, Bucket=bucket)
    except (NotFound, NoSuchBucket):
        return failure("there is no such bucket", f"create it in {region}, or correct the policy file")
    found = region_in(answer)
    if found not in (None, region):
        return failure(f"it is in {found}, the policy says {region}", "correct the region in the policy file")
    if system.call("s3", "GetBucketVersioning", bucket, region, Bucket=bucket).get("Status") != "Enabled":
        return unversioned
    return ok(f"it is in {region} and keeps versions")


def _conditions(system: System, place: Location, region: str, operations: Sequence[Operation]) -> Finding:
    """At AWS nothing is tried: its conditions are documented."""
    ignored = system.stored(region, lambda store: find_ignored(store, place, operations))
    if ignored:  # by the first two, two workers can both win
        judged = failure if {Operation.PUT, Operation.COPY} & {*ignored} else warning
        return judged(f"the server ignores conditions on {', '.join(ignored)}", "use another server")
    return ok("the server heeds conditions of writes")


def _notifications(system: System, source: Source, *, is_before: bool) -> Finding:
    """Whether the bucket sends events to where the system listens: a queue of its region, or EventBridge.

    `is_before`: where Terraform sets that, what PutBucketNotificationConfiguration would remove. It replaces all that
    is there.
    """
    owner = {"ExpectedBucketOwner": source.account} if source.account else {}
    operation, bucket = "GetBucketNotificationConfiguration", source.bucket
    now: Mapping[str, Any] = system.call("s3", operation, bucket, source.region, Bucket=bucket, **owner)
    has_bridge, is_direct = "EventBridgeConfiguration" in now, source.region == system.home
    if source.notifications != "replace":
        lost = warning("it does not send events to EventBridge yet", _TURN_ON)
        if not is_before:
            lost = failure("it does not send events to EventBridge: nothing is backed up at once", _TURN_ON)
        return ok("it sends events to EventBridge") if has_bridge else lost
    ours = system.arn("sqs", f"{system.name}-objects")
    targets = [(each, each[name]) for kind, name in _TARGETS.items() for each in now.get(kind, ())]
    if is_before:
        there = [f"{', '.join(each['Events'])} → {target}" for each, target in targets if target != ours]
        there += ["all events → EventBridge"] * (has_bridge and is_direct)  # Terraform then sets no EventBridge
        says = f"terraform apply would remove what it notifies now: {'; '.join(there)}"
        advice = "notifications: eventbridge in the policy file keeps them"
        return failure(says, advice) if there else ok("it has no notifications now: nothing is lost")
    where = f"{system.name}-objects" if is_direct else "EventBridge"
    if ours in [target for _, target in targets] if is_direct else has_bridge:
        return ok(f"it notifies {where}")
    return failure(f"it does not notify {where}: somebody replaced its notifications", APPLY)


def _inventory(system: System, bucket: str, region: str) -> Finding:
    """A night that finds no fresh report lists the bucket."""
    reports = system.policy.inventory
    assert reports is not None
    place = f"s3://{reports.buckets[Region(region)]}/{reports.prefix}{bucket}/{system.name}/"
    look = "look at the policy and the key of the bucket of reports"
    try:
        report = system.stored(region, lambda store: find_inventory(store, place))
    except ManifestError:
        return warning("no complete report was delivered yet", f"the first one takes two days: after that {look}")
    hours = (time.time() - report.created_at) / 3600
    says = f"the last complete report is {hours:,.0f} hours old"
    return failure(says, look) if hours > INVENTORY_HOURS_MAX else ok(says)
