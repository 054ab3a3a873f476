"""Object versions that are gone for good, remembered so that the late event of one is understood.

    <ledger>/removed/<hash of bucket and key>/<version id>!<sequencer>      the event, written once

Where a source keeps versions its history says what became of an object; a removed version, and every object of a source
without versions, leaves nothing behind but the event of its removal, which another batch may have had.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

from jobs.backup.events import ObjectEvent, order_of
from jobs.core.model import NULL_VERSION
from jobs.s3.store import Marker
from scheduler.runtime import Sandbox


async def remember(sandbox: Sandbox, event: ObjectEvent) -> None:
    """Write down a removal; one that is known is not written again. Raises StoreError."""
    name = f"{_folder(event)}{event.version_id or NULL_VERSION}!{order_of(event.sequencer)}"
    await sandbox.write_once(name, json.dumps(dataclasses.asdict(event)).encode())


async def is_known(sandbox: Sandbox, event: ObjectEvent) -> bool:
    """Whether a removal is known that explains why the event's object is not there.

    One LIST, however many are known: names of one version id sort by what came first.
    """
    of_version = f"{_folder(event)}{event.version_id or NULL_VERSION}!"
    place = sandbox.place(of_version)
    after = None if event.version_id else Marker(place.key + order_of(event.sequencer))
    page = await sandbox.store().list_objects(place.bucket, place.key, after=after, max_keys=1)
    orders = [entry.key[len(place.key) :] for entry in page.entries]
    return any(_is_of(event, event.version_id, order) for order in orders)


def explains(removal: ObjectEvent, event: ObjectEvent) -> bool:
    """Whether the one event is the removal of the other's object."""
    same_key = (removal.bucket, removal.key) == (event.bucket, event.key)
    return removal.removes_bytes and same_key and _is_of(event, removal.version_id, order_of(removal.sequencer))


def _is_of(event: ObjectEvent, version_id: str | None, order: str) -> bool:
    """A version has one life; an object without a version id may come and go often, so there the order says which."""
    return version_id == event.version_id and (version_id is not None or order > order_of(event.sequencer))


def _folder(event: ObjectEvent) -> str:
    told = f"{event.bucket}\0{event.key}".encode("utf-8", "surrogateescape")
    return f"removed/{hashlib.sha256(told).hexdigest()[:40]}/"
