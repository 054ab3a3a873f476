"""Reindex of an archive that lost members: readers must go on to see that it did."""

from __future__ import annotations

import asyncio

from jobs.archives.index import ArchiveIndex, Damage
from jobs.cli.archives import _renew
from jobs.core.model import Location
from jobs.restore.left_out import LeftOut
from tests.archives.samples import TAR, altered, member, packed


def test_index_of_a_cut_archive_says_that_it_lacks_members() -> None:
    """Else a restore takes older versions from other archives, and ends well."""
    contents = [(member(key, data := key.encode() * 2_000), data) for key in ("a", "b", "c")]
    made = packed(contents, TAR)
    location = altered(made, made.data[:6_000]).location

    async def run() -> None:
        made.store.create_bucket("ledger")
        index = ArchiveIndex(made.store, Location("ledger", "l"))
        for _ in range(2):  # the second one must not call it indexed
            renewed = await _renew(index, made.store, location)
            assert renewed.is_new
            assert "what comes behind is lost" in renewed.problem
            damage: Damage = []
            [record] = await index.records(None, damage)
            assert (record.members, record.last_key) == (1, "a")
            [lacking] = damage
            assert (lacking.archive, lacking.reason) == (location, renewed.problem.removeprefix(f"{location}: "))
            assert lacking.record
            bounds = lacking.record.first_key, lacking.record.last_key
            assert LeftOut(location, "", bounds).may_hold("c")

    asyncio.run(run())
