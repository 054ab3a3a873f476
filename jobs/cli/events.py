"""List events that no attempt could handle, and return them to their queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.cli.command import Answer, JsonCommand, PolicyOptions
from jobs.cli.console import table
from jobs.cli.options import shared
from jobs.doctor.queues import DEAD, EVENT, UNDELIVERED, look_at_queues, system_queues
from jobs.errors import ExitCode
from jobs.reports.figures import plural

_WHY = "sealift query \"FROM journal WHERE status IN ('changed', 'denied', 'failed') ORDER BY recorded_at DESC\""

_SHOWN = {
    DEAD: (
        ("object", "event", "sent_at", "received_count"),
        f"  see why  {_WHY}\n  correct the cause, then  sealift events redrive",
    ),
    UNDELIVERED: (
        ("what", "sent_at", "reason"),
        "  correct the cause: nights copy what was not announced, what is older than 14 days is gone",
    ),
}
"""What is shown of an event, and what a person does about it."""


class ListEvents(PolicyOptions, JsonCommand):
    """List dead letters: which object each is about. They stay where they are.

    Why each attempt failed is in the journal, a table of `sealift query`. SQS shows a few letters at a
    time, and counts each look as a receipt. Events that no rule, schedule or call could deliver lie in other
    queues, also of other regions and accounts: they are listed with AWS's own reasons.

    \b
    sealift events list
    sealift events list --limit 1000 --json
    """

    limit: int = shared("limit", "Look at N dead letters at most.", default=100)

    def run(self) -> Answer:
        """The first dead letters, and what was not delivered."""
        looks = look_at_queues(self.read_system(), DEAD, UNDELIVERED, limit=self.limit)
        dead, code = looks[0], ExitCode.CONFIG if looks[0]["error"] else ExitCode.DONE
        document = {name: dead[name] for name in ("waiting", "looked_at", "events", "error")}
        document |= {"dead_letter_queue": dead["name"], "undelivered": looks[1:]}
        return Answer(document, "\n".join(map(_look_text, looks)), code)


class Redrive(PolicyOptions, JsonCommand):
    """Return dead letters to their queue, once the cause of their failure is mended.

    Each letter is sent before it is deleted. If the command stops in between, a letter is there
    twice, which does no harm. An event that fails again becomes a dead letter again.

    \b
    sealift events redrive --dry-run
    sealift events redrive --limit 100
    """

    limit: int | None = shared("limit", "Return N at most. Default: all.", default=None)
    dry_run: bool = shared("dry-run")

    def run(self) -> Answer:
        """Return them, but no more than there were in the beginning: some may come back meanwhile."""
        from jobs.aws.clients import PROMPT_TRIES
        from jobs.aws.queues import redrive

        queue, dead = (each.open(PROMPT_TRIES) for each in system_queues(self.read_system(), EVENT, DEAD))
        name, waiting = dead.url.rpartition("/")[2], dead.depth().waiting
        limit = waiting if self.limit is None else min(self.limit, waiting)
        moved = 0 if self.dry_run else redrive(dead, queue, limit=limit)
        document = {
            "queue": queue.url,
            "dead_letter_queue": name,
            "dry_run": self.dry_run,
            "waiting": waiting,
            "moved": moved,
        }
        text = f"{plural(waiting, DEAD)} in {name}"
        return Answer(document, text if self.dry_run else f"{text}: {moved:,} returned to their queue")


def _look_text(look: Mapping[str, Any]) -> str:
    if look["error"]:
        return f"{look['queue']} was not looked at: {look['error']}"
    text = f"{plural(look['waiting'], look['what'])} in {look['queue']}"
    if not look["events"]:
        return text
    names, advice = _SHOWN[look["what"]]
    events = [{"object": _object(each), **each} for each in look["events"]]
    return f"{text}, {look['looked_at']:,} looked at\n{table(events, names)}\n{advice}"


def _object(event: Mapping[str, Any]) -> str:
    return str(event.get("problem") or f"s3://{event.get('bucket')}/{event.get('key')}")


COMMANDS = {"list": ListEvents, "redrive": Redrive}
