"""A storm of events: thousands, in random order, many twice, while requests and whole invocations fail."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest import mock
from urllib.parse import urlsplit

import yaml

from jobs.aws.clients import open_client
from jobs.aws.queues import Depth, Queue, redrive
from jobs.core.model import Attributes, Listed, Location
from jobs.errors import Unavailable
from jobs.local.event_source import Context, EventSource, make_queues
from jobs.local.notifier import Notifier
from jobs.local.relay import Relay
from jobs.local.status import Unhandled
from jobs.policy.reader import read_policy
from jobs.s3.sessions import open_store
from jobs.s3.store import UNGUARDED, Store
from scheduler.backup import handle
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from tests.doubles.servers import REGION, Server
from tests.local.faulty_relay import faulty_relay

WRITERS = 64
CLIENTS = 64


@dataclass
class Collected:
    """A queue that only keeps what is sent."""

    bodies: list[str] = field(default_factory=list)

    def send(self, bodies: list[str]) -> None:
        self.bodies += bodies


@dataclass
class Figures:
    """What a storm took, and whatever is wrong after it."""

    events: int = 0
    messages: int = 0
    keys: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    failed: int = 0
    redriven: int = 0
    seconds: float = 0.0
    endings: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def storm(
    s3: Server,
    sqs: str,
    folder: Path,
    *,
    events: int,
    seed: int,
    share: float = 0.05,
    crash_share: float = 0.05,
    batch: int = 100,
) -> Figures:
    """So many events of real writes through the real queue and function; what came of it.

    Of requests to S3 `share` fail, of invocations `crash_share`, after their work was done.
    """
    dice, name = random.Random(seed), uuid.uuid4().hex[:8]
    source, hot, ledger = f"src-{name}", f"hot-{name}", f"led-{name}"
    client = s3.client()
    for bucket in (source, hot, ledger):
        client.create_bucket(Bucket=bucket)
        if bucket != ledger:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    pair = {
        "name": "pair",
        "source": {"bucket": source, "region": REGION},
        "destination": {"bucket": hot, "region": REGION, "prefix": "c/"},
        "deletes": "mirror",
    }
    place = {"bucket": ledger, "region": REGION, "prefix": "l/"}
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "name": f"s{name}", "ledger": place, "pairs": [pair]}))
    port = urlsplit(s3.endpoint).port
    assert port is not None
    with mock.patch.dict(os.environ, s3.environment() | {"AWS_ENDPOINT_URL_SQS": sqs}):
        figures = Figures(events=events, keys=max(1, events // 4))
        bodies = asyncio.run(_write(port, file, source, figures, dice))
        told = [*bodies, *dice.sample(bodies, len(bodies) // 5)]
        dice.shuffle(told)
        figures.messages = len(told)
        url, dead = make_queues(open_client("sqs", REGION), f"s{name}", 1)
        queue = Queue(url, REGION)
        queue.send(told)
        with faulty_relay(port, share, seed, figures.faults) as fault_port:
            runtime = Runtime(
                FunctionSettings(str(file), Location(ledger, "l")),
                open_region=lambda region, *_: open_store(
                    f"http://127.0.0.1:{fault_port}", region, None, max_in_flight=64
                ),
            )
            began = time.monotonic()
            _work(queue, Queue(dead, REGION), runtime, figures, dice, crash_share, batch)
            figures.seconds = time.monotonic() - began
        asyncio.run(_judge(source, hot, figures))
        _read_journal(client, ledger, bodies, figures)
    return figures


async def _write(port: int, policy: Path, bucket: str, figures: Figures, dice: random.Random) -> list[str]:
    """Write through the relay, each key's versions one after the other; the notifications of it."""
    collected = Collected()
    direct = open_store(None, None, None, max_in_flight=WRITERS)
    notifier = Notifier(read_policy(str(policy)), direct, cast(Queue, collected), Unhandled())
    relay = Relay(port, notifier.add)
    front = await relay.start()
    sending = asyncio.create_task(notifier.run())
    store = open_store(f"http://127.0.0.1:{front}", None, None, max_in_flight=WRITERS)
    gate = asyncio.Semaphore(WRITERS)
    counts = Counter(dice.randrange(figures.keys) for _ in range(figures.events))

    async def write(number: int, count: int) -> None:
        key = f"{number % 97:02d}/key {number}+ü"
        for version in range(count):
            async with gate:
                if version and dice.random() < 0.05:
                    await store.delete(bucket, key)
                else:
                    body = f"{key} {version}".encode()
                    await store.put(bucket, key, body, Attributes(), guard=UNGUARDED)

    await asyncio.gather(*(write(number, count) for number, count in counts.items()))
    await relay.close()
    await notifier.drain()
    sending.cancel()
    return collected.bodies


def _work(
    queue: Queue,
    dead: Queue,
    runtime: Runtime,
    figures: Figures,
    dice: random.Random,
    crash_share: float,
    batch: int,
) -> None:
    """Poll until both queues are empty; what was dead-lettered is returned, as a person would."""

    def function(event: Mapping[str, Any], context: Any) -> Mapping[str, Any]:
        answer = runtime.run(handle(runtime, event, context.get_remaining_time_in_millis() / 1000, "r"))
        if dice.random() < crash_share:
            figures.crashes += 1
            raise Unavailable("Invoke", "backup", "Crashed", "after its work was done")
        return answer

    source = EventSource(queue, function, lambda: Context("backup", REGION), Unhandled(), batch)
    while True:
        figures.failed += source.step().failed
        if queue.depth() == Depth(0, 0, 0):
            if not (returned := redrive(dead, queue)):
                return
            figures.redriven += returned


async def _judge(source: str, hot: str, figures: Figures) -> None:
    """Every version of the source has its copy, and what is current there is current here."""
    store = open_store(None, None, None, max_in_flight=CLIENTS)
    there, here = await asyncio.gather(_histories(store, source, ""), _histories(store, hot, "c/"))
    if there.keys() != here.keys():
        apart = sorted(there.keys() ^ here.keys())
        figures.wrong.append(f"{len(apart)} keys are on one side only: {apart[:5]}")
    for key in there.keys() & here.keys():
        copies = {each.etag for each in here[key] if not each.is_delete_marker}
        lost = {each.etag for each in there[key] if not each.is_delete_marker} - copies
        if lost:
            figures.wrong.append(f"{key}: {len(lost)} versions have no copy")
        current, copy = there[key][0], here[key][0]
        if (current.is_delete_marker, current.etag) != (copy.is_delete_marker, copy.etag):
            figures.wrong.append(f"{key}: the newest is not on top")
    await store.close()


async def _histories(store: Store, bucket: str, prefix: str) -> dict[str, list[Listed]]:
    """Key without prefix → its versions, the newest first."""
    found: dict[str, list[Listed]] = {}
    marker = None
    while True:
        page = await store.list_versions(bucket, prefix, after=marker)
        for each in page.entries:
            found.setdefault(each.key.removeprefix(prefix), []).append(each)
        marker = page.next_marker
        if marker is None:
            return found


def _read_journal(client: Any, ledger: str, bodies: list[str], figures: Figures) -> None:
    """Each event has an ending in the journal that is a good one."""
    good = ("copied", "same", "deleted", "superseded", "retained")
    ended = set()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=ledger, Prefix="l/journal/"):
        for entry in page.get("Contents", []):
            for line in client.get_object(Bucket=ledger, Key=entry["Key"])["Body"].read().splitlines():
                document = json.loads(line)
                figures.endings[document["status"]] += 1
                if document["status"] in good:
                    ended.add((document["key"], document["sequencer"]))
    records = [json.loads(body)["Records"][0]["s3"]["object"] for body in bodies]
    sequencers = {each["sequencer"] for each in records}
    if len(sequencers) != figures.events:
        figures.wrong.append(f"{figures.events} writes were told by {len(sequencers)} events")
    if unaccounted := sequencers - {sequencer for _, sequencer in ended}:
        figures.wrong.append(f"{len(unaccounted)} events have no good ending in the journal")
