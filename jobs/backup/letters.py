"""Messages that wait for a person: dead letters, and what EventBridge, Scheduler and Lambda could not hand over. Pure.

The journal has a line of each attempt at a dead event. Undelivered ones lie in queues of their own, with
the reason in attributes of the message.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.aws.queues import Message
from jobs.backup.events import EventKind, ObjectEvent, parse_message
from jobs.errors import UsageError

NO_REASON = "AWS gave no reason"
TEXT_MAX = 300


def dead_events(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The events of dead letters, as `events list --json` says them, those of the oldest letter first.

    A message that cannot be read has no bucket and no key, and `problem` says why.
    """
    dead = list[dict[str, Any]]()
    for message in sorted(messages, key=lambda each: each.sent_at):
        problem = ""
        try:
            events = parse_message(message.body)
        except UsageError as error:
            events, problem = [ObjectEvent(EventKind.OTHER, "", "")], str(error)
        for event in events:
            about = {name: getattr(event, name) for name in ("bucket", "key", "version_id")}
            dead.append(_facts(message) | {"event": event.name} | about | {"problem": problem})
    return dead


def describe_undelivered(message: Message) -> dict[str, Any]:
    """`what` a message announces, for people, and the `reason` why it was not delivered. Any text may be in it."""
    try:
        what = _announcement(json.loads(message.body))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        what = f"message {message.message_id}"
    return _facts(message) | {"what": what[:TEXT_MAX], "reason": _reason(message.attributes)}


def _facts(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in ("message_id", "sent_at", "received_count")}


def _announcement(document: Any) -> str:
    if "detail-type" in document:
        kind, detail = str(document["detail-type"]), document["detail"]
        if document.get("source") == "aws.s3":
            return f"{kind}: s3://{detail['bucket']['name']}/{detail['object']['key']}"
        named = (detail.get(name, "") for name in ("jobName", "jobQueue", "alarmName", "status"))
        return f"{kind}: {' '.join(filter(None, named))}".rstrip(": ")
    return f"a call of {document['action']} {document.get('pair', '')}".rstrip()


def _reason(attributes: Mapping[str, str]) -> str:
    code = attributes.get("ERROR_CODE") or attributes.get("ErrorCode")
    said = attributes.get("ERROR_MESSAGE") or attributes.get("ErrorMessage")
    return ": ".join(each for each in (code, said) if each)[:TEXT_MAX] or NO_REASON
