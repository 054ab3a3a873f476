"""Removed versions: gone for good, and remembered to explain late events.

    <ledger>/removed/<hash of bucket and key>/<version id>!<sequencer>      the event, written once

A source that keeps versions has a history of an object. A removed version, and every object of a
source without versions, leaves only the event of its removal, and another batch may have had that
event.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

from jobs.backup.events import ObjectEvent, order_of
from jobs.core.model import NULL_VERSION
from jobs.s3.store import Marker
from scheduler.runtime import Runtime


async def remember(runtime: Runtime, event: ObjectEvent) -> None:
    """Record a removal. A known one is not written again. Raises StoreError."""
    name = f"{_folder(event)}{event.version_id or NULL_VERSION}!{order_of(event.sequencer)}"
    await runtime.write_once(name, json.dumps(dataclasses.asdict(event)).encode())


async def is_known(runtime: Runtime, event: ObjectEvent) -> bool:
    """Whether a removal is known that explains why the event's object is missing.

    One LIST, however many are known: names of one version id sort by time.
    """
    of_version = f"{_folder(event)}{event.version_id or NULL_VERSION}!"
    place = runtime.place(of_version)
    after = None if event.version_id else Marker(place.key + order_of(event.sequencer))
    page = await runtime.store().list_objects(place.bucket, place.key, after=after, max_keys=1)
    orders = [entry.key[len(place.key) :] for entry in page.entries]
    return any(_is_of(event, event.version_id, order) for order in orders)


def is_removal_of(removal: ObjectEvent, event: ObjectEvent) -> bool:
    """Whether `removal` removed the object of `event`."""
    same_key = (removal.bucket, removal.key) == (event.bucket, event.key)
    return removal.removes_bytes and same_key and _is_of(event, removal.version_id, order_of(removal.sequencer))


def _is_of(event: ObjectEvent, version_id: str | None, order: str) -> bool:
    """A version is removed once. An object without a version id may come and go, so the order
    decides.
    """
    return version_id == event.version_id and (version_id is not None or order > order_of(event.sequencer))


def _folder(event: ObjectEvent) -> str:
    place = f"{event.bucket}\0{event.key}".encode("utf-8", "surrogateescape")
    return f"removed/{hashlib.sha256(place).hexdigest()[:40]}/"
