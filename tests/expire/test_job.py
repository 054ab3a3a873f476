"""What expire deletes, and what keeps an original: nothing unproven goes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.enums import ArchiveFormat
from jobs.core.model import ObjectLock, ObjectRef, ObjectVersion
from jobs.core.outcome import Evidence, Status
from jobs.errors import ConfigError
from jobs.expire.job import GROUP_BYTES, GROUP_ROWS
from jobs.expire.rules import CopyAt
from jobs.ledger.tombstones import Tombstones
from jobs.reports.document import iso_time
from tests.doubles.examples import examples
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
    asyncio.run(store.delete(ObjectRef("docs", "k", marker)))  # undone
    assert store.current() == {"k": b"content"}
    one(store, row, grace_days=30)
    store.now += 31 * DAY
    assert asyncio.run(job_of_another_run(store, 30).process([row]))[0].status is Status.DONE
    assert store.contents() == {}


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([1] * (2 * GROUP_ROWS + 1), [GROUP_ROWS, GROUP_ROWS, 1]),
        ([None] * (GROUP_ROWS + 1), [GROUP_ROWS, 1]),
        ([GROUP_BYTES // 100 * 99] * 120, [1] * 120),
        ([1, 1, 5 * GROUP_BYTES, 1, 1], [2, 1, 2]),
        ([GROUP_BYTES, 1], [1, 1]),
        ([], []),
    ],
)
def test_no_group_is_larger_than_its_limits_and_a_large_object_is_alone(
    sizes: list[int | None], groups: list[int]
) -> None:
    """What is compared beside an object that takes minutes is looked at again before it is deleted."""
    rows = [ObjectVersion(row, f"k{row}", size_bytes=size) for row, size in enumerate(sizes)]
    found = list(job(shop()).chains(rows))
    assert [len(group) for group in found] == groups
    assert [row for group in found for row in group] == rows


def test_an_upload_in_parts_that_began_long_ago_ends_no_grace_period() -> None:
    """S3 dates it by its beginning, and it lies between the version and the marker that has just hidden it."""
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, packed(store, [ref])[0])
    upload = store.begin_upload()
    store.now += 31 * DAY
    assert one(store, row, grace_days=30).status is Status.DONE
    store.end_upload(upload)
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
        asyncio.run(store.delete(ObjectRef("docs", "k")))
    before = store.contents()
    ahead = dataclasses.replace(job(store, grace_days=30), clock=lambda: store.now + 40 * DAY)
    assert work(ahead, [row])[0].status is Status.LEFT
    assert store.contents() == before
    store.now += 31 * DAY
    assert work(ahead, [row])[0].status is Status.DONE


def test_locked_originals_stay_also_by_a_clock_that_is_ahead() -> None:
    store = shop()
    ahead = dataclasses.replace(job(store), clock=lambda: store.now + 40 * DAY)
    locks = (ObjectLock(legal_hold=True), ObjectLock("GOVERNANCE", iso_time(store.now + DAY)))
    for number, lock in enumerate(locks):
        row = store.original(f"k{number}", lock=lock)
        assert work(ahead, [row])[0].status is Status.BLOCKED
    assert len(store.current()) == 2


def flipped(store: Shop, ref: ObjectRef) -> CopyAt:
    """An archive altered, and every trace of that in the ledger forged: the member's SHA-256."""
    (made,) = packed(store, [ref], ArchiveFormat.TAR)
    data = bytearray(asyncio.run(store.get(ObjectRef("cold", "a.tar"))).data)
    assert made.member is not None
    start, end = made.member.byte_range
    data[start] ^= 1
    store.put_now("cold", "a.tar", bytes(data))
    member = made.member._replace(sha256=hashlib.sha256(data[start:end]).hexdigest())
    return replace(made, member=member)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("how", ["rotten", "flipped", "original's metadata", "copy's metadata"])
def test_a_copy_that_is_not_what_a_listing_says_saves_its_original(how: str, versioned: bool) -> None:
    """`metadata`: there is some that S3 cannot say in headers."""
    store = shop(versioned=versioned)
    ref = store.put_now("docs", "k", b"content", metadata={"x-amz-key-v2": "wrapped"})
    row = row_of(store, 0, ref, flipped(store, ref) if how == "flipped" else replica(store, ref))
    if how == "rotten":
        store.rot("copies", "k", b"Content")

    async def unsent(request: Request) -> Any:
        bucket = "docs" if how.startswith("original") else "copies"
        return replace(await request(), unsent_metadata=request.place.bucket == bucket)

    store.hook(head=unsent if how.endswith("metadata") else None)
    assert one(store, row).status is Status.BLOCKED
    assert store.contents() == {("k", ref.version_id or "null"): b"content"}


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
    made = job(store, grace_days=1.0)
    planned = dataclasses.replace(made, terms=made.terms._replace(now=store.now + 5))
    store.now += 2 * DAY
    assert work(planned, [row])[0].status is Status.LEFT


# A row names exactly one version: that one goes, or none does. However many there are, a key is looked at once.

CONTENT = b"content"


def null_below(store: Shop, above: bytes) -> tuple[ObjectVersion, ObjectRef]:
    """The row of a null version, and what was written above it when the bucket began to keep versions."""
    store.put_now("docs", "k", CONTENT)
    store.enable_versioning("docs")
    ref = ObjectRef("docs", "k", "null")
    row = row_of(store, 0, ref, packed(store, [ref])[0])
    return row, store.put_now("docs", "k", above)


@pytest.mark.parametrize("above", [CONTENT, b"newer"], ids=["the same bytes", "other bytes"])
def test_a_null_version_beneath_another_goes_and_the_other_stays(above: bytes) -> None:
    store = shop(versioned=False)
    row, newer = null_below(store, above)
    assert one(store, row).status is Status.DONE
    assert store.contents() == {("k", newer.version_id): above}


def test_a_row_without_a_version_id_names_the_null_version() -> None:
    store = shop(versioned=False)
    row, newer = null_below(store, CONTENT)
    assert one(store, row._replace(version_id=None)).status is Status.DONE
    assert set(store.contents()) == {("k", newer.version_id)}


def test_an_object_of_which_the_server_keeps_no_versions_stays() -> None:
    """As SeaweedFS of keys that end with `/`, in a bucket that keeps versions: a delete removes the object."""
    store = shop()
    row, folder = store.original("k"), store.original("k/", number=1)

    async def head(request: Request) -> Any:
        found = await request()
        return replace(found, version_id=None) if request.place.key.endswith("/") else found

    store.hook(head=head)
    folder = folder._replace(version_id=None)
    assert [each.status for each in work(job(store), [row, folder])] == [Status.DONE, Status.BLOCKED]


@pytest.mark.parametrize("newest", [b"newer", b"content"])
def test_an_old_version_stays_whose_copy_the_next_replication_replaces(newest: bytes) -> None:
    """It was removed, and then the only copy of its content, or of its metadata with a wrapped key, was copied over."""
    store = shop()
    row = store.original(metadata={"x-amz-key-v2": "wrapped"})
    newer = store.put_now("docs", "k", newest)
    assert one(store, row).status is Status.BLOCKED
    asyncio.run(store.delete(ObjectRef("docs", "k")))  # somebody may take that back, and then it is copied there
    assert one(store, row).status is Status.BLOCKED
    asyncio.run(store.delete(ObjectRef("docs", "k", newer.version_id)))  # now nothing will be
    assert one(store, row).status is Status.DONE
    assert not store.contents()


def _suspend(store: Shop) -> None:
    store._buckets.named["docs"].is_versioned = False


def _write_over(store: Shop) -> None:
    """With versioning suspended in between, and on again."""
    versions = store._buckets.named["docs"].versions["k"]
    versions[0].data, versions[0].etag = b"newer", "f" * 32


def _take_away(store: Shop) -> None:
    del store._buckets.named["docs"].versions["k"][0]


@pytest.mark.parametrize(("event", "left"), [(_suspend, [CONTENT]), (_write_over, [b"newer"]), (_take_away, [])])
def test_a_null_version_that_is_not_what_was_proven_any_more_stays(
    event: Callable[[Shop], None], left: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something happens between its proof and its delete."""
    store = shop(versioned=False)
    row, _ = null_below(store, b"above")
    made = job(store)
    real = Tombstones.announce

    async def announce(tombstones: Tombstones, intents: Any) -> str:
        event(store)
        return await real(tombstones, intents)

    monkeypatch.setattr(Tombstones, "announce", announce)
    with contextlib.suppress(ConfigError):  # where versioning is suspended, the documents of places have other ids
        assert work(made, [row])[0].status is Status.BLOCKED
    assert [data for (_, version_id), data in store.contents().items() if version_id == "null"] == left


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "marker", "enable"]), min_size=1, max_size=7), st.data())
def test_exactly_the_version_that_a_row_names_goes_whatever_lies_around_it(history: list[str], data: Any) -> None:
    """Also with equal bytes, delete markers and null versions. An archive has each object."""
    store = shop(versioned=False)
    is_versioned = False
    for what in history:
        if what == "enable":
            store.enable_versioning("docs")
            is_versioned = True
        elif what != "marker":
            store.put_now("docs", "k", what.encode())
        elif is_versioned:
            asyncio.run(store.delete(ObjectRef("docs", "k")))
    before = asyncio.run(store.list_versions("docs", "k")).entries
    versions = [each for each in before if not each.is_delete_marker]
    if not versions:
        return
    chosen = data.draw(st.sampled_from(versions))
    ref = ObjectRef("docs", "k", chosen.version_id)
    row = row_of(store, 0, ref, packed(store, [ref])[0])._replace(version_id=chosen.version_id)
    outcome = one(store, row)
    after = asyncio.run(store.list_versions("docs", "k")).entries
    assert outcome.status is Status.DONE, outcome
    if outcome.detail == "hidden":
        assert chosen.is_latest
        assert [each.version_id for each in after[1:]] == [each.version_id for each in before]
    else:
        assert [each.version_id for each in after] == [
            each.version_id for each in before if each.version_id != chosen.version_id
        ]
