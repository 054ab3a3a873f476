"""Archives without an index: which are found, and what is known of them."""

from __future__ import annotations

import asyncio

import pytest

from jobs.archives import unindexed as unindexed_archives
from jobs.archives.index import ArchiveIndex, DamagedIndex
from jobs.archives.unindexed import etags_of_archives, find_unindexed
from jobs.core.model import Attributes, Location
from jobs.core.run import Side
from jobs.s3.store import UNGUARDED
from tests.archives.samples import TAR, Packed, member, packed
from tests.doubles.memory_store import MemoryStore


def unindexed(made: Packed, monkeypatch: pytest.MonkeyPatch, source_bucket: str | None = None) -> list[DamagedIndex]:
    """What is found at the archives' place, of which nothing is indexed but what the store has."""
    monkeypatch.setattr(unindexed_archives, "open_side", lambda *_, **__: made.store)

    async def scene() -> list[DamagedIndex]:
        side = Side(Location("cold", "packed"))
        etags = await etags_of_archives(side)
        index = ArchiveIndex(made.store, Location("docs", "ledger"))
        return await find_unindexed(side, index, [*(etags or {})], source_bucket)

    return asyncio.run(scene())


def test_an_archive_without_an_index_is_found_with_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    made = packed([(member("a"), b""), (member("b"), b"")], TAR)
    for source_bucket in (None, "docs"):
        (found,) = unindexed(made, monkeypatch, source_bucket)
        assert (found.archive, found.record) == (made.record.location, made.record)
    assert unindexed(made, monkeypatch, "another") == []


@pytest.mark.parametrize("metadata", [{}, {"sealift-source": "docs"}])
def test_a_tar_that_nobody_can_read_is_an_archive_if_its_metadata_say_so(
    metadata: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold one and a cut one are alike: nobody knows their keys. One of another program is no archive."""
    made = packed([(member("a"), b"")], TAR)
    for place, storage_class in (("packed/cut.tar", "STANDARD"), ("packed/cold.tar", "GLACIER")):
        data = made.data[:-100] if storage_class == "STANDARD" else made.data
        attributes = Attributes(metadata=metadata, storage_class=storage_class)
        asyncio.run(made.store.put("cold", place, data, attributes, guard=UNGUARDED))
    found = {each.archive.key: each.record for each in unindexed(made, monkeypatch)}
    unknown = dict.fromkeys(("packed/cut.tar", "packed/cold.tar") if metadata else ())
    assert found == {made.record.location.key: made.record} | unknown
    assert unindexed(made, monkeypatch, "another") == []


def test_an_archive_that_was_indexed_meanwhile_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = packed([(member("a"), b"")], TAR)
    index = "ledger/archives/cold/packed/one.tar.parquet"
    asyncio.run(made.store.put("docs", index, b"index", Attributes(), guard=UNGUARDED))
    assert unindexed(made, monkeypatch) == []


def test_nobody_knows_the_etags_of_archives_that_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unindexed_archives, "open_side", lambda *_, **__: MemoryStore())
    assert asyncio.run(etags_of_archives(Side(Location("cold", "packed")))) is None
