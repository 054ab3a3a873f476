"""What expire deletes, and what keeps an original: nothing unproven goes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, ObjectLock, ObjectRef, ObjectVersion
from jobs.core.outcome import Evidence, Status
from jobs.errors import ConfigError
from jobs.expire.rules import CopyAt
from jobs.reports.document import iso_time
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import Request
from tests.expire.scene import DAY, Shop, job, job_of_another_run, one, packed, replica, row_of, shop, store_over, work


def test_a_current_version_is_hidden_first_and_removed_a_grace_period_later() -> None:
    store = shop()
    row = store.original()
    assert one(store, row, grace_days=30).status is Status.LEFT
    store.now += 31 * DAY
    hidden = one(store, row, grace_days=30)
    assert (hidden.status, hidden.evidence) == (Status.DONE, Evidence.MD5_ETAG)
    assert store.contents() == {("k", row.version_id): b"content"}
    assert asyncio.run(job_of_another_run(store, 30).process([row]))[0].status is Status.LEFT
    marker = store.markers()[0]
    asyncio.run(store.delete("docs", "k", version_id=marker))  # undone
    assert store.current() == {"k": b"content"}
    one(store, row, grace_days=30)
    store.now += 31 * DAY
    assert asyncio.run(job_of_another_run(store, 30).process([row]))[0].status is Status.DONE
    assert store.contents() == {}


def test_an_upload_in_parts_that_began_long_ago_ends_no_grace_period() -> None:
    """S3 dates it by its beginning, and it lies between the version and the marker that has just hidden it."""
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, packed(store, [ref])[0])
    upload = asyncio.run(store.create_multipart("docs", "k", Attributes()))
    store.now += 31 * DAY
    assert one(store, row, grace_days=30).status is Status.DONE
    part = asyncio.run(store.put_part(upload, 1, b"slow"))
    asyncio.run(store.complete_multipart(upload, [part], guard=UNGUARDED))
    for days, status in ((29, Status.LEFT), (2, Status.DONE)):
        store.now += days * DAY
        assert asyncio.run(job_of_another_run(store, 30).process([row]))[0].status is status
    assert list(store.contents().values()) == [b"slow"]


@pytest.mark.parametrize("named", [True, False])
def test_without_versions_only_the_proven_object_goes(named: bool) -> None:
    store = shop(versioned=False)
    row = store.original()._replace(version_id="null" if named else None)
    store.around_deletes(before=lambda: store_over(store, b"newer"))
    assert one(store, row).status is Status.BLOCKED
    store.around_deletes()
    assert one(store, row).status is Status.BLOCKED
    assert store.contents() == {("k", "null"): b"newer"}
    store_over(store, b"content")
    assert one(store, row).status is Status.DONE
    assert store.contents() == {}


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_clock_that_is_ahead_of_s3s_ends_no_grace_period(versioned: bool, hidden: bool) -> None:
    store = shop(versioned=versioned)
    row = store.original()
    if hidden and versioned:
        store.now += 31 * DAY
        asyncio.run(store.delete("docs", "k"))
    before = store.contents()
    ahead = replace(job(store, grace_days=30), clock=lambda: store.now + 40 * DAY)
    assert work(ahead, [row])[0].status is Status.LEFT
    assert store.contents() == before
    store.now += 31 * DAY
    assert work(ahead, [row])[0].status is Status.DONE


def test_locked_originals_stay_also_by_a_clock_that_is_ahead() -> None:
    store = shop()
    ahead = replace(job(store), clock=lambda: store.now + 40 * DAY)
    locks = (ObjectLock(legal_hold=True), ObjectLock("GOVERNANCE", iso_time(store.now + DAY)))
    for number, lock in enumerate(locks):
        row = store.original(f"k{number}", lock=lock)
        assert work(ahead, [row])[0].status is Status.BLOCKED
    assert len(store.current()) == 2


Corruption = Callable[[Shop, ObjectRef, CopyAt], CopyAt]


def _overwritten(store: Shop, ref: ObjectRef, copy: CopyAt) -> CopyAt:
    store.put_now("copies", ref.key, b"Content")
    return copy


def _hidden(store: Shop, ref: ObjectRef, copy: CopyAt) -> CopyAt:
    asyncio.run(store.delete("copies", ref.key))
    return copy


def _rotten(store: Shop, ref: ObjectRef, copy: CopyAt) -> CopyAt:
    store.rot("copies", ref.key, b"Content")
    return copy


def _itself(store: Shop, ref: ObjectRef, copy: CopyAt) -> CopyAt:
    return replace(copy, bucket="docs")


def _without_metadata(store: Shop, ref: ObjectRef, copy: CopyAt) -> CopyAt:
    """As a copy of a client-side encrypted object that lost its wrapped key."""
    store.put_now("copies", ref.key, b"content", metadata={})
    return copy


def _unsent(store: Shop, ref: ObjectRef, copy: CopyAt) -> CopyAt:
    """The original, or its copy, has metadata that S3 cannot say in headers."""

    async def head(request: Request) -> Any:
        return replace(await request(), unsent_metadata=request.place.bucket == copy.bucket)

    store.hook(head=head)
    return copy


def _frozen(store: Shop, ref: ObjectRef, copy: CopyAt) -> CopyAt:
    (made,) = packed(store, [ref])
    data = asyncio.run(store.get(ObjectRef("cold", "a.tar"))).data
    store.put_now("cold", "a.tar", data, storage_class="DEEP_ARCHIVE")
    return made


def _flipped(store: Shop, ref: ObjectRef, copy: CopyAt) -> CopyAt:
    """The archive altered, and every trace of that in the ledger forged: its ETag, and the member's SHA-256."""
    (made,) = packed(store, [ref], ArchiveFormat.TAR)
    data = bytearray(asyncio.run(store.get(ObjectRef("cold", "a.tar"))).data)
    assert made.member is not None
    start, end = made.member.byte_range
    data[start] ^= 1
    flipped = store.put_now("cold", "a.tar", bytes(data))
    member = made.member._replace(sha256=hashlib.sha256(data[start:end]).hexdigest())
    return replace(made, etag=asyncio.run(store.head(flipped)).etag, member=member)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize(
    "corrupt", [_overwritten, _hidden, _rotten, _itself, _without_metadata, _unsent, _frozen, _flipped]
)
def test_a_copy_that_is_not_what_a_listing_says_saves_its_original(corrupt: Corruption, versioned: bool) -> None:
    store = shop(versioned=versioned)
    ref = store.put_now("docs", "k", b"content", metadata={"x-amz-key-v2": "wrapped"})
    row = row_of(store, 0, ref, corrupt(store, ref, replica(store, ref)))
    before = store.contents()
    assert one(store, row).status is Status.BLOCKED
    assert store.contents() == before


def _forged_rows(store: Shop, row: ObjectVersion) -> dict[str, ObjectVersion]:
    """Rows of an original without a copy, as somebody who writes the ledger may make them."""
    other = store.put_now("docs", "other", b"Content")
    (member,) = packed(store, [other])
    assert member.member is not None
    sha256 = hashlib.sha256(b"content").hexdigest()
    claimed = member.member._replace(key="k", version_id=row.version_id, etag=str(row.etag), sha256=sha256)
    for bucket, key, data in (
        ("docs", "twin", b"content"), ("ledger", "twin", b"content"), ("copies", "other", b"Content"),
    ):  # fmt: skip
        store.put_now(bucket, key, data)
    return {
        "other bytes": row._replace(beside=CopyAt("copies", "other")),
        "of originals": row._replace(beside=CopyAt("docs", "twin")),
        "of the ledger": row._replace(beside=CopyAt("ledger", "twin")),
        "nothing": row._replace(beside=CopyAt("copies", "none")),
        "member": row._replace(beside=replace(member, member=claimed)),
        "of another": row_of(store, 0, other, CopyAt("copies", "other"))._replace(key="k"),
    }


@pytest.mark.parametrize("name", ["other bytes", "of originals", "of the ledger", "nothing", "member", "of another"])
@pytest.mark.parametrize("versioned", [True, False])
def test_no_forged_row_lets_an_original_without_a_copy_go(name: str, versioned: bool) -> None:
    store = shop(versioned=versioned)
    row = row_of(store, 0, store.put_now("docs", "k", b"content"), None)
    forged, before = _forged_rows(store, row)[name], store.contents()
    assert one(store, forged).status is not Status.DONE
    assert one(store, forged, grace_days=30).status is not Status.DONE
    assert store.contents() == before


def test_what_is_due_only_since_the_plan_was_made_stays() -> None:
    """Its share was weighed without it."""
    store = shop()
    row = store.original()
    planned = replace(job(store, grace_days=1.0), planned_at=store.now + 5)
    store.now += 2 * DAY
    assert work(planned, [row])[0].status is Status.LEFT


def test_versioning_that_is_suspended_meanwhile_loses_nothing() -> None:
    store = shop()
    row = store.original()
    looks: list[str] = []

    async def suspend(request: Request) -> Any:
        looks.append("docs")
        return await request() and len(looks) < 2

    store.hook(is_versioned=suspend)
    with pytest.raises(ConfigError, match="plan again"):
        work(job(store), [row])
    assert store.current()["k"] == b"content"
