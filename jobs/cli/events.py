"""`sealift events`: returns events that no attempt could handle."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli import policy as policies
from jobs.cli.console import emit
from jobs.cli.options import command_options, flag, json_option, option, policy_option, takes


@command_options
class RedriveCommand:
    """`sealift events redrive`, as it was typed."""

    policy: str | None = policy_option()
    queue: str | None = option("The events' queue. Default: the one that Terraform makes.", metavar="NAME")
    limit: int | None = option("Return N at most.", name="--max", type=click.IntRange(min=1), metavar="N")
    dry_run: bool = flag("Say how many there are and do nothing.")
    as_json: bool = json_option()


@click.group()
def events() -> None:
    """Return events that no attempt could handle to their queue."""


@events.command("redrive")
@takes(RedriveCommand)
def redrive(options: RedriveCommand) -> int:
    """Return dead letters to their queue, once the cause of their failure is mended.

    SQS moves them by itself where it can. With --max, and where it cannot, each letter is sent
    before it is deleted. If the command stops in between, a letter is there twice, which does no
    harm. An event that fails again becomes a dead letter again.

    \b
    sealift events redrive --dry-run
    sealift events redrive --max 100
    """
    from jobs.aws.dead_letters import DeadLetters, Moved

    policy = policies.read(options.policy)
    letters = DeadLetters(options.queue or f"{policy.name}-objects", str(policy.ledger.region))
    waiting = letters.count()
    moved = Moved(0, by_service=False) if options.dry_run or not waiting else letters.move(options.limit)
    document: dict[str, Any] = {
        "queue": letters.queue.url,
        "dead_letter_queue": letters.name,
        "dry_run": options.dry_run,
        "waiting": waiting,
        "moved": moved.messages,
        "by_service": moved.by_service,
    }
    text = f"{waiting:,} dead letters in {letters.name}"
    if not options.dry_run:
        text += f": {moved.messages:,} returned to their queue"
    emit(document, as_json=options.as_json, text=text)
    return 0
