"""Copies through this process: what is hashed on the way, and bytes that are not the source's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from jobs.core.algorithms import ALGORITHMS
from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence
from jobs.errors import NotFound, Unavailable
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.checksums import ContentCheck, full_object
from jobs.s3.multipart_copy import stream
from jobs.s3.store import UNGUARDED, Body
from jobs.s3.uploads import ObjectUpload
from tests.doubles.memory_store import MemoryStore, Request

MIB = 1 << 20
SIZES = pytest.mark.parametrize("size_bytes", [1, 6 * MIB, 13 * MIB + 7], ids=["one byte", "whole", "in parts"])
PART_BYTES = 6 * MIB


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.multipart_copy.STREAM_PART_BYTES", PART_BYTES)


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


Sent = list[tuple[bytes, Checksum | None]]
"""The bytes and the checksum of each PUT and each part."""


def source(size_bytes: int, sent: Sent | None = None) -> tuple[MemoryStore, bytes]:
    """A store with an object of this size, and its bytes."""

    def note(request: Request) -> Awaitable[Any]:
        if sent is not None:
            sent.append((bytes(request.arguments["data"]), request.arguments["checksum"]))
        return request()

    store, content = MemoryStore(on={"put": note, "put_part": note}), bytes(range(251)) * (size_bytes // 251 + 1)
    for bucket in ("a", "b"):
        store.create_bucket(bucket)
    content = content[:size_bytes]
    asyncio.run(MemoryStore.put(store, ObjectRef("a", "k"), content, Attributes(), guard=UNGUARDED))
    return store, content


async def flipped(request: Request) -> Body:
    """A read whose last byte is another one."""
    body: Body = await request()
    return body._replace(data=body.data[:-1] + bytes([body.data[-1] ^ 1]))


def copy(store: MemoryStore, etag: str | None = None, checksums: Sequence[Checksum] = ()) -> ContentCheck:
    """Stream the object, which HEAD describes with this ETag and these checksums."""
    ref = ObjectRef("a", "k")
    info: ObjectInfo = asyncio.run(store.head(ref))
    if etag is not None:
        store._buckets.find("HeadObject", ref).etag = etag
        info = asyncio.run(store.head(ref))
    info = ObjectInfo(info.size_bytes, info.etag, info.last_modified, None, "STANDARD", tuple(checksums))
    upload = ObjectUpload(store, ObjectRef("b", "k"), Attributes(), PART_BYTES)
    return asyncio.run(stream(ContentSide(store, ref, info), upload, ByteBudget(64 * MIB)))[1]


def is_copied(store: MemoryStore) -> bool:
    try:
        asyncio.run(store.head(ObjectRef("b", "k")))
    except NotFound:
        return False
    return True


@SIZES
@pytest.mark.parametrize("algorithm", [None, "CRC64NVME"], ids=["the source has none", "the source's"])
def test_the_checksum_is_the_contents_and_each_request_carries_that_of_its_own_bytes(
    size_bytes: int, algorithm: str | None
) -> None:
    """What the copy keeps is of the source's algorithm, so that both can be compared without reading them."""
    sent: Sent = []
    store, content = source(size_bytes, sent)
    stored = [full_object(algorithm, content)] if algorithm else []
    check = copy(store, checksums=stored)
    kept = asyncio.run(store.head(ObjectRef("b", "k"))).checksums
    assert list(kept) == stored if stored else kept[0].algorithm == "SHA256"
    assert check.checksum("SHA256").value == sha256(content)
    assert asyncio.run(store.get(ObjectRef("b", "k"))).data == content
    assert b"".join(data for data, _ in sent) == content
    assert [checksum for _, checksum in sent] == [full_object(algorithm or "SHA256", data) for data, _ in sent]
    assert len(sent) == -(-size_bytes // PART_BYTES)


@SIZES
@pytest.mark.parametrize("proof", ["ETag", *ALGORITHMS])
def test_bytes_that_are_not_the_sources_are_never_published(size_bytes: int, proof: str) -> None:
    """The ETag of an upload in parts says nothing of the bytes. Each checksum of the whole does."""
    store, content = source(size_bytes)
    etag, checksums = (None, ()) if proof == "ETag" else ("0" * 32 + "-2", [full_object(proof, content)])
    store.hook(get=flipped)
    with pytest.raises(Unavailable, match="not the source's"):
        copy(store, etag, checksums)
    assert not is_copied(store)
    assert store.uploads("b") == []


def test_all_checksums_of_the_source_have_to_agree() -> None:
    store, content = source(PART_BYTES + 1)
    with pytest.raises(Unavailable, match="not the source's"):
        copy(store, checksums=[full_object("SHA256", content), full_object("CRC64NVME", b"other")])
    assert not is_copied(store)


@SIZES
def test_a_stream_with_every_checksum_of_its_source_is_published_and_others_say_nothing(size_bytes: int) -> None:
    """Neither that of the parts is the content's, nor one of an algorithm that nobody knows."""
    store, content = source(size_bytes)
    others = [Checksum("SHA256", sha256(b"other"), is_composite=True), Checksum("SHA3", "x")]
    check = copy(store, "0" * 32 + "-2", [*others, *(full_object(algorithm, content) for algorithm in ALGORITHMS)])
    assert check.checksum("SHA256").value == sha256(content)
    assert is_copied(store)


@SIZES
@pytest.mark.parametrize(
    ("etag", "algorithms", "evidence"),
    [
        (None, [], Evidence.MD5_ETAG),
        (None, ["CRC32"], Evidence.MD5_ETAG),
        ("0" * 32 + "-2", ["CRC64NVME"], Evidence.CHECKSUM),
        (None, ["SHA256"], Evidence.CHECKSUM),
        ("0" * 32 + "-2", [], Evidence.NONE),
    ],
)
def test_the_evidence_is_the_strongest_checksum_of_the_source_that_was_compared(
    size_bytes: int, etag: str | None, algorithms: list[str], evidence: Evidence
) -> None:
    """Nothing was read at the destination, so that it is never the content of both."""
    store, content = source(size_bytes)
    assert copy(store, etag, [full_object(each, content) for each in algorithms]).compared is evidence
