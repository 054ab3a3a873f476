"""Lambda's event source mapping: polls one queue for one function.

The steps are those of `scheduler.polling`: up to 100 messages a batch. Failed ones come again when
the queue shows them again, and the queue moves them to its dead-letter queue at last. This module
keeps account of unhandled events.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.aws.queues import Queue
from jobs.local.sqs_server import ACCOUNT
from jobs.local.status import Unhandled
from scheduler.polling import Polled, poll

Handler = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]

BATCH_MESSAGES = 100
MAX_RECEIVES = 5
"""As many as in the account that Terraform makes. Then a message is a dead letter."""
FUNCTION_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Context:
    """The context of an invocation, as far as our handlers read it."""

    function_name: str
    region: str
    aws_request_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def invoked_function_arn(self) -> str:
        """The function's own name, which has account and region."""
        return f"arn:aws:lambda:{self.region}:{ACCOUNT}:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Read once, when the invocation begins."""
        return int(FUNCTION_SECONDS * 1000)


class EventSource:
    """Takes batches from `queue` to `handler`. Not safe to share between threads."""

    def __init__(
        self,
        queue: Queue,
        handler: Handler,
        context: Callable[[], Any],
        unhandled: Unhandled,
        batch_messages: int = BATCH_MESSAGES,
    ):
        self.queue, self.handler, self.context, self.unhandled = queue, handler, context, unhandled
        self.batch_messages = batch_messages

    def step(self, wait_seconds: int = 1) -> Polled:
        """Handle one batch, after at most `wait_seconds`. Raises StoreError if the queue does not
        answer.
        """
        return poll(self.queue, self._invoke, batch_messages=self.batch_messages, wait_seconds=wait_seconds)

    def _invoke(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        bodies = {each["messageId"]: each["body"] for each in event["Records"]}
        self.unhandled.add(bodies.values())
        answer = self.handler(event, self.context())
        failed = {each["itemIdentifier"] for each in answer.get("batchItemFailures", ())}
        self.unhandled.remove(body for message_id, body in bodies.items() if message_id not in failed)
        return answer


def make_queues(client: Any, name: str, retry_seconds: int) -> tuple[str, str]:
    """Make the queues that Terraform makes. Returns the URLs of events and of their dead letters.

    A failed message comes again after `retry_seconds`. Raises StoreError.
    """
    from jobs.aws.clients import call

    dead = call(client, "CreateQueue", f"{name}-objects-dead", QueueName=f"{name}-objects-dead")["QueueUrl"]
    asked = call(client, "GetQueueAttributes", dead, QueueUrl=dead, AttributeNames=["QueueArn"])
    call(client, "CreateQueue", f"{name}-undelivered", QueueName=f"{name}-undelivered")
    redrive = {"deadLetterTargetArn": asked["Attributes"]["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
    attributes = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": str(retry_seconds)}
    made = call(client, "CreateQueue", f"{name}-objects", QueueName=f"{name}-objects", Attributes=attributes)
    return str(made["QueueUrl"]), str(dead)
