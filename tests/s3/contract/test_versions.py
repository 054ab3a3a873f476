"""Versions and delete markers, and what deletes them."""

from __future__ import annotations

import contextlib

import pytest

from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import NULL_VERSION, Attributes, ObjectLock
from jobs.errors import Conflict, Denied, NotFound, PreconditionFailed
from jobs.s3.store import ABSENT
from tests.s3.contract.checks import PLAIN, Subject, brief, contract, md5_of


@contract()
async def test_is_versioned(s: Subject) -> None:
    assert not await s.store.is_versioned(s.bucket)
    assert await s.store.is_versioned(s.with_bucket(versioned=True).bucket)


@contract(versioned=True)
async def test_versions_are_listed_newest_first(s: Subject) -> None:
    first = await s.put("a", b"1")
    second = await s.put("a", b"22")
    marker = await s.store.delete(s.ref("a"))
    third = await s.put("a", b"333")
    other = await s.put("b", b"4444")
    assert marker.is_delete_marker
    entries = (await s.store.list_versions(s.bucket, "")).entries
    assert [brief(entry) for entry in entries] == [
        ("a", third.version_id, True, False, 3),
        ("a", marker.version_id, False, True, None),
        ("a", second.version_id, False, False, 2),
        ("a", first.version_id, False, False, 1),
        ("b", other.version_id, True, False, 4),
    ]
    assert [entry.etag for entry in entries][:2] == [md5_of(b"333"), None]
    assert [entry.storage_class for entry in entries][:2] == ["STANDARD", None]


@contract(versioned=True)
async def test_a_delete_marker_hides_the_object(s: Subject) -> None:
    kept = await s.put("k", b"content")
    marker = await s.store.delete(s.ref("k"))
    assert (await s.store.list_objects(s.bucket, "")).entries == []
    with pytest.raises(NotFound):
        await s.store.head(s.ref("k"))
    assert (await s.store.get(kept)).data == b"content"
    removed = await s.store.delete(s.ref("k", marker.version_id))
    assert removed.is_delete_marker
    assert await s.read("k") == b"content"


@contract(versioned=True)
async def test_head_tells_a_delete_marker_from_nothing(s: Subject) -> None:
    await s.put("k")
    marker = await s.store.delete(s.ref("k"))
    codes = []
    for version_id in (None, marker.version_id):
        with pytest.raises(NotFound) as caught:
            await s.store.head(s.ref("k", version_id))
        codes.append(caught.value.code)
    assert codes == ["DeleteMarker", "DeleteMarker"]


@contract(versioned=True)
async def test_a_delete_marker_can_be_made_for_a_key_that_never_was(s: Subject) -> None:
    marker = await s.store.delete(s.ref("never"))
    entries = (await s.store.list_versions(s.bucket, "")).entries
    assert [brief(entry) for entry in entries] == [("never", marker.version_id, True, True, None)]


@contract(versioned=True)
async def test_delete_of_a_version_removes_it_alone(s: Subject) -> None:
    first = await s.put("k", b"first")
    second = await s.put("k", b"second")
    assert not (await s.store.delete(s.ref("k", second.version_id))).is_delete_marker
    assert await s.read("k") == b"first"
    entries = (await s.store.list_versions(s.bucket, "")).entries
    assert [(entry.version_id, entry.is_latest) for entry in entries] == [(first.version_id, True)]


@contract(False, True)
async def test_a_delete_with_an_etag_takes_that_object_only(s: Subject, versioned: bool) -> None:
    s = s.with_bucket(versioned=versioned)
    await s.put("k")
    with pytest.raises(PreconditionFailed):
        await s.store.delete(s.ref("k"), if_match=md5_of(b"other"))
    assert await s.read("k") == b"content"
    assert (await s.store.delete(s.ref("k"), if_match=md5_of(b"content"))).is_delete_marker is versioned
    with pytest.raises(NotFound):
        await s.read("k")


@contract(versioned=True)
async def test_a_delete_that_relies_on_an_old_look_is_not_sent(s: Subject) -> None:
    now, version_id = elapsed_seconds(), (await s.put("k")).version_id or ""
    with pytest.raises(Conflict) as late:
        await s.store.delete(s.ref("k"), if_match=md5_of(b"content"), send_by=now - 0.1)
    assert late.value.code == "TooLate"
    assert await s.read("k") == b"content"
    await s.store.delete(s.ref("k", version_id), send_by=now + 60)


@contract()
async def test_a_delete_with_an_etag_finds_nothing(s: Subject) -> None:
    with pytest.raises((NotFound, PreconditionFailed)):
        await s.store.delete(s.ref("k"), if_match=md5_of(b"content"))


@contract("a&<b>", "line\nbreak", "é\U0001f6a2", "control\x01", versioned=True)
async def test_versions_are_deleted_exactly(s: Subject, odd: str) -> None:
    refs = [await s.put(key) for key in (odd, "plain") for _ in range(2)]
    for ref in (*refs[::2], refs[0]):  # the second time it is gone
        with contextlib.suppress(NotFound):
            await s.store.delete(s.ref(ref.key, ref.version_id))
    left = (await s.store.list_versions(s.bucket, "")).entries
    assert {entry.version_id for entry in left} == {ref.version_id for ref in refs[1::2]}


@contract()
async def test_a_null_version_is_deleted_by_its_id_where_no_versions_are_kept(s: Subject) -> None:
    for key in ("k", "other"):
        await s.put(key)
    await s.store.delete(s.ref("k", NULL_VERSION))
    assert [entry.key for entry in (await s.store.list_objects(s.bucket, "")).entries] == ["other"]


@contract(object_lock=True)
async def test_a_version_under_a_lock_is_not_deleted(s: Subject) -> None:
    held = await s.put("held", b"", Attributes(lock=ObjectLock(legal_hold=True)))
    with pytest.raises(Denied):
        await s.store.delete(s.ref("held", held.version_id))
    assert [entry.key for entry in (await s.store.list_versions(s.bucket, "")).entries] == ["held"]


@contract()
async def test_an_unversioned_bucket_has_null_versions(s: Subject) -> None:
    written = await s.store.put(s.ref("k"), b"content", PLAIN, guard=ABSENT)
    await s.put("k", b"newer")
    assert written.version_id is None
    assert (await s.store.head(s.ref("k"))).version_id is None
    entries = (await s.store.list_versions(s.bucket, "")).entries
    assert [brief(entry) for entry in entries] == [("k", "null", True, False, 5)]
    assert [entry.version_id for entry in (await s.store.list_objects(s.bucket, "")).entries] == [None]
    assert not (await s.store.delete(s.ref("k"))).is_delete_marker
    assert (await s.store.list_versions(s.bucket, "")).entries == []
