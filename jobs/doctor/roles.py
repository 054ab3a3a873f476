"""Questions about roles: may each do what its job does? IAM simulates the actions of the client's operations.

The simulation knows the role's policies, its permissions boundary and the organization's policies. It does not know the
policies of buckets, queues and keys:
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from jobs.core.enums import AnnotationRule, ArchiveSide, Deletes
from jobs.doctor.buckets import encryption_key
from jobs.doctor.model import APPLY, Finding, Question, failure, ok, warning
from jobs.doctor.system import FUNCTIONS, System
from jobs.policy.model import Pair
from jobs.policy.resolved import FILE_NAME
from jobs.s3.operations import Operation

SAMPLE = "sealift-doctor"
"""The end of a sample key below a prefix."""

_LOOK = (Operation.HEAD, Operation.LIST_OBJECTS, Operation.LIST_VERSIONS)
_READ = (*_LOOK, Operation.GET, Operation.GET_TAGS)
_WRITE = (Operation.PUT, Operation.ABORT, Operation.LIST_PARTS)
_LISTS = (Operation.LIST_OBJECTS,)
_ORIGINALS = (*_READ, Operation.DELETE_VERSIONS)
_WORK: Mapping[str, Mapping[str, tuple[Operation, ...]]] = {
    "backup": {"source": _READ, "copy": _READ + _WRITE},
    "replicate": {"source": _READ, "copy": _READ + _WRITE},
    "verify": {"source": _LOOK, "copy": _LOOK, "replica": _LOOK, "archive": _LOOK},
    "nightly": {"source": _LISTS, "copy": _LISTS, "replica": _LISTS},
    "reconcile": {"source": _LISTS, "copy": _LISTS},
    "compact": {"packed": _READ, "archive": (*_LOOK, *_WRITE)},
    "restore": {"copy": _LOOK, "archive": (*_LOOK, Operation.RESTORE)},
    "expire": {"packed": _ORIGINALS, "archive": _LOOK},
}
"""What functions and jobs send to which places. All of them read and write the ledger."""
_SUBMITS = {
    "submit": ("nightly", "backfill"),
    "nightly": ("replicate", "verify"),
    "backfill": ("replicate",),
}
_MUST_NOT = ("s3:DeleteObjectVersion", "s3:BypassGovernanceRetention")


class Need(NamedTuple):
    """Actions on resources, with the context that the request brings. `must_not`: they have to be refused."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    context: Mapping[str, str]
    must_not: bool = False


class _Prefix(NamedTuple):
    bucket: str
    region: str
    prefix: str


def questions(system: System) -> Iterator[Question]:
    """Of each function and job, by the role that it really has."""
    for user in (*FUNCTIONS, *system.jobs):
        yield Question("role", user, partial(_role, system, user))


def _role(system: System, user: str) -> Finding | None:
    found = system.function(user) if user in FUNCTIONS else system.definition(user)
    if found is None:  # another line says so
        return None
    role = found.get("Role" if user in FUNCTIONS else "jobRoleArn")
    if role is None:
        return failure("it has no role: it may do nothing", APPLY)
    name, missing = role.rpartition("/")[2], set[str]()
    for need in needs(system, user):
        for action, resource, answer, unknown in _simulate(system, role, need):
            if (answer == "allowed") == need.must_not:
                if unknown and not need.must_not:
                    missing |= unknown
                elif need.must_not:
                    return failure(f"{name} may {action} on {resource}, which no such role should", APPLY)
                else:
                    return failure(f"{name} may not {action} on {resource} ({answer})", APPLY)
    if missing:
        return warning(f"not known: a policy of {name} asks for {', '.join(sorted(missing))}", "look at that policy")
    return ok(f"{name} may do what it has to")


def _simulate(system: System, role: str, need: Need) -> Iterator[tuple[str, str, str, set[str]]]:
    """(action, resource, decision, keys that the context lacks). Raises ValueError if a decision is left out."""
    entries = [
        {"ContextKeyName": name, "ContextKeyType": "string", "ContextKeyValues": [value]}
        for name, value in need.context.items()
    ]
    asked: dict[str, Any] = {
        "PolicySourceArn": role, "ActionNames": need.actions, "ResourceArns": need.resources, "ContextEntries": entries,
    }  # fmt: skip
    wanted = {(action, resource) for action in need.actions for resource in need.resources}
    while True:
        answer = system.call("iam", "SimulatePrincipalPolicy", role, **asked)
        for result in answer["EvaluationResults"]:
            action = result["EvalActionName"]
            for part in result.get("ResourceSpecificResults") or [result]:
                resource = part["EvalResourceName"]
                decision = part.get("EvalResourceDecision") or part["EvalDecision"]
                wanted.discard((action, resource))
                yield action, resource, decision, set(part.get("MissingContextValues", ()))
        if not answer.get("IsTruncated"):
            break
        asked["Marker"] = answer["Marker"]
    if wanted:
        raise ValueError(f"no decision on {' on '.join(min(wanted))}")


def needs(system: System, user: str) -> Iterator[Need]:
    """What the role of a function or a job has to be allowed, and what it must not be."""
    policy = system.policy
    ledger = _Prefix(policy.ledger.bucket, policy.ledger.region, policy.ledger.prefix)
    yield from _on(system, ledger, (Operation.GET, Operation.PUT, Operation.LIST_OBJECTS))
    for pair in policy.pairs:
        for kind, operations in _WORK.get(user, {}).items():
            for place in _places(pair, kind, user):
                yield from _on(system, place, operations, _more(pair, kind, operations))
    yield from _of_services(system, user)
    copies = [f"arn:aws:s3:::{place.bucket}/{place.prefix}{SAMPLE}" for place in _places(policy.pairs[0], "copy", user)]
    if user != "expire":
        yield Need(_MUST_NOT, tuple(copies[:1]), {}, must_not=True)
    written = f"arn:aws:s3:::{ledger.bucket}/{ledger.prefix}{FILE_NAME}"
    yield Need(("s3:PutObject",), (written,), {}, must_not=True)


def _more(pair: Pair, kind: str, operations: Sequence[Operation]) -> tuple[str, ...]:
    """What requests carry, or ask for along with an object, by the policy of a pair."""
    actions: list[str] = []
    copies_notes = pair.destination.annotations is AnnotationRule.COPY and Operation.GET_TAGS in operations
    if copies_notes and kind in ("source", "copy"):
        actions += [*Operation.LIST_ANNOTATIONS.actions, *Operation.GET_ANNOTATION.actions]
    if kind == "copy" and Operation.PUT in operations:
        actions += ["s3:PutObjectTagging", *Operation.PUT_ANNOTATION.actions * copies_notes]
        actions += ["s3:DeleteObject"] * (pair.deletes is Deletes.MIRROR)  # a delete marker
    return tuple(actions)


def _on(system: System, place: _Prefix, operations: Sequence[Operation], more: tuple[str, ...] = ()) -> Iterator[Need]:
    bucket = f"arn:aws:s3:::{place.bucket}"
    lists = [each for each in operations if each.is_of_bucket and each is not Operation.DELETE_VERSIONS]
    of_objects = [each for each in operations if each not in lists]
    actions = dict.fromkeys(action for each in lists for action in each.actions)
    yield Need(tuple(actions), (bucket,), {"s3:prefix": place.prefix})
    actions = dict.fromkeys([*(action for each in of_objects for action in each.actions), *more])
    if actions:
        yield Need(tuple(actions), (f"{bucket}/{place.prefix}{SAMPLE}",), {})
    is_read = any(each in (Operation.GET, Operation.HEAD) for each in operations)
    if is_read and place.bucket not in {pair.source.bucket for pair in system.policy.pairs}:
        key = encryption_key(system, place.bucket, place.region)
        if key is not None:
            writes = ("kms:GenerateDataKey",) if Operation.PUT in operations else ()
            yield Need(("kms:Decrypt", *writes), (key,), {"kms:ViaService": f"s3.{place.region}.amazonaws.com"})


def _places(pair: Pair, kind: str, user: str) -> Iterator[_Prefix]:
    source, hot, archive = pair.source, pair.destination, pair.archive
    if kind == "archive":
        if archive:
            yield _Prefix(archive.bucket, archive.region, archive.prefix)
        return
    if kind == "packed":
        if archive is None or (user == "expire" and archive.expire is None):
            return
        kind = "source" if archive.side is ArchiveSide.SOURCE else "copy"
        wanted = [rule.prefix for rule in archive.rules] if user == "expire" else [""]
    else:
        wanted = [""]
    side = {"source": source, "copy": hot, "replica": pair.replica}[kind]
    if side is None:
        return
    for prefix in source.prefixes:
        for rule in wanted:
            if rule.startswith(prefix) or prefix.startswith(rule):
                narrow = max(rule, prefix, key=len)
                yield _Prefix(side.bucket, side.region, narrow if kind == "source" else pair.copy_key(narrow))


def _of_services(system: System, user: str) -> Iterator[Need]:
    name, definitions = system.name, [job for job in _SUBMITS.get(user, ()) if job in system.jobs]
    if definitions:
        queue = system.arn("batch", f"job-queue/{name}-{'orchestrators' if user in FUNCTIONS else 'workers'}")
        resources = (queue, *(system.arn("batch", f"job-definition/{name}-{job}") for job in definitions))
        yield Need(("batch:SubmitJob",), resources, {})
    if user == "backup":
        actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility")
        yield Need(actions, (system.arn("sqs", f"{name}-objects"),), {})
    if user == "enqueue":
        yield Need(("lambda:InvokeFunction",), (system.arn("lambda", f"function:{name}-submit"),), {})
    if user == "follow":
        yield Need(("sns:Publish",), (system.topic,), {})
