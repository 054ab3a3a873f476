"""Archives verified against a store that does what servers cannot: cold classes, refusals, forged indexes, any bit."""

from __future__ import annotations

import asyncio
import hashlib
import io
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archives.index import ArchiveIndex
from jobs.archives.index_tables import from_batch
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.writer import ArchiveWriter
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import ArchivedObject, Denied, StoreError
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from jobs.s3.uploads import ObjectUpload
from jobs.verify.archives_kind import VerifyArchives
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore, Request

ARCHIVE = Location("cold", "a.tar.zst")
CONTENTS = {f"k{n}": hashlib.sha256(b"%d" % n).digest() * (n * 90) for n in range(12)}


def shelf(kind: ArchiveFormat, *, storage_class: str = "STANDARD", forged: bool = False) -> MemoryStore:
    """One archive with `CONTENTS`, indexed. `forged`: the index beside the ledger has another SHA-256 for k3."""
    store = MemoryStore(clock=lambda: 1_750_000_000.0)
    for bucket in ("cold", "ledger"):
        store.create_bucket(bucket, versioned=False)

    async def build() -> None:
        upload = ObjectUpload(store, ObjectRef(*ARCHIVE), Attributes(storage_class=storage_class), 8 << 20)
        writer = ArchiveWriter(upload, kind)
        for key, data in CONTENTS.items():
            sha256 = hashlib.sha256(data).hexdigest()
            member = Member(key, "v1", True, len(data), "e", 0.0, "STANDARD", {}, {}, {}, (), sha256)
            await writer.add(member, data)
        written = await writer.finish()
        record = ArchiveRecord(
            ARCHIVE, kind, upload.size_bytes, written.etag, None, storage_class, 12, 1, "k0", "k9", "docs", 0.0
        )
        writer.index_file.seek(0)
        own = writer.index_file.read()
        if forged:
            from jobs.archives.index_tables import TableWriter

            members = [
                each._replace(sha256="0" * 64) if each.key == "k3" else each
                for each in from_batch(pq.read_table(io.BytesIO(own)))
            ]
            table = TableWriter(forgery := io.BytesIO())
            table.add(members)
            table.close()
            own = forgery.getvalue()
        await ArchiveIndex(store, Location("ledger")).publish(record, io.BytesIO(own))
        await writer.close()

    asyncio.run(build())
    return store


def verify(store: MemoryStore) -> Outcome:
    job = VerifyArchives(store, ArchiveIndex(store, Location("ledger")), ByteBudget(16 << 20), "cold")
    [outcome] = asyncio.run(job.process([ObjectVersion(0, ARCHIVE.key)]))
    return outcome


def content(store: MemoryStore) -> bytes:
    return asyncio.run(store.get(ObjectRef(*ARCHIVE))).data


def overwrite(store: MemoryStore, data: bytes) -> None:
    asyncio.run(store.put(ObjectRef(*ARCHIVE), data, Attributes(), guard=UNGUARDED))


def damaged(outcome: Outcome) -> set[str]:
    """The members that the outcome names."""
    return set(outcome.detail.partition("members are damaged: ")[2].split(", ")) - {""}


@pytest.mark.parametrize("kind", list(ArchiveFormat))
def test_what_is_intact_is_verified(kind: ArchiveFormat) -> None:
    outcome = verify(shelf(kind))
    assert (outcome.status, outcome.size_bytes) == (Status.VERIFIED, sum(map(len, CONTENTS.values())))


@pytest.mark.parametrize("kind", list(ArchiveFormat))
@settings(max_examples=examples(25), deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_no_damage_passes_and_nothing_intact_is_blamed_in_a_tar(
    kind: ArchiveFormat, place: float, bit: int, cut: bool
) -> None:
    store = shelf(kind)
    data = bytearray(content(store))
    at = int(place * len(data))
    data[at] ^= 1 << bit
    altered = bytes(data[:at] if cut else data)
    overwrite(store, altered)
    outcome = verify(store)
    assert outcome.status is Status.DIFFERENT
    if kind is ArchiveFormat.TAR:  # it holds each content as it is, so that one can look
        assert damaged(outcome) == {key for key, original in CONTENTS.items() if original not in altered}


def test_an_index_that_says_other_than_the_one_inside_is_found_out() -> None:
    outcome = verify(shelf(ArchiveFormat.TAR, forged=True))
    assert (outcome.status, damaged(outcome)) == (Status.DIFFERENT, {"k3"})
    assert "of 1 members" in outcome.detail


def test_a_cold_archive_is_archived_until_it_is_thawed() -> None:
    store = shelf(ArchiveFormat.TAR, storage_class="DEEP_ARCHIVE")
    assert verify(store).status is Status.BLOCKED
    store.restore(ObjectRef(*ARCHIVE))
    assert verify(store).status is Status.VERIFIED


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [(Denied, "AccessDenied", Reason.DENIED), (ArchivedObject, "InvalidObjectState", Reason.ARCHIVED)],
)
def test_an_archive_that_cannot_be_read_says_why(error: type[StoreError], code: str, reason: Reason) -> None:
    """Also when a thaw ends between the look at it and its bytes."""

    async def closed(request: Request) -> Any:
        if request.place.bucket == "cold":
            raise error("GetObject", str(request.place), code, "no", 403)
        return await request()

    store = shelf(ArchiveFormat.TAR)
    store.hook(get=closed)
    outcome = verify(store)
    assert (outcome.status, outcome.reason) == (Status.BLOCKED, reason)


def test_an_archive_that_is_gone_is_missing() -> None:
    store = shelf(ArchiveFormat.TAR)
    asyncio.run(store.delete(ObjectRef(*ARCHIVE)))
    assert verify(store).status is Status.MISSING


def test_without_an_index_nothing_is_proven() -> None:
    store = shelf(ArchiveFormat.TAR)
    asyncio.run(store.delete(ObjectRef("ledger", "archives/cold/a.tar.zst.parquet")))
    outcome = verify(store)
    assert (outcome.status, outcome.reason) == (Status.UNKNOWN, Reason.NOT_INDEXED)
