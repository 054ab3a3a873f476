"""Queues of undelivered events: a look at those of a policy, for `events list` and `status`."""

from __future__ import annotations

from typing import Any, NamedTuple

from jobs.backup.letters import describe_undelivered
from jobs.errors import ConfigError, StoreError
from jobs.policy.model import Policy, Side
from jobs.reports.document import iso_time


class UndeliveredQueue(NamedTuple):
    """A queue of events that were not delivered. `account`: the other account that it is in, None: the system's."""

    name: str
    region: str
    account: str | None

    def text(self, home: str) -> str:
        """The name for people, of a system whose region is `home`."""
        place = f" in {self.region}" if self.account or self.region != home else ""
        return f"{self.name}{place}{f' of account {self.account}' if self.account else ''}"


def undelivered_queues(policy: Policy) -> list[UndeliveredQueue]:
    """Queues of events that no rule, schedule or call could deliver: at home, and where rules forward from (events.tf,
    modules/other-account/main.tf).
    """
    name, home = f"{policy.name}-undelivered", policy.ledger.region
    places = set[tuple[str, str]]()
    for pair in policy.pairs:
        hot, archive = pair.destination, pair.archive
        places.add((_owner(policy, pair.source), pair.source.region))
        if archive:
            places.add((_owner(policy, archive), archive.region))
        if pair.replica:  # the metrics and alarms of S3's replication
            places |= {(_owner(policy, hot), region) for region in (hot.region, pair.replica.region)}
    return [
        UndeliveredQueue(name, home, None),
        *(UndeliveredQueue(name, region, account or None) for account, region in sorted(places - {("", home)})),
    ]


def _owner(policy: Policy, side: Side) -> str:
    return str(side.account) if policy.is_foreign(side) else ""


def look_at_undelivered(policy: Policy, limit: int = 0) -> list[dict[str, Any]]:
    """For each queue how many events wait, up to `limit` of them, or why nobody knows.

    A queue that two regions of an imitation share is there once.
    """
    from jobs.aws.dead_letters import look
    from jobs.aws.queues import Queue

    looks: list[dict[str, Any]] = []
    arns = set[str]()
    for plan in undelivered_queues(policy):
        text = plan.text(policy.ledger.region)
        answer: dict[str, Any] = {"queue": text, "region": plan.region, "account": plan.account}
        try:
            queue = Queue.named(plan.name, plan.region, tries=1, owner=plan.account)
            arn = queue.arn()
            if arn in arns:
                continue
            arns.add(arn)
            waiting = queue.depth().waiting
            events = [describe_undelivered(message) for message in (look(queue, limit) if limit and waiting else ())]
        except (StoreError, ConfigError) as error:
            looks.append(answer | {"waiting": None, "error": str(error), "events": []})
            continue
        shown = [each | {"sent_at": iso_time(each["sent_at"])} for each in events]
        looks.append(answer | {"waiting": max(waiting, len(events)), "error": None, "events": shown})
    return looks
