"""Candidates: which rows an expire run gets, by listings and the archives' indexes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from jobs.archives.index import ArchiveIndex
from jobs.archives.index_tables import TableWriter
from jobs.archives.model import ArchiveRecord, Member
from jobs.config import Settings
from jobs.core import pricing
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Checksum, Location, ObjectRef, ObjectVersion
from jobs.core.run import Plan
from jobs.errors import ConfigError
from jobs.expire import plan as planning
from jobs.expire.copy_columns import read_copies
from jobs.expire.places import Place, PlaceDocument
from jobs.expire.plan import Candidates
from jobs.expire.rules import CopyAt
from jobs.runs.planning import exceeds
from jobs.runs.sharding import Shards
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import manifest_batch, read_shard
from tests.archives.samples import member
from tests.doubles.memory_store import MemoryStore, Request

NOW = 1_750_000_000.0
DOCS, COPIES, COLD = Location("docs", "in/"), Location("copies", "out/"), Location("cold", "")
DOCUMENTS = [PlaceDocument(id=name * 32, rank=rank) for rank, name in enumerate("abc")]
PLACES = [
    Place(at, document.key(at.key), None, "", 0.0, document, has_replica=at == COPIES)
    for at, document in zip((DOCS, COPIES, COLD), DOCUMENTS, strict=True)
]
PLACE, FOREIGN = DOCUMENTS[0].key(""), PlaceDocument(id="d" * 32, rank=0).key("")


@dataclass
class Scene:
    """Originals in `docs`, copies in `copies`, archives in `cold`."""

    scratch: Path
    versioned: bool = True
    now: float = NOW
    shards: list[bytes] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    found: Candidates = field(init=False)

    def __post_init__(self) -> None:
        ids = itertools.count(1)
        self.store = MemoryStore(
            clock=lambda: self.now, new_id=lambda: f"v{next(ids)}", on={"list_objects": self._note}
        )
        for bucket in ("docs", "copies", "cold", "ledger"):
            self.store.create_bucket(bucket, versioned=self.versioned and bucket == "docs")

    async def _note(self, request: Request) -> Any:
        self.listed.append(f"{request.place.bucket}/{request.arguments['prefix']}")
        return await request()

    def put(self, key: str, data: bytes = b"data", bucket: str = "docs", **attributes: Any) -> ObjectVersion:
        """Write an object. Returns the row of a manifest that names it."""
        self.now += 1
        made = asyncio.run(self.store.put(ObjectRef(bucket, key), data, Attributes(**attributes), guard=UNGUARDED))
        return ObjectVersion(0, key, made.version_id, etag=made.etag, size_bytes=len(data))

    def copy(self, name: str, data: bytes = b"data", **attributes: Any) -> None:
        self.put(f"out/{name}", data, "copies", **attributes)

    def delete(self, key: str, version_id: str | None = None) -> None:
        self.now += 1
        asyncio.run(self.store.delete(ObjectRef("docs", key, version_id)))

    def archive(self, name: str, *members: Member, bucket: str = "docs", is_there: bool = True) -> str:
        """An archive in the index, and its object. Returns its ETag."""
        etag = self.put(name, name.encode(), "cold", storage_class="GLACIER_IR").etag or ""
        file = io.BytesIO()
        writer = TableWriter(file)
        writer.add(list(members))
        writer.close()
        file.seek(0)
        keys = [each.key for each in members]
        record = ArchiveRecord(
            Location("cold", name), ArchiveFormat.TAR, 5, etag if is_there else "other", None, "GLACIER_IR",
            len(members), 7, min(keys), max(keys), bucket, NOW, "SHA256:c3Vt-2",
        )  # fmt: skip
        asyncio.run(ArchiveIndex(self.store, Location("ledger")).publish(record, file))
        return etag

    def plan(self, wanted: Sequence[ObjectVersion] | None = None, rows_per_shard: int = 100, **terms: Any) -> Plan:
        self.shards.clear()
        self.listed.clear()
        index = ArchiveIndex(self.store, Location("ledger"))
        options: dict[str, Any] = {
            "max_share": 1.0,
            "by_checksum": False,
            "delete": True,
            "annotations": "check",
            "grace_seconds": 0.0,
        } | terms
        started, is_own = (options.pop(name, default) for name, default in (("started", self.now), ("is_own", None)))

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            yield manifest_batch(wanted or [])

        async def write_shard(number: int, data: bytes) -> None:
            self.shards.append(data)

        shards = Shards(write_shard, self.scratch, rows_per_shard)
        draft: Any = SimpleNamespace(started=started, scratch=self.scratch, shards=lambda _: shards)
        self.found = Candidates(*(self.store, self.store, PLACES, index, self.versioned, options, draft, is_own))

        settings = replace(Settings.from_environment(), rows_per_shard=rows_per_shard, processes=1)
        rows = None if wanted is None else batches()
        return asyncio.run(self.found.find(rows, settings))

    def shares(self, plan: Plan) -> list[tuple[int, int]]:
        """Of the current objects, and of all versions: what would go, and what is listed."""
        shares = [plan.expiry[name] for name in ("current", "versions")]
        return [(each["eligible"], each["listed"]) for each in shares]

    def rows(self) -> list[ObjectVersion]:
        return [row for data in self.shards for batch in read_shard(data, read_copies) for row in batch]

    def places(self) -> dict[tuple[str, str | None], str]:
        """Of each row of the plan: where its copy is."""
        return {
            (row.key, row.version_id): row.beside.place if isinstance(row.beside, CopyAt) else "-"
            for row in self.rows()
        }


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def plain(tmp_path: Path) -> Scene:
    return Scene(tmp_path, versioned=False)


def packed(row: ObjectVersion, **more: object) -> Member:
    return member(row.key, b"data", row.version_id, etag=row.etag, last_modified=NOW)._replace(**more)  # type: ignore[arg-type]  # fields


WHOLE = [
    ("copied", lambda scene, row: scene.copy("k"), "s3://copies/out/k", {}),
    ("not copied", lambda scene, row: None, None, {"no_copy": 1}),
    ("copied elsewhere", lambda scene, row: scene.put("k", bucket="copies"), None, {"no_copy": 1}),
    ("of another size", lambda scene, row: scene.copy("k", b"other size"), None, {"copy_has_other_size": 1}),
    ("packed", lambda scene, row: scene.archive("a", packed(row)), "s3://cold/a", {}),
    ("copied and packed", lambda s, row: (s.archive("a", packed(row)), s.copy("k")), "s3://copies/out/k", {}),
    (
        "copied to where nobody can read it, and packed",
        lambda s, row: (s.archive("a", packed(row)), s.copy("k", storage_class="DEEP_ARCHIVE")),
        "s3://cold/a",
        {},
    ),
    ("packed, and another copy", lambda s, row: (s.archive("a", packed(row)), s.copy("k", b"x")), "s3://cold/a", {}),
    ("another version packed", lambda s, row: s.archive("a", packed(row, version_id="v0")), None, {"no_copy": 1}),
    ("other content packed", lambda s, row: s.archive("a", packed(row, etag="f" * 32)), None, {"no_copy": 1}),
    ("other size packed", lambda s, row: s.archive("a", packed(row, size_bytes=3)), None, {"no_copy": 1}),
    ("another key packed", lambda s, row: s.archive("a", packed(row, key="in/other")), None, {"no_copy": 1}),
    ("packed from another bucket", lambda s, row: s.archive("a", packed(row), bucket="b"), None, {"no_copy": 1}),
    ("its archive written again", lambda s, row: s.archive("a", packed(row), is_there=False), None, {"no_copy": 1}),
    (
        "packed twice",
        lambda s, row: (s.archive("b", packed(row, last_modified=NOW - 5)), s.archive("c", packed(row))),
        "s3://cold/c",
        {},
    ),
]


@pytest.mark.parametrize(("act", "place", "excluded"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE])
def test_copy_is_chosen(scene: Scene, act: Any, place: str | None, excluded: dict[str, int]) -> None:
    row = scene.put("in/k")
    act(scene, row)
    found = scene.plan()
    assert scene.places() == ({(row.key, row.version_id): place} if place else {})
    assert (found.rows, dict(found.excluded)) == (int(place is not None), excluded)
    assert scene.plan([row]).rows == 1  # a manifest's rows are all planned
    other = "s3://copies/out/k" if "copy_has_other_size" in excluded else "-"  # the worker says why it is kept
    assert scene.places() == {(row.key, row.version_id): place or other}


def test_rows_hold_what_a_worker_needs(scene: Scene) -> None:
    row = scene.put("in/k", storage_class="STANDARD_IA")
    checksums = (Checksum("SHA256", "abc="), Checksum("CRC64NVME", "x-3", True))
    own = packed(row, headers={"content-type": 'a"b'}, tags={"t": "1"}, checksums=checksums, offset=512)
    scene.archive("a", own)
    scene.plan()
    [planned] = scene.rows()
    assert planned[:4] == (0, "in/k", row.version_id, True)
    assert (planned.size_bytes, planned.etag, planned.storage_class) == (4, row.etag, "STANDARD_IA")
    assert planned.last_modified == NOW + 1
    copy = planned.beside
    assert isinstance(copy, CopyAt)
    assert (copy.bucket, copy.key, copy.checksum) == ("cold", "a", "SHA256:c3Vt-2")
    assert copy.member == own._replace(checksums=tuple(sorted(checksums)))


@pytest.mark.parametrize("keys", [1_000, 0])
def test_superseded_version_needs_an_archive(scene: Scene, monkeypatch: pytest.MonkeyPatch, keys: int) -> None:
    """Below a delete marker alone, its replica is what a restore takes."""
    monkeypatch.setattr(planning, "FEW_KEYS", keys)
    names = ("old", "lost", "same", "hidden", "undone")
    old, lost, same, hidden, undone = (scene.put(f"in/{name}") for name in names)
    for name in ("old", "lost", "undone"):
        scene.put(f"in/{name}", b"newer")
    scene.put("in/same")
    for name in ("hidden", "undone"):  # somebody may take back the delete, and replicate what is newer
        scene.delete(f"in/{name}")
    for name in names:
        scene.copy(name)
    scene.archive("a", packed(old))
    found = scene.plan()
    places = {name: place for (name, version), place in scene.places().items() if place}
    assert places == {
        "in/old": "s3://cold/a",
        "in/same": "s3://copies/out/same",  # the newer one
        "in/hidden": "s3://copies/out/hidden",
    }
    assert found.excluded == {"superseded": 3, "copy_has_other_size": 3, "delete_marker": 2}
    scene.plan([old, lost, same, hidden, undone])
    left = {"s3://copies/out/lost", "s3://copies/out/undone"}  # the job says why they are kept
    assert set(scene.places().values()) == {*places.values(), *left}


@pytest.mark.parametrize("keys", [1_000, 0])
def test_row_without_version_id_is_the_newest(scene: Scene, monkeypatch: pytest.MonkeyPatch, keys: int) -> None:
    monkeypatch.setattr(planning, "FEW_KEYS", keys)
    first, second = scene.put("in/k"), scene.put("in/k", b"more")
    scene.copy("k", b"more")
    by_etag = [each._replace(version_id=None) for each in (first, second)]
    by_key = second._replace(version_id=None, etag=None, size_bytes=None)
    scene.plan([by_key])
    assert list(scene.places()) == [("in/k", second.version_id)]
    found = scene.plan([*by_etag, by_key, second])
    assert found.rows == 2
    assert set(scene.places()) == {("in/k", first.version_id), ("in/k", second.version_id)}


def test_bucket_without_versions(plain: Scene) -> None:
    row = plain.put("in/k")._replace(version_id=None)
    plain.archive("a", packed(row, version_id="null"))
    plain.plan()
    assert plain.places() == {("in/k", None): "s3://cold/a"}
    gone = row._replace(key="in/gone"), row._replace(etag="f" * 32)  # deleted by an earlier run, or written again
    found = plain.plan([row._replace(version_id="null"), *gone])
    assert plain.places() == {("in/k", None): "s3://cold/a"}
    assert found.excluded == {"not_listed": 2}
    assert plain.shares(found) == [(1, 1), (1, 1)]


def test_keys_of_others_are_left_out(scene: Scene) -> None:
    rows = [scene.put(key) for key in ("in/own/k", "in/other/k", "elsewhere/k", f"in/{PLACE}")]
    for name in ("own/k", "other/k", PLACE):
        scene.copy(name)
    own: dict[str, Any] = {"is_own": lambda key: key.startswith("in/own/") or key.endswith(".json")}
    found = scene.plan(**own)
    assert list(scene.places()) == [("in/own/k", rows[0].version_id)]
    assert found.excluded == {"other_pair": 1, "sealift_object": 1}
    assert scene.shares(found)[1] == (1, 1)
    found = scene.plan([*rows, rows[0]._replace(key="in/own/m", is_delete_marker=True)], **own)
    assert list(scene.places()) == [("in/own/k", rows[0].version_id)]
    assert found.excluded == {"other_pair": 1, "sealift_object": 1, "outside_source": 1, "delete_marker": 1}


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("is_aws", [True, False])
@pytest.mark.parametrize("is_wanted", [True, False])
def test_key_that_may_be_listed_for_another_one_is_left_out(
    tmp_path: Path, versioned: bool, is_aws: bool, is_wanted: bool
) -> None:
    """SeaweedFS lists U+FFFD for a control character. Its row ended as missing, and was not."""
    scene = Scene(tmp_path, versioned)
    scene.store.heeds_conditions = is_aws
    row = scene.put("in/a\ufffdb")
    scene.copy("a\ufffdb")
    found = scene.plan([row] if is_wanted else None)
    is_clear = is_aws or not versioned
    assert (found.rows, dict(found.excluded)) == ((1, {}) if is_clear else (0, {"name_unclear": 1}))


@pytest.mark.parametrize("keys", [1_000, 0])
@pytest.mark.parametrize("is_wanted", [True, False])
@pytest.mark.parametrize("key", ["in/a/{}", "in/a/b/{}", "out/{}", "out/a/b/{}"])
def test_document_of_another_place_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, keys: int, is_wanted: bool, key: str
) -> None:
    """In what is listed, and in the folders above the keys of a manifest. One below a delete marker is none."""
    monkeypatch.setattr(planning, "FEW_KEYS", keys)
    row = scene.put("in/a/b/k")
    for each in PLACES:
        scene.put(each.key, bucket=each.location.bucket)
    scene.put(f"out/{PLACE}", bucket="copies")  # S3's own replication brought it
    scene.put(f"in/a/b/{FOREIGN}")
    scene.delete(f"in/a/b/{FOREIGN}")
    wanted = [row] if is_wanted else None
    scene.plan(wanted)
    scene.put(key.format(FOREIGN), bucket="docs" if key.startswith("in") else "copies")
    with pytest.raises(ConfigError, match="holds another place"):
        scene.plan(wanted)


def test_few_rows_are_looked_for_by_their_keys(scene: Scene) -> None:
    rows = [scene.put(f"in/a/{number}") for number in range(4)]
    scene.archive("near", packed(rows[0]))
    scene.archive("far", packed(rows[3], key="in/z"))
    scene.copy("a/1")
    scene.copy("a/10")
    scene.plan(rows[:3])
    assert set(scene.places().values()) == {"s3://cold/near", "s3://copies/out/a/1", "-"}
    asked = {place for place in scene.listed if not place.endswith("place-") and not place.startswith("ledger/")}
    assert asked == {*(f"copies/out/a/{n}" for n in range(3)), *(f"cold/a/{n}" for n in range(3)), "cold/near"}


def test_members_come_in_the_order_of_their_archive(scene: Scene) -> None:
    rows = [scene.put(f"in/{name}") for name in "abcd"]
    for row in rows:
        scene.copy(row.key.removeprefix("in/"), b"data" if row.key == "in/c" else b"x")
    scene.archive("2", packed(rows[0], offset=512), packed(rows[1], offset=0))
    scene.archive("1", packed(rows[3]))
    found = scene.plan(rows_per_shard=2)
    assert [row.key[-1] for row in scene.rows()] == ["c", "d", "b", "a"]
    assert [row.row for row in scene.rows()] == [0, 1, 2, 3]
    assert [(each.rows, each.size_bytes) for each in found.shards] == [(2, 8), (2, 8)]
    assert [each.sha256 for each in found.shards] == [hashlib.sha256(data).hexdigest() for data in scene.shards]
    assert pq.read_schema(io.BytesIO(scene.shards[0])).names[0] == "row"
    assert (found.rows, found.size_bytes) == (4, 16)


def test_share_counts_what_is_older(scene: Scene) -> None:
    for name in ("due", "new copy", "no copy", "old"):
        scene.put(f"in/{name}")
    scene.put("in/old", b"newer")
    for name in ("due", "old"):
        scene.copy(name)
    started = scene.now + 5.0
    scene.copy("new copy")
    found = scene.plan(started=started, grace_seconds=5.0)
    assert scene.shares(found) == [(1, 4), (1, 5)]


def test_share_of_a_manifest_is_that_of_its_folder(scene: Scene) -> None:
    rows = [scene.put(f"in/a/{number}") for number in range(4)]
    scene.put("in/b/other")
    for number in range(4):
        scene.copy(f"a/{number}")
    found = scene.plan(rows[:2], max_share=0.4)
    current = scene.shares(found)[0]
    assert (found.expiry["prefix"], current, exceeds(*current, 0.4)) == ("s3://docs/in/a/", (2, 4), True)


@pytest.mark.parametrize(
    ("by_checksum", "gets", "reads"),
    [(False, 7, {"GLACIER_IR": 4, "STANDARD": 18_000_000, "STANDARD_IA": 18_000_000}), (True, 1, {"STANDARD": 4})],
)
def test_reads_by_class(scene: Scene, by_checksum: bool, gets: int, reads: dict[str, int]) -> None:
    """All copies, and originals whose ETag is of an upload in parts. By checksums: originals of members."""
    small = scene.put("in/packed")
    scene.archive("a", packed(small))
    data = bytes(18_000_000)
    large = scene.put("in/large", data)._replace(etag="of-3")
    scene.store.stored("docs", "in/large")[-1].etag = "of-3"
    scene.copy("large", data, storage_class="STANDARD_IA")
    new = scene.put("in/new")
    plan = scene.plan([small, large, new], by_checksum=by_checksum)
    assert {each["storage_class"]: each["bytes"] for each in plan.expiry["reads"]} == reads
    assert (plan.requests["get"], "retrieval" in plan.dollars) == (gets, not by_checksum)


def test_what_is_too_new_is_priced_as_one_look_and_what_is_not_sent_is_left_out(scene: Scene) -> None:
    """Each delete takes its time. Rows within their grace period made a daily run four times too dear."""
    scene.put("in/due")
    scene.copy("due")
    started = scene.now + 5.0
    for number in range(4):
        scene.put(f"in/new {number}")
        scene.copy(f"new {number}")
    found = scene.plan(started=started, grace_seconds=5.0, annotations="skip")
    assert (found.requests, [*found.dollars]) == ({"head": 8, "get": 1, "delete": 1}, ["gets"])
    assert found.seconds == pytest.approx(10 / pricing.REQUESTS_PER_SECOND)


@pytest.mark.parametrize("is_readable", [False, True])
def test_damaged_index_proves_nothing(scene: Scene, is_readable: bool) -> None:
    """Also if only a worker would find a member that no reader takes."""
    row = scene.put("in/k")
    scene.archive("a", packed(row, sha256="none" if is_readable else None))
    if not is_readable:
        asyncio.run(
            scene.store.put(ObjectRef("ledger", "archives/cold/a.parquet"), b"damaged", Attributes(), guard=UNGUARDED)
        )
    found = scene.plan()
    assert (found.rows, found.excluded) == (0, {"no_copy": 1})
    assert [each.archive.key for each in scene.found.damage] == ["a"]


def test_a_null_version_on_top_is_the_newest_wherever_a_server_lists_it(scene: Scene) -> None:
    """SeaweedFS lists it after the versions below it, which looked like the newest."""
    scene.put("in/k")
    newest = scene.put("in/k", b"newer")
    scene.copy("k")

    async def null_last(request: Request) -> Any:
        page = await request()
        top, *below = page.entries
        return page._replace(entries=[*below, top._replace(version_id="null")])

    scene.store.hook(list_versions=null_last)
    assert scene.plan().excluded == {"superseded": 1, "copy_has_other_size": 1}
    scene.plan([newest._replace(version_id=None, etag=None)])
    assert list(scene.places()) == [("in/k", "null")]
