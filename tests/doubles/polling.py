"""An event source mapping without Lambda: polls a queue, calls a function.

What failed stays in the queue: it is visible again when the queue says so, and becomes a dead
letter by the redrive policy.
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jobs.aws.queues import BATCH_MESSAGES, Message, Queue
from jobs.errors import SealiftError
from scheduler.log import say


class Polled(NamedTuple):
    """How many messages of one batch were received, and how many failed."""

    received: int
    failed: int


def poll(
    queue: Queue,
    function: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    *,
    batch_messages: int = 100,
    wait_seconds: int = 1,
) -> Polled:
    """Hand one batch of messages to `function` (an SQS event → `batchItemFailures`). Waits only for
    the first message.

    If the function raises anything, all messages have failed, as with Lambda. Raises StoreError if
    the queue does not answer.
    """
    received: dict[str, Message] = {}
    while len(received) < batch_messages:
        wanted = min(BATCH_MESSAGES, batch_messages - len(received))
        messages = queue.receive(limit=wanted, wait_seconds=0 if received else wait_seconds)
        known = len(received)
        received |= {message.message_id: message for message in messages}  # a repeated one has its latest receipt
        if len(received) == known:
            break
    messages = list(received.values())
    if not messages:
        return Polled(0, 0)
    try:
        failures = function(to_event(messages)).get("batchItemFailures", ())
        failed = {each["itemIdentifier"] for each in failures}
    except Exception as error:  # noqa: BLE001  the next batch is independent of it
        reason = str(error) if isinstance(error, SealiftError) else f"{type(error).__name__}: {error}"
        say("error", "batch failed", error=reason, messages=len(messages))
        failed = {message.message_id for message in messages}
    queue.delete(message for message in messages if message.message_id not in failed)
    return Polled(len(messages), len(failed))


def to_event(messages: Sequence[Message]) -> dict[str, Any]:
    """The messages as a function with an SQS event source gets them."""
    return {
        "Records": [
            {
                "messageId": message.message_id,
                "receiptHandle": message.receipt,
                "body": message.body,
                "attributes": {
                    "ApproximateReceiveCount": str(message.received_count),
                    "SentTimestamp": str(int(message.sent_at * 1000)),
                },
                "messageAttributes": {},
                "eventSource": "aws:sqs",
            }
            for message in messages
        ]
    }
