"""SQS client for one queue and its dead letters.

It reads the queue as the event source mapping of a function does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from jobs.aws.clients import TRIES, call, open_client
from jobs.errors import ConfigError

BATCH_MESSAGES = 10
"""SQS receives, sends and deletes so many messages at once: API_ReceiveMessage."""
LOOK_SECONDS = 60
"""How long letters are hidden at most while somebody looks at them: a look that is killed hides
them no longer."""
MOVE_SECONDS = 300


class Message(NamedTuple):
    """A message that was received. `receipt` is for this receipt of it only.

    `attributes`: those that are text, which who sent it has added.
    """

    message_id: str
    receipt: str
    body: str
    received_count: int
    sent_at: float
    attributes: Mapping[str, str] = MappingProxyType({})


class Depth(NamedTuple):
    """About how many messages wait, are being handled, and are not due yet."""

    waiting: int
    in_flight: int
    delayed: int


class Queue:
    """The queue of this URL."""

    def __init__(self, url: str, region: str | None = None, tries: int = TRIES):
        self.url, self._region, self._tries = url, region, tries

    @cached_property
    def _client(self) -> Any:
        return open_client("sqs", self._region, self._tries)

    @classmethod
    def of_arn(cls, arn: str, tries: int = TRIES) -> Queue:
        """The queue of this ARN. Raises ValueError for another text, ConfigError."""
        _, _, _, region, account, name = arn.split(":")
        queue = cls("", region, tries)
        queue.url = f"{queue._client.meta.endpoint_url.rstrip('/')}/{account}/{name}"
        return queue

    @classmethod
    def named(cls, name: str, region: str | None = None, tries: int = TRIES, *, owner: str | None = None) -> Queue:
        """The queue of this name in the caller's account, or in the account `owner`.

        Raises NotFound (`QueueDoesNotExist`), ConfigError.
        """
        asked = {"QueueOwnerAWSAccountId": owner} if owner else {}
        answer = call(open_client("sqs", region, tries), "GetQueueUrl", name, QueueName=name, **asked)
        return cls(answer["QueueUrl"], region, tries)

    def send(self, bodies: Iterable[str]) -> None:
        """Send messages. Raises StoreError, and ConfigError when the queue refuses one of them."""
        self._in_batches("SendMessageBatch", [{"MessageBody": body} for body in bodies])

    def receive(
        self, *, limit: int = BATCH_MESSAGES, wait_seconds: int = 20, hidden_seconds: int | None = None
    ) -> list[Message]:
        """Up to ten messages, hidden from others for `hidden_seconds` (None: as the queue says).

        Raises StoreError.
        """
        options = {} if hidden_seconds is None else {"VisibilityTimeout": hidden_seconds}
        answer = call(
            self._client,
            "ReceiveMessage",
            self.url,
            QueueUrl=self.url,
            MaxNumberOfMessages=min(limit, BATCH_MESSAGES),
            WaitTimeSeconds=wait_seconds,
            AttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=["All"],
            **options,
        )
        return [_message(each) for each in answer.get("Messages", [])]

    def delete(self, messages: Iterable[Message]) -> None:
        """Done with them. Raises StoreError, ConfigError."""
        self._in_batches("DeleteMessageBatch", [{"ReceiptHandle": each.receipt} for each in messages])

    def hide(self, receipts: Mapping[str, int]) -> None:
        """Set for each receipt the seconds until its message comes again.

        Raises StoreError, ConfigError.
        """
        self._in_batches(
            "ChangeMessageVisibilityBatch",
            [{"ReceiptHandle": receipt, "VisibilityTimeout": seconds} for receipt, seconds in receipts.items()],
        )

    def depth(self) -> Depth:
        """How much is in it, about. Raises StoreError."""
        names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
        answer = call(self._client, "GetQueueAttributes", self.url, QueueUrl=self.url, AttributeNames=names)
        return Depth(*(int(answer["Attributes"][name]) for name in names))

    def _in_batches(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """A request for each `BATCH_MESSAGES` entries. Raises ConfigError for a refused one."""
        for start in range(0, len(entries), BATCH_MESSAGES):
            batch = [{"Id": str(number), **each} for number, each in enumerate(entries[start : start + BATCH_MESSAGES])]
            answer = call(self._client, operation, self.url, QueueUrl=self.url, Entries=batch)
            if failed := answer.get("Failed"):
                said = failed[0]
                raise ConfigError(
                    f"the queue {self.url} refused {len(failed)} messages: {said['Code']}: {said.get('Message')}"
                )


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


def redrive(dead: Queue, queue: Queue, *, limit: int) -> int:
    """Send what is in the dead-letter queue to the queue again → how many messages. Raises
    StoreError.

    A message is sent before it is deleted: stopped in between it is there twice, which the backup
    function does not mind. SQS can do this by itself (StartMessageMoveTask), but not for a part.
    """
    moved = 0
    while moved < limit:
        messages = dead.receive(limit=limit - moved, wait_seconds=1, hidden_seconds=MOVE_SECONDS)
        if not messages:
            return moved
        queue.send(message.body for message in messages)
        dead.delete(messages)
        moved += len(messages)
    return moved


def _message(each: dict[str, Any]) -> Message:
    attributes, added = each.get("Attributes", {}), each.get("MessageAttributes", {})
    return Message(
        each["MessageId"],
        each["ReceiptHandle"],
        each["Body"],
        int(attributes.get("ApproximateReceiveCount", 1)),
        int(attributes.get("SentTimestamp", 0)) / 1000,
        {name: value["StringValue"] for name, value in added.items() if "StringValue" in value},
    )
