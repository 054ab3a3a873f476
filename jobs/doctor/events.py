"""Questions about events on their way: queues, dead letters, backlogs, and who hears of alarms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from jobs.aws.clients import none_if_absent
from jobs.aws.queues import Queue
from jobs.doctor.model import APPLY, Finding, Question, failure, ok, warning
from jobs.doctor.queues import DEAD, EVENT, UNDELIVERED, SystemQueue, system_queues
from jobs.doctor.system import System
from jobs.errors import NotFound
from jobs.ledger.backlog import read_backlog
from jobs.policy.model import Pair
from jobs.reports.figures import human_seconds, plural

BACKLOG_SECONDS_MORE = 1800
"""A due backlog should be a run half an hour later: monitoring.tf."""

_ADVICE = {DEAD: "correct the cause, then run sealift events redrive", UNDELIVERED: "read them: sealift events list"}


def questions(system: System) -> Iterator[Question]:
    """Of queues and topic."""
    name = system.name
    [queue] = system_queues(system.policy, EVENT)
    yield Question("queue", queue.name, partial(_queue, system, queue))
    for queue in system_queues(system.policy, DEAD, UNDELIVERED):
        yield Question("dead-letters", queue.text(system.home), partial(_letters, queue))
    for pair in system.pairs:
        yield Question("backlog", f"pair {pair.name}", partial(_backlog, system, pair), needs_aws=False)
    yield Question("alarms", system.policy.alarms.topic or f"{name}-alarms", partial(_alarms, system))


def _queue(system: System, queue: SystemQueue) -> Finding:
    """SQS has no age of an idle queue, and leaves out what was received three times: that becomes a dead letter."""
    name, allowed = queue.name, 60.0 * system.policy.alarms.oldest_event_minutes
    if (depth := _depth(queue)) is None:
        return failure("there is no such queue: every event gets lost", APPLY)
    now = datetime.now(UTC)
    points = system.call(
        "cloudwatch", "GetMetricStatistics", name, Namespace="AWS/SQS", MetricName="ApproximateAgeOfOldestMessage",
        Dimensions=[{"Name": "QueueName", "Value": name}], StartTime=now - timedelta(hours=1), EndTime=now,
        Period=300, Statistics=["Maximum"],
    )["Datapoints"]  # fmt: skip
    age = max(points, key=lambda each: each["Timestamp"], default={"Maximum": 0.0})["Maximum"]
    if age > allowed:
        says = f"an event waits for {human_seconds(age)}, the policy promises {human_seconds(allowed)}"
        return failure(says, "read the log of the function backup")
    return ok(f"{plural(depth, 'event')} in it, none of which waits for long")


def _letters(queue: SystemQueue) -> Finding:
    if (waiting := _depth(queue)) is None:
        return failure("there is no such queue: what cannot be delivered gets lost", APPLY)
    return failure(f"{plural(waiting, 'dead letter')} in it", _ADVICE[queue.what]) if waiting else ok("no dead letters")


def _depth(queue: SystemQueue) -> int | None:
    """How many messages there are, about. None: there is no such queue."""
    found = none_if_absent(lambda: Queue.named(queue.name, queue.region, owner=queue.account))
    return None if found is None else sum(found.depth())


def _backlog(system: System, pair: Pair) -> Finding:
    found = system.in_ledger(lambda ledger: read_backlog(ledger.store, ledger.location, pair.name))
    if not found:
        return ok("nothing waits for a run")
    age, rows = time.time() - found[0].since, sum(each.rows for each in found)
    says = f"{plural(rows, 'object')} wait for a run, the oldest for {human_seconds(age)}"
    if age <= pair.thresholds.backlog_age + BACKLOG_SECONDS_MORE:
        return ok(says)
    return failure(
        says, "the log of the function enqueue says why, or that limits.max_cost is reached: sealift runs list"
    )


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
