"""Lambda's event source mapping: one function, one queue, polled for as long as the system runs.

The steps are those of `scheduler.polling`: up to 100 messages a batch, failed ones come again when the queue shows them
again, and the queue moves what came too often to its dead-letter queue. Here is what surrounds a step: what is
unhandled is known, and a queue that does not answer is asked again.
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
"""As many as in the account that Terraform makes; then a message is a dead letter."""
FUNCTION_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler is told of its invocation, as far as ours ask."""

    function_name: str
    region: str
    aws_request_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def invoked_function_arn(self) -> str:
        """Its own address, by which it knows account and region."""
        return f"arn:aws:lambda:{self.region}:{ACCOUNT}:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Read once, when the invocation begins."""
        return int(FUNCTION_SECONDS * 1000)


class EventSource:
    """Takes batches from `queue` to `handler`. Not to be shared by threads."""

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
        """One batch, waited for so long. Raises StoreError when the queue does not answer."""
        return poll(self.queue, self._invoke, batch_messages=self.batch_messages, wait_seconds=wait_seconds)

    def _invoke(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        bodies = {each["messageId"]: each["body"] for each in event["Records"]}
        self.unhandled.add(bodies.values())
        answer = self.handler(event, self.context())
        failed = {each["itemIdentifier"] for each in answer.get("batchItemFailures", ())}
        self.unhandled.remove(body for message_id, body in bodies.items() if message_id not in failed)
        return answer


def make_queues(client: Any, name: str, retry_seconds: int) -> tuple[str, str]:
    """The queue of events and the one of its dead letters, named as Terraform names them; their URLs.

    `retry_seconds`: after so long a failed message comes again. Raises StoreError.
    """
    from jobs.aws.clients import call

    dead = call(client, "CreateQueue", f"{name}-objects-dead", QueueName=f"{name}-objects-dead")["QueueUrl"]
    asked = call(client, "GetQueueAttributes", dead, QueueUrl=dead, AttributeNames=["QueueArn"])
    redrive = {"deadLetterTargetArn": asked["Attributes"]["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
    attributes = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": str(retry_seconds)}
    made = call(client, "CreateQueue", f"{name}-objects", QueueName=f"{name}-objects", Attributes=attributes)
    return str(made["QueueUrl"]), str(dead)
