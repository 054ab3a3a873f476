"""Tombstones: what expire runs have deleted, its copies, and how to undo it.

    <ledger>/tombstones/<bucket>/<run id>/
      <first row>-<last row>-<id>-intent.parquet    written before anything is deleted
      <first row>-<last row>-<id>-done.parquet      written after that

The copies were proven before. An intent without a done was interrupted: some, all or none of it may
be gone. Both files have the columns of `SCHEMA`.
"""

from __future__ import annotations

import io
import itertools
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.core.enums import Step
from jobs.core.model import Location
from jobs.errors import LedgerError, PreconditionFailed
from jobs.ledger.files import PARQUET, read_file, write_once
from jobs.s3.listing import list_all
from jobs.s3.retries import retry
from jobs.s3.store import Store
from jobs.tables.rows import fit, unaltered, write_parquet

FOLDER = "tombstones/"
INTENT, DONE = "-intent.parquet", "-done.parquet"

_FIELDS: list[pa.Field[Any]] = [
    pa.field("row", pa.int64(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("version_id", pa.string()),
    pa.field("etag", pa.string(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("last_modified", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("step", pa.string(), nullable=False),
    pa.field("copy", pa.string(), nullable=False),
    pa.field("copy_version_id", pa.string()),
    pa.field("copy_etag", pa.string()),
    pa.field("evidence", pa.string(), nullable=False),
    pa.field("marker_version_id", pa.string()),
    pa.field("recorded_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("run_id", pa.string(), nullable=False),
    pa.field("source_bucket", pa.string(), nullable=False),
]
SCHEMA = pa.schema(_FIELDS)
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


@dataclass(frozen=True, slots=True)
class Tombstones:
    """The tombstones of one run in one bucket."""

    store: Store
    ledger: Location
    bucket: str
    run_id: str
    _id: str = field(default_factory=lambda: f"{time.time_ns() // 1_000_000:013x}{secrets.token_hex(4)}")
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    foreign: set[str] = field(default_factory=set)
    """Files of the run's folder with tombstones of another run or bucket, which are ignored."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files that `taken` left out because Sealift did not write them, each with what is wrong."""
    _written_at: dict[str, float] = field(default_factory=dict)
    """When S3 received each file that was listed."""

    async def announce(self, intents: Sequence[Tombstone]) -> str:
        """Write what is about to be deleted → the name for `confirm`."""
        name = self._name(intents)
        await self._write(name + INTENT, intents)
        return name

    async def confirm(self, name: str, gone: Sequence[Tombstone]) -> None:
        """Write what has been deleted."""
        await self._write(name + DONE, gone)

    async def settle(self, gone: Sequence[Tombstone]) -> None:
        """Write what has been deleted of what an earlier attempt announced."""
        await self._write(self._name(gone) + DONE, gone)

    async def announced(self, first_row: int, last_row: int) -> dict[int, Tombstone]:
        """Row → what any attempt of this run deleted, or may have, between the two rows.

        Each is recorded when S3 received its file. Of several attempts the last one counts.
        """
        by_row: dict[int, Tombstone] = {}
        for name in await self.latest():
            span = _span(name)
            if span is None or (span[0] <= last_row and span[1] >= first_row):
                at = self._written_at[name]
                by_row |= {stone.row: stone._replace(recorded_at=at) for stone in await self.read(name)}
        return by_row

    async def announced_by_others(self, row: int) -> bool:
        """True if another attempt of this run has deleted the row, or may have."""
        for name in await self.latest():
            span = _span(name)
            is_others = self._id not in name and span is not None and span[0] <= row <= span[1]
            if is_others and any(stone.row == row for stone in await self.read(name)):
                return True
        return False

    async def taken(self) -> AsyncIterator[list[Tombstone]]:
        """All versions that this run hid or removed, or may have, each once (or once a marker, where
        two attempts hid it).

        The markers of those it may have hidden are unknown. None was recorded later than S3
        received its file, whatever a worker's clock said. A file that cannot be read is left out
        and added to `unreadable`.
        """
        names = await self.latest()
        shared = _sharing(names)
        done: set[int] = set()
        told: set[tuple[int, str | None]] = set()
        for name in reversed(names):  # an attempt that did not say what it has done may not be the last one
            try:
                stones = await self.read(name)
            except LedgerError as error:
                self.unreadable[name] = str(error)
                continue
            if name.endswith(INTENT):
                stones = [each for each in stones if each.row not in done]
            else:
                stones = [each for each in stones if (each.row, each.marker_version_id) not in told]
            at = self._written_at[name]
            yield [each._replace(recorded_at=min(each.recorded_at, at)) for each in stones]
            if name in shared:
                done |= {each.row for each in stones}
                told |= {(each.row, each.marker_version_id) for each in stones}

    async def latest(self) -> list[str]:
        """The latest file of each group, the oldest first: what was done, else what was intended."""
        names = set(await self._names())
        open_ = [name for name in names if name.endswith(INTENT) and name.removesuffix(INTENT) + DONE not in names]
        return sorted([*open_, *(name for name in names if name.endswith(DONE))], key=self._age)

    def _age(self, name: str) -> tuple[float, str]:
        """When S3 received the file. Those of one second are in the order of their ids."""
        return self._written_at[name], name.split("-", 2)[-1]

    async def read(self, name: str) -> list[Tombstone]:
        """The tombstones of one file, without those of another run or bucket (`foreign`).

        Raises LedgerError for a file that Sealift did not write.
        """
        data = await read_file(self.store, self.ledger, self._path(name), tries=retry)
        with unaltered(f"the tombstones {self._place(name)}"):
            if _span(name) is None:
                raise ValueError("its name does not begin with its first and last row")
            table = read_tombstones(data)
            run_ids: Any = pc.equal(table["run_id"], pa.scalar(self.run_id))
            buckets: Any = pc.equal(table["source_bucket"], pa.scalar(self.bucket))
            own = table.filter(pc.and_(run_ids, buckets)).select(list(Tombstone._fields))
            if own.num_rows < table.num_rows:
                self.foreign.add(name)
            columns = [_values(column) for column in own.columns]
            return [(made := Tombstone(*row))._replace(step=Step(made.step)) for row in zip(*columns, strict=True)]

    def _name(self, tombstones: Sequence[Tombstone]) -> str:
        rows = [each.row for each in tombstones]
        return f"{min(rows)}-{max(rows)}-{self._id}{next(self._numbers):06d}"

    async def _names(self) -> list[str]:
        folder = self._place("")
        async with aclosing(list_all(self.store, folder, versions=False, concurrency=1)) as pages:
            found = {entry.key[len(folder.key) :]: entry.last_modified async for page in pages for entry in page}
        self._written_at.update(found)
        return list(found)

    async def _write(self, name: str, tombstones: Sequence[Tombstone]) -> None:
        columns: list[Any] = list(zip(*tombstones, strict=True)) if tombstones else [()] * len(Tombstone._fields)
        columns += [[self.run_id] * len(tombstones), [self.bucket] * len(tombstones)]
        arrays = [
            pa.array([round(value * 1e6) for value in column], pa.int64()).cast(each.type)
            if pa.types.is_timestamp(each.type)
            else pa.array(column, each.type)
            for column, each in zip(columns, SCHEMA, strict=True)
        ]
        data = write_parquet(pa.Table.from_arrays(arrays, schema=SCHEMA))
        try:
            await write_once(self.store, self.ledger, self._path(name), data, PARQUET, read_tries=retry)
        except PreconditionFailed as error:
            raise LedgerError(
                f"{self._place(name)} was written by somebody else", advice="find out by whom before you expire more"
            ) from error

    def _path(self, name: str) -> str:
        """A file's name, relative to the ledger."""
        return f"{FOLDER}{self.bucket}/{self.run_id}/{name}"

    def _place(self, name: str) -> Location:
        return self.ledger.join(self._path(name))


def _span(name: str) -> tuple[int, int] | None:
    """First and last row of a file, by its name. None for a name that Sealift does not use."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def _sharing(names: Sequence[str]) -> set[str]:
    """Return the files whose rows may be in another of these files as well."""
    shared: set[str] = set()
    reach, farthest = -1, ""
    for (first, last), name in sorted((span, name) for name in names if (span := _span(name)) is not None):
        if first <= reach:
            shared |= {name, farthest}
        if last > reach:
            reach, farthest = last, name
    return shared


def read_tombstones(data: bytes) -> pa.Table:
    """A file's rows in the types of `SCHEMA`.

    Raises ArrowException, KeyError, ValueError or OSError for a file that has other columns.
    """
    table = pq.read_table(io.BytesIO(data), columns=SCHEMA.names)
    return pa.table([fit(table, field) for field in SCHEMA], schema=SCHEMA)


def _values(column: Any) -> list[Any]:
    """A column's values, times as epoch seconds."""
    if pa.types.is_timestamp(column.type):
        return [value / 1e6 for value in column.cast(pa.int64()).to_pylist()]
    values: list[Any] = column.to_pylist()
    return values
