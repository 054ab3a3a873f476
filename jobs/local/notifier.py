"""From what the relay hears to messages in the queue, as S3's notification configuration has it.

Told are the buckets and prefixes that the policy's pairs watch. A sequencer is the time in nanoseconds, and
never the same twice; of two writes to one key at once, the order of their answers stands for S3's own.
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
    """Hears exchanges (`hear`) and sends what they changed (`run`), both on one event loop."""

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
        self._heard: asyncio.Queue[tuple[Change, int]] = asyncio.Queue()

    def hear(self, exchange: Exchange) -> None:
        """Note what the exchange changed where somebody watches."""
        for change in read_changes(exchange):
            if self._is_watched(change):
                self._last = max(self._last + 1, self._clock_ns())
                self._heard.put_nowait((change, self._last))

    async def run(self) -> None:
        """Send for as long as nobody cancels it. What the queue does not take is sent again."""
        while True:
            some = [await self._heard.get()]
            while len(some) < BATCH_MESSAGES and not self._heard.empty():
                some.append(self._heard.get_nowait())
            bodies = [json.dumps({"Records": [await self._record(*each)]}) for each in some]
            self.unhandled.add(bodies)
            await self._send(bodies)
            for _ in some:
                self._heard.task_done()

    async def drain(self) -> None:
        """Wait until all that was heard is sent."""
        await self._heard.join()

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
        """With the size and ETag that the answers to copies and completed uploads leave out."""
        if not change.is_creation or change.etag is not None:
            return change
        try:
            info = await self.store.head(ObjectRef(change.bucket, change.key, change.version_id))
        except StoreError:  # overtaken, for example: the event is told without them
            return change
        return change._replace(size_bytes=info.size_bytes, etag=info.etag)

    def _is_watched(self, change: Change) -> bool:
        return any(
            pair.source.bucket == change.bucket and any(change.key.startswith(each) for each in pair.source.prefixes)
            for pair in self.policy.pairs
        )
