"""Checksums: kept, told, and refused when they are wrong."""

from __future__ import annotations

import os

import pytest

from jobs.errors import NotFound, Unavailable
from jobs.s3 import checksums
from jobs.s3.store import ABSENT, CopySettings
from tests.s3.contract.checks import PART, PLAIN, Subject, contract, md5_of, multipart_etag_of


@contract("CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256")
async def test_put_keeps_a_checksum(s: Subject, case: str) -> None:
    checksum = checksums.full_object(case, b"content")
    await s.store.put(s.ref("k"), b"content", PLAIN, guard=ABSENT, checksum=checksum)
    ref = s.ref("k")
    assert (await s.store.head(ref)).checksums == (checksum,)
    assert (await s.store.get(ref)).info.checksums == (checksum,)


@contract("CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256")
async def test_put_refuses_a_wrong_checksum(s: Subject, case: str) -> None:
    with pytest.raises(Unavailable):
        await s.store.put(s.ref("k"), b"x", PLAIN, guard=ABSENT, checksum=checksums.full_object(case, b"y"))
    with pytest.raises(NotFound):
        await s.store.head(s.ref("k"))


@contract()
async def test_put_part_refuses_a_wrong_checksum(s: Subject) -> None:
    upload_id, _ = await s.upload("k", [], algorithm="SHA256")
    with pytest.raises(Unavailable):
        await s.store.put_part(upload_id, 1, b"x", checksum=checksums.full_object("SHA256", b"y"))


@contract("SHA256", "SHA1")
async def test_multipart_makes_a_composite_checksum(s: Subject, case: str) -> None:
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload("k", pieces, algorithm=case)
    written = await s.store.complete_multipart(upload_id, parts, guard=ABSENT)
    assert written.etag == multipart_etag_of(pieces)
    assert (await s.store.head(s.ref("k"))).checksums == (
        checksums.composite([checksums.full_object(case, piece) for piece in pieces]),
    )


@contract("CRC64NVME", "CRC32", "CRC32C")
async def test_multipart_makes_a_full_object_checksum(s: Subject, case: str) -> None:
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload("k", pieces, algorithm=case)
    expected = checksums.full_object(case, b"".join(pieces))
    await s.store.complete_multipart(upload_id, parts, guard=ABSENT, checksum=expected)
    assert (await s.store.head(s.ref("k"))).checksums == (expected,)


@contract()
async def test_multipart_refuses_a_wrong_full_object_checksum(s: Subject) -> None:
    upload_id, parts = await s.upload("k", [b"content"], algorithm="CRC64NVME")
    wrong = checksums.full_object("CRC64NVME", b"other")
    with pytest.raises(Unavailable):
        await s.store.complete_multipart(upload_id, parts, guard=ABSENT, checksum=wrong)
    with pytest.raises(NotFound):
        await s.store.head(s.ref("k"))


@contract()
async def test_copy_keeps_the_checksum_algorithm(s: Subject) -> None:
    checksum = checksums.full_object("SHA256", b"content")
    await s.store.put(s.ref("k"), b"content", PLAIN, guard=ABSENT, checksum=checksum)
    await s.store.copy(s.ref("k"), None, s.ref("copy"), CopySettings(), guard=ABSENT)
    assert (await s.store.head(s.ref("copy"))).checksums == (checksum,)


@contract()
async def test_copy_of_a_multipart_object_has_one_part(s: Subject) -> None:
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload("k", pieces, algorithm="SHA256")
    written = await s.store.complete_multipart(upload_id, parts, guard=ABSENT)
    copied = await s.store.copy(s.ref("k"), written.etag, s.ref("copy"), CopySettings(), guard=ABSENT)
    info = await s.store.head(s.ref("copy"))
    assert copied.etag == info.etag == md5_of(b"".join(pieces))
    assert info.checksums == (checksums.full_object("SHA256", b"".join(pieces)),)


@contract()
async def test_head_describes_a_part(s: Subject) -> None:
    pieces = [os.urandom(PART), b"the end"]
    upload_id, parts = await s.upload("k", pieces)
    await s.store.complete_multipart(upload_id, parts, guard=ABSENT)
    sizes = [
        (info.size_bytes, info.parts_count)
        for number in (1, 2)
        for info in [await s.store.head(s.ref("k"), part_number=number)]
    ]
    assert sizes == [(PART, 2), (7, 2)]
    assert (await s.store.head(s.ref("k"))).size_bytes == PART + 7
