"""The functions over a policy of one pair and a store in memory: what a real server cannot be made to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jobs.config import Settings
from jobs.core.model import Attributes, Listed, ObjectRef
from jobs.ledger.backlog import Manifest
from jobs.s3.store import UNGUARDED
from scheduler.backup import handle
from scheduler.runtime import Runtime
from tests.doubles.memory_store import Hook, MemoryStore, Request
from tests.doubles.policies import resolved
from tests.scheduler.event_samples import batch, notification, record

MARKED, REMOVED = "ObjectRemoved:DeleteMarkerCreated", "ObjectRemoved:Delete"


class Scene:
    """A store, a policy and the function over them. `pair` is what the policy's pair has besides."""

    def __init__(self, folder: Path, *, versioned: bool = True, hot_versioned: bool = True, **pair: Any) -> None:
        self.store = MemoryStore()
        for bucket in ("source", "hotter", "ledger"):
            self.store.create_bucket(bucket, {"source": versioned, "hotter": hot_versioned}.get(bucket, True))
        place = {"bucket": "source", "region": "us-east-1"}
        pair = {"name": "pair", "source": place, "destination": place | {"bucket": "hotter"}, **pair}
        self.write_policy(folder, [pair])
        names = {"POLICY": str(folder / "policy.json"), "LEDGER": "s3://ledger/l", "TOPIC": "topic"}
        settings = Settings.from_environment({f"SEALIFT_{name}": value for name, value in names.items()})
        self.runtime = Runtime(settings, open_region=lambda *_: self.store)
        self.sequencer = 0
        self.announced: list[Manifest] = []

    async def announce(self, manifest: Manifest) -> None:
        self.announced.append(manifest)

    def write_policy(self, folder: Path, pairs: list[dict[str, Any]], **more: Any) -> None:
        document = {"version": 1, "ledger": {"bucket": "ledger", "region": "us-east-1"}, "pairs": pairs, **more}
        (folder / "policy.json").write_bytes(resolved(document))

    def run(self, work: Any) -> Any:
        return self.runtime.run(work)

    def write(self, name: str, document: Any, **attributes: Any) -> None:
        """Write a document of the ledger, as somebody else does."""
        ref, data = ObjectRef("ledger", f"l/{name}"), json.dumps(document).encode()
        self.run(MemoryStore.put(self.store, ref, data, Attributes(**attributes), guard=UNGUARDED))

    def put(self, key: str, body: bytes = b"body", **attributes: Any) -> dict[str, Any]:
        """Put an object at the source. Returns its event."""
        written = asyncio.run(
            MemoryStore.put(self.store, ObjectRef("source", key), body, Attributes(**attributes), guard=UNGUARDED)
        )
        version = {"versionId": written.version_id} if written.version_id else {}
        return self.event(key, eTag=written.etag, size=len(body), **version)

    def delete(self, key: str, version_id: str | None = None) -> dict[str, Any]:
        """Delete a key, or remove a version for good. Returns the event."""
        deleted = asyncio.run(MemoryStore.delete(self.store, ObjectRef("source", key, version_id)))
        version = version_id or deleted.version_id
        named = {"versionId": version} if version else {}
        return self.event(key, MARKED if version and not version_id else REMOVED, **named)

    def event(self, key: str, name: str = "ObjectCreated:Put", **thing: Any) -> dict[str, Any]:
        self.sequencer += 1
        return notification(record("source", key, name, sequencer=f"{self.sequencer:016X}", **thing))

    def answer(self, event: Mapping[str, Any], remaining_seconds: float = 30.0) -> dict[str, Any]:
        answer: dict[str, Any] = self.run(handle(self.runtime, event, remaining_seconds, "request"))
        return answer

    def invoke(self, event: Mapping[str, Any], remaining_seconds: float = 30.0) -> list[str]:
        return [each["itemIdentifier"] for each in self.answer(event, remaining_seconds)["batchItemFailures"]]

    def handle(self, *events: Any) -> list[str]:
        """Handle a batch of these. Returns the messages that failed, of m0, m1, …"""
        return self.invoke(batch(*events))

    def lines(self, folder: str) -> list[dict[str, Any]]:
        """The lines in all objects of a folder of the ledger."""
        objects = self.store._buckets.named["ledger"].versions
        names = sorted(name for name in objects if name.startswith(f"l/{folder}"))
        return [json.loads(line) for name in names for line in objects[name][-1].data.splitlines()]

    def endings(self) -> list[tuple[str, str]]:
        """Keys and statuses of the journal, sorted: its names begin with a millisecond, which two may share."""
        return sorted((line["key"], line["status"]) for line in self.lines("journal/"))

    def copies(self, key: str = "k") -> list[bytes | None]:
        """The copies, oldest first. None is a delete marker."""
        return [None if each.is_delete_marker else each.data for each in self.store.stored("hotter", key)]

    def copy_of(self, key: str) -> bytes | None:
        return (self.copies(key) or [None])[-1]

    def history(self, bucket: str, key: str = "k") -> list[Listed]:
        """The versions, oldest first."""
        return asyncio.run(MemoryStore.list_versions(self.store, bucket, key)).entries[::-1]

    def put_copy(self, body: bytes, key: str = "k", **attributes: Any) -> None:
        """As somebody else does."""
        ref = ObjectRef("hotter", key)
        asyncio.run(MemoryStore.put(self.store, ref, body, Attributes(**attributes), guard=UNGUARDED))


def at(key: str) -> Callable[[Request], bool]:
    return lambda request: request.place.key == key


def slow(seconds: Callable[[Request], float]) -> Hook:
    async def wait(request: Request) -> Any:
        await asyncio.sleep(seconds(request))
        return await request()

    return wait
