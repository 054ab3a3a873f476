"""What is too slow for hundreds of archive schedules a second, in pure Python: the index's and the tombstones' tables.

They are the same requests for other bytes: one line of JSON for each Parquet file, and a sum that finds damage as
zstd's does. Also here: the scale of the world, and what the product takes from chance and clocks.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

import jobs.archives.files
import jobs.archives.index
import jobs.archives.index_tables
import jobs.archives.reader
import jobs.archives.writer
import jobs.compact.job
import jobs.compact.member_reader
import jobs.compact.packing
import jobs.expire.copy_checks
import jobs.expire.deletes
import jobs.expire.job
import jobs.expire.kind
import jobs.expire.later_disproofs
import jobs.expire.marks
import jobs.ledger.expired_rows
import jobs.ledger.tombstones
import jobs.restore.job
import jobs.restore.member_writer
import jobs.runs.leases
import jobs.s3.conditional_writes
import jobs.s3.uploads
import jobs.verify.archives_job
from jobs.archives.index_tables import RECORD
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import ArchiveReader
from jobs.compact.member_reader import MemberSource
from jobs.core.enums import Step
from jobs.core.model import Attributes, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.errors import DamagedArchive, PreconditionFailed
from jobs.expire.later_disproofs import LaterDisproofs, ProvenCopy
from jobs.expire.runs_with_findings import DISPROOFS
from jobs.ledger.tombstones import Tombstone, Tombstones
from jobs.s3.listing import list_all
from jobs.s3.paced_gate import PacedGate
from jobs.s3.retries import retry
from jobs.s3.store import ABSENT, Store
from jobs.tables.ranged_parquet import KeyRange
from tests.simulation.copies.tables import PART_BYTES, read_outcomes
from tests.simulation.engine.loop import LABEL

SMALL_BYTES = 32
COPIED_BYTES = 48
PART_OF_ARCHIVE_BYTES = 2_048
SPAN_BYTES = 4_096
LEAST_HELD_BYTES = 8
GROUP_ROWS = 2
"""Rows that expire proves together; rows of a restore's chain."""
INDEX_ROWS = 3
"""Members of a row group of the index."""

_encoder = msgspec.json.Encoder(order="sorted")
_members = msgspec.json.Decoder(list[Member])
_stones = msgspec.json.Decoder(list[Tombstone])
Replacements = list[tuple[Any, str, Any]]


class Group:
    """Some members, as a table of the index."""

    def __init__(self, members: Sequence[Member]):
        self.members = members
        self.num_rows = len(members)

    def __getitem__(self, name: str) -> list[Any]:
        return [getattr(member, name) for member in self.members]

    def filter(self, mask: Sequence[bool]) -> Group:
        """Those of which the mask is true."""
        return Group([member for member, is_taken in zip(self.members, mask, strict=True) if is_taken])


_COMPUTE = SimpleNamespace(
    starts_with=lambda column, prefix: [key.startswith(prefix) for key in column],
    equal=lambda column, key: [each == key for each in column],
)
_ARROW = SimpleNamespace(scalar=lambda value: value, Table=pa.Table, ArrowException=pa.ArrowException)


def _sealed(text: bytes) -> bytes:
    return text + zlib.crc32(text).to_bytes(4, "big")


def _unsealed(data: bytes) -> bytes:
    if zlib.crc32(data[:-4]).to_bytes(4, "big") != data[-4:]:
        raise OSError("the sum is another one")
    return data[:-4]


class MemberTable:
    """`TableWriter`."""

    def __init__(self, file: Any):
        self._file, self._rows, self._is_closed = file, list[Member](), False

    def add(self, members: Sequence[Member]) -> None:
        """The next rows."""
        self._rows += members

    def close(self) -> None:
        """Write the file."""
        if not self._is_closed:
            self._file.write(_sealed(_encoder.encode(self._rows)))
            self._is_closed = True

    def discard(self) -> None:
        """Write no more."""
        self._is_closed = True


def read_members(data: bytes) -> list[Member]:
    """The members of an archive's own index, whichever codec wrote it. Raises what Arrow raises."""
    if data[:4] == b"PAR1":
        return list(_real_from_batch(_real_read_table(io.BytesIO(data))))
    try:
        return _members.decode(_unsealed(data))
    except (OSError, msgspec.MsgspecError) as error:
        raise pa.ArrowInvalid(str(error)) from error


def write_index(rows: IO[bytes], record: ArchiveRecord, file: IO[bytes]) -> None:
    """A line for each row group, then the footer: the record, and for each group its place and keys."""
    try:
        members = read_members(rows.read())
    except pa.ArrowException as error:
        raise DamagedArchive(f"{record.location}: its own index is damaged: {error}") from error
    groups, place = list[tuple[int, int, str, str]](), 0
    for start in range(0, len(members), INDEX_ROWS):
        some = members[start : start + INDEX_ROWS]
        data = _sealed(_encoder.encode(some))
        file.write(data)
        keys = [member.key for member in some]
        groups.append((place, place + len(data), min(keys), max(keys)))
        place += len(data)
    footer = _sealed(json.dumps([json.dumps(record.to_dict()), groups]).encode())
    file.write(footer + len(footer).to_bytes(4, "little"))


def read_index(data: bytes) -> tuple[ArchiveRecord, list[Member]]:
    """A whole index, whichever codec wrote it. Raises OSError, ValueError or pyarrow's errors for a damaged one."""
    if data[:4] == b"PAR1":
        table = _real_read_table(io.BytesIO(data))
        record = ArchiveRecord.from_dict(json.loads((table.schema.metadata or {})[RECORD]))
        return record, list(_real_from_batch(table))
    text, groups = _footer(data)
    record = ArchiveRecord.from_dict(json.loads(text))
    return record, [member for start, end, _, _ in groups for member in read_members(data[start:end])]


def _footer(data: bytes) -> tuple[str, list[Any]]:
    """The record as JSON, and the groups."""
    size_bytes = int.from_bytes(data[-4:], "little")
    record, groups = json.loads(_unsealed(data[-4 - size_bytes : -4]))
    return record, groups


@dataclass(frozen=True, slots=True)
class IndexTable:
    """`RangedTable`: the footer is known, a row group comes by one read."""

    store: Store
    ref: ObjectRef
    etag: str
    record: str
    ranges: Sequence[KeyRange]

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The footer's own entries."""
        return {RECORD: self.record.encode()}

    async def scan(self, is_wanted: Callable[[KeyRange], bool] = lambda group: True) -> AsyncGenerator[Group, None]:
        """The wanted row groups."""
        for group in self.ranges:
            if is_wanted(group):
                body = await self.store.get(self.ref, start=group.start, end=group.end, if_match=self.etag)
                try:
                    yield Group(read_members(body.data))
                except (OSError, pa.ArrowException) as error:
                    raise DamagedArchive(f"{self.ref} is damaged: {error}") from error


async def open_table(store: Store, ref: ObjectRef) -> IndexTable:
    """As the real one asks: HEAD, then the end."""
    info = await store.head(ref)
    data = (await store.get(ref, start=0, if_match=info.etag)).data
    try:
        record, groups = _footer(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedArchive(f"{ref} is no index, or was cut short: {error}") from error
    return IndexTable(store, ref, info.etag, record, [KeyRange(at, *each) for at, each in enumerate(groups)])


def completed(record: ArchiveRecord, own_index: bytes) -> ArchiveRecord:
    """With the counts of the archive's own index."""
    try:
        members = read_members(own_index)
    except pa.ArrowException as error:
        raise DamagedArchive(f"{record.location}: its own index is damaged: {error}") from error
    keys = [member.key for member in members] or [""]
    size_bytes = sum(member.size_bytes for member in members)
    return replace(record, members=len(members), member_bytes=size_bytes, first_key=min(keys), last_key=max(keys))


def _read_table(file: IO[bytes], **named: Any) -> Any:
    data = file.read()
    return _real_read_table(io.BytesIO(data), **named) if data[:4] == b"PAR1" else Group(read_members(data))


def _from_batch(batch: Any) -> Iterator[Member]:
    return iter(batch.members) if isinstance(batch, Group) else _real_from_batch(batch)


_real_read_table, _real_from_batch = pq.read_table, jobs.archives.index_tables.from_batch


async def _write_stones(self: Tombstones, name: str, tombstones: Sequence[Tombstone]) -> None:
    place, data = self._place(name), _sealed(_encoder.encode(tombstones))
    try:
        await retry(lambda: self.store.put(place.bucket, place.key, data, Attributes(), guard=ABSENT))
    except PreconditionFailed:
        if (await retry(lambda: self.store.get(ObjectRef(*place)))).data != data:  # else the answer was lost
            raise


async def _read_stones(self: Tombstones, name: str) -> list[Tombstone]:
    place = self._place(name)
    return read_stones((await retry(lambda: self.store.get(ObjectRef(*place)))).data)


def read_stones(data: bytes) -> list[Tombstone]:
    """A file of tombstones, whichever codec wrote it."""
    if data[:4] != b"PAR1":
        return _stones.decode(_unsealed(data))
    table = _real_read_table(io.BytesIO(data), columns=list(Tombstone._fields))
    rows = zip(*map(jobs.ledger.tombstones._values, table.columns), strict=True)
    return [(made := Tombstone(*row))._replace(step=Step(made.step)) for row in rows]


DISPROVED = "a run has disproved it"


async def _objections(self: LaterDisproofs, copies: Sequence[ProvenCopy]) -> dict[int, str]:
    """Stands in for a query of DuckDB: whatever a run says against a pair of keys counts."""
    bad: set[tuple[str, ...]] = set()
    for run in self._runs.values():
        if run.spec is None or run.problem:
            return {id(each): run.problem for each in copies}
        route = Route(run.spec.source.location, run.spec.destination.location)
        for checkpoint, _ in run.checkpoints:
            name = f"runs/{run.run_id}/outcomes/{checkpoint.shard:05d}/{checkpoint.name}"
            body = await self.ledger.store.get(ObjectRef(*self.ledger.location.join(name)))
            for outcome in read_outcomes(body.data):
                source, destination = outcome.key, route.target_of(ObjectVersion(0, outcome.key)).key
                is_bad = outcome.status in DISPROOFS[run.spec.job]
                straight, swapped = False in run.is_swapped, True in run.is_swapped
                if is_bad and straight:
                    bad.add((source, route.destination.bucket, destination))
                if is_bad and swapped and outcome.status is not Status.MISSING:
                    bad.add((destination, route.source.bucket, source))
    pairs = {id(each): (each.key, each.proof.bucket, each.proof.key) for each in copies}
    return {each: DISPROVED for each, pair in pairs.items() if pair in bad}


SCALE: Replacements = [
    (LaterDisproofs, "_object", _objections),
    (jobs.compact.packing, "PART_BYTES", PART_OF_ARCHIVE_BYTES),
    (jobs.compact.packing, "ROOM_BYTES", 65_536),
    (jobs.compact.packing, "SERVER_SIDE_BYTES", COPIED_BYTES),
    (jobs.archives.writer, "FRAME_BYTES", SPAN_BYTES),
    (jobs.archives.writer, "CHUNK_BYTES", SMALL_BYTES),
    (jobs.archives.writer, "MIN_PART_BYTES", PART_BYTES),
    (jobs.core.part_sizes, "COPY_PART_BYTES", SMALL_BYTES),
    (jobs.s3.uploads, "MIN_PART_BYTES", PART_BYTES),
    (jobs.archives.reader, "CHUNK_BYTES", SMALL_BYTES),
    (jobs.archives.reader, "FURTHEST_BYTES", 4 * SPAN_BYTES),
    (jobs.archives.files, "CHUNK_BYTES", SMALL_BYTES),
    (jobs.archives.files, "list_all", partial(list_all, concurrency=1)),
    (jobs.compact.member_reader, "CHUNK_BYTES", SMALL_BYTES),
    (jobs.compact.member_reader, "SMALL_BYTES", SMALL_BYTES),
    (jobs.compact.member_reader, "LEAST_HELD_BYTES", LEAST_HELD_BYTES),
    (jobs.restore.member_writer, "PART_BYTES", 16),
    (jobs.restore.job, "ArchiveReader", partial(ArchiveReader, gap_bytes=600, span_bytes=SPAN_BYTES)),
    (jobs.restore.job, "CHAIN_ROWS", GROUP_ROWS),
    (jobs.expire.copy_checks, "ArchiveReader", partial(ArchiveReader, gap_bytes=600, span_bytes=SPAN_BYTES)),
    (jobs.verify.archives_job, "ArchiveReader", partial(ArchiveReader, span_bytes=SPAN_BYTES)),
    (jobs.expire.job, "GROUP_ROWS", GROUP_ROWS),
]
FAST: Replacements = [
    (jobs.archives.writer, "TableWriter", MemberTable),
    (jobs.archives.index, "write_index", write_index),
    (jobs.archives.index, "open_table", open_table),
    (jobs.archives.index, "completed", completed),
    (jobs.archives.index, "from_batch", _from_batch),
    (jobs.archives.index, "pa", _ARROW),
    (jobs.archives.index, "pc", _COMPUTE),
    (jobs.archives.index_tables, "from_batch", _from_batch),
    (jobs.ledger.tombstones.Tombstones, "_write", _write_stones),
    (jobs.ledger.tombstones.Tombstones, "read", _read_stones),
    (pq, "read_table", _read_table),
]


def chances(clock: Callable[[], float]) -> Replacements:
    """What the product takes from secrets, clocks and disks, as the simulated world has it (the loop's `clock`)."""
    numbers = iter(range(1, 1_000_000))

    def token(size_bytes: int) -> str:
        return f"{next(numbers):0{2 * size_bytes}x}"

    def wall() -> float:
        process: Any = LABEL.get()
        now: float = process.clock()
        return now

    time = SimpleNamespace(time=wall, time_ns=lambda: int(wall() * 1e9), monotonic=clock)
    secrets = SimpleNamespace(token_hex=token)
    return [
        (jobs.ledger.tombstones, "secrets", secrets),
        (jobs.runs.leases, "secrets", secrets),
        (jobs.s3.conditional_writes, "secrets", secrets),
        (jobs.runs.leases, "time", time),
        (jobs.ledger.tombstones, "time", time),
        (jobs.expire.deletes, "secrets", secrets),
        (jobs.expire.marks, "secrets", secrets),
        (jobs.expire.kind, "time", time),
        (jobs.expire.job, "elapsed_seconds", clock),
        (jobs.expire.removals, "elapsed_seconds", clock),
        (jobs.expire.later_disproofs, "elapsed_seconds", clock),
        (jobs.compact.job, "MemberSource", partial(MemberSource, clock=clock)),
        (jobs.restore.job, "PacedGate", partial(PacedGate, clock=clock)),
        (jobs.archives.index, "tempfile", SimpleNamespace(TemporaryFile=io.BytesIO)),
        (jobs.archives.writer, "tempfile", SimpleNamespace(SpooledTemporaryFile=lambda size_bytes: io.BytesIO())),
    ]
