"""Headers, metadata, tags, class, encryption, locks."""

from __future__ import annotations

import pytest

from jobs.core.model import Attributes, ObjectLock
from jobs.errors import ArchivedObject, Denied, NotFound, Rejected
from jobs.s3.store import ABSENT, CopySettings, Restoring
from tests.s3.contract.checks import RICH, Subject, contract, md5_of


@contract("put", "copy", "multipart", versioned=True)
async def test_a_write_carries_headers_metadata_and_tags(s: Subject, how: str) -> None:
    ref = s.ref("written")
    if how == "multipart":
        upload, parts = await s.upload(ref.key, [b"content"], RICH)
        await s.store.complete_multipart(upload, parts, guard=ABSENT)
    elif how == "copy":
        source = await s.put("k", b"content", RICH)
        await s.put("k", b"newer, and plain")
        await s.store.copy(source, None, ref, CopySettings(), guard=ABSENT)
    else:
        await s.put(ref.key, b"content", RICH)
    info = await s.store.head(ref)
    assert {name: info.attributes.headers.get(name) for name in RICH.headers} == RICH.headers
    assert info.attributes.metadata == RICH.metadata
    assert info.attributes.tags == {}
    assert await s.store.get_tags(ref) == RICH.tags


@contract()
async def test_head_counts_the_tags(s: Subject) -> None:
    assert (await s.store.head(await s.put("k", b"content", RICH))).tag_count == 2
    assert (await s.store.head(await s.put("plain"))).tag_count == 0


@contract()
async def test_tags_may_be_in_any_script(s: Subject) -> None:
    ref = await s.put("k", b"", Attributes(tags={"ключ": "значение 港"}))
    assert await s.store.get_tags(ref) == {"ключ": "значение 港"}


@contract("a\tb", "a \t b", "a  b", "a\xa0b", "a\u2003 b", "Łódź — 港")
async def test_metadata_with_blanks_or_beyond_ascii_comes_back(s: Subject, value: str) -> None:
    metadata = {"columns": value}
    await s.put("k", b"", Attributes(metadata=metadata))
    assert (await s.store.head(s.ref("k"))).attributes.metadata == metadata


@contract()
async def test_a_website_redirect_is_put_but_never_copied(s: Subject) -> None:
    source = await s.put("k", b"", Attributes(headers={"x-amz-website-redirect-location": "/elsewhere"}))
    await s.store.copy(source, None, s.ref("copy"), CopySettings(), guard=ABSENT)
    name = "x-amz-website-redirect-location"
    assert (await s.store.head(source)).attributes.headers.get(name) == "/elsewhere"
    assert name not in (await s.store.head(s.ref("copy"))).attributes.headers


@contract()
async def test_copy_sets_the_storage_class(s: Subject) -> None:
    source = await s.put("k", b"content", Attributes(storage_class="STANDARD_IA"))
    assert (await s.store.head(source)).storage_class == "STANDARD_IA"
    await s.store.copy(source, None, s.ref("plain"), CopySettings(), guard=ABSENT)
    await s.store.copy(source, None, s.ref("same"), CopySettings(storage_class="STANDARD_IA"), guard=ABSENT)
    classes = {entry.key: entry.storage_class for entry in (await s.store.list_objects(s.bucket, "")).entries}
    assert classes == {"k": "STANDARD_IA", "plain": "STANDARD", "same": "STANDARD_IA"}


@contract()
async def test_an_archived_object_cannot_be_read(s: Subject) -> None:
    ref = await s.put("k", b"content", Attributes(storage_class="GLACIER"))
    assert (await s.store.head(ref)).is_archived
    with pytest.raises(ArchivedObject):
        await s.store.get(ref)
    with pytest.raises(ArchivedObject):
        await s.store.copy(ref, None, s.ref("copy"), CopySettings(), guard=ABSENT)


@contract()
async def test_a_restore_is_asked_for_once_and_may_be_asked_for_again(s: Subject) -> None:
    cold = await s.put("cold", b"content", Attributes(storage_class="GLACIER"))
    assert await s.store.request_restore(cold, days=1, tier="Bulk") is Restoring.REQUESTED
    assert await s.store.request_restore(cold, days=1, tier="Bulk") in (Restoring.UNDER_WAY, Restoring.READY)
    info = await s.store.head(cold)
    assert info.is_restoring is info.is_archived
    with pytest.raises(NotFound):
        await s.store.request_restore(s.ref("none"), days=1, tier="Bulk")


@contract()
async def test_a_restore_of_what_is_not_archived_is_refused(s: Subject) -> None:
    warm = await s.put("warm", b"content")
    with pytest.raises(Rejected):
        await s.store.request_restore(warm, days=1, tier="Standard")


@contract()
async def test_encryption_is_asked_for_and_told(s: Subject) -> None:
    source = await s.put("k", b"content", Attributes(sse="AES256"))
    await s.store.copy(source, None, s.ref("copy"), CopySettings(sse="AES256"), guard=ABSENT)
    assert (await s.store.head(source)).attributes.sse == "AES256"
    assert (await s.store.head(s.ref("copy"))).attributes.sse == "AES256"


@contract(object_lock=True)
async def test_object_lock_is_set_told_and_kept(s: Subject) -> None:
    lock = ObjectLock("GOVERNANCE", "2099-01-02T03:04:05Z")
    source = await s.put("k")
    await s.store.copy(source, None, s.ref("copy"), CopySettings(lock=lock), guard=ABSENT)
    info = await s.store.head(s.ref("copy"))
    assert info.attributes.lock is not None
    assert info.attributes.lock.mode == "GOVERNANCE"
    assert (info.attributes.lock.retain_until or "").startswith("2099-01-02T03:04:05")
    with pytest.raises(Denied):
        await s.store.delete(s.ref("copy", info.version_id))


@contract(object_lock=True)
async def test_legal_hold_is_set_told_and_kept(s: Subject) -> None:
    ref = await s.put("k", b"", Attributes(lock=ObjectLock(legal_hold=True)))
    lock = (await s.store.head(ref)).attributes.lock
    assert lock is not None
    assert lock.legal_hold
    with pytest.raises(Denied):
        await s.store.delete(s.ref("k", ref.version_id))


@contract()
async def test_an_empty_object_is_an_object(s: Subject) -> None:
    ref = await s.put("k", b"")
    await s.store.copy(ref, md5_of(b""), s.ref("copy"), CopySettings(), guard=ABSENT)
    for key in ("k", "copy"):
        body = await s.store.get(s.ref(key))
        assert (body.data, body.info.size_bytes, body.info.etag) == (b"", 0, md5_of(b""))
