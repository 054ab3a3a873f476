"""`sealift events`: returns events that no attempt could handle."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli import policy as policies
from jobs.cli.console import emit
from jobs.cli.options import json_option, stack


@click.group()
def events() -> None:
    """Return events that no attempt could handle to their queue."""


@events.command("redrive")
@stack(
    click.option("--policy", "file", metavar="FILE", help="A path or s3://. Default: SEALIFT_POLICY."),
    click.option("--queue", "name", metavar="NAME", help="The events' queue. Default: the one that Terraform makes."),
    click.option("--max", "limit", type=click.IntRange(min=1), metavar="N", help="Return N at most."),
    click.option("--dry-run", is_flag=True, help="Say how many there are and do nothing."),
)
@json_option()
def redrive(file: str | None, name: str | None, limit: int | None, dry_run: bool, as_json: bool) -> int:
    """Return dead letters to their queue, once the cause of their failure is mended.

    SQS moves them by itself where it can. With --max, and where it cannot, each letter is sent
    before it is deleted. If the command stops in between, a letter is there twice, which does no
    harm. An event that fails again becomes a dead letter again.

    \b
    sealift events redrive --dry-run
    sealift events redrive --max 100
    """
    from jobs.aws.dead_letters import DeadLetters, Moved

    policy = policies.read(file)
    letters = DeadLetters(name or f"{policy.name}-objects", str(policy.ledger.region))
    waiting = letters.count()
    moved = Moved(0, by_service=False) if dry_run or not waiting else letters.move(limit)
    document: dict[str, Any] = {
        "queue": letters.queue.url,
        "dead_letter_queue": letters.name,
        "dry_run": dry_run,
        "waiting": waiting,
        "moved": moved.messages,
        "by_service": moved.by_service,
    }
    text = f"{waiting:,} dead letters in {letters.name}"
    emit(document, as_json=as_json, text=text if dry_run else f"{text}: {moved.messages:,} returned to their queue")
    return 0
