"""What the simulator found in the event-driven path, each as the shortest scene that shows it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.backup.job import Backup, BackupOptions, KeyProgress
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED, Written
from tests.doubles.memory_store import MemoryStore
from tests.simulation.copies.test_findings import Meddling, ticking, world

ROUTE = Route(Location("source"), Location("destination"))


def backup(store: Any, **options: Any) -> Backup:
    return Backup(store, store, ROUTE, BackupOptions(**options), ByteBudget(1_000))


async def put(store: MemoryStore, bucket: str, data: bytes, **attributes: Any) -> Written:
    return await store.put(bucket, "k", data, Attributes(**attributes), guard=UNGUARDED)


def row(written: Written, size_bytes: int) -> ObjectVersion:
    return ObjectVersion(0, "k", written.version_id, size_bytes=size_bytes, etag=written.etag)


async def top(store: MemoryStore) -> bytes:
    return (await store.get(ObjectRef("destination", "k"))).data


@pytest.mark.parametrize("archived", ["source", "destination"])
def test_an_archived_version_that_only_its_bytes_could_tell_does_not_hold_the_key_up(archived: str):
    """It was to be read, S3 refused, and each event of the key went to the dead-letter queue."""

    async def scene() -> None:
        store = world(ticking(), checksum=None)
        classes = {"source": None, "destination": None, archived: "GLACIER"}
        first = await put(store, "source", b"one", sse="aws:kms", storage_class=classes["source"])
        await put(store, "destination", b"one", sse="aws:kms", storage_class=classes["destination"])
        second = await put(store, "source", b"two", sse="aws:kms")
        rows = [row(first, 3), row(second, 3)._replace(row=1)]
        settled = await backup(store, storage_class="STANDARD").settle("k", rows)
        expected = Status.ARCHIVED if archived == "source" else Status.COPIED
        assert [settled.outcomes[number].status for number in (0, 1)] == [expected, Status.COPIED]
        assert await top(store) == b"two"

    asyncio.run(scene())


@pytest.mark.parametrize("attributes", [{}, {"storage_class": "GLACIER"}])
def test_a_new_version_that_has_to_wait_does_not_delete_the_copy_of_the_one_before(attributes: dict[str, str]):
    """Mirroring, it was decided as if it were not there: nothing was left at the source, a marker hid the copy."""

    async def scene() -> None:
        store = MemoryStore(clock=ticking())
        store.create_bucket("source", versioned=False)
        store.create_bucket("destination")
        job = backup(store, mirrors_deletes=True, limit_bytes=5)
        await job.settle("k", [row(await put(store, "source", b"small"), 5)])
        written = await put(store, "source", b"larger or archived"[: 18 if not attributes else 5], **attributes)
        settled = await job.settle("k", [row(written, 18)])
        assert settled.left == ({0} if not attributes else set())
        assert not settled.is_marked
        assert await top(store) == b"small"
        await store.delete("source", "k")
        assert (await job.settle("k")).is_marked

    asyncio.run(scene())


def test_a_source_without_versions_that_is_overwritten_after_it_was_listed_is_not_copied_for_the_event():
    """The event's object was listed, another one was copied, and the journal said "copied" of the event's."""

    async def scene() -> None:
        store = MemoryStore(clock=ticking())
        store.create_bucket("source", versioned=False)
        store.create_bucket("destination")
        await put(store, "destination", b"zero")
        written = await put(store, "source", b"first")

        async def others() -> None:
            await put(store, "source", b"second")

        asked = row(written, 5)  # twice: then nothing is known of the source but its listing
        settled = await backup(Meddling(store, "head", others)).settle("k", [asked, asked._replace(row=1)])
        assert [outcome.status for outcome in settled.outcomes.values()] == [Status.MISSING] * 2
        assert await top(store) == b"second"

    asyncio.run(scene())


def test_a_source_that_is_overwritten_after_it_was_listed_is_not_called_the_same_as_an_earlier_copy():
    """HEAD showed what had come in its place, of which there was a copy: the event's object was said to have one."""

    async def scene() -> None:
        store = MemoryStore(clock=ticking(), default_checksum="CRC64NVME")
        store.create_bucket("source", versioned=False)
        store.create_bucket("destination")
        await put(store, "destination", b"other")
        written = await put(store, "source", b"event")

        async def others() -> None:
            await put(store, "source", b"other")

        settled = await backup(Meddling(store, "head", others, at=2)).settle("k", [row(written, 5)])
        assert settled.outcomes[0].status is Status.MISSING
        assert await top(store) == b"other"

    asyncio.run(scene())


def test_a_writer_that_is_stopped_before_it_hides_a_deleted_version_again_says_what_it_owes():
    """It said that the key could wait in the backlog, with a deleted object in sight."""

    async def scene() -> None:
        store = world(ticking())
        written = await put(store, "source", b"deleted")
        await store.delete("source", "k")
        progress = KeyProgress()

        async def stall() -> None:
            await asyncio.sleep(3_600)

        job = backup(Meddling(store, "delete", stall), mirrors_deletes=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await job.settle("k", [row(written, 7)], progress)
        assert progress.owes_newest
        assert await top(store) == b"deleted"
        await backup(store, mirrors_deletes=True).settle("k", [row(written, 7)], progress)
        assert not progress.owes_newest

    asyncio.run(scene())


def test_an_object_archived_between_its_head_and_its_copy_waits_for_a_run_like_any_other():
    """S3's refusal was an error of the function: the event failed, and came again for nothing."""

    async def scene() -> None:
        store = MemoryStore(clock=ticking(), default_checksum="CRC64NVME")
        store.create_bucket("source", versioned=False)
        store.create_bucket("destination")
        written = await put(store, "source", b"one")

        async def others() -> None:
            await put(store, "source", b"one", storage_class="GLACIER")

        settled = await backup(Meddling(store, "copy", others)).settle("k", [row(written, 3)])
        assert settled.outcomes[0].status is Status.ARCHIVED

    asyncio.run(scene())
