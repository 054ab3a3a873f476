"""Dead letters: a look at them, and their return to their queue.

SQS moves them itself where it can. That takes its time, and takes all of them. Else they are moved
one by one.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import NamedTuple

from jobs.aws.clients import TRIES, call, open_client
from jobs.aws.queues import Message, Queue, redrive
from jobs.errors import ConfigError, StoreError, Unavailable

ASK_SECONDS = 1.0
LOOK_SECONDS = 60
"""How long letters are hidden at most while somebody looks at them: a look that is killed hides
them no longer."""
# An imitation that does not know the operation answers 500 and no code; SQS itself always says one.
_NOT_OFFERED = ("500", "UnsupportedOperation", "InvalidAction", "UnknownOperationException", "NotImplemented")


class Moved(NamedTuple):
    """How many messages were moved, and whether SQS did it (`by_service`)."""

    messages: int
    by_service: bool


def look(queue: Queue, limit: int) -> list[Message]:
    """Up to `limit` messages of a queue. None is taken: in the end each is there for others again.

    Raises StoreError.
    """
    seen: dict[str, Message] = {}
    try:
        while len(seen) < limit:
            received = queue.receive(limit=limit - len(seen), wait_seconds=1, hidden_seconds=LOOK_SECONDS)
            is_new = any(message.message_id not in seen for message in received)
            seen |= {message.message_id: message for message in received}
            if not is_new:
                break
    finally:
        queue.hide({message.receipt: 0 for message in seen.values()})
    return list(seen.values())


class DeadLetters:
    """The dead-letter queue of the queue of this name, in the caller's account.

    Raises NotFound when there is no such queue, ConfigError when it has no dead-letter queue.
    """

    def __init__(
        self,
        name: str,
        region: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        *,
        tries: int = TRIES,
    ):
        self._region, self._sleep = region, sleep
        self._client = open_client("sqs", region, tries)
        self.queue = Queue.named(name, region, tries)
        asked = {"QueueUrl": self.queue.url, "AttributeNames": ["All"]}
        attributes = call(self._client, "GetQueueAttributes", name, **asked)["Attributes"]
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        if "deadLetterTargetArn" not in policy:
            raise ConfigError(f"the queue {name} has no dead-letter queue: nothing of it can be returned")
        self._queue_arn, self._arn = str(attributes["QueueArn"]), str(policy["deadLetterTargetArn"])
        self.name = self._arn.rpartition(":")[2]
        self.dead = Queue.named(self.name, region, tries)

    def count(self) -> int:
        """About how many there are."""
        return self.dead.depth().waiting

    def look(self, limit: int) -> list[Message]:
        """Up to `limit` of them, as `look` does it. Raises StoreError."""
        return look(self.dead, limit)

    def move(self, limit: int | None = None) -> Moved:
        """Return them, at most `limit`, to their queue. Raises StoreError.

        Those that come back meanwhile are left: no more than there were in the beginning are
        returned.
        """
        if limit is None and self._start():
            return Moved(self._wait(), by_service=True)
        there = self.count()
        return Moved(redrive(self.dead, self.queue, limit=there if limit is None else min(limit, there)), False)

    def _start(self) -> bool:
        """Ask SQS to move them.

        False where it does not offer that. Asked once: a second task would be refused.
        """
        client = open_client("sqs", self._region, tries=1)
        asked = {"SourceArn": self._arn, "DestinationArn": self._queue_arn}
        try:
            call(client, "StartMessageMoveTask", self.name, **asked)
        except StoreError as error:
            if error.code.rpartition(".")[2] in _NOT_OFFERED:
                return False
            raise
        return True

    def _wait(self) -> int:
        while True:
            tasks = call(self._client, "ListMessageMoveTasks", self.name, SourceArn=self._arn, MaxResults=1)["Results"]
            if tasks[0]["Status"] not in ("RUNNING", "CANCELLING"):
                break
            self._sleep(ASK_SECONDS)
        moved = int(tasks[0].get("ApproximateNumberOfMessagesMoved", 0))
        if tasks[0]["Status"] != "COMPLETED":
            why = f"{tasks[0]['Status']}: {tasks[0].get('FailureReason', 'SQS says no more')}; {moved} were moved"
            raise Unavailable("StartMessageMoveTask", self.name, "MoveFailed", why)
        return moved
