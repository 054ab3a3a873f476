"""What an archive says of itself survives being written down; what is not an archive's end is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.archives.model import ARCHIVE_VERSION, LOCATOR_BYTES, ArchiveRecord, Locator
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location
from jobs.errors import DamagedArchive

sizes = st.integers(0, 2**60)
locators = st.builds(Locator, sizes, sizes, *[st.none() | sizes] * 3)
PLACE = Location("cold", "a b/é.tar.zst")
RECORD = ArchiveRecord(PLACE, ArchiveFormat.TAR_ZST, 10, "e-1", "v", "GLACIER", 3, 9, "a", "z", "docs", 1.5, "S:x")


@given(locators, st.sampled_from(ArchiveFormat), st.binary(max_size=600))
def test_the_last_bytes_say_where_the_index_is(locator: Locator, kind: ArchiveFormat, before: bytes) -> None:
    encoded = locator.encode(kind)
    assert len(encoded) == LOCATOR_BYTES * (2 if kind is ArchiveFormat.TAR else 1)
    assert Locator.decode(before + encoded) == locator


@given(st.binary(max_size=1200))
def test_other_bytes_are_no_locator(tail: bytes) -> None:
    with pytest.raises(DamagedArchive):
        Locator.decode(tail)


def test_a_later_version_is_refused_not_guessed_at() -> None:
    later = ARCHIVE_VERSION + 1
    with pytest.raises(DamagedArchive, match="update Sealift"):
        Locator.decode(Locator(0, 0, archive_version=later).encode(ArchiveFormat.TAR))
    with pytest.raises(DamagedArchive, match="update Sealift"):
        ArchiveRecord.from_dict(replace(RECORD, archive_version=later).to_dict())


def test_a_record_survives_the_index() -> None:
    for record in (RECORD, replace(RECORD, parts=((8, "aGFzaA=="), (2, "aGFzaDI=")))):
        assert ArchiveRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
