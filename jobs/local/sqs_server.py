"""An SQS server for one machine: the part that S3 and a function need.

moto's server is rejected: it looks at every other message several times for each. With 2,000 in the
queue it takes 0.2 s to take in ten and 0.6 s to hand out ten (here: 1 ms), so a burst is late by
minutes. It moves no dead letters.

The protocol:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
Signatures are not checked: every program that reaches the port may use it. SNS, which `follow`
publishes to, gets an empty answer. Every other service gets 501: it is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jobs.errors import ConfigError
from jobs.local import queue_file
from jobs.local.loopback import GONE, LoopbackServer
from jobs.local.sqs_queue import MemoryQueue, Stored

ACCOUNT = "123456789012"
BATCH_MESSAGES = 10
SAVE_SECONDS = 1.0
SAVE_SHARE = 10
"""A save blocks the server, so the pause is at least so many times as long."""
REQUEST_BYTES_MAX = 2 * 1024 * 1024
_INVALID = (EOFError, ValueError, asyncio.LimitOverrunError)
"""A request is cut, or is not HTTP: its connection is dropped."""

_NO_QUEUE = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "there is no queue {!r}")


class _Refused(Exception):
    """An error as answer: the code in JSON, the older code that clients know, and a message."""

    def __init__(self, code: str, query_code: str, message: str):
        super().__init__(message)
        self.code, self.query_code = code, query_code


class QueueServer:
    """The server. Its state lives in memory. Use it on one event loop.

    `kept_in`: a file that has the messages of an earlier server, and gets those of this one at
    least each `SAVE_SECONDS`. Raises ConfigError if it is invalid.
    """

    def __init__(self, region: str, clock: Callable[[], float] = time.time, kept_in: Path | None = None):
        self.region, self._clock, self._kept_in = region, clock, kept_in
        self._queues: dict[str, MemoryQueue] = {}
        self._earlier = queue_file.read(kept_in) if kept_in is not None else {}
        self._saved_changes = 0
        self._saving: asyncio.Task[None] | None = None
        self._moves: list[dict[str, Any]] = []
        self._arrived = asyncio.Condition()
        self._server = LoopbackServer(self._serve, REQUEST_BYTES_MAX, _INVALID + GONE)
        self._port = 0

    async def start(self) -> int:
        """Begin to listen on 127.0.0.1. Returns the port."""
        self._port = await self._server.start()
        if self._kept_in is not None:
            self._saving = asyncio.create_task(self._save_often(self._kept_in))
        return self._port

    async def close(self) -> None:
        """Stop listening, drop every connection, and keep what there is.

        Raises ConfigError if that fails.
        """
        await self._server.close()
        if self._saving is None or self._kept_in is None:
            return
        self._saving.cancel()
        await asyncio.gather(self._saving, return_exceptions=True)
        try:
            self._save(self._kept_in)
        except OSError as error:
            raise ConfigError(f"{self._kept_in}: {error}; the latest events in the queues are lost") from error

    def bodies(self) -> list[str]:
        """The messages of all queues, and of earlier ones that were not made again yet."""
        return [message.body for messages in self._messages().values() for message in messages]

    async def _save_often(self, path: Path) -> None:
        """Save changes until it is cancelled. A long save makes the pause longer."""
        seconds = 0.0
        while True:
            await asyncio.sleep(max(SAVE_SECONDS, SAVE_SHARE * seconds))
            began = time.monotonic()
            with contextlib.suppress(OSError):  # the next one may succeed, and the last one says so
                self._save(path)
            seconds = time.monotonic() - began

    def _save(self, path: Path) -> None:
        changes = sum(queue.changes for queue in self._queues.values())
        if changes != self._saved_changes:
            queue_file.write(path, queue_file.render(self._messages()))
            self._saved_changes = changes

    def _messages(self) -> dict[str, list[Stored]]:
        return self._earlier | {name: queue.messages() for name, queue in self._queues.items()}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client's requests, one after the other."""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
            body = await reader.readexactly(min(int(headers.get("content-length") or 0), REQUEST_BYTES_MAX))
            writer.write(await self._answer(headers, body))
            await writer.drain()

    async def _answer(self, headers: Mapping[str, str], body: bytes) -> bytes:
        target = headers.get("x-amz-target", "")
        if not target:
            action = dict(parse_qsl(body.decode("latin-1"))).get("Action", "")
            is_played = action == "Publish"
            return _http(200, "text/xml", _answer_publish()) if is_played else _http(501, "text/xml", b"")
        operation = target.rpartition(".")[2]
        handle = _OPERATIONS.get(operation) if target.startswith("AmazonSQS.") else None
        try:
            if handle is None:
                raise _Refused("UnknownOperationException", "InvalidAction", f"{target} is not played here")
            answer = handle(self, json.loads(body or b"{}"))
            if asyncio.iscoroutine(answer):
                answer = await answer
        except _Refused as error:
            text = json.dumps({"__type": f"com.amazonaws.sqs#{error.code}", "message": str(error)}).encode()
            return _http(400, "application/x-amz-json-1.0", text, f"x-amzn-query-error: {error.query_code};Sender\r\n")
        except (KeyError, TypeError, ValueError) as error:
            text = json.dumps({"__type": "InvalidParameterValue", "message": f"{operation}: {error!r}"}).encode()
            return _http(400, "application/x-amz-json-1.0", text)
        return _http(200, "application/x-amz-json-1.0", json.dumps(answer).encode())

    def create_queue(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """CreateQueue. An existing queue stays as it is."""
        name = str(asked["QueueName"])
        if name not in self._queues:
            attributes = {str(key): str(value) for key, value in (asked.get("Attributes") or {}).items()}
            redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
            dead = self._by_arn(redrive["deadLetterTargetArn"]) if redrive else None
            hidden = float(attributes.setdefault("VisibilityTimeout", "30"))
            self._queues[name] = MemoryQueue(name, attributes, hidden, int(redrive.get("maxReceiveCount", 0)), dead)
            self._queues[name].restore(self._earlier.pop(name, ()))
        return {"QueueUrl": self._url(name)}

    def get_queue_url(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """GetQueueUrl."""
        return {"QueueUrl": self._url(self._named(str(asked["QueueName"])).name)}

    def list_queues(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """ListQueues."""
        prefix = asked.get("QueueNamePrefix") or ""
        return {"QueueUrls": [self._url(name) for name in self._queues if name.startswith(prefix)]}

    def get_queue_attributes(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """GetQueueAttributes."""
        queue = self._of(asked)
        counts = queue.counts(self._clock())
        known = queue.attributes | {
            "QueueArn": self._arn(queue.name),
            "ApproximateNumberOfMessages": str(counts.waiting),
            "ApproximateNumberOfMessagesNotVisible": str(counts.in_flight),
            "ApproximateNumberOfMessagesDelayed": str(counts.delayed),
        }
        names = asked.get("AttributeNames") or []
        return {"Attributes": {name: value for name, value in known.items() if "All" in names or name in names}}

    async def send_message(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """SendMessage."""
        queue = self._of(asked)
        message = queue.send(str(asked["MessageBody"]), self._clock(), float(asked.get("DelaySeconds") or 0))
        await self._wake()
        return _sent(message)

    async def send_message_batch(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """SendMessageBatch."""
        queue, now, entries = self._of(asked), self._clock(), _entries(asked)
        done = [
            _sent(queue.send(str(each["MessageBody"]), now, float(each.get("DelaySeconds") or 0))) | {"Id": each["Id"]}
            for each in entries
        ]
        await self._wake()
        return {"Successful": done, "Failed": []}

    async def receive_message(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """ReceiveMessage, waiting for the first message where it is asked to."""
        queue, loop = self._of(asked), asyncio.get_running_loop()
        limit = int(asked.get("MaxNumberOfMessages") or 1)
        until = loop.time() + float(asked.get("WaitTimeSeconds") or 0)
        hidden = asked.get("VisibilityTimeout")
        while True:
            now = self._clock()
            messages = queue.receive(min(limit, BATCH_MESSAGES), now, None if hidden is None else float(hidden))
            left = until - loop.time()
            if messages or left <= 0:
                return {"Messages": [_received(each) for each in messages]} if messages else {}
            due = queue.next_visible_at()
            await self._sleep(left if due is None else min(left, max(due - now, 0.0)))

    def delete_message(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """DeleteMessage."""
        self._of(asked).delete(str(asked["ReceiptHandle"]))
        return {}

    def delete_message_batch(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """DeleteMessageBatch."""
        queue, entries = self._of(asked), _entries(asked)
        for each in entries:
            queue.delete(str(each["ReceiptHandle"]))
        return {"Successful": [{"Id": each["Id"]} for each in entries], "Failed": []}

    async def change_message_visibility(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """ChangeMessageVisibility."""
        self._of(asked).hide(str(asked["ReceiptHandle"]), self._clock(), float(asked["VisibilityTimeout"]))
        await self._wake()
        return {}

    async def change_message_visibility_batch(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """ChangeMessageVisibilityBatch."""
        queue, entries = self._of(asked), _entries(asked)
        for each in entries:
            queue.hide(str(each["ReceiptHandle"]), self._clock(), float(each["VisibilityTimeout"]))
        await self._wake()
        return {"Successful": [{"Id": each["Id"]} for each in entries], "Failed": []}

    def purge_queue(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """PurgeQueue."""
        self._of(asked).purge()
        return {}

    async def start_message_move_task(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """StartMessageMoveTask: done before the answer."""
        dead, target = self._by_arn(str(asked["SourceArn"])), asked.get("DestinationArn")
        sources = [self._by_arn(target)] if target else dead.sources(self._queues)
        if not dead.sources(self._queues) or not sources:
            code = "ResourceNotFoundException"
            raise _Refused(code, code, f"{dead.name} is the dead-letter queue of none")
        moved = dead.move_to(sources[0], self._clock())
        await self._wake()
        task = {"SourceArn": asked["SourceArn"], "Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": moved}
        self._moves.insert(0, task)
        return {"TaskHandle": str(len(self._moves))}

    def list_message_move_tasks(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """ListMessageMoveTasks, the latest first."""
        tasks = [each for each in self._moves if each["SourceArn"] == asked["SourceArn"]]
        return {"Results": tasks[: int(asked.get("MaxResults") or 1)]}

    async def _wake(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def _sleep(self, seconds: float) -> None:
        """Wait until something arrives, or the time is over."""
        try:
            async with asyncio.timeout(seconds), self._arrived:
                await self._arrived.wait()
        except TimeoutError:
            pass

    def _of(self, asked: Mapping[str, Any]) -> MemoryQueue:
        return self._named(str(asked["QueueUrl"]).rpartition("/")[2])

    def _by_arn(self, arn: str) -> MemoryQueue:
        return self._named(arn.rpartition(":")[2])

    def _named(self, name: str) -> MemoryQueue:
        if name not in self._queues:
            code, query_code, message = _NO_QUEUE
            raise _Refused(code, query_code, message.format(name))
        return self._queues[name]

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._port}/{ACCOUNT}/{name}"

    def _arn(self, name: str) -> str:
        return f"arn:aws:sqs:{self.region}:{ACCOUNT}:{name}"


_OPERATIONS: dict[str, Callable[[QueueServer, Mapping[str, Any]], Any]] = {
    "CreateQueue": QueueServer.create_queue,
    "GetQueueUrl": QueueServer.get_queue_url,
    "ListQueues": QueueServer.list_queues,
    "GetQueueAttributes": QueueServer.get_queue_attributes,
    "SendMessage": QueueServer.send_message,
    "SendMessageBatch": QueueServer.send_message_batch,
    "ReceiveMessage": QueueServer.receive_message,
    "DeleteMessage": QueueServer.delete_message,
    "DeleteMessageBatch": QueueServer.delete_message_batch,
    "ChangeMessageVisibility": QueueServer.change_message_visibility,
    "ChangeMessageVisibilityBatch": QueueServer.change_message_visibility_batch,
    "PurgeQueue": QueueServer.purge_queue,
    "StartMessageMoveTask": QueueServer.start_message_move_task,
    "ListMessageMoveTasks": QueueServer.list_message_move_tasks,
}


def _answer_publish() -> bytes:
    """The answer in the older protocol, which SNS speaks."""
    return b"<PublishResponse><PublishResult><MessageId>0</MessageId></PublishResult></PublishResponse>"


def _entries(asked: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries: list[Mapping[str, Any]] = asked["Entries"]
    if not 0 < len(entries) <= BATCH_MESSAGES:
        code = "TooManyEntriesInBatchRequest" if entries else "EmptyBatchRequest"
        raise _Refused(code, f"AWS.SimpleQueueService.{code}", f"{len(entries)} entries; 1 to {BATCH_MESSAGES} at once")
    return entries


def _sent(message: Stored) -> dict[str, Any]:
    return {"MessageId": message.message_id, "MD5OfMessageBody": _md5(message.body)}


def _received(message: Stored) -> dict[str, Any]:
    return {
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": _md5(message.body),
        "Body": message.body,
        "Attributes": {
            "ApproximateReceiveCount": str(message.received_count),
            "SentTimestamp": str(int(message.sent_at * 1000)),
            "ApproximateFirstReceiveTimestamp": str(int(message.first_received_at * 1000)),
        },
    }


def _md5(body: str) -> str:
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def _http(status: int, kind: str, body: bytes, more: str = "") -> bytes:
    reason = "OK" if status == 200 else "Bad Request"
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body
