"""Redelivery of messages that failed: when SQS delivers each of them again.

The queue's visibility timeout is six times the function's, so without this a failed event would
come again after half an hour. Most failures pass within seconds, so a message comes sooner at
first, and later each time. A message whose time cannot be changed comes after the queue's timeout.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jobs.aws.queues import Queue
from jobs.errors import SealiftError
from scheduler.log import say

FIRST_SECONDS, LAST_SECONDS = 30, 1800
TRIES = 2


def delay_seconds(received_count: int, chance: float) -> int:
    """How long a message waits that was received so often: four times as long each time.

    `chance`, 0 to 1, spreads a burst.
    """
    longest = min(LAST_SECONDS, FIRST_SECONDS << 2 * min(received_count - 1, 10))
    return round(longest * (1 + chance) / 2)


def postpone(messages: Sequence[Mapping[str, Any]], failed: Collection[str]) -> None:
    """Set the time at which the messages of these ids come again, those of a real queue."""
    delays: dict[str, dict[str, int]] = defaultdict(dict)
    for message in messages:
        if message["messageId"] in failed and message.get("eventSourceARN") and message.get("receiptHandle"):
            received = int((message.get("attributes") or {}).get("ApproximateReceiveCount", 1))
            queue = delays[str(message["eventSourceARN"])]
            queue[str(message["receiptHandle"])] = delay_seconds(received, random.random())
    for arn, receipts in delays.items():
        try:
            Queue.of_arn(arn, tries=TRIES).hide(receipts)
        except (SealiftError, ValueError) as error:
            say("warning", "not postponed", queue=arn, messages=len(receipts), error=str(error))
