"""Questions about roles: may each do what its job does? IAM simulates the actions of the client's operations.

The simulation knows the role's policies, its permissions boundary and the organization's policies. It does not know the
policies of buckets, queues and keys:
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from jobs.core.enums import AnnotationRule
from jobs.core.model import Location, overlap
from jobs.doctor.model import APPLY, Finding, Question, failure, ok, warning
from jobs.doctor.system import FUNCTIONS, System
from jobs.policy.model import Pair
from jobs.policy.resolved import FILE_NAME
from jobs.policy.run_options import packed_side
from jobs.s3.operations import Operation

SAMPLE = "sealift-doctor"
"""The end of a sample key below a prefix."""

_LOOK = (Operation.HEAD, Operation.LIST_OBJECTS, Operation.LIST_VERSIONS)
_READ = (*_LOOK, Operation.GET, Operation.GET_TAGS)
_WRITE = (Operation.PUT, Operation.ABORT, Operation.LIST_PARTS)
_LISTS = (Operation.LIST_OBJECTS, Operation.LIST_VERSIONS)
_LIST = (Operation.LIST_OBJECTS,)
_ORIGINALS = (*_READ, Operation.DELETE)
_WORK: Mapping[str, Mapping[str, tuple[Operation, ...]]] = {
    "backup": {"source": _READ, "copy": _READ + _WRITE},
    "replicate": {"source": _READ, "copy": _READ + _WRITE},
    "verify": {"source": _LOOK, "copy": _LOOK, "replica": _LOOK, "archive": _LOOK},
    "nightly": {"source": _LIST, "copy": _LIST, "replica": _LIST},
    "compact": {"packed": _READ, "archive": (*_LOOK, *_WRITE)},
    "restore": {"copy": _LOOK, "archive": (*_LOOK, Operation.RESTORE)},
    "expire": {"packed": _ORIGINALS, "archive": _LOOK},
    "drill": dict.fromkeys(("source", "copy", "replica", "archive"), _READ),
}
"""What functions and jobs send to which places. All of them read and write the ledger."""
_MUST_NOT = ("s3:DeleteObjectVersion", "s3:BypassGovernanceRetention")


class Need(NamedTuple):
    """Actions on a resource, with the context that the request brings. `must_not`: they have to be refused."""

    actions: tuple[str, ...]
    resource: str
    context: Mapping[str, str]
    must_not: bool = False


def questions(system: System) -> Iterator[Question]:
    """Of each function and job, by the role that it really has."""
    for user in (*FUNCTIONS, *system.jobs):
        yield Question("role", user, partial(_role, system, user))


def _role(system: System, user: str) -> Finding:
    found = system.function(user) if user in FUNCTIONS else system.definition(user)
    if found is None or found.get("State") == "Failed":
        return failure("there is no such job definition, or Lambda calls the function Failed", APPLY)
    role = found.get("Role" if user in FUNCTIONS else "jobRoleArn")
    if role is None:
        return failure("it has no role: it may do nothing", APPLY)
    name, missing = role.rpartition("/")[2], set[str]()
    for need in needs(system, user):
        for action, answer, unknown in _simulate(system, role, need):
            if (answer == "allowed") != need.must_not:
                continue
            if need.must_not:
                return failure(f"{name} may {action} on {need.resource}, which no such role should", APPLY)
            if not unknown:
                return failure(f"{name} may not {action} on {need.resource} ({answer})", APPLY)
            missing |= unknown
    if missing:
        return warning(f"not known: a policy of {name} asks for {', '.join(sorted(missing))}", "look at that policy")
    return ok(f"{name} may do what it has to")


def _simulate(system: System, role: str, need: Need) -> Iterator[tuple[str, str, set[str]]]:
    """(action, decision, keys that the context lacks). Raises ValueError if a decision is left out."""
    entries = [
        {"ContextKeyName": name, "ContextKeyType": "string", "ContextKeyValues": [value]}
        for name, value in need.context.items()
    ]
    asked: dict[str, Any] = {"PolicySourceArn": role, "ActionNames": need.actions, "ContextEntries": entries}
    wanted = {*need.actions}
    while "Marker" not in asked or asked["Marker"]:
        answer = system.call("iam", "SimulatePrincipalPolicy", role, **asked, ResourceArns=[need.resource])
        for result in answer["EvaluationResults"]:
            wanted.discard(result["EvalActionName"])
            yield result["EvalActionName"], result["EvalDecision"], set(result.get("MissingContextValues", ()))
        asked["Marker"] = answer["Marker"] if answer.get("IsTruncated") else None
    if wanted:
        raise ValueError(f"no decision on {min(wanted)} on {need.resource}")


def needs(system: System, user: str) -> Iterator[Need]:
    """What the role of a function or a job has to be allowed, and what it must not be."""
    policy, work = system.policy, _WORK.get(user, {})
    ledger = Location(policy.ledger.bucket, policy.ledger.prefix)
    yield from _on(ledger, (Operation.GET, Operation.PUT, Operation.LIST_OBJECTS))
    for pair in policy.pairs:
        for kind, place in _places(pair):
            if kind in work and not (user == "expire" and pair.archive and pair.archive.expire is None):
                yield from _on(place, work[kind], _more(pair, kind, work[kind]))
    if user == "drill" and policy.drill:
        place = Location(policy.drill.bucket, policy.drill.prefix)
        yield from _on(place, (*_READ, *_WRITE), ("s3:PutObjectTagging", "s3:DeleteObjectVersion"))
    copy = next(place for kind, place in _places(policy.pairs[0]) if kind == "copy")
    if user != "expire":
        yield Need(_MUST_NOT, _sample(copy), {}, must_not=True)
    yield Need(("s3:PutObject",), f"arn:aws:s3:::{ledger.bucket}/{ledger.key}{FILE_NAME}", {}, must_not=True)


def _more(pair: Pair, kind: str, operations: Sequence[Operation]) -> tuple[str, ...]:
    """What requests carry, or ask for along with an object, by the policy of a pair."""
    actions: list[str] = []
    copies_notes = pair.destination.annotations is AnnotationRule.COPY and Operation.GET_TAGS in operations
    if copies_notes and kind in ("source", "copy"):
        actions += [*Operation.LIST_ANNOTATIONS.actions, *Operation.GET_ANNOTATION.actions]
    if kind == "copy" and Operation.PUT in operations:
        actions += ["s3:PutObjectTagging", *Operation.PUT_ANNOTATION.actions * copies_notes]
        actions += ["s3:DeleteObject"] * (pair.deletes == "mirror")  # a delete marker
    return tuple(actions)


def _on(place: Location, operations: Sequence[Operation], more: Sequence[str] = ()) -> Iterator[Need]:
    lists = [action for each in operations if each in _LISTS for action in each.actions]
    objects = [action for each in operations if each not in _LISTS for action in each.actions]
    yield Need(tuple(dict.fromkeys(lists)), f"arn:aws:s3:::{place.bucket}", {"s3:prefix": place.key})
    if objects:
        yield Need(tuple(dict.fromkeys((*objects, *more))), _sample(place), {})


def _sample(place: Location) -> str:
    """The ARN of an object below a place."""
    return f"arn:aws:s3:::{place.bucket}/{place.key}{SAMPLE}"


def _places(pair: Pair) -> Iterator[tuple[str, Location]]:
    """The places of a pair by what they are to it. `packed`: what archive rules take, the narrower of two prefixes."""
    source, hot, replica, archive = pair.source, pair.destination, pair.replica, pair.archive
    for prefix in source.prefixes:
        yield "source", Location(source.bucket, prefix)
        yield "copy", Location(hot.bucket, pair.copy_key(prefix))
        if replica:
            yield "replica", Location(replica.bucket, pair.copy_key(prefix))
        for rule in archive.rules if archive else ():
            if archive and overlap(rule.prefix, prefix):
                side, added = packed_side(pair, archive)
                yield "packed", Location(side.bucket, added + max(rule.prefix, prefix, key=len))
    if archive:
        yield "archive", Location(archive.bucket, archive.prefix)
