"""The return of dead letters: by SQS itself where it can, which takes its time and all of them, else one by one.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

from jobs.errors import ConfigError, StoreError, Unavailable
from jobs.s3.queues import Queue, redrive
from jobs.s3.services import call, open_client

ASK_SECONDS = 1.0
_NOT_OFFERED = ("UnsupportedOperation", "InvalidAction", "UnknownOperationException", "NotImplemented")


class Moved(NamedTuple):
    """How many messages were moved, and whether SQS did it (`by_service`)."""

    messages: int
    by_service: bool


class DeadLetters:
    """The dead-letter queue of the queue of this name, in the caller's account.

    Raises NotFound when there is no such queue, ConfigError when it has no dead-letter queue.
    """

    def __init__(self, name: str, region: str | None = None, sleep: Callable[[float], None] = time.sleep):
        self._region, self._sleep = region, sleep
        self.queue = Queue.named(name, region)
        attributes = self._ask("GetQueueAttributes", QueueUrl=self.queue.url, AttributeNames=["All"])["Attributes"]
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        if "deadLetterTargetArn" not in policy:
            raise ConfigError(f"the queue {name} has no dead-letter queue: nothing of it can be returned")
        self._queue_arn, self._arn = str(attributes["QueueArn"]), str(policy["deadLetterTargetArn"])
        self.name = self._arn.rpartition(":")[2]
        self.dead = Queue.named(self.name, region)

    @cached_property
    def _client(self) -> Any:
        return open_client("sqs", self._region)

    def count(self) -> int:
        """About how many there are."""
        return self.dead.depth().waiting

    def move(self, limit: int | None = None) -> Moved:
        """Return them, at most `limit`, to their queue. Raises StoreError.

        Those that come back meanwhile are left: no more than there were in the beginning are returned.
        """
        if limit is None and self._start():
            return Moved(self._wait(), by_service=True)
        there = self.count()
        return Moved(redrive(self.dead, self.queue, limit=there if limit is None else min(limit, there)), False)

    def _start(self) -> bool:
        try:
            self._ask("StartMessageMoveTask", SourceArn=self._arn, DestinationArn=self._queue_arn)
        except StoreError as error:
            if error.status == 501 or error.code.rpartition(".")[2] in _NOT_OFFERED:
                return False
            raise
        return True

    def _wait(self) -> int:
        while True:
            (task, *_) = self._ask("ListMessageMoveTasks", SourceArn=self._arn, MaxResults=1)["Results"]
            if task["Status"] not in ("RUNNING", "CANCELLING"):
                break
            self._sleep(ASK_SECONDS)
        moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
        if task["Status"] != "COMPLETED":
            why = f"{task['Status']}: {task.get('FailureReason', 'SQS says no more')}; {moved} were moved"
            raise Unavailable("StartMessageMoveTask", self.name, "MoveFailed", why)
        return moved

    def _ask(self, operation: str, **request: Any) -> Any:
        return call(self._client, operation, str(next(iter(request.values()))), **request)
