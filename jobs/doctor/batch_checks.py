"""Checks of AWS Batch: queues, compute environments, job definitions, images, quotas."""

from __future__ import annotations

from jobs.aws.batch_settings import ComputeEnvironment, JobQueue
from jobs.doctor.facts import DefinitionFacts, ImageFacts, JobQueueFacts, QuotaFacts
from jobs.doctor.model import Check, Finding, failure, known, ok, warning

APPLY = "run terraform apply"
_VALID = ("VALID", "UPDATING")


def _queue(facts: JobQueueFacts) -> Finding:
    queue = known(facts.queue)
    if queue is None:
        return failure("there is no such job queue", APPLY)
    if queue.state != "ENABLED":
        return failure(f"the job queue is {queue.state}: it takes no jobs", "enable it: " + APPLY)
    if queue.status not in _VALID:
        return failure(f"the job queue is {queue.status}: {queue.reason}", APPLY)
    if queue.is_fair != known(facts.has_share):
        what = "shares fairly" if queue.is_fair else "does not share"
        does = "no" if queue.is_fair else "a"
        return failure(f"the queue {what}, and functions name {does} share: Batch refuses their jobs", APPLY)
    return ok("it takes jobs")


def _environments(facts: JobQueueFacts) -> Finding | None:
    queue = known(facts.queue)
    if queue is None:
        return None
    working = [each for each in queue.environments if each.state == "ENABLED" and each.status in _VALID]
    if not working:
        there = "; ".join(map(_state, queue.environments)) or "it has none"
        return failure(f"no compute environment starts jobs: {there}", "enable it: " + APPLY)
    return _sizes(queue, working, facts)


def _sizes(queue: JobQueue, working: list[ComputeEnvironment], facts: JobQueueFacts) -> Finding:
    plan = facts.plan
    if plan.kind and all(each.kind != plan.kind for each in working):
        return failure(f"its compute environment is {working[0].kind}, the policy says {plan.kind}", APPLY)
    size = sum(each.max_vcpus for each in working)
    if size < plan.max_vcpus and plan.kind:
        return warning(f"its compute environments have {size} vCPUs, the policy says {plan.max_vcpus}", APPLY)
    if len(working) < len(queue.environments):
        broken = next(each for each in queue.environments if each not in working)
        return warning(f"one of its compute environments starts no jobs: {_state(broken)}", APPLY)
    return ok(f"{size} vCPUs of {', '.join(sorted({each.kind or 'unmanaged' for each in working}))}")


def _state(environment: ComputeEnvironment) -> str:
    reason = f" ({environment.reason})" if environment.reason else ""
    return f"{environment.name} is {environment.state}, {environment.status}{reason}"


JOB_QUEUE_CHECKS = (Check("job-queue", _queue), Check("compute-environment", _environments))


def _quota(facts: QuotaFacts) -> Finding:
    value = known(facts.value)
    if value < facts.wanted:
        return warning(
            f"the account may have {value:,.0f} vCPUs, the policy wants {facts.wanted:,}: jobs wait",
            "ask AWS for a higher quota, or lower batch.max_vcpus",
        )
    return ok(f"the account may have {value:,.0f} vCPUs, the policy wants {facts.wanted:,}")


QUOTA_CHECKS = (Check("vcpu-quota", _quota),)


def _definition(facts: DefinitionFacts) -> Finding:
    found = known(facts.definition)
    if found is None:
        return failure("no revision of it is active", APPLY)
    for name, value in facts.environment.items():
        there = found.environment.get(name, "")
        if there.rstrip("/") != value.rstrip("/"):
            return failure(f"its {name} is {there or 'not set'}, the policy says {value}", APPLY)
    if (found.vcpus, found.memory_mib) != (facts.vcpus, facts.memory_mib):
        return warning(
            f"a worker has {found.vcpus:g} vCPUs and {found.memory_mib} MiB, "
            f"the policy says {facts.vcpus} and {facts.memory_mib}",
            APPLY,
        )
    return ok(f"revision {found.revision} is active")


DEFINITION_CHECKS = (Check("job-definition", _definition),)


def _image(facts: ImageFacts) -> Finding:
    if not known(facts.is_there):
        return failure("the image is not in its repository: no job starts", "push it, or correct the variable image")
    return ok("it can be pulled")


IMAGE_CHECKS = (Check("image", _image),)
