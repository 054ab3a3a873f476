"""The notifier: sends what the relay observed to the queue, as S3 does.

It sends changes in buckets and prefixes that the policy's pairs watch. A sequencer is the time in
nanoseconds, and never the same twice. Of two writes to one key at once, the order of their answers
counts as S3's own.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable

from jobs.aws.queues import BATCH_MESSAGES, Queue
from jobs.core.model import ObjectRef
from jobs.core.pace import backoff_seconds
from jobs.errors import StoreError
from jobs.local.notifications import Change, Exchange, read_changes, to_record
from jobs.local.status import Unhandled
from jobs.policy.model import Policy
from jobs.s3.store import Store


class Notifier:
    """Takes exchanges (`add`) and sends what they changed (`run`), both on one event loop."""

    def __init__(
        self,
        policy: Policy,
        store: Store,
        queue: Queue,
        unhandled: Unhandled,
        clock_ns: Callable[[], int] = time.time_ns,
    ):
        self.policy, self.store, self.queue, self.unhandled = policy, store, queue, unhandled
        self._clock_ns, self._last = clock_ns, 0
        self._changes: asyncio.Queue[tuple[Change, int]] = asyncio.Queue()

    def add(self, exchange: Exchange) -> None:
        """Queue what the exchange changed in places that a pair watches."""
        for change in read_changes(exchange):
            if self._is_watched(change):
                self._last = max(self._last + 1, self._clock_ns())
                self._changes.put_nowait((change, self._last))

    async def run(self) -> None:
        """Send until it is cancelled. What the queue does not take is sent again."""
        while True:
            changes = [await self._changes.get()]
            while len(changes) < BATCH_MESSAGES and not self._changes.empty():
                changes.append(self._changes.get_nowait())
            bodies = [json.dumps({"Records": [await self._record(*each)]}) for each in changes]
            self.unhandled.add(bodies)
            await self._send(bodies)
            for _ in changes:
                self._changes.task_done()

    async def drain(self) -> None:
        """Wait until everything is sent."""
        await self._changes.join()

    async def _send(self, bodies: list[str]) -> None:
        attempt = 1
        while True:
            try:
                await asyncio.to_thread(self.queue.send, bodies)
            except StoreError:
                await asyncio.sleep(backoff_seconds(attempt, random.random()))
                attempt += 1
            else:
                return

    async def _record(self, change: Change, at_ns: int) -> dict[str, object]:
        region = next(pair.source.region for pair in self.policy.pairs if pair.source.bucket == change.bucket)
        return to_record(await self._complete(change), f"{at_ns:018X}", at_ns / 1e9, region)

    async def _complete(self, change: Change) -> Change:
        """Add the size and ETag that the answers to copies and completed uploads leave out."""
        if not change.is_creation or change.etag is not None:
            return change
        try:
            info = await self.store.head(ObjectRef(change.bucket, change.key, change.version_id))
        except StoreError:  # overtaken, for example: the event goes without them
            return change
        return change._replace(size_bytes=info.size_bytes, etag=info.etag)

    def _is_watched(self, change: Change) -> bool:
        return any(
            pair.source.bucket == change.bucket and any(change.key.startswith(each) for each in pair.source.prefixes)
            for pair in self.policy.pairs
        )
