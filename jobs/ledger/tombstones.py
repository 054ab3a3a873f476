"""Tombstones: what expire runs have deleted, which copy stood for it, and how to undo it where that is possible.

    <ledger>/tombstones/<bucket>/<run id>/<first row>-<last row>-<id>-intent.parquet    written before anything goes
                                                                     …-done.parquet      written when it has gone

An intent without a done is what was killed in between: some, all or none of it may be gone. Both have the columns of
`SCHEMA`. pyarrow loads with this module: import it where it is used.
"""

from __future__ import annotations

import io
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
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
from jobs.s3.retries import TRIES
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
    """One version that goes, or has gone.

    `step`: `hide` (a delete marker, `marker_version_id`, was put on top of it) or `remove`. `copy` is the URI of the
    copy or the archive that holds it; times are epoch seconds.
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
    """The tombstones that one run sets in one bucket."""

    store: Store
    ledger: Location
    bucket: str
    run_id: str
    _id: str = field(default_factory=lambda: f"{time.time_ns() // 1_000_000:013x}{secrets.token_hex(4)}")
    _count: list[int] = field(default_factory=lambda: [0])
    foreign: set[str] = field(default_factory=set)
    """Files of the run's folder with tombstones of another run or bucket: these are ignored."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files that `taken` has left out since Sealift did not write them, each with what is wrong with it."""

    async def announce(self, intents: Sequence[Tombstone]) -> str:
        """Write down what is about to go; the name under which `confirm` says that it has."""
        name = self._name(intents)
        await self._write(name + INTENT, intents)
        return name

    async def confirm(self, name: str, gone: Sequence[Tombstone]) -> None:
        """Write down what has gone."""
        await self._write(name + DONE, gone)

    async def settle(self, gone: Sequence[Tombstone]) -> None:
        """Write down what has gone of what an earlier attempt announced."""
        await self._write(self._name(gone) + DONE, gone)

    async def announced(self, first_row: int, last_row: int) -> dict[int, Tombstone]:
        """By row, all between the two that this run deleted, or may have, whichever attempt it was."""
        found: dict[int, Tombstone] = {}
        for name in await self.latest():
            span = _span(name)
            if span is None or (span[0] <= last_row and span[1] >= first_row):
                found |= {each.row: each for each in await self._read(name)}
        return found

    async def taken(self) -> AsyncIterator[list[Tombstone]]:
        """All versions that this run hid or removed, or may have (of these nobody knows the marker), each once.

        A file that cannot be read is left out, and is in `unreadable` from then on.
        """
        names = await self.latest()
        spans = [span for name in names if name.endswith(INTENT) and (span := _span(name)) is not None]
        done: set[int] = set()
        for name in reversed(names):  # what is done comes first
            try:
                stones = await self._read(name)
            except LedgerError as error:
                self.unreadable[name] = str(error)
                continue
            yield [each for each in stones if each.row not in done]
            done |= {each.row for each in stones if any(first <= each.row <= last for first, last in spans)}

    async def latest(self) -> list[str]:
        """Of each group the file that says most: what is done, else what was intended."""
        there = set(await self._names())
        open_ = [name for name in there if name.endswith(INTENT) and name.removesuffix(INTENT) + DONE not in there]
        return sorted(open_) + sorted(name for name in there if name.endswith(DONE))

    async def read(self, name: str) -> list[Tombstone]:
        """The tombstones of one file."""
        return await self._read(name)

    def _name(self, tombstones: Sequence[Tombstone]) -> str:
        self._count[0] += 1
        rows = [each.row for each in tombstones]
        return f"{min(rows)}-{max(rows)}-{self._id}{self._count[0]:06d}"

    async def _read(self, name: str) -> list[Tombstone]:
        data = await read_file(self.store, self.ledger, self._path(name), tries=TRIES)
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

    async def _names(self) -> list[str]:
        folder = self._place("")
        async with aclosing(list_all(self.store, folder, versions=False, concurrency=1)) as pages:
            return [entry.key[len(folder.key) :] async for page in pages for entry in page]

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
            await write_once(self.store, self.ledger, self._path(name), data, PARQUET, read_tries=TRIES)
        except PreconditionFailed as error:
            raise LedgerError(
                f"{self._place(name)} was written by somebody else: find out who before you expire more"
            ) from error

    def _path(self, name: str) -> str:
        """A file's name, relative to the ledger."""
        return f"{FOLDER}{self.bucket}/{self.run_id}/{name}"

    def _place(self, name: str) -> Location:
        return self.ledger.join(self._path(name))


def _span(name: str) -> tuple[int, int] | None:
    """The first and the last row of a file, by its name. None for a name that Sealift does not give."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def read_tombstones(data: bytes) -> pa.Table:
    """A file's rows in the types of `SCHEMA`. Raises ArrowException, KeyError, ValueError, OSError for another file."""
    table = pq.read_table(io.BytesIO(data), columns=SCHEMA.names)
    return pa.table([fit(table, field) for field in SCHEMA], schema=SCHEMA)


def _values(column: Any) -> list[Any]:
    """A column's values; times as epoch seconds."""
    if pa.types.is_timestamp(column.type):
        return [value / 1e6 for value in column.cast(pa.int64()).to_pylist()]
    found: list[Any] = column.to_pylist()
    return found
