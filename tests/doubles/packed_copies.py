"""Archives of copies, and their index in a ledger, in memory."""

from __future__ import annotations

import asyncio
import hashlib
import io
from typing import Any

from jobs.archives.index import ArchiveIndex
from jobs.archives.index_tables import TableWriter
from jobs.archives.model import ArchiveRecord, Member
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.runs.there import PackedCopies
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore


def md5(content: str) -> str:
    return hashlib.md5(content.encode()).hexdigest()


ARCHIVE = Location("cold", "packed/a.tar")


def packed_copies(
    *members: tuple[str, str, dict[str, Any]],
    at: float = 0.0,
    bucket: str = "dst",
    is_there: bool = True,
    is_sealed: bool = False,
) -> PackedCopies:
    """An archive of copies (key, content, other fields of its index) of this time that lay in the bucket."""

    async def pack() -> PackedCopies:
        store = MemoryStore(buckets=("cold", "ledger"), versioned=False)
        etag = (
            await store.put(ObjectRef(*ARCHIVE), b"archive" if is_there else b"other", Attributes(), guard=UNGUARDED)
        ).etag
        file = io.BytesIO()
        table = TableWriter(file)
        for key, content, more in members:
            plain = Member(key, None, True, len(content), md5(content), at + 60, "STANDARD", {}, {}, {})
            table.add([plain._replace(**more)])
        table.close()
        file.seek(0)
        keys = sorted(key for key, _, _ in members)
        record = ArchiveRecord(
            *(ARCHIVE, ArchiveFormat.TAR, 7, etag if is_there else md5("archive"), None, "STANDARD"),
            *(len(members), 0, keys[0], keys[-1], bucket, at),
        )
        index = ArchiveIndex(store, Location("ledger"))
        await index.publish(record, file)
        return PackedCopies(index, store, Location("cold", "packed"), is_sealed)

    return asyncio.run(pack())
