"""Compactions in memory: objects, a job over them, and what its archives hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from jobs.archives.index import ArchiveIndex
from jobs.archives.model import ArchiveRecord
from jobs.compact.grouping import Group, number_groups
from jobs.compact.job import Compact
from jobs.compact.packing import PackingRule
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome
from jobs.core.run import RunSpec, Side
from jobs.errors import Conflict, PreconditionFailed, StoreError, Unavailable
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Opened
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import manifest_batch
from tests.archives.samples import read_member
from tests.doubles.memory_store import Hook, MemoryStore, Request

RULE = PackingRule(10_000, ArchiveFormat.TAR, members_max=4)
OBJECTS = {f"k/{n}": bytes([n]) * (100 * n) for n in range(10)}


class Job(Protocol):
    """What a worker knows of a job."""

    def chains(self, rows: Any) -> Any: ...

    async def process(self, rows: Any) -> list[Outcome]: ...


def opened(store: MemoryStore, job: str, to: Location, options: dict[str, Any], budget_bytes: int = 1 << 20) -> Opened:
    """What a worker opens for a run from `docs`, all of it in one store."""
    spec = RunSpec("run", job, 0.0, Side(Location("docs")), Side(to), "manifest", options)
    return Opened(spec, store, store, ByteBudget(budget_bytes), Ledger(store, Location("ledger")), 512)


def index_of(store: MemoryStore) -> ArchiveIndex:
    return ArchiveIndex(store, Location("ledger"))


def make(
    store: MemoryStore,
    kind: ArchiveFormat = ArchiveFormat.TAR,
    budget_bytes: int = 1 << 20,
    rule: PackingRule = RULE,
    **options: Any,
) -> Compact:
    options["rule"] = msgspec.to_builtins(replace(rule, format=kind))
    return Compact(opened(store, "compact", Location("cold", "packed"), options, budget_bytes), index_of(store))


def filled(objects: dict[str, bytes], **attributes: Any) -> tuple[MemoryStore, list[ObjectVersion]]:
    """A store with these objects in `docs`, and their rows."""
    store = MemoryStore(clock=lambda: 1_750_000_000.0, buckets=("docs", "cold", "ledger"))

    async def fill() -> list[ObjectVersion]:
        rows = []
        for number, (key, data) in enumerate(objects.items()):
            made = await store.put(ObjectRef("docs", key), data, Attributes(**attributes), guard=UNGUARDED)
            row = ObjectVersion(number, key, made.version_id, size_bytes=len(data), etag=made.etag, last_modified=0.0)
            rows.append(row)
        return rows

    return store, asyncio.run(fill())


def grouped(rows: Sequence[ObjectVersion], rule: PackingRule) -> tuple[list[ObjectVersion], list[Group]]:
    """The rows as a plan yields them, with the numbers of their groups, and the groups."""
    in_order = sorted(rows, key=lambda row: (time.gmtime(row.last_modified)[:2], row.key.encode()))
    batch, groups = manifest_batch(in_order), list[Group]()
    place = batch.schema.get_field_index("last_modified")
    batch = batch.set_column(place, "last_modified", batch["last_modified"].cast(pa.int64()))
    halves = [batch.slice(0, len(rows) // 2), batch.slice(len(rows) // 2)]
    numbers = [each for some in number_groups(halves, rule, groups) for each in some["archive"].to_pylist()]
    return [row._replace(archive=number) for row, number in zip(in_order, numbers, strict=True)], groups


def work(job: Job, rows: Sequence[ObjectVersion]) -> dict[str, Outcome]:
    """The job over all groups, as a worker does it: what may pass is tried again."""
    if isinstance(job, Compact):
        rows, _ = grouped(rows, job._options.rule)

    async def run() -> dict[str, Outcome]:
        outcomes: list[Outcome] = []
        for group in job.chains(rows):
            for attempt in range(5):
                try:
                    outcomes += await job.process(group)
                    break
                except (Unavailable, Conflict, PreconditionFailed):
                    assert attempt < 4
        assert [outcome.row for outcome in outcomes] == [row.row for row in rows]
        return {outcome.key: outcome for outcome in outcomes}

    return asyncio.run(run())


def unpacked(store: MemoryStore) -> dict[str, bytes]:
    """Every member of every indexed archive; no key twice."""

    async def run() -> dict[str, bytes]:
        index, found = index_of(store), dict[str, bytes]()
        for record in await index.records():
            async for members in index.members(record.location):
                for member in members:
                    assert member.key not in found
                    found[member.key] = await read_member(store, record, member)
        return found

    return asyncio.run(run())


def lose_index(store: MemoryStore, record: ArchiveRecord) -> None:
    """The ledger has no index of the archive any more."""
    asyncio.run(store.delete(ObjectRef("ledger", f"archives/cold/{record.location.key}.parquet")))


def failing(key: str, error: type[StoreError], *, times: int = 1 << 30, code: str = "", after: bool = False) -> Hook:
    """A hook that refuses requests for the key, or loses their answers."""
    left = [times]

    async def fail(request: Request) -> Any:
        source: Any = request.arguments.get("source")
        if key not in (request.place.key, source and source.key) or not left[0]:
            return await request()
        left[0] -= 1
        if after:
            await request()
        status = 503 if issubclass(error, Unavailable) else 403
        operation = {"get": "GetObject", "copy_part": "UploadPartCopy"}.get(request.operation, request.operation)
        raise error(operation, str(request.place), code or error.__name__, "injected", status)

    return fail


def noting(store: MemoryStore, bucket: str = "docs") -> list[str]:
    """The keys that are read in the bucket from now on."""
    read: list[str] = []

    async def note(request: Request) -> Any:
        if request.place.bucket == bucket:
            read.append(request.place.key)
        return await request()

    store.hook(get=note)
    return read
