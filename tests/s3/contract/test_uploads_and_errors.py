"""Multipart uploads that go wrong, and what is not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs.core.model import ObjectRef
from jobs.errors import NoSuchBucket, NotFound, Rejected
from jobs.s3.checksums import full_object
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, PartDone, Store
from tests.s3.contract.checks import PART, PLAIN, Subject, contract, md5_of


@contract("complete", "put_part", "list_parts")
async def test_an_aborted_upload_is_gone(s: Subject, request: str) -> None:
    upload, parts = await s.upload("k", [b"content"])
    await s.store.abort_multipart(upload)
    await s.store.abort_multipart(upload)
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "complete": lambda: s.store.complete_multipart(upload, parts, guard=ABSENT),
        "put_part": lambda: s.store.put_part(upload, 1, b"content"),
        "list_parts": lambda: s.store.list_parts(upload),
    }
    with pytest.raises(NotFound):
        await asked[request]()
    with pytest.raises(NotFound):
        await s.store.head(s.ref("k"))


@contract()
async def test_the_parts_of_an_upload_are_listed(s: Subject) -> None:
    pieces = {1: os.urandom(PART), 3: b"the third"}
    upload_id, _ = await s.upload("k é", [])
    parts = [await s.store.put_part(upload_id, number, data) for number, data in pieces.items()]
    page = await s.store.list_parts(upload_id)
    assert [(part.number, part.size_bytes, part.etag) for part in page.parts] == [
        (part.number, len(pieces[part.number]), part.etag) for part in parts
    ]
    assert page.next_after is None
    assert [part.number for part in (await s.store.list_parts(upload_id, after=1)).parts] == [3]


@contract()
async def test_a_part_may_be_any_buffer(s: Subject) -> None:
    data: Any = bytearray(os.urandom(PART))
    upload_id, _ = await s.upload("k", [])
    checksum = full_object("SHA256", bytes(data))
    part = await s.store.put_part(upload_id, 1, data, checksum=checksum)
    await s.store.complete_multipart(upload_id, [part], guard=ABSENT)
    assert await s.read("k") == bytes(data)


@contract()
async def test_a_copied_part_is_listed_with_what_its_copy_said(s: Subject) -> None:
    source = await s.put("from", os.urandom(PART))
    etag = (await s.store.head(source)).etag
    upload_id, _ = await s.upload("to", [])
    copied = await s.store.copy_part(source, etag, 0, None, upload_id, 1)
    [part] = (await s.store.list_parts(upload_id)).parts
    assert (part.number, part.size_bytes, part.etag) == (1, PART, copied.etag)


@contract()
async def test_complete_refuses_a_part_with_another_etag(s: Subject) -> None:
    upload_id, _ = await s.upload("k", [b"content"])
    with pytest.raises(Rejected):
        await s.store.complete_multipart(upload_id, [PartDone(1, md5_of(b"other"))], guard=ABSENT)


@contract()
async def test_parts_may_be_given_in_any_order(s: Subject) -> None:
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload("k", pieces)
    await s.store.complete_multipart(upload_id, parts[::-1], guard=ABSENT)
    assert await s.read("k") == b"".join(pieces)


@contract()
async def test_a_small_part_that_is_not_the_last_is_refused(s: Subject) -> None:
    upload_id, parts = await s.upload("k", [b"too small", b"the end"])
    with pytest.raises(Rejected):
        await s.store.complete_multipart(upload_id, parts, guard=ABSENT)


REQUESTS: dict[str, Callable[[Store, ObjectRef], Awaitable[Any]]] = {
    "head": lambda store, ref: store.head(ref),
    "get": lambda store, ref: store.get(ref),
    "put": lambda store, ref: store.put(ObjectRef(ref.bucket, ref.key), b"", PLAIN, guard=UNGUARDED),
    "copy": lambda store, ref: store.copy(ref, None, ObjectRef(ref.bucket, "copy"), CopySettings(), guard=UNGUARDED),
    "create_multipart": lambda store, ref: store.create_multipart(ObjectRef(ref.bucket, ref.key), PLAIN),
    "list_objects": lambda store, ref: store.list_objects(ref.bucket, ""),
    "list_versions": lambda store, ref: store.list_versions(ref.bucket, ""),
    "is_versioned": lambda store, ref: store.is_versioned(ref.bucket),
}


@contract(*REQUESTS)
async def test_a_bucket_that_is_not_there(s: Subject, case: str) -> None:
    bucket = f"never-{uuid.uuid4().hex[:8]}"
    with pytest.raises((NoSuchBucket, NotFound), match=bucket):  # not each server says which
        await REQUESTS[case](s.store, ObjectRef(bucket, "k"))


@contract()
async def test_a_key_that_is_not_there(s: Subject) -> None:
    ref = s.ref("never")
    for request in (
        s.store.head(ref),
        s.store.get(ref),
        s.store.get_tags(ref),
        s.store.copy(ref, None, s.ref("copy"), CopySettings(), guard=UNGUARDED),
        s.store.copy(ref, md5_of(b""), s.ref("copy"), CopySettings(), guard=UNGUARDED),
    ):
        with pytest.raises(NotFound):
            await request
    assert not (await s.store.delete(s.ref("never"))).is_delete_marker


@contract(versioned=True)
async def test_a_version_that_is_not_there(s: Subject) -> None:
    gone = await s.put("k", b"gone")
    await s.put("k", b"kept")
    await s.store.delete(s.ref("k", gone.version_id))
    for request in (
        s.store.head(gone),
        s.store.get(gone),
        s.store.get_tags(gone),
        s.store.copy(gone, None, s.ref("copy"), CopySettings(), guard=UNGUARDED),
    ):
        with pytest.raises(NotFound):
            await request
