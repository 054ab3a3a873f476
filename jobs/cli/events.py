"""List events that no attempt could handle, and return them to their queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jobs.cli.command import Answer, JsonCommand, PolicyOptions
from jobs.cli.console import table
from jobs.cli.options import shared
from jobs.doctor.queues import UNDELIVERED, look_at_queues
from jobs.reports.document import iso_time
from jobs.reports.figures import plural

if TYPE_CHECKING:
    from jobs.aws.dead_letters import DeadLetters
    from jobs.policy.model import Policy

_WHY = "sealift query \"FROM journal WHERE status IN ('changed', 'denied', 'failed') ORDER BY recorded_at DESC\""

_LETTER = ("object", "event", "sent_at", "received_count")


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
        from jobs.backup.letters import dead_events

        policy = self.read_system()
        letters = _dead_letters(policy)
        waiting, messages = letters.count(), letters.look(self.limit)
        dead = dead_events(messages)
        waiting = max(waiting, len(messages))  # SQS counts about
        document: dict[str, Any] = {
            "dead_letter_queue": letters.name,
            "waiting": waiting,
            "looked_at": len(messages),
            "events": [each | {"sent_at": iso_time(each["sent_at"])} for each in dead],
            "undelivered": look_at_queues(policy, UNDELIVERED, limit=self.limit),
        }
        text = f"{plural(waiting, 'dead letter')} in {letters.name}"
        if dead:
            about = [{"object": each["problem"] or f"s3://{each['bucket']}/{each['key']}", **each} for each in dead]
            text += f", {len(messages):,} looked at\n{table(about, _LETTER)}"
            text += f"\n  see why  {_WHY}"
            text += "\n  correct the cause, then  sealift events redrive"
        return Answer(document, "\n".join([text, *map(_undelivered_text, document["undelivered"])]))


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
        """Return them."""
        letters = _dead_letters(self.read_system())
        waiting = letters.count()
        moved = 0 if self.dry_run else letters.move(self.limit)
        document = {
            "queue": letters.queue.url,
            "dead_letter_queue": letters.name,
            "dry_run": self.dry_run,
            "waiting": waiting,
            "moved": moved,
        }
        text = f"{plural(waiting, 'dead letter')} in {letters.name}"
        return Answer(document, text if self.dry_run else f"{text}: {moved:,} returned to their queue")


def _dead_letters(policy: Policy) -> DeadLetters:
    """The dead letters of the queue that Terraform makes."""
    from jobs.aws.clients import PROMPT_TRIES
    from jobs.aws.dead_letters import DeadLetters

    return DeadLetters(f"{policy.name}-objects", str(policy.ledger.region), tries=PROMPT_TRIES)


def _undelivered_text(look: Mapping[str, Any]) -> str:
    if look["error"]:
        return f"{look['queue']} was not looked at: {look['error']}"
    text = f"{plural(look['waiting'], 'undelivered event')} in {look['queue']}"
    if look["events"]:
        text += f", {len(look['events']):,} looked at\n{table(look['events'], ('what', 'sent_at', 'reason'))}"
        text += "\n  correct the cause: nights copy what was not announced, what is older than 14 days is gone"
    return text


COMMANDS = {"list": ListEvents, "redrive": Redrive}
