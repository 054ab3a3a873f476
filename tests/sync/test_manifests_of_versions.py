"""Manifests that do not know a key's history, or know an old one: what is made of it at the destination."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from jobs.core.model import ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.errors import ConfigError
from jobs.s3.store import Marker
from tests.doubles.hooks import names, once, watch
from tests.doubles.memory_store import MemoryStore, Request
from tests.sync.scene import (
    COPY,
    SOURCE,
    bodies,
    finish_rows,
    job,
    make_store,
    put,
    replay,
    rows_of,
    statuses,
    ticking,
    verifier,
)

MARKER = None
BODIES = (b"one", b"two!", MARKER, b"three")


async def written(*versions: bytes | None, ref: ObjectRef = SOURCE, store: MemoryStore | None = None) -> MemoryStore:
    """A store with these versions."""
    store = store or make_store(clock=ticking())
    for body in versions:
        if body is MARKER:
            await store.delete(ref)
        else:
            await put(store, body, ref)
    return store


def undated(row: ObjectVersion) -> ObjectVersion:
    """A row as S3 Batch Operations' form of a manifest has it."""
    return ObjectVersion(row.row, row.key, row.version_id)


def of_one_second(row: ObjectVersion) -> ObjectVersion:
    return row._replace(last_modified=1.0, is_latest=False)


def suspend(store: MemoryStore) -> None:
    store._buckets.named[COPY.bucket].is_versioned = False


def deep(store: MemoryStore) -> Any:
    return verifier(store, all_versions=True, deep=True)


@pytest.mark.parametrize("knows", [undated, of_one_second])
@pytest.mark.parametrize("order", list(itertools.permutations(range(len(BODIES)))))
async def test_the_source_says_the_order_of_versions_and_not_the_manifest(
    order: Sequence[int], knows: Callable[[ObjectVersion], ObjectVersion]
) -> None:
    store = await written(*BODIES)
    listed = await rows_of(store)
    rows = [knows(listed[place]) for place in order]
    outcomes = await replay(store, rows)
    assert [each.row for each in outcomes] == [row.row for row in rows]
    assert bodies(store) == list(BODIES)
    for outcome in outcomes:
        assert (outcome.status, outcome.reason == Reason.DELETED) == (Status.DONE, BODIES[outcome.row] is MARKER)
    assert statuses(await replay(store, rows)) == [Status.SAME] * 4
    assert statuses(await deep(store).process(rows)) == [Status.VERIFIED] * 4


@pytest.mark.parametrize("has_etag", [True, False])
async def test_a_row_without_a_version_id_is_copied_once(has_etag: bool) -> None:
    store = await written(b"one", b"two!")
    row = (await rows_of(store))[-1]
    rows = [ObjectVersion(0, SOURCE.key, etag=row.etag if has_etag else None)]
    assert statuses(await replay(store, rows)) == [Status.DONE]
    assert statuses(await replay(store, rows)) == [Status.SAME]
    assert bodies(store) == [b"two!"]


@pytest.mark.parametrize("is_hidden", [False, True])
async def test_a_delete_marker_that_the_source_no_longer_has_hides_no_copy(is_hidden: bool) -> None:
    """`is_hidden`: an earlier run made it, when the source had it."""
    store = await written(b"one", MARKER)
    rows = await rows_of(store)
    if is_hidden:
        await replay(store, rows)
    await store.delete(SOURCE._replace(version_id=rows[1].version_id))
    assert statuses(await replay(store, rows)) == [Status.DONE, Status.MISSING]
    assert bodies(store)[-1] == b"one"


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_delete_marker_below_the_page_that_is_read_is_made_if_the_source_has_it(is_gone: bool) -> None:
    store = await written(b"one", MARKER, b"three")
    rows = (await rows_of(store))[:2]

    async def list_newest(request: Request) -> Any:
        page = await request()
        if request.place.bucket != SOURCE.bucket:
            return page
        return page._replace(entries=page.entries[:1], next_marker=Marker(SOURCE.key, page.entries[0].version_id))

    store.hook(list_versions=list_newest)
    if is_gone:
        await store.delete(SOURCE._replace(version_id=rows[1].version_id))
    assert statuses(await replay(store, rows)) == [Status.DONE, Status.MISSING if is_gone else Status.DONE]
    assert bodies(store) == ([b"one"] if is_gone else [b"one", None])


async def test_a_delete_marker_is_not_made_once_the_object_is_back_at_the_source() -> None:
    store = await written(b"one", MARKER)
    rows = await rows_of(store)
    store.hook(copy=once(lambda: store.delete(SOURCE._replace(version_id=rows[1].version_id))))
    assert statuses(await finish_rows(store, rows)) == [Status.DONE, Status.MISSING]
    assert bodies(store)[-1] == b"one"


@pytest.mark.parametrize("is_meanwhile", [False, True])
async def test_a_destination_that_no_longer_keeps_versions_loses_none(is_meanwhile: bool) -> None:
    """If it is suspended meanwhile, the run ends at the first answer."""
    store = await written(b"one", b"two!", MARKER)

    async def suspend_first(request: Request) -> Any:
        suspend(store)
        return await request()

    if is_meanwhile:
        store.hook(copy=suspend_first)
    else:
        await written(b"other", ref=COPY, store=store)
        suspend(store)
    with pytest.raises(ConfigError, match="keeps no versions"):
        await finish_rows(store, await rows_of(store), overwrite="always")
    assert bodies(store) == [b"one" if is_meanwhile else b"other"]


async def test_rows_that_begin_together_ask_once_whether_versions_are_kept() -> None:
    """Fifty at once asked fifty times, of which S3 may refuse some for their rate."""
    store = make_store()

    async def wait(request: Request) -> Any:
        await asyncio.sleep(0)
        return await request()

    store.hook(is_versioned=wait)
    requests, worker = watch(store), job(store, all_versions=True)
    rows = [ObjectVersion(row, f"in/k{row}", f"v{row}") for row in range(5)]
    outcomes = await asyncio.gather(*(worker.process([row]) for row in rows))
    assert [each.status for [each] in outcomes] == [Status.MISSING] * 5
    assert names(requests).count("is_versioned") == 1


@pytest.mark.parametrize("asked", ["replicate", "verify", "verify --deep"])
async def test_long_histories_that_differ_take_a_few_requests_a_version(asked: str) -> None:
    """The source has lost its oldest versions and has newer ones, and all have one size: each could be each other's."""
    versions = [f"{number:04d}".encode() for number in range(60)]
    store = await written(*versions[10:])
    await written(*versions[:50], b"else", ref=COPY, store=store)
    rows, requests = await rows_of(store), watch(store)
    if asked == "replicate":
        outcomes = await replay(store, rows)
    else:
        outcomes = await verifier(store, all_versions=True, deep="--deep" in asked).process(rows)
    both, rest = (Status.SAME, Status.DONE) if asked == "replicate" else (Status.VERIFIED, Status.MISSING)
    assert Counter(statuses(outcomes)) == {both: 40, rest: 10}
    assert names(requests).count("head") < 6 * len(versions)
