"""`sealift archives`: which archives of the index are lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.archives.index import ArchiveIndex
from jobs.archives.model import DamagedIndex
from jobs.cli import archives
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import Denied
from jobs.s3.store import UNGUARDED
from tests.archives.samples import TAR, member, packed
from tests.compact.samples import failing


def test_an_archive_below_a_newer_object_is_lost_when_its_own_version_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = packed([(member("a"), b"")], TAR)
    store, place = made.store, made.record.location
    index = ArchiveIndex(store, Location("docs", "ledger"))
    sides = ("source_endpoint", "source_profile", "source_owner")
    nothing: dict[str, Any] = dict.fromkeys(("archive", "source", "prefix", *sides))
    command = archives.ListArchives(**nothing, limit=1)
    monkeypatch.setattr("jobs.s3.sessions.open_side", lambda *_, **__: store)

    async def problems() -> list[str]:
        return [each.code for each in (await command.records(index))[1]]

    async def scene() -> None:
        record = await index.adopt(store, place)
        assert "  members  member bytes  size  " in (await command.ask(index)).text
        await store.put(ObjectRef("cold", place.key), b"newer", Attributes(), guard=UNGUARDED)
        assert await problems() == []
        await store.delete(ObjectRef("cold", place.key))  # a delete marker
        assert await problems() == []
        store.hook(head=failing(place.key, Denied, times=1))
        await store.delete(ObjectRef("cold", place.key, record.version_id))
        assert await problems() == []  # nobody may look
        assert await problems() == ["lost"]

    asyncio.run(scene())


def test_a_name_in_the_index_that_is_no_bucket_hides_no_other_problem() -> None:
    problems = [DamagedIndex(Location(bucket, "a.tar"), "cut off") for bucket in ("Old_Logs", "cold")]
    answer = archives._answer({}, "", problems)
    assert [each["archive"] for each in answer.document["problems"]] == ["s3://Old_Logs/a.tar", "s3://cold/a.tar"]
    assert "archives reindex --source s3://cold" in answer.text
