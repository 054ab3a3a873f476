"""SizedStore: S3 in memory in which some objects have a size and no bytes, so that they can be of any size."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from jobs.core.model import Checksum, ObjectInfo, ObjectRef
from jobs.s3.store import Guard, PartDone, PartPage, StoredPart, Written
from tests.doubles.memory_buckets import md5
from tests.doubles.memory_store import LISTED_PARTS, MemoryStore

WHOLE = Checksum("CRC64NVME", "AAAAAAAAAAA=")
"""What every object without bytes has."""


class Killed(BaseException):
    """The process is gone: no request goes out, and nothing is cleaned up."""


class SizedStore(MemoryStore):
    """`sizes`: (bucket, key) of objects without bytes → (size in bytes, ETag). Only copies in parts know them.

    `checksums`: what HEAD shows of them. `copied_bytes` counts what UploadPartCopy has copied. Once it reaches
    `killed_at_bytes`, every request is `Killed`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sizes: dict[tuple[str, str], tuple[int, str]] = {}
        self.checksums: tuple[Checksum, ...] = (WHOLE,)
        self.copied_bytes = 0
        self.killed_at_bytes: float = float("inf")
        self.parts: dict[str, dict[int, tuple[int, int]]] = {}
        """Upload id → part number → (start, end) in the source."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if asyncio.iscoroutinefunction(found) and self.copied_bytes >= self.killed_at_bytes:
            raise Killed
        return found

    async def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        """HeadObject."""
        if ref[:2] not in self.sizes:
            return await super().head(ref, part_number=part_number)
        size_bytes, etag = self.sizes[ref.bucket, ref.key]
        return ObjectInfo(size_bytes, etag, 1_700_000_000.0, None, "STANDARD", self.checksums)

    async def get_tags(self, ref: ObjectRef) -> dict[str, str]:
        """GetObjectTagging."""
        return {}

    async def copy_part(
        self,
        source: ObjectRef,
        source_etag: str,
        start: int,
        end: int,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
    ) -> PartDone:
        """UploadPartCopy, in its own time."""
        await asyncio.sleep(0)
        if self.copied_bytes >= self.killed_at_bytes:
            raise Killed
        self.copied_bytes += end - start
        self.parts.setdefault(upload_id, {})[number] = start, end
        return PartDone(number, md5(b"%d-%d" % (start, end)))

    async def list_parts(self, bucket: str, key: str, upload_id: str, *, after: int = 0) -> PartPage:
        """ListParts."""
        self._upload("ListParts", ObjectRef(bucket, key), upload_id)
        parts = sorted((number, *span) for number, span in self.parts.get(upload_id, {}).items() if number > after)
        listed = [
            StoredPart(number, end - start, md5(b"%d-%d" % (start, end))) for number, start, end in parts[:LISTED_PARTS]
        ]
        return PartPage(listed, parts[LISTED_PARTS - 1][0] if len(parts) > LISTED_PARTS else None)

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartDone],
        *,
        guard: Guard,
        checksum: Checksum | None = None,
    ) -> Written:
        """CompleteMultipartUpload: the parts must be those that are there, and tile the object."""
        self._upload("CompleteMultipartUpload", ObjectRef(bucket, key), upload_id)
        spans = [self.parts[upload_id][number] for number in sorted(part.number for part in parts)]
        assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert len(spans) == len(self.parts[upload_id])
        del self._uploads[upload_id]
        self.sizes[bucket, key] = spans[-1][1], f"{md5(upload_id.encode())}-{len(spans)}"
        return Written(self.sizes[bucket, key][1], checksums=(WHOLE,))
