"""Archives without an index: which are found."""

from __future__ import annotations

import asyncio

from jobs.archives.index import ArchiveIndex
from jobs.archives.unindexed import etags_of_archives, find_unindexed
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.s3.store import UNGUARDED
from tests.archives.samples import TAR, member, packed
from tests.doubles.memory_store import MemoryStore


def test_an_archive_is_told_by_its_metadata_and_missed_until_it_has_an_index() -> None:
    """A cold one and a cut one cannot be read. A tar of another program is no archive."""
    made = packed([(member("a"), b"")], TAR)
    index = ArchiveIndex(made.store, Location("docs", "ledger"))

    async def scene() -> tuple[list[str], list[str]]:
        for name, metadata in (("cut", {"sealift-source": "docs"}), ("other", {})):
            attributes = Attributes(metadata=metadata)
            await made.store.put(ObjectRef("cold", f"packed/{name}.tar"), made.data[:9], attributes, guard=UNGUARDED)
        names = [*(await etags_of_archives(made.store, Location("cold", "packed")) or {})]
        before = await find_unindexed(made.store, index, names)
        await index.adopt(made.store, made.record.location)
        after = await find_unindexed(made.store, index, names)
        return [each.archive.key for each in before], [each.archive.key for each in after]

    assert asyncio.run(scene()) == (["packed/cut.tar", "packed/one.tar"], ["packed/cut.tar"])


def test_nobody_knows_the_etags_of_archives_that_cannot_be_listed() -> None:
    assert asyncio.run(etags_of_archives(MemoryStore(), Location("cold"))) is None
