"""Unfinished multipart uploads of one shard, as the run's ledger records them.

    <ledger>/runs/<run id>/uploads/00000/<name>.json         an upload was begun
    <ledger>/runs/<run id>/uploads/00000/<name>-ended.json   it was completed or aborted
    <ledger>/runs/<run id>/uploads/00000/<name>-parts-<digest>.json   ETags of parts that it sent

A name is made of the upload's place and id. The records say which uploads are this run's own, and of
which attempt. An attempt may go on with an upload of an earlier one, which may be alive: parts of
equal plans are equal, and the first to complete it ends it. But it aborts only its own. What is left
when the run has ended, the run's fold aborts. S3 itself says which parts an
upload has. Where no checksum of the source can prove these parts, the ETags show which of them this
run sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from jobs.errors import StoreError
from jobs.ledger.ledger import Ledger
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Upload
from jobs.s3.uploads import UploadRecords

_ENDED = "-ended.json"
_PARTS = "-parts-"


@dataclass(slots=True)
class ShardUploads(UploadRecords):
    """The uploads of a shard's attempts, for one of them."""

    ledger: Ledger
    run_id: str
    shard: int
    attempt: str
    _free: list[Upload] | None = field(default=None, init=False)
    """The unfinished ones that no copy of this attempt works at. None: not read yet."""
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    are_kept = True

    async def begun(self, upload: Upload) -> None:
        """Record an upload, before its first part. Raises StoreError."""
        document = asdict(replace(upload, attempt=self.attempt))
        await self.ledger.write_document(self.run_id, f"{_folder_of(self.shard)}{_name(upload)}.json", document)

    async def ended(self, upload: Upload) -> None:
        """Record that it is completed or aborted. A record that is lost costs one abort."""
        with contextlib.suppress(StoreError):
            await self.ledger.write_document(self.run_id, f"{_folder_of(self.shard)}{_name(upload)}{_ENDED}", {})

    async def sent(self, upload: Upload, parts: Sequence[tuple[int, str]]) -> None:
        """Record parts, each as (number, ETag). Parts of a lost record are sent again."""
        digest = hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()[:16]
        with contextlib.suppress(StoreError):
            name = f"{_folder_of(self.shard)}{_name(upload)}{_PARTS}{digest}.json"
            await self.ledger.write_document(self.run_id, name, {"parts": sorted(parts)})

    async def sent_parts(self, upload: Upload) -> Set[tuple[int, str]]:
        """All parts that `sent` recorded. Raises LedgerError for an altered record."""
        folder = f"{_folder_of(self.shard)}{_name(upload)}{_PARTS}"

        async def read(name: str) -> list[tuple[int, str]]:
            return await retry(lambda: self.ledger.read(self.run_id, folder + name, _parts))

        names = await retry(lambda: self.ledger.names(self.run_id, folder))
        return {part for parts in await gather_bounded(read, names) for part in parts}

    async def take(self, plan: str) -> Upload | None:
        """The unfinished upload of an equal plan. No other copy of this attempt gets it."""
        async with self._reading:
            if self._free is None:
                self._free = await unfinished_uploads(self.ledger, self.run_id, self.shard)
        found = next((each for each in self._free if each.plan == plan), None)
        if found is not None:
            self._free.remove(found)
        return found

    def give_back(self, upload: Upload) -> None:
        """Leave an unfinished upload to the next try."""
        if self._free is not None:
            self._free.append(upload)


async def unfinished_uploads(ledger: Ledger, run_id: str, shard: int | None = None) -> list[Upload]:
    """All uploads of a shard (None: of the run) that were begun and have not ended.

    Raises LedgerError for a record that Sealift does not write.
    """
    folder = _folder_of(shard)
    names = set(await retry(lambda: ledger.names(run_id, folder)))
    begun = [name for name in sorted(names) if not name.endswith(_ENDED) and _PARTS not in name]
    unended = [folder + name for name in begun if name.removesuffix(".json") + _ENDED not in names]

    async def read(name: str) -> Upload:
        return await retry(lambda: ledger.read(run_id, name, partial(msgspec.convert, type=Upload)))

    return await gather_bounded(read, unended)


def _parts(document: dict[str, Any]) -> list[tuple[int, str]]:
    return msgspec.convert(document["parts"], list[tuple[int, str]])


def _folder_of(shard: int | None) -> str:
    return "uploads/" if shard is None else f"uploads/{shard:05d}/"


def _name(upload: Upload) -> str:
    named = "\0".join((upload.bucket, upload.key, upload.upload_id))
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:32]
