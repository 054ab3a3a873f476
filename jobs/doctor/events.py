"""Questions about the way of an event: functions, the policy that they read, queues, dead letters, alarms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from jobs.aws.queues import Queue
from jobs.doctor.model import APPLY, Finding, Question, failure, ok, warning
from jobs.doctor.system import FUNCTIONS, System
from jobs.doctor.undelivered import UndeliveredQueue, undelivered_queues
from jobs.errors import NotFound, PolicyError, StoreError
from jobs.ledger.backlog import Backlog, read_backlog
from jobs.ledger.ledger import Ledger
from jobs.policy.model import Pair
from jobs.policy.resolved import FILE_NAME, decode_policy, load_bytes
from jobs.reports.figures import human_seconds, plural

BACKLOG_SECONDS_MORE = 1800
"""A due backlog should be a run half an hour later: monitoring.tf."""
_MISSING = ("NonExistentQueue", "QueueDoesNotExist")


def questions(system: System) -> Iterator[Question]:
    """Of functions, queues and topic."""
    name = system.name
    for function in FUNCTIONS:
        yield Question("function", f"{name}-{function}", partial(_function, system, function))
    yield Question("policy-file", _policy_file(system), partial(_same_policy, system))
    yield Question("queue", f"{name}-objects", partial(_queue, system))
    dead = UndeliveredQueue(f"{name}-objects-dead", system.home, None)
    advice = "correct the cause, then run sealift events redrive"
    yield Question("dead-letters", dead.name, partial(_letters, dead, advice))
    for queue in undelivered_queues(system.policy):
        ask = partial(_letters, queue, "read them: sealift events list")
        yield Question("dead-letters", queue.text(system.home), ask)
    for pair in system.pairs:
        yield Question("oldest-event", f"pair {pair.name}", partial(_oldest_event, system, pair))
        backlog = partial(_backlog, system, pair)
        yield Question("oldest-backlog", f"pair {pair.name}", backlog, needs_aws=False)
    yield Question("alarms", system.policy.alarms.topic or f"{name}-alarms", partial(_alarms, system))


def _function(system: System, function: str) -> Finding:
    found = system.function(function)
    if found is None:
        return failure("there is no such function", APPLY)
    if found.get("State", "Active") not in ("Active", "Inactive"):
        return failure(f"the function is {found['State']}", f"read why in Lambda's console: {APPLY}")
    if found.get("LastUpdateStatus") == "Failed":
        return failure("its last update failed: it runs older code", APPLY)
    return ok("it can be called")


def _policy_file(system: System) -> str:
    return f"s3://{system.policy.ledger.bucket}/{system.policy.ledger.prefix}{FILE_NAME}"


def _same_policy(system: System) -> Finding:
    """Whether what runs follows the policy that these lines are about."""
    where = _policy_file(system)
    try:
        there = decode_policy(system.stored(system.home, lambda store: load_bytes(where, store)), where)
    except PolicyError as error:
        return failure(f"functions and jobs cannot read it: {error}", APPLY)
    if there.called(system.name) != system.policy:
        return failure("the policy that functions and jobs read is another one than yours", APPLY)
    return ok("functions and jobs read the same policy")


def _queue(system: System) -> Finding:
    """SQS has no age of an idle queue."""
    name, allowed = f"{system.name}-objects", 60.0 * system.policy.alarms.oldest_event_minutes
    depth = _depth(UndeliveredQueue(name, system.home, None))
    if depth is None:
        return failure("there is no such queue: every event gets lost", APPLY)
    age = system.latest_metric("AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": name})
    if age is not None and age > allowed:
        says = f"an event waits for {human_seconds(age)}, the policy promises {human_seconds(allowed)}"
        return failure(says, "read the log of the function backup")
    return ok(f"{plural(depth, 'event')} in it, none of which waits for long")


def _letters(queue: UndeliveredQueue, advice: str) -> Finding:
    waiting = _depth(queue)
    if waiting is None:
        return failure("there is no such queue: what cannot be delivered gets lost", APPLY)
    return failure(f"{plural(waiting, 'dead letter')} in it", advice) if waiting else ok("no dead letters")


def _depth(queue: UndeliveredQueue) -> int | None:
    """How many messages there are, about. None: there is no such queue."""
    try:
        return sum(Queue.named(queue.name, queue.region, owner=queue.account).depth())
    except NotFound:
        return None
    except StoreError as error:
        if error.code.endswith(_MISSING):
            return None
        raise


def _oldest_event(system: System, pair: Pair) -> Finding:
    """By the function itself: SQS leaves messages out that were received three times."""
    dimensions = {"System": system.name, "Pair": pair.name}
    age = system.latest_metric("Sealift", "OldestUnhandledEventAge", dimensions)
    if age is not None and age > 60.0 * system.policy.alarms.oldest_event_minutes:
        return failure(f"an event is unhandled for {human_seconds(age)}", "the function's log and journal say why")
    return ok("no event failed within an hour" if age is None else f"the oldest waited for {human_seconds(age)}")


def _backlog(system: System, pair: Pair) -> Finding:
    async def read(ledger: Ledger) -> Backlog:
        return await read_backlog(ledger.store, ledger.location, pair.name)

    found = system.in_ledger(read)
    if not found.waiting:
        return ok("nothing waits for a run")
    age, rows = time.time() - found.waiting[0].since, sum(each.rows for each in found.waiting)
    if age > pair.thresholds.backlog_age + BACKLOG_SECONDS_MORE:
        says = f"{plural(rows, 'object')} wait for a run, the oldest for {human_seconds(age)}"
        why = "the log of the function enqueue says why, or that limits.max_cost is reached: sealift runs list"
        return failure(says, why)
    return ok(f"{plural(rows, 'object')} wait for a run, the oldest for {human_seconds(age)}")


def _alarms(system: System) -> Finding:
    """Whether somebody hears of alarms and of nights that failed. Up to 100 subscriptions are looked at."""
    try:
        answer = system.call("sns", "ListSubscriptionsByTopic", system.topic, TopicArn=system.topic)
    except NotFound:
        return failure("there is no such topic", APPLY)
    subscriptions = answer["Subscriptions"]
    if not subscriptions:
        return failure("nobody hears of alarms", f"name alarms.emails in the policy file: {APPLY}")
    pending = [each["Endpoint"] for each in subscriptions if each["SubscriptionArn"] == "PendingConfirmation"]
    if pending:
        says = f"{', '.join(pending)} has not confirmed: no alarm reaches it"
        return warning(says, "follow the link in the mail of AWS Notifications")
    return ok(f"{plural(len(subscriptions), 'subscriber')} hear of alarms")
