"""Dead letters: a look at them, and their return to their queue."""

from __future__ import annotations

import json

from jobs.aws.clients import TRIES, call, open_client
from jobs.aws.queues import Message, Queue, redrive
from jobs.errors import ConfigError

LOOK_SECONDS = 60
"""How long letters are hidden at most while somebody looks at them: a look that is killed hides
them no longer."""


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

    def __init__(self, name: str, region: str | None = None, *, tries: int = TRIES):
        self.queue = Queue.named(name, region, tries)
        asked = {"QueueUrl": self.queue.url, "AttributeNames": ["RedrivePolicy"]}
        answer = call(open_client("sqs", region, tries), "GetQueueAttributes", name, **asked)
        policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy") or "{}")
        if "deadLetterTargetArn" not in policy:
            raise ConfigError(f"the queue {name} has no dead-letter queue: nothing of it can be returned")
        self.name = str(policy["deadLetterTargetArn"]).rpartition(":")[2]
        self.dead = Queue.named(self.name, region, tries)

    def count(self) -> int:
        """About how many there are."""
        return self.dead.depth().waiting

    def look(self, limit: int) -> list[Message]:
        """Up to `limit` of them, as `look` does it. Raises StoreError."""
        return look(self.dead, limit)

    def move(self, limit: int | None = None) -> int:
        """Return them, at most `limit`, to their queue. How many were. Raises StoreError.

        Those that come back meanwhile are left: no more than there were in the beginning are
        returned.
        """
        there = self.count()
        return redrive(self.dead, self.queue, limit=there if limit is None else min(limit, there))
