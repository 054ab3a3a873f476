"""Bytes that rot below an ETag that stays: which side is at fault, and what a retry does about it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobs.core.model import ObjectRef, ObjectVersion, Repair, Route
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import NotFound
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from jobs.sync.key import Sides, SyncOptions
from jobs.sync.table import Overwrite, Rules
from jobs.verify.attestation import Attestation, Attested
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.memory_store import MemoryStore, Request
from tests.sync.scene import (
    COPY,
    ROUTE,
    SOURCE,
    bodies,
    make_store,
    put,
    put_in_parts,
    replay,
    replicate,
    row_of,
    statuses,
    verify,
)

GOOD, ROTTEN = b"the good content", b"the gOOd content"
OPAQUE: dict[str, Any] = {"algorithm": "SHA256"}
"""An upload of which S3 keeps nothing that the whole content could be held against."""


async def copied(store: MemoryStore, **attributes: Any) -> ObjectVersion:
    row = (await put(store, GOOD, **attributes))._replace(version_id=None)
    assert (await replicate(store, row)).status is Status.DONE
    return row


def condemned(row: ObjectVersion, outcome: Outcome) -> ObjectVersion:
    """The row of a retry, as the failed rows of a verify run have it."""
    if outcome.status is Status.DAMAGED:
        return row._replace(beside=Repair(damaged_etag=row.etag))
    assert outcome.status is Status.DIFFERENT
    return row._replace(beside=Repair(condemned_etag=outcome.destination_etag))


def lose(store: MemoryStore, bucket: str) -> None:
    """GET finds nothing of what HEAD still shows, until it is written again."""

    async def miss(request: Request) -> Any:
        if request.place.bucket == bucket:
            raise NotFound("GetObject", str(request.place), "NoSuchKey")
        return await request()

    async def heal(request: Request) -> Any:
        written = await request()
        store.hook(get=None)
        return written

    store.hook(get=miss, copy=heal)


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("is_known", [False, True])
async def test_a_copy_that_rotted_or_is_lost_is_copied_again(versioned: bool, is_known: bool, is_lost: bool) -> None:
    store = make_store(versioned=versioned)
    row = await copied(store)
    proven = await verify(store, row, deep=True)
    if is_lost:
        lose(store, COPY.bucket)
    else:
        store.rot(*COPY[:2], ROTTEN)
    if is_known:
        row = row._replace(beside=Repair(known_checksum=proven.checksum))
    found = await verify(store, row, deep=True)
    assert (found.status, found.evidence) == (Status.DIFFERENT, Evidence.CONTENT)
    assert (await replicate(store, condemned(row, found))).status is Status.DONE
    assert bodies(store)[-1] == GOOD
    same = await replicate(store, condemned(row, found))
    assert (same.status, same.evidence) == (Status.SAME, Evidence.CONTENT), "it is read, and not copied once more"
    assert (await verify(store, condemned(row, found))).evidence is Evidence.CONTENT


@pytest.mark.parametrize("all_versions", [False, True])
async def test_a_source_that_s3_refuses_to_copy_in_parts_is_read_and_found_damaged(all_versions: bool) -> None:
    store = make_store()
    row = await put(store, GOOD)
    store.rot(*SOURCE[:2], ROTTEN)
    outcome = await replicate(store, row, all_versions=all_versions, multipart_threshold_bytes=0)
    assert outcome.status is Status.DAMAGED
    assert bodies(store) == []


@pytest.mark.parametrize("versioned", [False, True])
async def test_a_damaged_original_is_restored_by_a_run_with_swapped_sides_and_its_retry(versioned: bool) -> None:
    """As `expire` advises where it keeps a damaged original."""
    store = make_store(versioned=versioned)
    row = await copied(store)
    store.rot(*SOURCE[:2], ROTTEN)
    assert (await verify(store, row, deep=True)).status is Status.DAMAGED
    back, budget = Route(ROUTE.destination, ROUTE.source), ByteBudget(1 << 20)
    swapped = (await row_of(store, COPY))._replace(version_id=None)
    [found] = await Verify(store, store, back, VerifyOptions(deep=True), budget).process([swapped])
    retry = Sides(store, store, back, SyncOptions(rules=Rules(is_replay=True)), budget)
    assert statuses(await retry.process([condemned(swapped, found)])) == [Status.DONE]
    assert bodies(store, SOURCE)[-1] == GOOD
    now = await row_of(store)
    assert (await verify(store, row._replace(etag=now.etag), deep=True)).status is Status.VERIFIED


async def test_a_source_whose_bytes_are_lost_is_damaged() -> None:
    store = make_store(versioned=False)
    row = await copied(store)
    lose(store, SOURCE.bucket)
    assert (await verify(store, row, deep=True)).status is Status.DAMAGED


@pytest.mark.parametrize("overwrite", list(Overwrite))
@pytest.mark.parametrize("way", ["deep", "at rest"])
async def test_a_damaged_source_is_never_copied_over_the_good_copy(way: str, overwrite: Overwrite) -> None:
    store = make_store(versioned=False)
    row = await copied(store, sse="aws:kms" if way == "at rest" else None)
    store.rot(*SOURCE[:2], ROTTEN)
    if way == "deep":
        found = await verify(store, row, deep=True)
    else:
        at = int((time.time() + 60) * 1e6)
        rotten = Attestation("source", *full_object("CRC64NVME", ROTTEN), None, row.etag, at)
        found = await verify(store, row._replace(beside=Attested(attested=[rotten])))
    assert found.status is Status.DAMAGED, found
    # Also where the file of failed rows condemns the copy: S3 is asked, not the file.
    forged = row._replace(beside=Repair(condemned_etag=(await row_of(store, COPY)).etag))
    for retry in (condemned(row, found), forged):
        assert (await replicate(store, retry, overwrite=overwrite)).status is Status.DAMAGED
        assert bodies(store) == [GOOD]


async def test_a_damaged_source_is_not_copied_where_nothing_is_and_one_that_was_restored_is() -> None:
    store = make_store(versioned=False)
    row = await copied(store)
    store.rot(*SOURCE[:2], ROTTEN)
    marked = condemned(row, await verify(store, row, deep=True))
    await store.delete(COPY)
    assert (await replicate(store, marked)).status is Status.DAMAGED
    await put(store, GOOD)
    assert (await replicate(store, marked)).status is Status.DONE
    assert bodies(store) == [GOOD]


@pytest.mark.parametrize("sse", [None, "aws:kms"])
@pytest.mark.parametrize("older", [[], [b"an older version"]])
async def test_a_version_that_rotted_in_a_history_is_copied_again_by_a_retry(
    older: list[bytes], sse: str | None
) -> None:
    """Its older version was expired at the source, and its copy was not."""
    store = make_store()
    for body in older:
        await put(store, body, COPY)
    row = await put(store, GOOD, sse=sse)
    assert statuses(await replay(store, [row])) == [Status.DONE]
    store.rot(*COPY[:2], ROTTEN)
    found = await verify(store, row, deep=True, all_versions=True)
    assert statuses(await replay(store, [condemned(row, found)])) == [Status.DONE]
    assert bodies(store) == [*older, ROTTEN, GOOD], "nothing is deleted"
    assert statuses(await replay(store, [condemned(row, found)])) == [Status.SAME], "it is not copied once more"
    assert (await verify(store, row, deep=True, all_versions=True)).status is Status.VERIFIED


async def test_a_damaged_version_is_not_put_on_top_of_a_history() -> None:
    store = make_store()
    await copied(store)
    store.rot(*SOURCE[:2], ROTTEN)
    row = await row_of(store)
    found = await verify(store, row, deep=True, all_versions=True)
    for retry in (condemned(row, found), row._replace(beside=Repair(condemned_etag=found.destination_etag))):
        assert statuses(await replay(store, [retry])) == [Status.DAMAGED]
    assert bodies(store) == [GOOD]


@pytest.mark.parametrize("versioned", [False, True])
async def test_a_copy_of_a_damaged_source_is_not_proven_by_its_bytes(versioned: bool) -> None:
    """Both sides have the same bytes, and they are not those that S3 keeps a checksum of."""
    store = make_store(versioned=versioned)
    row = await put(store, GOOD)
    store.rot(*SOURCE[:2], ROTTEN)
    copy = await put_in_parts(store, ROTTEN[:6], ROTTEN[6:], ref=COPY, **OPAQUE)
    assert (await verify(store, row, deep=True, all_versions=versioned)).status is Status.DAMAGED
    for known in (row, row._replace(beside=Repair(condemned_etag=copy.etag))):
        retried = await replicate(store, known, all_versions=versioned)
        assert retried.status is Status.DAMAGED, retried


@pytest.mark.parametrize("rotten", [SOURCE, COPY], ids=["source", "copy"])
async def test_of_two_without_checksums_only_a_copy_that_cannot_be_right_is_replaced(rotten: ObjectRef) -> None:
    store = make_store(versioned=False)
    row = await put_in_parts(store, GOOD[:6], GOOD[6:], **OPAQUE)
    assert (await replicate(store, row)).status is Status.DONE
    store.rot(*rotten[:2], ROTTEN)
    found = await verify(store, row, deep=True)
    assert found.status is Status.DIFFERENT
    retried = await replicate(store, condemned(row, found))
    assert retried.status is (Status.CHANGED if rotten == SOURCE else Status.DONE), retried.reason
    assert bodies(store) == [GOOD]
    if rotten == SOURCE:  # who has looked at both can still say so
        forced = await replicate(store, condemned(row, found), overwrite=Overwrite.ALWAYS)
        assert forced.status is Status.DONE
