"""The probe: a new object on its way through event, queue and function to its copy, and how long that took.

It has a key that nobody else has, and is removed by its version id, as is its copy where no lock keeps it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from jobs.core.model import Attributes, ObjectInfo, ObjectRef
from jobs.doctor.model import Finding, Question, failure, ok, warning
from jobs.doctor.system import System
from jobs.errors import NotFound, StoreError
from jobs.policy.coverage import match
from jobs.policy.model import Pair
from jobs.s3.store import ABSENT, Store

WAIT_SECONDS = 180.0
PAUSE_SECONDS = 1.0


def questions(system: System) -> Iterator[Question]:
    """One for each pair."""
    for pair in system.pairs:
        yield Question("probe", f"pair {pair.name}", partial(_probe, system, pair))


def _probe(system: System, pair: Pair) -> Finding:
    source, hot = pair.source, pair.destination
    name = f"sealift-doctor-{secrets.token_hex(8)}"
    keys = [prefix + name for prefix in source.prefixes if match(system.policy, source.bucket, prefix + name) is pair]
    if not keys:
        return warning("no key of the pair for a probe: other pairs have its prefixes", "copy an object by hand")
    key, data = keys[0], secrets.token_bytes(32)
    began = time.monotonic()
    written = system.stored(
        source.region, lambda store: store.put(ObjectRef(source.bucket, key), data, Attributes(), guard=ABSENT)
    )
    there = ObjectRef(hot.bucket, pair.copy_key(key))
    try:
        copy = system.stored(hot.region, lambda store: _await_copy(store, there))
        seconds = time.monotonic() - began
    finally:
        system.stored(source.region, lambda store: _remove(store, ObjectRef(source.bucket, key, written.version_id)))
    if copy is None:
        says = f"s3://{source.bucket}/{key} had no copy after {WAIT_SECONDS:.0f} s"
        return failure(says, "look at the lines on notifications, queue and dead letters, then at the log of backup")
    stays = system.stored(hot.region, lambda store: _remove(store, there._replace(version_id=copy.version_id)))
    return ok(f"a new object had its copy after {seconds:.1f} s{f' (the copy stays: {stays})' if stays else ''}")


async def _await_copy(store: Store, ref: ObjectRef) -> ObjectInfo | None:
    for _ in range(round(WAIT_SECONDS / PAUSE_SECONDS)):
        with suppress(NotFound):
            return await store.head(ref)
        await asyncio.sleep(PAUSE_SECONDS)
    return None


async def _remove(store: Store, ref: ObjectRef) -> str:
    """Why the probe's version stays, if it does."""
    try:
        await store.delete(ref)
    except StoreError as error:
        return error.code or type(error).__name__
    return ""
