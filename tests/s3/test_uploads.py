"""A file goes up whole or not at all, in parts when it is large."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import Attributes, Checksum, ObjectRef
from jobs.errors import Conflict, PreconditionFailed, Unavailable
from jobs.s3.checksums import composite, full_object
from jobs.s3.retries import retry
from jobs.s3.store import ABSENT, UNGUARDED, Upload
from jobs.s3.uploads import ObjectUpload, abort_upload, upload_file
from tests.doubles.memory_store import MemoryStore, Request

PART = 5 << 20
PLACE = ObjectRef("b", "k")


@pytest.mark.parametrize("size_bytes", [0, 1, PART, PART + 1, 3 * PART])
def test_what_comes_up_is_the_file(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size_bytes))
    store = MemoryStore(buckets=["b"])
    attributes = Attributes(headers={"content-type": "text/plain"})
    asyncio.run(upload_file(store, path, PLACE, attributes, guard=ABSENT, part_bytes=PART))
    body = asyncio.run(store.get(ObjectRef("b", "k")))
    assert body.data == path.read_bytes()
    assert body.info.attributes.headers["content-type"] == "text/plain"
    assert ("-" in body.info.etag) == (size_bytes > PART)


@pytest.mark.parametrize("size_bytes", [1, 3 * PART])
def test_what_is_there_stays_and_no_part_is_left(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size_bytes))
    store = MemoryStore(buckets=["b"])
    asyncio.run(store.put(ObjectRef("b", "k"), b"first", Attributes(), guard=ABSENT))
    with pytest.raises(PreconditionFailed):
        asyncio.run(upload_file(store, path, PLACE, Attributes(), guard=ABSENT, part_bytes=PART))
    assert asyncio.run(store.get(ObjectRef("b", "k"))).data == b"first"
    assert store.uploads("b") == []


@pytest.mark.parametrize("is_versioned", [False, True])
@pytest.mark.parametrize("what", ["object and delete", "object"])
async def test_what_came_while_the_parts_were_sent_is_on_top_and_said(what: str, is_versioned: bool) -> None:
    """S3 orders versions by the beginning of their uploads, and the condition sees no delete marker."""
    store = MemoryStore(buckets=["b"], versioned=is_versioned)
    upload = ObjectUpload(store, ObjectRef("b", "k"), Attributes(), PART, UNGUARDED if what == "object" else ABSENT)
    await upload.write(bytes(PART + 1))
    await asyncio.gather(*upload._running)
    await store.put(ObjectRef("b", "k"), b"other", Attributes(), guard=ABSENT)
    if what != "object":
        await store.delete(ObjectRef("b", "k"))
    if not is_versioned and what != "object":
        await upload.finish()  # nothing is left of what came, and the new object is there
        assert len((await store.get(ObjectRef("b", "k"))).data) == PART + 1
        return
    with pytest.raises(Conflict, match="came while the parts were sent"):
        await upload.finish()
    await upload.abort()


async def test_each_part_and_the_whole_carry_a_checksum_that_s3_has_to_find() -> None:
    """The sums were computed by CRC64NVME's published parameters, apart from our code."""
    sent: list[tuple[int | None, Checksum | None]] = []

    def note(request: Request) -> Awaitable[Any]:
        sent.append((request.arguments.get("number"), request.arguments["checksum"]))
        return request()

    store = MemoryStore(on={"put_part": note, "complete_multipart": note}, buckets=["b"])
    upload = ObjectUpload(store, ObjectRef("b", "k"), Attributes(), PART, parts_in_flight=1)
    await upload.write(bytes(PART) + b"123456789")
    await upload.finish()
    assert sent == [
        (1, Checksum("CRC64NVME", "vqf3hRLTlJw=")),
        (2, Checksum("CRC64NVME", "rosUhgp5mIg=")),
        (None, Checksum("CRC64NVME", "2Cx3jK5cd8E=")),
    ]


PARTS = [bytes(PART), b"123456789"]


@pytest.mark.parametrize("pieces", [[b""], PARTS])
async def test_s3_keeps_the_sha256_of_parts(pieces: list[bytes]) -> None:
    """An object of one part has its own SHA-256."""
    store = MemoryStore(buckets=["b"])
    upload = ObjectUpload(
        store, ObjectRef("b", "k"), Attributes(), PART, checksum=Checksum("SHA256", "", is_composite=True)
    )
    for data in pieces:
        await upload.write(data)
    await upload.finish()
    sums = [(len(each), full_object("SHA256", each)) for each in pieces]
    info = await store.head(ObjectRef("b", "k"))
    assert list(upload.parts) == sums
    assert info.checksums == (upload.checksum,)
    assert upload.checksum == (sums[0][1] if len(pieces) == 1 else composite([each for _, each in sums]))


def test_an_abort_that_is_not_answered_is_tried_as_often_as_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def fail(request: Request) -> None:
        asked.append(request.operation)
        raise Unavailable("AbortMultipartUpload", "k", "InternalError", "", 500)

    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    store = MemoryStore(on={"abort_multipart": fail}, buckets=["b"])
    with pytest.raises(Unavailable):
        asyncio.run(abort_upload(store, Upload("b", "k", "u")))
    assert len(asked) == retry.count
