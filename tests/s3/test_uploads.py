"""A file goes up whole or not at all, in parts when it is large."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import PreconditionFailed
from jobs.s3.store import ABSENT
from jobs.s3.uploads import upload_file
from tests.doubles.memory_store import MemoryStore

PART = 5 << 20
PLACE = Location("b", "k")


@pytest.mark.parametrize("size_bytes", [0, 1, PART, PART + 1, 3 * PART])
def test_what_comes_up_is_the_file(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size_bytes))
    store = MemoryStore()
    store.create_bucket("b")
    attributes = Attributes(headers={"content-type": "text/plain"})
    asyncio.run(upload_file(store, path, PLACE, attributes, guard=ABSENT, part_bytes=PART))
    body = asyncio.run(store.get(ObjectRef("b", "k")))
    assert body.data == path.read_bytes()
    assert body.info.attributes.headers["content-type"] == "text/plain"
    assert ("-" in body.info.etag) == (size_bytes > PART)


@pytest.mark.parametrize("size_bytes", [1, 3 * PART])
def test_what_is_there_stays_and_no_part_is_left(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size_bytes))
    store = MemoryStore()
    store.create_bucket("b")
    asyncio.run(store.put("b", "k", b"first", Attributes(), guard=ABSENT))
    with pytest.raises(PreconditionFailed):
        asyncio.run(upload_file(store, path, PLACE, Attributes(), guard=ABSENT, part_bytes=PART))
    assert asyncio.run(store.get(ObjectRef("b", "k"))).data == b"first"
    assert store.uploads("b") == []
