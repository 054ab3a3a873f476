"""Queues of undelivered events: a look at those of a policy, for `events list` and `status`."""

from __future__ import annotations

from typing import Any

from jobs.backup.undelivered import describe
from jobs.doctor.expected import undelivered_queues
from jobs.errors import ConfigError, StoreError
from jobs.policy.model import Policy
from jobs.reports.document import iso_time


def look_at_undelivered(policy: Policy, limit: int = 0) -> list[dict[str, Any]]:
    """For each queue how many events wait, up to `limit` of them, or why nobody knows.

    A queue that two regions of an imitation share is there once.
    """
    from jobs.aws.dead_letters import look
    from jobs.aws.queues import Queue

    looks: list[dict[str, Any]] = []
    arns = set[str]()
    for plan in undelivered_queues(policy):
        text = plan.text(str(policy.ledger.region))
        answer: dict[str, Any] = {"queue": text, "region": plan.region, "account": plan.account}
        try:
            queue = Queue.named(plan.name, plan.region, tries=1, owner=plan.account)
            arn = queue.arn()
            if arn in arns:
                continue
            arns.add(arn)
            waiting = queue.depth().waiting
            events = [describe(message) for message in (look(queue, limit) if limit and waiting else ())]
        except (StoreError, ConfigError) as error:
            looks.append(answer | {"waiting": None, "error": str(error), "events": []})
            continue
        shown = [each._asdict() | {"sent_at": iso_time(each.sent_at)} for each in events]
        looks.append(answer | {"waiting": max(waiting, len(events)), "error": None, "events": shown})
    return looks
