"""The sample of a drill: which version of a key is its current one, what is left out, and what may not be left out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from jobs.archives.index import ArchiveIndex
from jobs.archives.index_tables import TableWriter
from jobs.archives.model import ArchiveRecord, Member
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Side
from jobs.drill.model import Asked, Leg, Sample
from jobs.drill.sample import draw
from jobs.errors import DamagedArchive, ManifestError
from jobs.ledger.ledger import Ledger
from jobs.s3.store import UNGUARDED
from tests.archives.samples import member
from tests.doubles.memory_store import MemoryStore

HOT = Leg("hot", Side(Location("hot", "c/")), "c/", ("c/",), ())
COLD = Leg("archives", Side(Location("cold")), "", ("",), (), packed_from="src")
ASKED = Asked(1e9, "", 300, 1 << 62, 1, Side(Location("drills", "one/")))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    made = MemoryStore(buckets=["hot", "cold", "ledger"], clock=iter(range(1000, 0, -1)).__next__)
    monkeypatch.setattr("jobs.s3.sessions.open_side", lambda *_, **__: made)
    return made


@pytest.fixture
def ledger(store: MemoryStore) -> Ledger:
    return Ledger(store, Location("ledger"))


async def put(store: MemoryStore, key: str, **attributes: Any) -> str | None:
    return (await store.put(ObjectRef("hot", key), b"data", Attributes(**attributes), guard=UNGUARDED)).version_id


async def publish(ledger: Ledger, name: str, members: list[Member]) -> ObjectRef:
    file, keys = io.BytesIO(), [each.key for each in members]
    writer = TableWriter(file)
    writer.add(members)
    writer.close()
    file.seek(0)
    made = ArchiveRecord(
        Location("cold", name), ArchiveFormat.TAR, 5, "e", None, "STANDARD", len(members), 7,
        min(keys), max(keys), "src", 1.0,
    )  # fmt: skip
    await ArchiveIndex(ledger.store, ledger.location).publish(made, file)
    return ObjectRef("ledger", f"archives/cold/{name}.parquet")


async def drawn(leg: Leg, ledger: Ledger, folder: Path, asked: Asked = ASKED) -> tuple[Sample, dict[Any, bool]]:
    """A sample, and of the version ids in it whether each is its key's current one."""
    sample, manifest = await draw(leg, asked, "src", ledger, folder)
    rows = pq.read_table(manifest).to_pylist()
    return sample, {each["version_id"]: each["is_latest"] for each in rows}


async def test_the_latest_version_of_a_bucket_is_current(store: MemoryStore, ledger: Ledger, tmp_path: Path):
    _, latest = await put(store, "c/k"), await put(store, "c/k")  # the clock runs backwards
    sample, versions = await drawn(HOT, ledger, tmp_path)
    assert (sample.population, versions) == (1, {latest: True})


@pytest.mark.parametrize("newer", [{"last_modified": 2.0, "is_latest": False}, {"last_modified": 1.0}])
async def test_of_archives_the_newest_member_is_current_whatever_was_the_latest_when_it_was_packed(
    ledger: Ledger, tmp_path: Path, newer: dict[str, Any]
):
    first, second = member("k", b"1", "v1", last_modified=1.0), member("k", b"2", "v2")._replace(**newer)
    await publish(ledger, "a.tar", [first._replace(is_latest=newer["last_modified"] == 2.0)])
    await publish(ledger, "b.tar", [second])
    _, versions = await drawn(COLD, ledger, tmp_path)
    assert versions == {"v2": True}


@pytest.mark.parametrize("damaged", [slice(4, 400), slice(-400, -8)], ids=["rows", "footer"])
async def test_an_index_that_cannot_be_read_is_refused(
    store: MemoryStore, ledger: Ledger, tmp_path: Path, damaged: slice
):
    await publish(ledger, "a.tar", [member("a", b"1", "v1")])
    ref = await publish(ledger, "b.tar", [member(f"b{number}", b"1", f"w{number}") for number in range(99)])
    data = bytearray((await store.get(ref)).data)
    data[damaged] = bytes(len(data[damaged]))
    await store.put(ref, bytes(data), Attributes(), guard=UNGUARDED)
    with pytest.raises(DamagedArchive):
        await drawn(COLD, ledger, tmp_path)


async def test_all_keys_of_a_manifest_are_drawn_and_those_that_cannot_be_are_counted(
    store: MemoryStore, ledger: Ledger, tmp_path: Path
):
    for key, kind in {"c/a": None, "c/b": "GLACIER", "c/c": None, "c/not named": None}.items():
        await put(store, key, storage_class=kind)
    await store.delete(ObjectRef("hot", "c/c"))  # an older version stays, and none is current
    named = tmp_path / "named.csv"
    named.write_text("src,a\nsrc,b\nsrc,c\nsrc,d\n")
    sample, _ = await drawn(HOT, ledger, tmp_path, replace(ASKED, manifest=str(named)))
    assert (sample.random, sample.cold, sample.absent) == (1, 1, 3)
    named.write_text("other,a\n")
    with pytest.raises(ManifestError):
        await drawn(HOT, ledger, tmp_path, replace(ASKED, manifest=str(named)))
