"""What each role has to be allowed, and what it must not be. Pure.

The table is that of terraform/iam.tf, read as requests: an action, a resource, the context that
the request brings. A test asks the policies that Terraform renders about each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import commonprefix
from typing import NamedTuple

from jobs.aws.batch_arrays import SYSTEM_TAG
from jobs.aws.batch_settings import EcrImage
from jobs.core.enums import AnnotationRule
from jobs.doctor.expected import (
    FUNCTIONS,
    SAMPLE,
    BucketPlan,
    bucket_plans,
    job_queue_plans,
    jobs,
    mirrors,
    replication_plans,
)
from jobs.policy.model import Pair, Policy


@dataclass(frozen=True, slots=True)
class Need:
    """Actions on one resource. `must_not`: they have to be refused."""

    actions: tuple[str, ...]
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)
    must_not: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A prefix of a bucket, by what it is to us: source, copy, replica, archive, reports, ledger.

    `original`: what expire looks at.
    `mark`: copies that delete markers may hide. `covered`: originals that expire may delete.
    """

    kind: str
    bucket: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Names:
    """What ARNs are made of. `keys`: bucket → the ARN of the KMS key that encrypts it."""

    partition: str
    account: str
    region: str
    keys: Mapping[str, str]

    @property
    def suffix(self) -> str:
        """The end of the names of AWS's services."""
        return "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"


_READ = ("s3:GetObject", "s3:GetObjectVersion")
_TAGS = ("s3:GetObjectTagging", "s3:GetObjectVersionTagging")
_LIST_ANNOTATIONS = ("s3:ListObjectAnnotations", "s3:ListObjectVersionAnnotations")
_ANNOTATIONS = ("s3:GetObjectAnnotation", "s3:GetObjectVersionAnnotation", *_LIST_ANNOTATIONS)
_WRITE = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
_WRITE_ANNOTATIONS = ("s3:PutObjectAnnotation", "s3:PutObjectVersionAnnotation")
_LOCKS = ("Retention", "LegalHold")
_DESCRIBE = ("batch:DescribeJobs", "batch:DescribeJobQueues", "batch:DescribeJobDefinitions")
_EVERYWHERE = ("source", "copy", "replica", "archive", "reports")


class _Role(NamedTuple):
    """Kinds of places that a role reads and lists, kinds that it writes, and jobs that it submits."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    submits: tuple[str, ...] = ()


_ROLES = {
    "backup": _Role(reads=("source", "copy"), writes=("copy",)),
    "enqueue": _Role(),
    "submit": _Role(reads=("reports",), submits=("nightly", "backfill", "reconcile")),
    "follow": _Role(submits=("replicate", "restore")),
    "inventory": _Role(reads=("source", "copy", "replica")),
    "replicate": _Role(reads=("source", "copy", "reports"), writes=("copy",), submits=("replicate", "verify")),
    "verify": _Role(reads=_EVERYWHERE, submits=("verify",)),
    "reconcile": _Role(reads=("source", "copy", "replica", "reports"), submits=("replicate", "verify", "reconcile")),
    "backfill": _Role(reads=("source", "copy", "reports"), submits=("replicate", "verify")),
    "nightly": _Role(reads=("source", "copy", "replica", "reports"), submits=("replicate", "verify")),
    "compact": _Role(
        reads=("source", "copy", "archive", "reports"), writes=("archive",), submits=("compact", "verify")
    ),
    "restore": _Role(reads=("source", "copy", "replica", "archive"), submits=("restore", "verify")),
    "expire": _Role(reads=("original", "archive")),
}
_MARKS = ("backup", "replicate")
_TAGGED = ("source", "copy", "original")
_KEEP_TAGS = ("backup", "replicate", "compact", "restore")
_COPIES = ("backup", "replicate")
_LIST_NO_VERSIONS = ("enqueue", "submit", "follow", "backfill")
_ASK_VERSIONING = ("backup", "replicate", "verify", "reconcile", "restore", "expire")


def roles(policy: Policy) -> list[str]:
    """The functions and jobs that have a role."""
    return [*FUNCTIONS, *jobs(policy)]


def needs(policy: Policy, role: str, names: Names) -> list[Need]:
    """What a role needs, the ledger first, and what it must not be allowed."""
    reads, writes, submits = _ROLES[role]
    places = [place for place in _places(policy) if place.kind in (*reads, *writes)]
    plans = {plan.bucket: plan for plan in bucket_plans(policy)}
    found = [*_on_ledger(policy, plans, names)]
    for place in places:
        has_versions = role not in _LIST_NO_VERSIONS and place.kind != "reports"
        found += _on_place(place, place.kind in writes, plans, names, has_versions=has_versions)
    if role in _ASK_VERSIONING:
        buckets = dict.fromkeys(place.bucket for place in places if place.kind != "reports")
        found += [Need(("s3:GetBucketVersioning",), _arn(bucket, names)) for bucket in buckets]
    found += _along_with_copies(policy, role, names)
    if role in (*_KEEP_TAGS, "expire"):
        found += [Need(_TAGS, _object(place, names)) for place in places if place.kind in _TAGGED]
    found += _annotations(policy, role, places, names)
    found += _shared_listings(policy, role, names)
    if role in _MARKS:
        found += [Need(("s3:DeleteObject",), _object(place, names)) for place in _marked(policy)]
    if role == "restore":
        thawed = [place for place in places if place.kind == "archive"]
        found += [Need(("s3:RestoreObject",), _object(place, names)) for place in thawed]
    if role == "expire":
        actions = ("s3:DeleteObject", "s3:DeleteObjectVersion", *(f"s3:GetObject{lock}" for lock in _LOCKS))
        found += [Need(actions, _object(place, names)) for place in _covered(policy)]
        buckets = dict.fromkeys(place.bucket for place in places if place.kind == "archive")
        found += [Need(("s3:GetLifecycleConfiguration",), _arn(bucket, names)) for bucket in buckets]
    found += _submissions(policy, role, submits, names)
    if role in FUNCTIONS:
        found += _of_function(policy, role, names)
    return [*found, *_forbidden(policy, role, names)]


def needs_of_replication(policy: Policy, names: Names) -> list[Need]:
    """What S3's own replication needs (replication.tf)."""
    found = []
    for plan in (each for each in replication_plans(policy) if each.owner is None):
        hot, twin = Place("copy", plan.hot, plan.prefix), Place("replica", plan.replica, plan.prefix)
        annotations = ["s3:GetObjectVersionAnnotationForReplication"] * plan.replicates_annotations
        reads = ("s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", _TAGS[1], *annotations)
        writes = ("s3:ReplicateObject", "s3:ReplicateTags", *["s3:ReplicateDelete"] * plan.replicates_markers)
        found += [
            Need(("s3:GetReplicationConfiguration", "s3:ListBucket"), _arn(plan.hot, names)),
            Need(reads, _object(hot, names)),
            Need(writes, _object(twin, names)),
        ]
        for place, region, action in ((hot, plan.hot_region, "Decrypt"), (twin, plan.replica_region, "Encrypt")):
            if key := names.keys.get(place.bucket):
                found.append(Need((f"kms:{action}",), key, {"kms:ViaService": f"s3.{region}.{names.suffix}"}))
    return found


def needs_of_execution(image: EcrImage, names: Names) -> list[Need]:
    """What ECS needs to start a container of the image (iam_services.tf)."""
    pull = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    repository = f"arn:{names.partition}:ecr:{image.region}:{image.registry}:repository/{image.repository}"
    return [Need(("ecr:GetAuthorizationToken",), "*"), Need(pull, repository)]


def needs_of_schedules(policy: Policy, names: Names) -> list[Need]:
    """What Scheduler needs to call functions (iam_services.tf)."""
    place = f"arn:{names.partition}:lambda:{names.region}:{names.account}:function:{policy.name}"
    return [Need(("lambda:InvokeFunction",), f"{place}-{function}") for function in ("submit", "enqueue")]


def needs_of_rules(names: Names) -> list[Need]:
    """What rules of other regions need to forward events (iam_services.tf)."""
    return [
        Need(("events:PutEvents",), f"arn:{names.partition}:events:{names.region}:{names.account}:event-bus/default")
    ]


def _forbidden(policy: Policy, role: str, names: Names) -> Iterator[Need]:
    """No role bypasses a lock, none but expire destroys a version, none writes the policy file."""
    copies = [place for place in _places(policy) if place.kind == "copy"]
    actions = ("s3:BypassGovernanceRetention", "s3:DeleteObjectVersion")
    for place in copies[:1] if role != "expire" else []:
        yield Need(actions, _object(place, names), must_not=True)
    yield Need(
        ("s3:PutObject",), f"{_arn(policy.ledger.bucket, names)}/{policy.ledger.prefix}policy.yaml", must_not=True
    )


def _on_ledger(policy: Policy, plans: Mapping[str, BucketPlan], names: Names) -> Iterator[Need]:
    ledger = Place("ledger", str(policy.ledger.bucket), str(policy.ledger.prefix))
    yield from _on_place(ledger, True, plans, names)


def _on_place(
    place: Place, is_written: bool, plans: Mapping[str, BucketPlan], names: Names, *, has_versions: bool = False
) -> Iterator[Need]:
    yield Need(_READ + (_WRITE if is_written else ()), _object(place, names))
    lists = ("s3:ListBucket", *["s3:ListBucketVersions"] * has_versions)
    yield Need(lists, _arn(place.bucket, names), {"s3:prefix": place.prefix})
    key = names.keys.get(place.bucket)
    if key is not None:
        region = plans[place.bucket].region
        actions = ("kms:Decrypt", "kms:GenerateDataKey") if is_written else ("kms:Decrypt",)
        yield Need(actions, key, {"kms:ViaService": f"s3.{region}.{names.suffix}"})


def _along_with_copies(policy: Policy, role: str, names: Names) -> Iterator[Need]:
    """What comes with an object that is written: tags, and by the policy locks."""
    for pair in policy.pairs:
        copies = [place for place in _of_pair(pair) if place.kind == "copy"]
        sources = [place for place in _of_pair(pair) if place.kind == "source"]
        for place in copies if role in _COPIES else ():
            yield Need(("s3:PutObjectTagging",), _object(place, names))
        if role == "replicate" and pair.destination.object_lock:
            for place in (*sources, *copies):
                yield Need(tuple(f"s3:GetObject{lock}" for lock in _LOCKS), _object(place, names))
            for place in copies:
                yield Need(tuple(f"s3:PutObject{lock}" for lock in _LOCKS), _object(place, names))


def _shared_listings(policy: Policy, role: str, names: Names) -> Iterator[Need]:
    """A night lists a source by what its prefixes share. A backfill looks below a destination's
    prefix.
    """
    for pair in policy.pairs:
        listed = {
            "nightly": (str(pair.source.bucket), commonprefix(pair.source.prefixes)),
            "backfill": (str(pair.destination.bucket), pair.copy_key("")),
        }
        if role in listed:
            bucket, prefix = listed[role]
            yield Need(("s3:ListBucket",), _arn(bucket, names), {"s3:prefix": prefix})


def _annotations(policy: Policy, role: str, places: Sequence[Place], names: Names) -> Iterator[Need]:
    """What a role needs to copy annotations, or to see that none are lost.

    Terraform grants it unless `object_annotations` is false. No role needs it where the policy
    skips annotations.
    """
    if all(pair.destination.annotations is AnnotationRule.SKIP for pair in policy.pairs):
        return
    for place in places:
        if role in (*_KEEP_TAGS, "expire") and place.kind in _TAGGED:
            yield Need(_LIST_ANNOTATIONS if role == "compact" else _ANNOTATIONS, _object(place, names))
        if role in ("backup", "replicate") and place.kind == "copy":
            yield Need(_WRITE_ANNOTATIONS, _object(place, names))


def _submissions(policy: Policy, role: str, submits: tuple[str, ...], names: Names) -> Iterator[Need]:
    there = [job for job in submits if job in jobs(policy)]
    if not there:
        return
    batch = f"arn:{names.partition}:batch:{names.region}:{names.account}"
    queues = [plan for plan in job_queue_plans(policy) if (plan.use == "orchestrators") == (role in FUNCTIONS)]
    for queue in queues or job_queue_plans(policy):
        yield Need(("batch:SubmitJob",), f"{batch}:job-queue/{queue.name}")
    for job in there:
        yield Need(("batch:SubmitJob",), f"{batch}:job-definition/{policy.name}-{job}")
    # SubmitJob with tags asks for it
    yield Need(("batch:TagResource",), f"{batch}:job/{SAMPLE}")
    yield Need(("batch:TerminateJob",), f"{batch}:job/{SAMPLE}", {f"aws:ResourceTag/{SYSTEM_TAG}": str(policy.name)})
    yield Need(("batch:ListJobs", *(() if role in FUNCTIONS else _DESCRIBE)), "*")


def _of_function(policy: Policy, function: str, names: Names) -> Iterator[Need]:
    here = f"{names.region}:{names.account}"
    yield Need(("sqs:SendMessage",), f"arn:{names.partition}:sqs:{here}:{policy.name}-undelivered")
    if function == "backup":
        actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility")
        yield Need(actions, f"arn:{names.partition}:sqs:{here}:{policy.name}-objects")
    if function == "enqueue":
        yield Need(("lambda:InvokeFunction",), f"arn:{names.partition}:lambda:{here}:function:{policy.name}-submit")
    if function == "follow":
        topic = policy.alarms.topic or f"arn:{names.partition}:sns:{here}:{policy.name}-alarms"
        yield Need(("sns:Publish",), str(topic))


def _places(policy: Policy) -> list[Place]:
    places = [place for pair in policy.pairs for place in _of_pair(pair)]
    if policy.inventory:
        places += [
            Place("reports", str(each), str(policy.inventory.prefix)) for each in policy.inventory.buckets.values()
        ]
    return list(dict.fromkeys(places))


def _of_pair(pair: Pair) -> Iterator[Place]:
    for prefix in pair.source.prefixes:
        yield Place("source", str(pair.source.bucket), str(prefix))
        yield Place("copy", str(pair.destination.bucket), pair.copy_key(prefix))
        if pair.replica:
            yield Place("replica", str(pair.replica.bucket), pair.copy_key(prefix))
    if pair.archive:
        yield Place("archive", str(pair.archive.bucket), str(pair.archive.prefix))
    if pair.archive and pair.archive.expire:
        side = pair.source if pair.archive.side == "source" else pair.destination
        for prefix in pair.source.prefixes:
            yield Place("original", str(side.bucket), str(prefix) if side is pair.source else pair.copy_key(prefix))


def _marked(policy: Policy) -> Iterator[Place]:
    """Where delete markers are put."""
    for pair in policy.pairs:
        for prefix in pair.source.prefixes if mirrors(pair) else ():
            yield Place("mark", str(pair.destination.bucket), pair.copy_key(prefix))


def _covered(policy: Policy) -> Iterator[Place]:
    """What archive rules let expire delete: of rule and pair, the narrower prefix (policy.tf)."""
    for pair in policy.pairs:
        if pair.archive is None or pair.archive.expire is None:
            continue
        is_source = pair.archive.side == "source"
        bucket = pair.source.bucket if is_source else pair.destination.bucket
        for rule in pair.archive.rules:
            for prefix in pair.source.prefixes:
                if rule.prefix.startswith(prefix) or prefix.startswith(rule.prefix):
                    narrow = max(rule.prefix, prefix, key=len)
                    yield Place("covered", str(bucket), str(narrow) if is_source else pair.copy_key(narrow))


def _object(place: Place, names: Names) -> str:
    return f"{_arn(place.bucket, names)}/{place.prefix}{SAMPLE}"


def _arn(bucket: str, names: Names) -> str:
    return f"arn:{names.partition}:s3:::{bucket}"
