"""Listing of a bucket, written as a report in S3 Inventory's shape.

    <target>/<source bucket>/sealift/data/<uuid>.parquet …    written first
    <target>/<source bucket>/sealift/<time>/manifest.json     names them, with size and MD5
    <target>/<source bucket>/sealift/<time>/manifest.checksum written last: the report is complete

Rows go to disk in groups as they are listed and from there to S3 in files, so that memory does not
grow with the bucket.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import Attributes, Listed, Location, ObjectRef
from jobs.errors import ConfigError, NotFound, PreconditionFailed
from jobs.inventory import data_files, report
from jobs.s3.listing import list_all
from jobs.s3.store import ABSENT, Store

CONFIGURATION = "sealift"
"""The configuration id in the report's keys, where S3 puts the name of the inventory
configuration."""

MANIFEST_VERSION = "2016-11-30"


class InventoryWritten(Struct, frozen=True, rename={"size_bytes": "bytes"}):
    """A finished report: its manifest's URI, its rows, the bytes of their objects, its files."""

    manifest: str
    rows: int
    size_bytes: int
    files: int


async def write_inventory(
    source: Store,
    source_location: Location,
    target: Store,
    target_location: Location,
    *,
    versions: bool,
    now: float,
    on_progress: Callable[[int, int], None] | None,
) -> InventoryWritten:
    """List `source_location` and write the report below `target_location`.

    `now` (epoch seconds) is when the listing begins, by our clock. It names the report, which is dated
    by S3's clock: to the second that S3 says, and within it by ours. `on_progress(rows,
    size_bytes)` is called after each page with what has been listed so far.

    Raises ConfigError when a report of that minute exists already, StoreError when S3 refuses.
    Nothing that a reader would trust is left behind then, since manifest.checksum comes last. If
    the writer of the other report was killed before that, this completes it.
    """
    base = target_location.join(source_location.bucket).join(CONFIGURATION)
    manifest = base.join(datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H-%MZ")).join("manifest.json")
    taken = ConfigError(
        f"{manifest} exists already: a report is written once", advice="wait a minute or write it elsewhere"
    )
    try:
        await target.head(ObjectRef(*manifest))
    except NotFound:
        pass
    else:
        await _complete(target, manifest, (await target.get(ObjectRef(*manifest))).data)
        raise taken

    columns = data_files.report_columns(versions=versions)
    began = elapsed_seconds()
    with tempfile.TemporaryDirectory(prefix="sealift-") as folder:
        upload = _Upload(target, base, folder, source_location.bucket, columns)
        rows, size_bytes = await _list_into(upload, source, source_location, versions, on_progress)

    if source.server_clock is not None:
        second = source.server_clock + began
        now = min(max(now, second), second + 1)
    content = json.dumps(
        {
            "sourceBucket": source_location.bucket,
            "destinationBucket": f"arn:aws:s3:::{target_location.bucket}",
            "version": MANIFEST_VERSION,
            "creationTimestamp": str(int(now * 1000)),
            "fileFormat": "Parquet",
            "fileSchema": data_files.file_schema(columns),
            "files": upload.files,
            "createdBy": report.CREATOR,
        },
        indent=2,
    ).encode()
    try:
        await _put(target, manifest, content, "application/json")
    except PreconditionFailed as error:
        raise taken from error
    await _complete(target, manifest, content)
    return InventoryWritten(str(manifest), rows, size_bytes, len(upload.files))


async def _list_into(
    upload: _Upload,
    source: Store,
    location: Location,
    versions: bool,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[int, int]:
    """List everything into the upload, one group being written while the next is listed.

    Returns rows and bytes.
    """
    rows = size_bytes = waiting_rows = 0
    waiting: list[Sequence[Listed]] = []
    writing: asyncio.Task[None] | None = None
    try:
        async with aclosing(list_all(source, location, versions=versions)) as pages:
            async for page in pages:
                waiting.append(page)
                waiting_rows += len(page)
                rows += len(page)
                size_bytes += sum(entry.size_bytes or 0 for entry in page)
                if on_progress:
                    on_progress(rows, size_bytes)
                if waiting_rows >= data_files.GROUP_ROWS:
                    if writing:
                        await writing
                    writing = asyncio.create_task(upload.add(waiting))
                    waiting, waiting_rows = [], 0
        if writing:
            await writing
        if waiting:
            await upload.add(waiting)
        await upload.flush()
    finally:
        if writing and not writing.done():
            # Its thread writes into the folder that the caller is about to remove.
            await asyncio.wait([writing])
    return rows, size_bytes


class _Upload:
    """The data files of one report: at most one on disk, at most one in memory on its way to S3."""

    def __init__(
        self,
        target: Store,
        base: Location,
        folder: str,
        bucket: str,
        columns: Sequence[data_files.Column],
    ):
        self.files: list[dict[str, str | int]] = []
        self._target, self._data, self._folder = target, base.join("data"), folder
        self._bucket, self._columns = bucket, columns
        self._file: data_files.ReportFile | None = None

    async def add(self, pages: list[Sequence[Listed]]) -> None:
        await asyncio.to_thread(self._encode, pages)
        if self._file and self._file.is_full:
            await self.flush()

    def _encode(self, pages: list[Sequence[Listed]]) -> None:
        if self._file is None:  # here, since the first file imports pyarrow, while the listing goes on
            path = os.path.join(self._folder, f"{uuid.uuid4()}.parquet")
            self._file = data_files.ReportFile(path, self._bucket, self._columns)
        self._file.add(pages)

    async def flush(self) -> None:
        if self._file is None:
            return
        (size_bytes, md5), path = await asyncio.to_thread(self._file.finish), Path(self._file.path)
        self._file = None
        data = self._data.join(path.name)
        await _put(self._target, data, await asyncio.to_thread(path.read_bytes), "application/octet-stream")
        path.unlink()
        self.files.append({"key": data.key, "size": size_bytes, "MD5checksum": md5})


async def _put(target: Store, location: Location, data: bytes, content_type: str) -> None:
    attributes = Attributes(headers={"content-type": content_type})
    await target.put(ObjectRef(*location), data, attributes, guard=ABSENT)


async def _complete(target: Store, manifest: Location, content: bytes) -> None:
    """Write the checksum of a manifest, whose data files are all there, unless somebody has."""
    checksum = manifest._replace(key=manifest.key.removesuffix(".json") + ".checksum")
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest().encode()
    with contextlib.suppress(PreconditionFailed):
        await _put(target, checksum, digest, "text/plain")
