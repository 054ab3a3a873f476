"""From what the relay hears to messages: what is watched, in order, whole, and sent until the queue has it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from jobs.aws.queues import Queue
from jobs.core.model import Attributes
from jobs.errors import Unavailable
from jobs.local.notifications import Exchange
from jobs.local.notifier import Notifier
from jobs.local.status import Unhandled
from jobs.policy.model import Policy
from jobs.policy.reader import read_policy
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore
from tests.doubles.servers import REGION


@dataclass
class Refusing:
    """A queue that refuses so many times before it takes a message."""

    refusals: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)

    def send(self, bodies: list[str]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("SendMessageBatch", "queue", "Refused")
        self.records += [json.loads(body)["Records"][0] for body in bodies]


def read(folder: Path, prefixes: list[str]) -> Policy:
    pair = {
        "name": "pair",
        "source": {"bucket": "source", "region": REGION, "prefixes": prefixes},
        "destination": {"bucket": "hotter", "region": REGION},
    }
    document = {"version": 1, "name": "mine", "ledger": {"bucket": "ledger", "region": REGION}, "pairs": [pair]}
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump(document))
    return read_policy(str(file))


async def tell(policy: Policy, store: MemoryStore, queue: Refusing, exchanges: list[Exchange]) -> Unhandled:
    """What is unhandled once all was sent; the clock stands still."""
    unhandled = Unhandled(lambda: 1.0)
    notifier = Notifier(policy, store, cast(Queue, queue), unhandled, clock_ns=lambda: 7)
    sending = asyncio.create_task(notifier.run())
    for exchange in exchanges:
        notifier.add(exchange)
    await asyncio.wait_for(notifier.drain(), 30)
    sending.cancel()
    return unhandled


def put(bucket: str, key: str, version_id: str = "v", **headers: str) -> Exchange:
    answer = {"x-amz-version-id": version_id, "etag": '"e"'}
    return Exchange("PUT", f"/{bucket}/{key}", headers, status=200, answer_headers=answer)


def test_what_a_pair_watches_is_told_in_order(tmp_path: Path) -> None:
    heard = [
        put("source", "a/1"),
        put("source", "b/1"),
        put("hotter", "a/1"),
        put("source", "a/2"),
        put("source", "a/1"),
    ]
    queue = Refusing()
    unhandled = asyncio.run(tell(read(tmp_path, ["a/"]), MemoryStore(), queue, heard))
    told = [each["s3"]["object"] for each in queue.records]
    assert [each["key"] for each in told] == ["a/1", "a/2", "a/1"]
    order = [each["sequencer"] for each in told]
    assert order == sorted(set(order)), "one after the other, even in the same nanosecond"
    assert len(unhandled) == 3


def test_a_queue_that_refuses_gets_the_events_once_it_takes_them(tmp_path: Path) -> None:
    queue = Refusing(refusals=2)
    asyncio.run(tell(read(tmp_path, [""]), MemoryStore(), queue, [put("source", str(number)) for number in range(12)]))
    assert [each["s3"]["object"]["key"] for each in queue.records] == [str(number) for number in range(12)]


def test_size_and_etag_that_the_answer_leaves_out_are_looked_up(tmp_path: Path) -> None:
    store = MemoryStore()
    store.create_bucket("source")
    written = asyncio.run(store.put("source", "k", b"12345", Attributes(), guard=UNGUARDED))
    assert written.version_id is not None
    copied = b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>"
    heard = [
        Exchange(
            "PUT",
            f"/source/{key}",
            {"x-amz-copy-source": "/a/b"},
            status=200,
            answer_headers={"x-amz-version-id": written.version_id},
            answer_body=copied,
        )
        for key in ("k", "gone")
    ]
    queue = Refusing()
    asyncio.run(tell(read(tmp_path, [""]), store, queue, heard))
    found, gone = (each["s3"]["object"] for each in queue.records)
    assert (found["size"], found["eTag"]) == (5, written.etag)
    assert (gone["key"], gone.keys() & {"size", "eTag"}) == ("gone", set())
