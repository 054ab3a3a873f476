"""Reads and copies of the very version that was named."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from jobs.errors import NotFound, PreconditionFailed, Rejected
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings
from tests.s3.contract.checks import PART, Subject, contract, md5_of


@contract(versioned=True)
async def test_copy_takes_the_version_it_names(s: Subject) -> None:
    first = await s.put("k", b"first")
    await s.put("k", b"second")
    written = await s.store.copy(first, md5_of(b"first"), s.ref("copy"), CopySettings(), guard=ABSENT)
    assert await s.read("copy") == b"first"
    assert written.etag == md5_of(b"first")
    assert written.version_id == (await s.store.head(s.ref("copy"))).version_id


@contract(versioned=True)
async def test_copy_of_what_is_current_says_which_version_that_is(s: Subject) -> None:
    await s.put("k", b"first")
    second = await s.put("k", b"second")
    current = second._replace(version_id=None)
    written = await s.store.copy(current, md5_of(b"second"), s.ref("copy"), CopySettings(), guard=ABSENT)
    assert written.source_version_id == second.version_id


@contract()
async def test_copy_takes_the_null_version(s: Subject) -> None:
    await s.put("k", b"first")
    await s.store.copy(s.ref("k", "null"), None, s.ref("copy"), CopySettings(), guard=ABSENT)
    assert await s.read("copy") == b"first"


@contract("copy", "copy_part")
async def test_a_copy_refuses_a_source_that_has_moved_on(s: Subject, how: str) -> None:
    source = await s.put("k", b"first")
    await s.put("k", b"second")
    if how == "copy":
        copying: Any = s.store.copy(source, md5_of(b"first"), s.ref("copy"), CopySettings(), guard=UNGUARDED)
    else:
        upload, _ = await s.upload("copy", [])
        copying = s.store.copy_part(source, md5_of(b"first"), 0, None, upload, 1)
    with pytest.raises(PreconditionFailed):
        await copying
    with pytest.raises(NotFound):
        await s.store.head(s.ref("copy"))


@contract(versioned=True)
async def test_copy_part_takes_its_range_of_its_version(s: Subject) -> None:
    data = os.urandom(PART) + b"the end"
    source = await s.put("k", data)
    await s.put("k", b"newer")
    upload_id, _ = await s.upload("copy", [])
    ranges = [(1, 0, PART), (2, PART, len(data))]
    parts = [await s.store.copy_part(source, md5_of(data), a, b, upload_id, n) for n, a, b in ranges]
    await s.store.complete_multipart(upload_id, parts, guard=ABSENT, size_bytes=len(data))
    assert await s.read("copy") == data


@contract()
async def test_copied_parts_have_their_md5_as_etag(s: Subject) -> None:
    data = os.urandom(PART) + b"the end"
    source = await s.put("k", data)
    upload_id, _ = await s.upload("copy", [])
    part = await s.store.copy_part(source, md5_of(data), 0, PART, upload_id, 1)
    assert part.etag == md5_of(data[:PART])


@contract()
async def test_get_reads_ranges(s: Subject) -> None:
    ref = await s.put("k", b"0123456789")
    for start, end, expected in [(0, 4, b"0123"), (4, 7, b"456"), (7, None, b"789"), (8, 50, b"89"), (9, 10, b"9")]:
        body = await s.store.get(ref, start=start, end=end)
        assert (body.data, body.info.size_bytes) == (expected, 10)
    whole = await s.store.get(ref)
    assert (whole.data, whole.info.etag) == (b"0123456789", md5_of(b"0123456789"))


@contract((10, 12), (3, 3))
async def test_get_refuses_a_range_without_bytes(s: Subject, case: tuple[int, int]) -> None:
    ref = await s.put("k", b"0123456789")
    with pytest.raises(Rejected):
        await s.store.get(ref, start=case[0], end=case[1])


@contract()
async def test_get_if_match(s: Subject) -> None:
    ref = await s.put("k", b"content")
    assert (await s.store.get(ref, if_match=md5_of(b"content"))).data == b"content"
    with pytest.raises(PreconditionFailed):
        await s.store.get(ref, if_match=md5_of(b"other"))


@contract()
async def test_get_says_when_it_was_answered(s: Subject) -> None:
    began = time.time()
    ref = await s.put("k", b"content")
    body = await s.store.get(ref)
    assert body.answered_at is not None
    assert int(began) <= body.info.last_modified <= body.answered_at <= time.time()
    assert body.info.replication_status is None


@contract(versioned=True)
async def test_get_and_head_take_the_version_they_name(s: Subject) -> None:
    first = await s.put("k", b"first")
    second = await s.put("k", b"second!")
    assert first.version_id != second.version_id
    assert (await s.store.get(first)).data == b"first"
    info = await s.store.head(first)
    assert (info.size_bytes, info.version_id, info.etag) == (5, first.version_id, md5_of(b"first"))
    assert (await s.store.head(s.ref("k"))).version_id == second.version_id
