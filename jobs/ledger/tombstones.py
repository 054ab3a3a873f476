"""Tombstones: what expire runs have deleted, its copies, and how to undo it.

    <ledger>/tombstones/<bucket>/<run id>/
      <first row>-<last row>-<id>-intent.parquet    written before anything is deleted
      <first row>-<last row>-<id>-done.parquet      written after that

The copies were proven before. An intent without a done was interrupted: some, all or none of it may
be gone. Both files have the columns of `SCHEMA`.
"""

from __future__ import annotations

import io
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Location, ObjectVersion
from jobs.errors import LedgerError
from jobs.ledger.files import PARQUET, list_files, read_file, write_file
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
from jobs.tables.rows import batch_of, column_values, manifest_batch, schema_of, unaltered, write_parquet

FOLDER = "tombstones/"
INTENT, DONE = "-intent.parquet", "-done.parquet"
FILES_AT_ONCE = 16
_NAME = re.compile(r"([0-9]{1,18})-([0-9]{1,18})-.*")


class Tombstone(NamedTuple):
    """One version to be deleted, or already deleted.

    `step`: `hide` (a delete marker, `marker_version_id`, lies on top of it) or `remove`. `copy` is
    the URI of its copy, or of the archive that holds it. Times are epoch seconds.
    """

    row: int
    key: str
    version_id: str | None
    etag: str
    size_bytes: int
    last_modified: float
    step: Step
    copy: str
    copy_version_id: str | None
    copy_etag: str | None
    evidence: str
    marker_version_id: str | None = None
    recorded_at: float = 0.0


_OWN = schema_of(Tombstone)
SCHEMA = pa.schema([*_OWN, *(pa.field(name, pa.string(), nullable=False) for name in ("run_id", "source_bucket"))])


class Tombstones(Struct, frozen=True):
    """The tombstones of one run in one bucket."""

    store: Store
    ledger: Location
    bucket: str
    run_id: str
    unreadable: dict[str, str] = {}
    """Files that `taken` left out because Sealift did not write them, each with what is wrong."""

    async def announce(self, intents: Sequence[Tombstone]) -> str:
        """Write what is about to be deleted → the name for `confirm`."""
        name = self._name(intents)
        await self._write(name + INTENT, intents)
        return name

    async def confirm(self, name: str, gone: Sequence[Tombstone]) -> None:
        """Write what has been deleted."""
        await self._write(name + DONE, gone)

    async def announced(self, first_row: int, last_row: int) -> dict[int, Tombstone]:
        """Row → what any attempt of this run deleted, or may have, between the two rows.

        Each is recorded when S3 received its file. Of several attempts the last one counts.
        """
        by_row: dict[int, Tombstone] = {}
        for name, at in (await self.latest()).items():
            if _may_have(name, first_row, last_row):
                by_row |= {stone.row: stone._replace(recorded_at=at) for stone in await self.read(name)}
        return by_row

    async def taken(self) -> AsyncIterator[list[Tombstone]]:
        """All versions that this run hid or removed, or may have, the last first. One of two attempts may come twice.

        The markers of those it may have hidden are unknown: an attempt that did not say what it has
        done may not be the last one. None was recorded later than S3 received its file, whatever a
        worker's clock said. A file that cannot be read is left out and added to `unreadable`.
        """
        names = await self.latest()
        intended = {stone.row for name in names if name.endswith(INTENT) for stone in await self.readable(name)}
        done: set[int] = set()
        for name, at in reversed(names.items()):
            stones = [each for each in await self.readable(name) if name.endswith(DONE) or each.row not in done]
            done |= intended & {each.row for each in stones}
            yield [each._replace(recorded_at=min(each.recorded_at, at)) for each in stones]

    async def of_others(self) -> set[tuple[str, str]]:
        """The markers (key, id) that other runs have set and, where they have not recorded them, the versions
        that they may have hidden. A file that cannot be read counts for nothing.
        """
        found = set[tuple[str, str]]()
        for stones, name in await _all_latest(self.store, self.ledger, self.bucket):
            if stones.run_id != self.run_id:
                hides = [each for each in await stones.readable(name) if each.step is Step.HIDE or not each.version_id]
                found.update((each.key, each.marker_version_id or each.version_id or NULL_VERSION) for each in hides)
        return found

    async def latest(self) -> dict[str, float]:
        """The latest file of each group, the oldest first: what was done, else what was intended. Each with the time
        when S3 received it.
        """
        return await _latest(self.store, self.ledger.join(self._path("")))

    async def read(self, name: str) -> list[Tombstone]:
        """The tombstones of one file. Raises LedgerError for one that Sealift did not write for this run."""
        data = await read_file(self.store, self.ledger, self._path(name), tries=retry)
        with unaltered(f"the tombstones {self.ledger.join(self._path(name))}"):
            return read_tombstones(data, self.run_id, self.bucket)

    async def readable(self, name: str) -> list[Tombstone]:
        """`read`. Nothing for a file that Sealift did not write, which is added to `unreadable`."""
        try:
            return await self.read(name)
        except LedgerError as error:
            self.unreadable[name] = str(error)
            return []

    def _name(self, tombstones: Sequence[Tombstone]) -> str:
        rows = [each.row for each in tombstones]
        return f"{min(rows)}-{max(rows)}-{time.time_ns():016x}{secrets.token_hex(4)}"

    async def _write(self, name: str, tombstones: Sequence[Tombstone]) -> None:
        rows = [(*each, self.run_id, self.bucket) for each in tombstones]
        data = write_parquet(batch_of(rows, SCHEMA.names, SCHEMA))
        await write_file(self.store, self.ledger, self._path(name), data, PARQUET)

    def _path(self, name: str) -> str:
        """A file's name, relative to the ledger."""
        return f"{FOLDER}{self.bucket}/{self.run_id}/{name}"


def _may_have(name: str, first_row: int, last_row: int) -> bool:
    """False if a file has none of these rows, by its name."""
    match = _NAME.fullmatch(name)
    return match is None or (int(match[1]) <= last_row and int(match[2]) >= first_row)


def read_tombstones(data: bytes, run_id: str, bucket: str) -> list[Tombstone]:
    """A file's rows.

    Raises ArrowException, KeyError, ValueError or OSError for a file of another run, or that has other columns.
    """
    table = pq.read_table(io.BytesIO(data), columns=SCHEMA.names)
    for name, own in (("run_id", run_id), ("source_bucket", bucket)):
        if {*table[name].unique().to_pylist()} - {own}:
            raise ValueError("it has tombstones of another run or bucket")
    rows = map(Tombstone._make, zip(*column_values(table, _OWN), strict=True))
    return [each._replace(step=Step(each.step)) for each in rows]


async def expired_rows(
    store: Store, ledger: Location, bucket: str, prefix: str = ""
) -> AsyncGenerator[pa.RecordBatch, None]:
    """Removed versions, and delete markers that hide others, as rows in `manifest_schema()`, for a restore to a time.

    Both were made by expire runs, so the bucket's users still had these objects. `archive` is where
    the copy is. Intents without a confirmation yield versions only, because their marker ids are
    unknown. Raises LedgerError for a file that Sealift did not write there.
    """
    latest = await _all_latest(store, ledger, bucket)
    for start in range(0, len(latest), FILES_AT_ONCE):
        files = latest[start : start + FILES_AT_ONCE]
        read = await gather_bounded(lambda file: file[0].read(file[1]), files, FILES_AT_ONCE)
        rows = [row for stones in read for each in stones if each.key.startswith(prefix) for row in _rows(each)]
        if rows:
            yield manifest_batch(rows)


def _rows(stone: Tombstone) -> list[ObjectVersion]:
    """What a restore has to know of it. Nothing of a marker that was not recorded."""
    is_removal = stone.step is Step.REMOVE
    if not (is_removal or stone.marker_version_id):
        return []
    version_id = stone.version_id if is_removal else stone.marker_version_id
    what = stone.size_bytes, stone.etag, stone.last_modified
    return [ObjectVersion(0, stone.key, version_id, False, not is_removal, *what, archive=stone.copy)]


async def _all_latest(store: Store, ledger: Location, bucket: str) -> list[tuple[Tombstones, str]]:
    """The latest files of all runs in a bucket, each with its run's tombstones."""
    names = [name.partition("/") for name in await _latest(store, ledger.join(f"{FOLDER}{bucket}/"))]
    return [(Tombstones(store, ledger, bucket, run_id), file) for run_id, _, file in names]


async def _latest(store: Store, folder: Location) -> dict[str, float]:
    """The files of a folder that count: what was done, else what was intended. See `Tombstones.latest`."""
    there = {each.key[len(folder.key) :]: each.last_modified async for each in list_files(store, folder)}
    latest = [name for name in there if name.endswith(DONE) or name.removesuffix(INTENT) + DONE not in there]
    return {name: there[name] for name in sorted(latest, key=lambda name: (there[name], name.split("-", 2)[-1]))}
