"""Undelivered events: what EventBridge, Scheduler and Lambda could not hand over, and why.

They lie in queues of their own, with the reason in attributes of the message. Pure.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from jobs.aws.queues import Message

NO_REASON = "AWS gave no reason"
TEXT_MAX = 300


class UndeliveredEvent(NamedTuple):
    """One message. `what`: what it announces, for people. `sent_at`: epoch seconds."""

    message_id: str
    sent_at: float
    received_count: int
    what: str
    reason: str


def describe(message: Message) -> UndeliveredEvent:
    """What a message announces, and why nobody got it. Any text may be in it."""
    try:
        what = _announcement(json.loads(message.body))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        what = f"message {message.message_id}"
    return UndeliveredEvent(
        message.message_id, message.sent_at, message.received_count, what[:TEXT_MAX], _reason(message.attributes)
    )


def _announcement(document: Any) -> str:
    if "detail-type" in document:
        kind, detail = str(document["detail-type"]), document["detail"]
        if document.get("source") == "aws.s3":
            return f"{kind}: s3://{detail['bucket']['name']}/{detail['object']['key']}"
        if document.get("source") == "aws.batch":
            return f"{kind}: {detail.get('jobName', detail.get('jobQueue'))} {detail.get('status', '')}".rstrip()
        return f"{kind}: {detail.get('alarmName', '')}".rstrip(": ")
    if document["action"] == "nightly":
        return f"the night of {document['pair']}"
    return f"a call of {document['action']}"


def _reason(attributes: Mapping[str, str]) -> str:
    code = attributes.get("ERROR_CODE") or attributes.get("ErrorCode")
    said = attributes.get("ERROR_MESSAGE") or attributes.get("ErrorMessage")
    return ": ".join(each for each in (code, said) if each)[:TEXT_MAX] or NO_REASON
