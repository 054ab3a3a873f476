"""Which of the archives that hold a version comes first."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import replace

import pytest

from jobs.archives.files import read_own_index
from jobs.archives.index import ArchiveIndex
from jobs.archives.model import ArchiveRecord
from jobs.core.model import Location
from jobs.restore.archived_rows import archived_rows
from tests.archives.samples import TAR, member, packed

PLACES = {name: Location("cold", f"{name}.tar") for name in "abcd"}


@pytest.mark.parametrize(
    ("etags", "order"),
    [
        ({"a": "e", "b": "e", "c": "e", "d": "e"}, "acdb"),  # b is cold
        ({"b": "e", "c": "other", "d": "e"}, "dbca"),
        ({"c": "other"}, "cadb"),
        ({}, "acdb"),
        (None, "acdb"),
    ],
)
def test_an_archive_that_is_as_it_was_written_comes_first(etags: Mapping[str, str] | None, order: str) -> None:
    made = packed([(member("k"), b"")], TAR)
    index = ArchiveIndex(made.store, Location("docs", "ledger"))
    listed = None if etags is None else {PLACES[name]: etag for name, etag in etags.items()}

    async def scene() -> str:
        _, own_index = await read_own_index(made.store, made.record.location)
        records: list[ArchiveRecord] = []
        for name, place in PLACES.items():
            storage_class = "GLACIER" if name == "b" else "GLACIER_IR"
            record = replace(made.record, location=place, etag="e", storage_class=storage_class)
            records.append(await index.publish(record, io.BytesIO(own_index)))
        rows = [batch async for batch in archived_rows(index, records, "", etags=listed)]
        return "".join(batch["archive"][0].as_py()[len("s3://cold/")] for batch in rows)

    assert asyncio.run(scene()) == order
