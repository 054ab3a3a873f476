"""Queues of a policy's system: a look at each, for `events list` and `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.backup.letters import dead_events, describe_undelivered
from jobs.errors import ConfigError, NotFound, StoreError
from jobs.policy.model import Policy, Side
from jobs.reports.document import iso_time

if TYPE_CHECKING:
    from jobs.aws.queues import Queue

EVENT, DEAD, UNDELIVERED = "event", "dead letter", "undelivered event"
"""What waits in a queue."""


class SystemQueue(NamedTuple):
    """A queue. `what`: the events in it. `account`: the other account that it is in, None: the system's."""

    what: str
    name: str
    region: str
    account: str | None = None

    def open(self, tries: int) -> Queue:
        """The queue itself. Raises NotFound, StoreError, ConfigError."""
        from jobs.aws.queues import Queue

        return Queue.named(self.name, self.region, tries, owner=self.account)

    def text(self, home: str) -> str:
        """The name for people, of a system whose region is `home`."""
        place = f" in {self.region}" if self.account or self.region != home else ""
        return f"{self.name}{place}{f' of account {self.account}' if self.account else ''}"


def system_queues(policy: Policy, *whats: str) -> list[SystemQueue]:
    """Those with such events. What no rule, schedule or call could deliver lies at home, and where rules forward from
    (events.tf, modules/other-account/main.tf).
    """
    objects, undelivered, home = f"{policy.name}-objects", f"{policy.name}-undelivered", policy.ledger.region
    places = set[tuple[str, str]]()
    for pair in policy.pairs:
        hot, archive = pair.destination, pair.archive
        places.add((_owner(policy, pair.source), pair.source.region))
        if archive:
            places.add((_owner(policy, archive), archive.region))
        if pair.replica:  # the metrics and alarms of S3's replication
            places |= {(_owner(policy, hot), region) for region in (hot.region, pair.replica.region)}
    far = [(account or None, region) for account, region in sorted(places - {("", home)})]
    queues = [
        SystemQueue(EVENT, objects, home),
        SystemQueue(DEAD, f"{objects}-dead", home),
        *(SystemQueue(UNDELIVERED, undelivered, region, account) for account, region in ((None, home), *far)),
    ]
    return [each for each in queues if each.what in whats]


def _owner(policy: Policy, side: Side) -> str:
    return str(side.account) if policy.is_foreign(side) else ""


def look_at_queues(policy: Policy, *whats: str, limit: int = 0) -> list[dict[str, Any]]:
    """For each of these queues: how many events wait, or why this is not known.

    `limit`: so many dead letters or undelivered messages are looked at, for their events.
    """
    from jobs.aws.queues import look

    looks: list[dict[str, Any]] = []
    for plan in system_queues(policy, *whats):
        found: dict[str, Any] = {"error": None, "is_absent": False, "waiting": None, "looked_at": 0, "events": []}
        try:
            queue = plan.open(tries=1)
            waiting, held, delayed = queue.depth()
            waiting += delayed + (0 if plan.what == EVENT else held)  # a letter that is looked at waits, too
            messages = look(queue, limit) if limit and (waiting or plan.what == DEAD) else []
            events = dead_events(messages) if plan.what == DEAD else map(describe_undelivered, messages)
            found["events"] = [each | {"sent_at": iso_time(each["sent_at"])} for each in events]
            found |= {"waiting": max(waiting, len(messages)), "looked_at": len(messages)}
        except (StoreError, ConfigError) as error:
            found |= {"error": str(error), "is_absent": isinstance(error, NotFound)}
        looks.append({**plan._asdict(), "queue": plan.text(policy.ledger.region), **found})
    return looks
