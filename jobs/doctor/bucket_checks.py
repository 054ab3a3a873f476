"""Checks of buckets: ours, the protected ones, S3's own replication, inventories."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.aws.bucket_settings import BucketPlace, LifecycleRule, QueueNotification, ReplicationRule
from jobs.aws.readings import Reading, Unread
from jobs.doctor.batch_replication import advice
from jobs.doctor.expected import DIRECT_EVENTS
from jobs.doctor.facts import BucketFacts, InventoryFacts, ReplicationFacts, SourceFacts
from jobs.doctor.model import Check, Finding, cannot_say, failure, known, ok, warning
from jobs.nights.calendar import INVENTORY_HOURS_MAX
from jobs.reports.figures import human_seconds

APPLY = "run terraform apply"


def _in_region(place: Reading[BucketPlace | None], wanted: str) -> Finding:
    found = known(place)
    if found is None:
        return failure("there is no such bucket", f"create it in {wanted}, or correct the policy file")
    if found.region is None:
        cannot_say(_not_offered("s3:ListBucket"))
    if found.region != wanted:
        return failure(f"it is in {found.region}, the policy says {wanted}", "correct the region in the policy file")
    return ok(f"it is in {wanted}")


def _not_offered(permission: str) -> Unread:
    """A question that AWS answers for every bucket, and this server does not."""
    return Unread(permission, "another server than S3", is_offered=False)


def _bucket_region(bucket: BucketFacts) -> Finding:
    return _in_region(bucket.place, bucket.plan.region)


def _versioning(bucket: BucketFacts) -> Finding | None:
    if bucket.place is None:
        return None
    found = known(bucket.versioning)
    if found == "Enabled":
        return ok("versions are kept")
    said = "versioning is suspended" if found == "Suspended" else "versioning was never enabled"
    return failure(f"{said}: a write replaces what is there for good", "enable versioning: " + APPLY)


def _encryption(bucket: BucketFacts) -> Finding | None:
    if bucket.place is None:
        return None
    found, plan = known(bucket.encryption), bucket.plan
    if found is None:  # in S3 every bucket has one, since January 2023
        cannot_say(_not_offered("s3:GetEncryptionConfiguration"))
    if found.algorithm != plan.encryption:
        return failure(f"new objects get {found.algorithm}, the policy says {plan.encryption}", APPLY)
    if plan.kms_key is None:
        return ok(f"new objects are encrypted by {found.algorithm}")
    if found.key is None:
        return failure("it uses AWS's own KMS key, the policy names another one", APPLY)
    return ok(f"new objects are encrypted by {found.algorithm}")


def _key(bucket: BucketFacts) -> Finding | None:
    """The KMS key of the default encryption."""
    if bucket.place is None or bucket.plan.kms_key is None:
        return None
    if bucket.key is None:
        encryption = known(bucket.encryption)
        if encryption is None or encryption.key is None:
            return None  # what the line on encryption says
        return failure(f"its KMS key {encryption.key} does not exist", "give the bucket a key that exists: " + APPLY)
    key = known(bucket.key)
    if key.state != "Enabled":
        advice = "cancel its deletion at once" if key.state == "PendingDeletion" else "enable the key"
        return failure(f"its KMS key {key.arn} is {key.state}: its objects cannot be read", advice)
    planned = known(bucket.planned_key)
    if bucket.plan.kms_key != "create" and planned is None:
        return failure(f"the key {bucket.plan.kms_key} of the policy does not exist", "correct the policy file")
    if planned is not None and planned.arn != key.arn:
        return failure(f"it uses the KMS key {key.arn}, the policy says {planned.arn}", APPLY)
    if not key.is_customers:
        return failure(f"its KMS key {key.arn} is AWS's own: other roles cannot be allowed to use it", APPLY)
    return ok("its KMS key is enabled")


def _lock(bucket: BucketFacts) -> Finding | None:
    plan = bucket.plan
    if bucket.place is None or not plan.is_locked:
        return None
    found = known(bucket.lock)
    if found is None:
        return failure(
            "Object Lock is off, the policy wants it on", "make another bucket with Object Lock, or enable it"
        )
    if plan.lock is None:
        return ok("Object Lock is on, each version brings its retention")
    if found.days is None or found.mode is None:
        return failure("Object Lock is on, but new versions get no retention", APPLY)
    wanted = f"{plan.lock.mode} for {plan.lock.days} days"
    if found.mode != plan.lock.mode or found.days < plan.lock.days:
        return failure(f"new versions get {found.mode} for {found.days} days, the policy says {wanted}", APPLY)
    return ok(f"new versions get {found.mode} for {found.days} days")


def _ownership(bucket: BucketFacts) -> Finding | None:
    if bucket.place is None:
        return None
    found = known(bucket.ownership)
    if found != "BucketOwnerEnforced":
        return failure(f"object ownership is {found or 'not set'}: an object may belong to another account", APPLY)
    return ok("the bucket's owner owns every object")


def _public(bucket: BucketFacts) -> Finding | None:
    if bucket.place is None:
        return None
    if not known(bucket.blocks_public):
        return failure("public access is not blocked", APPLY)
    return ok("public access is blocked")


def _lifecycle(bucket: BucketFacts) -> Finding | None:
    if bucket.place is None:
        return None
    rules, plan = known(bucket.lifecycle), bucket.plan
    for rule in rules:
        if rule.prefix.startswith(plan.may_expire or "\0"):
            continue
        if rule.expires:
            return failure(
                f"lifecycle rule {rule.rule_id} deletes objects below {rule.prefix!r} {rule.expires}",
                "remove the rule: only Sealift may delete here",
            )
        if rule.noncurrent_days is not None and rule.noncurrent_days < (plan.noncurrent_days or 1e9):
            kept = "for ever" if plan.noncurrent_days is None else f"for {plan.noncurrent_days} days"
            return failure(
                f"lifecycle rule {rule.rule_id} deletes versions {rule.noncurrent_days} days after they are replaced, "
                f"the policy keeps them {kept}",
                "remove the rule: " + APPLY,
            )
        unsaid = rule.transitions != plan.transitions
        for what, moves in (("objects", rule.transitions if unsaid else ()), ("versions", rule.noncurrent_transitions)):
            if moves:
                to = ", ".join(f"{name} after {days} days" for days, name in moves)
                return failure(
                    f"lifecycle rule {rule.rule_id} moves {what} to {to}, the policy does not say so",
                    "remove the rule: " + APPLY,
                )
    return _missing_rules(rules, bucket) or ok("lifecycle rules delete nothing that is kept")


def _missing_rules(rules: Sequence[LifecycleRule], bucket: BucketFacts) -> Finding | None:
    """What costs money while it is not there."""
    whole = [rule for rule in rules if not rule.prefix and not rule.is_partial]
    place = known(bucket.place)
    if place is not None and place.region is None:  # who owns the server is billed by nobody
        cannot_say(_not_offered("s3:PutLifecycleConfiguration"))
    if not any(rule.abort_days for rule in whole):
        return warning("no lifecycle rule ends uploads that were left: their parts are billed for ever", APPLY)
    if bucket.plan.noncurrent_days and not any(rule.noncurrent_days for rule in whole):
        return warning("no lifecycle rule removes noncurrent versions: they are billed for ever", APPLY)
    if bucket.plan.transitions and not any(rule.transitions for rule in whole):
        return warning("the policy's transitions are not there", APPLY)
    return None


BUCKET_CHECKS = (
    Check("region", _bucket_region),
    Check("versioning", _versioning),
    Check("encryption", _encryption),
    Check("kms-key", _key),
    Check("object-lock", _lock),
    Check("ownership", _ownership),
    Check("public-access", _public),
    Check("lifecycle", _lifecycle),
)


def _source_region(source: SourceFacts) -> Finding:
    return _in_region(source.place, source.plan.region)


def _source_versioning(source: SourceFacts) -> Finding | None:
    if source.place is None:
        return None
    if known(source.versioning) != "Enabled":
        return warning(
            "the protected bucket keeps no versions: what is overwritten before it is copied is lost",
            "enable versioning there",
        )
    return ok("versions are kept")


def _notifications(source: SourceFacts) -> Finding | None:
    plan = source.plan
    found, place = known(source.notifications), known(source.place)
    if place is None or found is None:
        return None
    if place.region is None and not found.queues:  # `sealift local` relays events itself
        cannot_say(_not_offered("s3:GetBucketNotification"))
    if not plan.is_direct:
        if not found.has_event_bridge:
            return failure("it sends no events to EventBridge", "enable EventBridge in the bucket's notifications")
        return ok("it sends its events to EventBridge")
    queue = known(source.queue)
    if queue is None:
        return failure("the queue of events does not exist: its events get lost", APPLY)
    ours = [each for each in found.queues if each.queue_arn == queue.arn]
    if not ours:
        there = ", ".join(sorted({each.queue_arn for each in found.queues})) or "nobody"
        return failure(f"it notifies {there}, not {queue.name}", "somebody replaced its notifications: " + APPLY)
    for prefix in plan.prefixes:
        covering = [each for each in ours if _covers(each, prefix)]
        for event in DIRECT_EVENTS:
            if not any(event in each.events for each in covering):
                return failure(f"{queue.name} is not notified of {event} of all keys below {prefix!r}", APPLY)
    return ok(f"it notifies {queue.name}")


def _covers(notification: QueueNotification, prefix: str) -> bool:
    """Whether it is about all keys below the prefix."""
    return notification.prefix is not None and prefix.startswith(notification.prefix) and not notification.suffix


SOURCE_CHECKS = (
    Check("region", _source_region),
    Check("versioning", _source_versioning),
    Check("notifications", _notifications),
)


def _replication(facts: ReplicationFacts) -> Finding:
    plan = facts.plan
    covering = [rule for rule in known(facts.rules) if plan.prefix.startswith(rule.prefix)]
    to_replica = [rule for rule in covering if rule.destination == plan.replica]
    if not to_replica:
        there = ", ".join(sorted({rule.destination for rule in covering})) or "nowhere"
        return failure(f"copies below {plan.prefix!r} are replicated to {there}, not to {plan.replica}", APPLY)
    enabled = [rule for rule in to_replica if rule.is_enabled]
    if not enabled:
        return failure(f"replication rule {to_replica[0].rule_id} is disabled", "enable it: " + APPLY)
    whole = [rule for rule in enabled if not rule.is_partial]
    if not whole:
        return failure(f"replication rule {enabled[0].rule_id} takes only objects with certain tags", APPLY)
    return _replication_details(max(whole, key=lambda rule: rule.priority), facts)


def _replication_details(rule: ReplicationRule, facts: ReplicationFacts) -> Finding:
    plan = facts.plan
    if plan.needs_kms and not rule.replicates_kms:
        return failure(f"replication rule {rule.rule_id} leaves out objects that KMS encrypts", APPLY)
    if plan.replicates_markers != rule.replicates_markers:
        does = "replicates" if rule.replicates_markers else "leaves out"
        return failure(f"replication rule {rule.rule_id} {does} delete markers, the policy says otherwise", APPLY)
    if not rule.has_metrics:
        return warning(f"replication rule {rule.rule_id} has no metrics: nobody sees it stop", APPLY)
    return ok(f"copies are replicated to {plan.replica}")


def _replication_backlog(facts: ReplicationFacts) -> Finding:
    if facts.plan.owner is not None:
        return ok(f"its metrics and alarms are in account {facts.plan.owner}, which forwards the alarms")
    failed = known(facts.failed)
    if failed:
        rules = facts.rules
        role = rules if isinstance(rules, Unread) else next((rule.role for rule in rules), None)
        return failure(
            f"S3 could not replicate {failed:,.0f} operations within a day, and does not try again",
            f"mend the cause, then {advice(facts.plan.hot, facts.plan.hot_region, role)}",
        )
    latency, pending = known(facts.latency_seconds), known(facts.pending)
    if latency is None:
        return warning("S3 has told no latency for a day", f"look at the metrics of rule {facts.plan.rule_id}")
    waiting = f"{pending or 0:,.0f} operations wait, it is {human_seconds(latency)} behind"
    if latency > facts.plan.seconds_max:
        return failure(waiting, "look for objects that are PENDING or FAILED, and at the role of replication")
    return ok(waiting)


REPLICATION_CHECKS = (Check("replication", _replication), Check("replication-backlog", _replication_backlog))


def _inventory(facts: InventoryFacts) -> Finding:
    plan, found = facts.plan, known(facts.setting)
    if found is None:
        return failure("it has no inventory of this system", APPLY)
    if not found.is_enabled:
        return failure("its inventory is disabled", "enable it: " + APPLY)
    if found.bucket != plan.reports or found.prefix.strip("/") != plan.prefix.strip("/"):
        there = f"{found.bucket}/{found.prefix}"
        return failure(f"its reports go to {there}, not to {plan.reports}/{plan.prefix}", APPLY)
    if found.versions != "All" or found.filter_prefix:
        return failure("its reports leave versions or keys out", APPLY)
    if found.frequency != "Daily":
        return warning(f"its reports are {found.frequency}, a night wants one of the last days", APPLY)
    return ok(f"its reports go to {plan.reports}")


def _inventory_age(facts: InventoryFacts) -> Finding | None:
    setting = facts.setting
    if setting is None:
        return None
    latest = known(facts.latest)
    if latest is None:
        return warning(
            "no complete report was delivered yet",
            "the first one takes two days: after that look at the policy and the key of the bucket of reports",
        )
    hours = (facts.now - latest) / 3600
    if hours > INVENTORY_HOURS_MAX:
        return failure(
            f"the last complete report is {hours:,.0f} hours old",
            "look at the policy and the key of the bucket of reports",
        )
    return ok(f"the last complete report is {hours:,.0f} hours old")


INVENTORY_CHECKS = (Check("inventory", _inventory), Check("inventory-age", _inventory_age))
