"""Copies in parts that go on after a failure."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.model import Attributes, Checksum, ObjectRef
from jobs.errors import Rejected, Unavailable
from jobs.s3.byte_ranges import ContentSide
from jobs.s3.checksums import full_object
from jobs.s3.multipart_copy import copy_parts
from jobs.s3.store import ABSENT, Upload
from jobs.s3.uploads import ObjectUpload, UploadRecords
from tests.doubles.memory_store import MemoryStore, Request

PART_BYTES = 1024
PIECES = [bytes([number]) * PART_BYTES for number in range(3)]


class Records(UploadRecords):
    """Keep one upload for the next try."""

    are_kept = True
    left: Upload | None = None

    async def take(self, plan: str) -> Upload | None:
        left, self.left = self.left, None
        return left if left is not None and left.plan == plan else None

    def give_back(self, upload: Upload) -> None:
        self.left = upload


async def test_an_object_of_one_part_is_copied_whole() -> None:
    """S3 refuses a range of an object of at most 5 MiB."""
    store = MemoryStore(buckets=("a", "b"))
    ref = ObjectRef("a", "k")
    await store.put(ref, b"small", Attributes(), guard=ABSENT)
    source = ContentSide(store, ref, await store.head(ref))
    await copy_parts(source, ObjectUpload(store, ObjectRef("b", "k"), Attributes(), PART_BYTES))
    assert (await store.get(ObjectRef("b", "k"))).data == b"small"
    upload = await store.create_multipart(ObjectRef("b", "k"), Attributes())
    with pytest.raises(Rejected, match="InvalidRequest"):
        await store.copy_part(ref, source.info.etag, 0, 5, upload, 1)


@pytest.mark.parametrize("failing", [1, 2, 3])
async def test_parts_that_were_copied_in_any_order_have_the_sources_checksum(
    failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The composite checksum was taken of the parts that were there, and then of the missing ones."""
    monkeypatch.setattr("jobs.core.part_sizes.MIN_PART_BYTES", PART_BYTES)
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    store = MemoryStore(minimum_part_bytes=1, buckets=("a", "b"))
    upload = await store.create_multipart(
        ObjectRef("a", "k"), Attributes(), checksum=Checksum("SHA256", "", is_composite=True)
    )
    sums = [full_object("SHA256", piece) for piece in PIECES]
    puts = [store.put_part(upload, at + 1, PIECES[at], checksum=each) for at, each in enumerate(sums)]
    await store.complete_multipart(upload, [await put for put in puts], guard=ABSENT)
    source = ContentSide(store, ObjectRef("a", "k"), await store.head(ObjectRef("a", "k")))
    records = Records()

    async def copy() -> None:
        await copy_parts(source, ObjectUpload(store, ObjectRef("b", "k"), Attributes(), PART_BYTES, records=records))

    async def fail(request: Request) -> Any:
        if request.arguments["number"] == failing:
            raise Unavailable("UploadPartCopy", "k", "InternalError", "", 500)
        return await request()

    store.hook(copy_part=fail)
    with pytest.raises(Unavailable):
        await copy()
    store.hook(copy_part=None)
    await copy()
    assert (await store.get(ObjectRef("b", "k"))).data == b"".join(PIECES)
    assert (await store.head(ObjectRef("b", "k"))).checksums == source.info.checksums
