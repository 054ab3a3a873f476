"""The examination: facts of a policy's system, and a line for each check that applies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from msgspec import structs

from jobs.doctor.batch_checks import DEFINITION_CHECKS, IMAGE_CHECKS, JOB_QUEUE_CHECKS, QUOTA_CHECKS
from jobs.doctor.bucket_checks import BUCKET_CHECKS, INVENTORY_CHECKS, REPLICATION_CHECKS, SOURCE_CHECKS
from jobs.doctor.event_checks import (
    CONCURRENCY_CHECKS,
    FUNCTION_CHECKS,
    LETTER_CHECKS,
    POLICY_FILE_CHECKS,
    QUEUE_CHECKS,
    RULE_CHECKS,
    SCHEDULE_CHECKS,
)
from jobs.doctor.gather import Facts, gather
from jobs.doctor.ledger_checks import ACCOUNT_CHECKS, LEDGER_CHECKS, NIGHT_CHECKS, WAITING_CHECKS
from jobs.doctor.model import NOT_CHECKED, Line, Status, run_checks
from jobs.doctor.role_checks import ROLE_CHECKS
from jobs.errors import AuthenticationFailed
from jobs.policy.model import Pair, Policy


def examine(given: Policy, pair: Pair | None = None, system: str | None = None) -> list[Line]:
    """The lines of a policy's system, or of one of its pairs. Must not be called in an event loop.

    `system`: its whole name, where a prefix stands before the policy's.

    Credentials that AWS does not accept are a line, too: then it is the only one. Raises
    ConfigError without credentials.
    """
    whole = given.called(system)
    policy = structs.replace(whole, pairs=(pair,)) if pair else whole
    try:
        facts = gather(policy, given)
    except AuthenticationFailed as error:
        advice = "renew the credentials, and look at this machine's clock"
        return [Line("credentials", Status.FAILURE, "the account", f"AWS does not accept them: {error}", advice)]
    return _together(_lines(facts, policy))


BUCKET_REGION = "s3:ListBucket"
"""The question for a bucket's region, which S3 answers for every bucket, and no other server does."""


def _together(lines: Iterable[Line]) -> list[Line]:
    """One line for each question that the place does not answer, instead of one a subject.

    A server that is not AWS's gets one line for all of them, which is no warning: nobody can change
    that. In AWS a service that cannot be reached may hide a fault.
    """
    kept: list[Line] = []
    unasked: dict[str, list[Line]] = {}
    for line in lines:
        if line.says.startswith(NOT_CHECKED):
            unasked.setdefault(line.says, []).append(line)
        else:
            kept.append(line)
    if f"{NOT_CHECKED}{BUCKET_REGION} is not offered here" in unasked:
        questions = sorted(says.removeprefix(NOT_CHECKED).split()[0] for says in unasked)
        says = f"{NOT_CHECKED}this is not AWS, which alone answers {', '.join(questions)}"
        return [*kept, Line("services", Status.UNCHECKED, "this server", says)]
    for group in unasked.values():
        others = f" and {len(group) - 1} more" if len(group) > 1 else ""
        kept.append(replace(group[0], subject=f"{group[0].subject}{others}"))
    return kept


def _lines(facts: Facts, policy: Policy) -> Iterator[Line]:
    yield from run_checks(ACCOUNT_CHECKS, facts.account, "the account")
    for source in facts.sources:
        yield from run_checks(SOURCE_CHECKS, source, source.plan.bucket)
    for bucket in facts.buckets:
        yield from run_checks(BUCKET_CHECKS, bucket, bucket.plan.bucket)
    for replication in facts.replications:
        yield from run_checks(REPLICATION_CHECKS, replication, f"{replication.plan.hot} {replication.plan.rule_id}")
    for inventory in facts.inventories:
        yield from run_checks(INVENTORY_CHECKS, inventory, inventory.plan.bucket)
    yield from _event_lines(facts)
    for job_queue in facts.job_queues:
        yield from run_checks(JOB_QUEUE_CHECKS, job_queue, job_queue.plan.name)
    for quota in facts.quotas:
        yield from run_checks(QUOTA_CHECKS, quota, quota.name)
    for definition in facts.definitions:
        yield from run_checks(DEFINITION_CHECKS, definition, definition.name)
    for image in facts.images:
        yield from run_checks(IMAGE_CHECKS, image, image.image)
    for role in facts.roles:
        yield from run_checks(ROLE_CHECKS, role, role.user)
    if facts.ledger is not None:
        yield from run_checks(LEDGER_CHECKS, facts.ledger, policy.ledger.uri)
    for night in facts.nights:
        yield from run_checks(NIGHT_CHECKS, night, f"pair {night.pair.name}")
    for waiting in facts.waiting:
        yield from run_checks(WAITING_CHECKS, waiting, f"pair {waiting.pair.name}")


def _event_lines(facts: Facts) -> Iterator[Line]:
    if facts.queue is not None:
        yield from run_checks(QUEUE_CHECKS, facts.queue, facts.queue.name)
    for letters in facts.letters:
        yield from run_checks(LETTER_CHECKS, letters, letters.name)
    for rule in facts.rules:
        yield from run_checks(RULE_CHECKS, rule, f"{rule.plan.name} in {rule.plan.region}")
    for function in facts.functions:
        yield from run_checks(FUNCTION_CHECKS, function, function.name)
    if facts.policy_file is not None:
        yield from run_checks(POLICY_FILE_CHECKS, facts.policy_file, facts.policy_file.uri)
    if facts.concurrency is not None:
        yield from run_checks(CONCURRENCY_CHECKS, facts.concurrency, "the account")
    for schedule in facts.schedules:
        yield from run_checks(SCHEDULE_CHECKS, schedule, schedule.name)
