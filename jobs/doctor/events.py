"""Questions about events on their way: queues, dead letters, and who hears of alarms."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from jobs.aws.clients import TRIES
from jobs.doctor.model import APPLY, Finding, Question, failure, ok, warning
from jobs.doctor.queues import DEAD, EVENT, UNDELIVERED, SystemQueue, system_queues
from jobs.doctor.system import System
from jobs.reports.figures import human_seconds, plural

_ADVICE = {DEAD: "correct the cause, then run sealift events redrive", UNDELIVERED: "read them: sealift events list"}


def questions(system: System) -> Iterator[Question]:
    """Of queues and topic."""
    name = system.name
    [queue] = system_queues(system.policy, EVENT)
    yield Question("queue", queue.name, partial(_queue, system, queue))
    for queue in system_queues(system.policy, DEAD, UNDELIVERED):
        yield Question("dead-letters", queue.text(system.home), partial(_letters, queue))
    yield Question("alarms", system.policy.alarms.topic or f"{name}-alarms", partial(_alarms, system))


def _queue(system: System, queue: SystemQueue) -> Finding:
    """SQS has no age of an idle queue, and leaves out what was received three times: that becomes a dead letter."""
    name, allowed = queue.name, 60.0 * system.policy.alarms.oldest_event_minutes
    depth, now = _depth(queue), datetime.now(UTC)
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
    waiting = _depth(queue)
    return failure(f"{plural(waiting, 'dead letter')} in it", _ADVICE[queue.what]) if waiting else ok("no dead letters")


def _depth(queue: SystemQueue) -> int:
    """How many messages there are, about."""
    return sum(queue.open(TRIES).depth())


def _alarms(system: System) -> Finding:
    """Whether somebody hears of alarms and of nights that failed. Up to 100 subscriptions are looked at."""
    answer = system.call("sns", "ListSubscriptionsByTopic", system.topic, TopicArn=system.topic)
    subscriptions = answer["Subscriptions"]
    if not subscriptions:
        return failure("nobody hears of alarms", f"name alarms.emails in the policy file: {APPLY}")
    pending = [each["Endpoint"] for each in subscriptions if each["SubscriptionArn"] == "PendingConfirmation"]
    if pending:
        says = f"{', '.join(pending)} has not confirmed: no alarm reaches it"
        return warning(says, "follow the link in the mail of AWS Notifications")
    return ok(f"{plural(len(subscriptions), 'subscriber')} hear of alarms")
