"""A store that does what servers cannot (holds, races, crashes), copies in it, and the expire job."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from jobs.archives.index_tables import from_batch
from jobs.archives.model import Member
from jobs.archives.writer import ArchiveWriter
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Listed, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome
from jobs.core.run import RunSpec, Side
from jobs.core.selection import is_sealift_object
from jobs.expire.job import Expire
from jobs.expire.places import PlaceDocument, look_again, read_places
from jobs.expire.rules import CopyAt, Terms
from jobs.expire.undo import UndoResult, unhide
from jobs.ledger.ledger import Ledger
from jobs.ledger.tombstones import Tombstones
from jobs.runs.kind import Opened
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from jobs.s3.store import UNGUARDED, Upload
from jobs.s3.uploads import ObjectUpload
from tests.doubles.hooks import Killed
from tests.doubles.memory_store import MemoryStore, Request

LEDGER = Location("ledger", "runs")
PLACES = ("docs", "copies", "cold")
DAY = 86_400.0
NOW = 1_750_000_000.0


class Shop(MemoryStore):
    """Originals in `docs`, copies in `copies`, archives in `cold`; time passes when it is told to."""

    def __init__(self, **options: Any) -> None:
        self.now = NOW
        numbers = itertools.count(1)
        super().__init__(clock=lambda: self.now, new_id=lambda: f"v{next(numbers)}", **options)
        for bucket in ("copies", "cold", "ledger"):
            self.create_bucket(bucket, versioned=bucket != "ledger")

    def around_deletes(
        self, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
    ) -> None:
        """What happens before and after each delete."""

        async def around(request: Request) -> Any:
            before()
            deleted = await request()
            after()
            return deleted

        self.hook(delete=around)

    def hide(self, *rows: ObjectVersion) -> None:
        """Somebody deletes these objects."""
        for row in rows:
            asyncio.run(MemoryStore.delete(self, ObjectRef("docs", row.key)))

    def begin_upload(self) -> Upload:
        """An upload in parts to `docs/k` begins. It ends later."""
        upload = asyncio.run(self.create_multipart(ObjectRef("docs", "k"), Attributes()))
        self.now += DAY
        return upload

    def end_upload(self, upload: Upload) -> None:
        part = asyncio.run(self.put_part(upload, 1, b"slow"))
        asyncio.run(self.complete_multipart(upload, [part], guard=UNGUARDED))

    def is_announced(self) -> bool:
        """Whether a run has announced what it is about to delete."""
        return any(name.endswith("-intent.parquet") for name in self._buckets.named["ledger"].versions)

    def put_now(self, bucket: str, key: str, data: bytes, algorithm: str | None = None, **attributes: Any) -> ObjectRef:
        checksum = full_object(algorithm, data) if algorithm else None
        put = MemoryStore.put(
            self, ObjectRef(bucket, key), data, Attributes(**attributes), guard=UNGUARDED, checksum=checksum
        )
        return ObjectRef(bucket, key, asyncio.run(put).version_id)

    def original(self, key: str = "k", data: bytes = b"content", number: int = 0, **attributes: Any) -> ObjectVersion:
        """The row of a new original that a replica proves."""
        ref = self.put_now("docs", key, data, **attributes)
        return row_of(self, number, ref, replica(self, ref))

    def originals(self, count: int) -> list[ObjectVersion]:
        """The rows of so many of them: `k0`, `k1`, ..."""
        return [self.original(f"k{number}", number=number) for number in range(count)]

    def contents(self, bucket: str = "docs") -> dict[tuple[str, str | None], bytes]:
        """Every version that is there: (key, version id) → content; delete markers are left out."""

        async def read() -> dict[tuple[str, str | None], bytes]:
            found = {}
            for each in (await MemoryStore.list_versions(self, bucket, "")).entries:
                if not each.is_delete_marker and not is_sealift_object(each.key):
                    ref = ObjectRef(bucket, each.key, each.version_id)
                    found[each.key, each.version_id] = (await MemoryStore.get(self, ref)).data
            return found

        return asyncio.run(read())

    def current(self, bucket: str = "docs") -> dict[str, bytes]:
        """Every object that readers get: key → content."""
        return {each.key: self.contents(bucket)[each.key, each.version_id or "null"] for each in self._latest(bucket)}

    def markers(self) -> list[str | None]:
        """The ids of the delete markers of the originals."""
        entries = asyncio.run(MemoryStore.list_versions(self, "docs", "")).entries
        return [each.version_id for each in entries if each.is_delete_marker]

    def _latest(self, bucket: str) -> list[Listed]:
        entries = asyncio.run(MemoryStore.list_versions(self, bucket, "")).entries
        return [
            each for each in entries if each.is_latest and not each.is_delete_marker and not is_sealift_object(each.key)
        ]


def shop(*, versioned: bool = True, **options: Any) -> Shop:
    made = Shop(**options)
    made.create_bucket("docs", versioned=versioned, object_lock=versioned)
    for rank, bucket in enumerate(PLACES):
        document = PlaceDocument(id=f"{rank:032x}", rank=rank)
        made.put_now(bucket, document.key(""), msgspec.json.encode(document))
    return made


def row_of(store: Shop, number: int, ref: ObjectRef, copy: CopyAt | None) -> ObjectVersion:
    info = asyncio.run(store.head(ref))
    return ObjectVersion(
        number,
        ref.key,
        ref.version_id,
        size_bytes=info.size_bytes,
        etag=info.etag,
        beside=copy,
    )


def replica(store: Shop, ref: ObjectRef, data: bytes | None = None) -> CopyAt:
    """A copy of the object, or of other bytes, as a listing has it."""
    body, tags = asyncio.run(MemoryStore.get(store, ref)), asyncio.run(MemoryStore.get_tags(store, ref))
    has = body.info.attributes
    store.put_now(
        "copies", ref.key, body.data if data is None else data, headers=has.headers, metadata=has.metadata, tags=tags
    )
    return CopyAt("copies", ref.key)


def copy_of(store: Shop, ref: ObjectRef, is_packed: bool) -> CopyAt:
    return packed(store, [ref])[0] if is_packed else replica(store, ref)


def packed(
    store: MemoryStore, refs: Sequence[ObjectRef], kind: ArchiveFormat = ArchiveFormat.TAR_ZST, **changes: Any
) -> list[CopyAt]:
    """The objects in one archive, as its index has them. `changes`: what else it says of each."""

    async def pack() -> list[CopyAt]:
        writer = ArchiveWriter(ObjectUpload(store, ObjectRef("cold", "a.tar"), Attributes(), 8 << 20), kind)
        for ref in refs:
            data, info, _ = await store.get(ref)
            has, tags = info.attributes, await store.get_tags(ref)
            member = Member(
                *(ref.key, ref.version_id, True, len(data), info.etag, info.last_modified, "STANDARD"),
                *(has.headers, has.metadata, tags, (), hashlib.sha256(data).hexdigest()),
            )
            await writer.add(member._replace(**changes), data)
        await writer.finish()
        writer.index_file.seek(0)
        members = list(from_batch(pq.read_table(io.BytesIO(writer.index_file.read()))))
        await writer.close()
        return [CopyAt("cold", "a.tar", member) for member in members]

    return asyncio.run(pack())


def look_at_places(store: Shop) -> Callable[[], Awaitable[float]]:
    """The look of a worker whose run was planned with the documents as they are."""

    source, *copies = map(Location, PLACES)
    origin, others = asyncio.run(read_places(store, store, Side(source), Side(copies[0]), copies, None))
    return partial(look_again, store, store, [origin, *others], False)


def opened(store: MemoryStore, bucket: str = "docs", budget_bytes: int = 16 << 20, **options: Any) -> Opened:
    """A run over a bucket, for its worker."""
    told = {"delete": True, "apart": False, "by_checksum": False, "annotations": "check"} | options
    spec = RunSpec("run-1", "expire", NOW, Side(Location(bucket)), Side(Location("copies")), "", told)
    return Opened(spec, store, store, ByteBudget(budget_bytes), Ledger(store, LEDGER), 1)


def job(store: Shop, *, grace_days: float = 0.0, **options: Any) -> Expire:
    places = [Location("copies"), Location("cold")]
    return Expire(
        *(opened(store, **options), look_at_places(store), Tombstones(store, LEDGER, "docs", "run-1")),
        Terms(math.inf, grace_days * DAY, asyncio.run(store.is_versioned("docs")), places),
        clock=lambda: store.now,
        patience_seconds=5.0,
    )


def comparing(
    store: MemoryStore, budget_bytes: int = 32 << 20, patience_seconds: float = 60.0, **options: Any
) -> Expire:
    """The job, for its comparison alone: it knows no place."""
    nothing: Any = None
    tombstones, terms = Tombstones(store, LEDGER, "docs", "run-1"), Terms(NOW, 0.0, True, [])
    run = opened(store, budget_bytes=budget_bytes, **options)
    return Expire(run, nothing, tombstones, terms, patience_seconds=patience_seconds)


def work(expire: Expire, rows: Sequence[ObjectVersion]) -> list[Outcome]:
    async def run() -> list[Outcome]:
        return [outcome for group in expire.chains(rows) for outcome in await expire.process(group)]

    return asyncio.run(run())


def one(store: Shop, row: ObjectVersion, **options: Any) -> Outcome:
    (outcome,) = work(job(store, **options), [row])
    return outcome


def work_killed(store: Shop, rows: Sequence[ObjectVersion], when: str = "after") -> None:
    """An attempt that is killed before or after it has sent its first delete."""

    def kill() -> None:
        if store.is_announced():
            raise Killed

    store.around_deletes(**{when: kill})
    with pytest.raises(Killed):
        work(job(store), rows)
    store.around_deletes()


def undo(store: Shop) -> UndoResult:
    return asyncio.run(unhide(store, job(store).tombstones))


def job_of_another_run(store: Shop, grace_days: float) -> Expire:
    made = job(store, grace_days=grace_days)
    return replace(made, tombstones=Tombstones(store, Location("ledger", "runs"), "docs", "run-2"))


def store_over(store: Shop, data: bytes) -> None:
    """A write that nobody waits for: another client's."""
    home = store._buckets
    home.write(ObjectRef("docs", "k"), data, hashlib.md5(data).hexdigest(), Attributes(), ())
