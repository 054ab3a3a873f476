"""Candidates: which rows an expire run gets, out of what earlier runs have proven."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.archives.index import ArchiveIndex
from jobs.archives.index_tables import TableWriter
from jobs.archives.model import ArchiveRecord, Member
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Checksum, Location, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.run import RunSpec, Side
from jobs.expire.candidates import OWN_PLACE, Candidates, Scope, plan_candidates
from jobs.expire.proofs import PROVEN, add_proofs
from jobs.expire.rules import Proof
from jobs.expire.shares import Share
from jobs.ledger.ledger import Ledger
from jobs.tables.rows import version_batch
from tests.archives.samples import member
from tests.doubles.memory_store import MemoryStore
from tests.expire.ledger_runs import write_run

NOW = 1_750_000_000.0
DOCS, COPIES, COLD = Location("docs"), Location("copies"), Location("cold")


def row(key: str, version_id: str | None = None, etag: str | None = "e", **more: Any) -> ObjectVersion:
    return ObjectVersion(
        0, key, version_id, size_bytes=5, last_modified=NOW - 1_000, storage_class="STANDARD"
    )._replace(etag=etag, **more)


class Proven(NamedTuple):
    """A row of a run and how it ended."""

    row: ObjectVersion
    status: Status
    copy_etag: str | None = "c"
    copy_version_id: str | None = "cv"
    etag: str | None = None
    size_bytes: int = 5


@dataclass
class Scene:
    """A ledger with runs and archives, and what is at the source now."""

    folder: Path
    now: float = NOW
    runs: list[RunSpec] = field(default_factory=list)
    there: list[ObjectVersion] = field(default_factory=list)
    listed_at: list[Location] = field(default_factory=list)
    shards: list[tuple[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=lambda: self.now)
        self.store.create_bucket("ledger")
        self.ledger = Ledger(self.store, Location("ledger", "l"))

    def run(
        self, job: str, shards: Sequence[Sequence[Proven]], source: Location = DOCS, destination: Location = COPIES
    ) -> RunSpec:
        """A run with these rows in its shards, at its end."""
        planned_at = datetime(2025, 6, 10 + len(self.runs), tzinfo=UTC)
        run_id = f"{planned_at:%Y%m%dT%H%M%SZ}-{job}-aaaaaa"
        spec = RunSpec(run_id, job, planned_at.timestamp(), Side(source), Side(destination), "m")

        def outcome(one: Proven) -> Outcome:
            return Outcome.of(one.row, one.status)._replace(
                etag=one.etag,
                size_bytes=one.size_bytes,
                destination_version_id=one.copy_version_id,
                destination_etag=one.copy_etag,
                finished_at=1.0,
            )

        pairs = [[(one.row, outcome(one)) for one in proven] for proven in shards]
        asyncio.run(write_run(self.ledger, spec, *pairs))
        self.runs.append(spec)
        return spec

    def archive(self, key: str, members: Sequence[Member], etag: str = "c", bucket: str = "cold") -> None:
        """An archive in the index."""
        file = io.BytesIO()
        writer = TableWriter(file)
        writer.add(list(members))
        writer.close()
        file.seek(0)
        keys = [each.key for each in members]
        record = ArchiveRecord(
            Location(bucket, key), ArchiveFormat.TAR, 5, etag, "av", "GLACIER_IR", len(members), 7, min(keys),
            max(keys), "docs", NOW,
        )  # fmt: skip
        asyncio.run(ArchiveIndex(self.store, self.ledger.location).publish(record, file))

    def proofs(self, spec: RunSpec) -> list[dict[str, Any]]:
        """The rows that a run adds to the table of proofs."""
        connection = duckdb.connect()
        connection.execute(f"CREATE TABLE proven ({PROVEN})")
        asyncio.run(add_proofs(self.ledger, spec, self.folder / spec.run_id, connection))
        found: list[dict[str, Any]] = (
            connection.sql("FROM proven ORDER BY key, version_id").to_arrow_table().to_pylist()
        )
        return found

    def plan(
        self,
        wanted: Sequence[ObjectVersion] | None = None,
        *,
        source: Location = DOCS,
        copies: Sequence[Location] = (COPIES, COLD),
        is_apart: bool = False,
        is_own: Callable[[str], bool] | None = None,
        older_than: float = NOW + 1,
        rows_per_shard: int = 100,
        processes: int = 1,
    ) -> Candidates:
        """The plan of an expire run. Its shards are in `shards`."""
        scope = Scope(source, copies, is_own=is_own)

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            yield version_batch(wanted or [])

        async def list_prefix(place: Location) -> AsyncIterator[pa.RecordBatch]:
            self.listed_at.append(place)
            if found := [each for each in self.there if each.key.startswith(place.key)]:
                yield version_batch(found)

        async def write_shard(number: int, data: bytes) -> None:
            self.shards.append((number, data))

        return asyncio.run(
            plan_candidates(
                self.ledger,
                self.runs,
                None if wanted is None else batches(),
                scope=scope._replace(is_apart=True) if is_apart else scope,
                list_prefix=list_prefix,
                write_shard=write_shard,
                scratch_directory=self.folder,
                older_than=older_than,
                rows_per_shard=rows_per_shard,
                processes=processes,
            )
        )

    def rows(self) -> list[dict[str, Any]]:
        """The rows of all shards, in order."""
        return [each for _, data in self.shards for each in pq.read_table(io.BytesIO(data)).to_pylist()]

    def names(self) -> list[tuple[str, str | None, str | None]]:
        """Key, version and the place of the copy of each row. None: it has no proof."""
        return [
            (each["key"], each["version_id"], Proof.decode(each["proof"]).place if each["proof"] else None)
            for each in self.rows()
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# What a run has proven.


@pytest.mark.parametrize(
    ("job", "proving"), [("replicate", {Status.COPIED, Status.SAME}), ("verify", {Status.VERIFIED})]
)
def test_only_rows_whose_outcome_says_that_there_is_a_copy_are_proven(
    scene: Scene, job: str, proving: set[Status]
) -> None:
    spec = scene.run(job, [[Proven(row(status.value), status) for status in Status]])
    assert {each["key"] for each in scene.proofs(spec)} == {status.value for status in proving}


def test_each_proof_dates_from_when_s3_got_its_own_checkpoint(scene: Scene) -> None:
    first = scene.run("replicate", [[Proven(row("a"), Status.COPIED)], [Proven(row("b"), Status.COPIED)]])
    scene.now += 500
    second = scene.run("replicate", [[Proven(row("c"), Status.COPIED)]])
    assert [each["proven_at"] for each in (*scene.proofs(first), *scene.proofs(second))] == [NOW, NOW, NOW + 500]


def test_a_packed_row_is_proven_by_the_member_of_its_own_version_in_the_archive_that_it_names(scene: Scene) -> None:
    scene.archive(
        "right.tar",
        [member("k", b"12345", "1", etag="e", offset=512, checksums=(Checksum("SHA256", "s", False),)),
         member("k", b"other", "2", etag="e"), member("k", b"12345", "1", etag="other")],
    )  # fmt: skip
    scene.archive("other-etag.tar", [member("k", b"12345", "1", etag="e")], etag="another archive")
    scene.archive("elsewhere.tar", [member("k", b"12345", "1", etag="e")], bucket="elsewhere")
    [found] = scene.proofs(scene.run("compact", [[Proven(row("k", "1"), Status.PACKED)]], destination=COLD))
    assert found["sha256"] == hashlib.sha256(b"12345").hexdigest()
    names = ("version_id", "copy_bucket", "copy_key", "copy_version_id", "copy_etag", "in_archive", "offset")
    assert [found[name] for name in names] == ["1", "cold", "right.tar", "av", "c", True, 512]


@pytest.mark.parametrize(
    "packed",
    [member("other", b"12345", "1", etag="e"), member("k", b"12345", "2", etag="e"), member("k", b"1", "1", etag="x")],
    ids=["another key", "another version", "other bytes"],
)
def test_a_packed_row_without_its_member_is_not_proven(scene: Scene, packed: Member) -> None:
    scene.archive("a.tar", [packed])
    assert scene.proofs(scene.run("compact", [[Proven(row("k", "1"), Status.PACKED)]], destination=COLD)) == []


def test_what_an_archive_with_a_damaged_index_holds_is_not_proven_and_other_archives_are(scene: Scene) -> None:
    for name in ("good.tar", "bad.tar"):
        scene.archive(name, [member(name, b"12345", "1", etag="e")])
    index = scene.store._buckets.named["ledger"].versions["l/archives/cold/bad.tar.parquet"][-1]
    index.data = index.data[:-8] + b"x" * 8
    rows = [Proven(row(name, "1"), Status.PACKED) for name in ("good.tar", "bad.tar")]
    found = scene.proofs(scene.run("compact", [rows], destination=COLD))
    assert [each["key"] for each in found] == ["good.tar"]


# Which of it an expire run takes.


def test_rows_and_copies_outside_of_the_scope_are_left_out_and_counted(scene: Scene) -> None:
    inside = [Proven(row("in/a", "1"), Status.COPIED), Proven(row("in/b", "1"), Status.COPIED)]
    scene.run("replicate", [[*inside, Proven(row("out", "1"), Status.COPIED)]])
    scene.run("replicate", [[Proven(row("in/c", "1"), Status.COPIED)]], destination=Location("copies2"))
    scene.there = [row(key, "1") for key in ("in/a", "in/b", "in/c")]
    planned = scene.plan(source=Location("docs", "in/"), copies=[Location("copies", "in/"), COLD])
    assert scene.names() == [("in/a", "1", "s3://copies/in/a"), ("in/b", "1", "s3://copies/in/b")]
    assert planned.excluded == {"--source": 1, "--copies": 1}
    assert (planned.rows, planned.size_bytes, planned.prefix) == (2, 10, Location("docs", "in/"))
    assert (planned.current, planned.versions) == (Share(2, 3), Share(2, 3))


@pytest.mark.parametrize("is_apart", [False, True])
def test_a_copy_where_the_run_deletes_proves_nothing_unless_it_is_another_service(scene: Scene, is_apart: bool) -> None:
    scene.run("replicate", [[Proven(row("a", "1"), Status.COPIED)]], destination=Location("docs", "copies/"))
    scene.there = [row("a", "1")]
    planned = scene.plan(copies=[Location("docs", "copies/")], is_apart=is_apart)
    [each] = scene.rows()
    assert Proof.decode(each["proof"]).objection == ("" if is_apart else OWN_PLACE)
    assert planned.current == Share(int(is_apart), 1)


@pytest.mark.parametrize("place", ["/x/b/", "//x//b/"])
def test_a_copy_where_the_run_deletes_in_another_spelling_proves_nothing(scene: Scene, place: str) -> None:
    scene.run("replicate", [[Proven(row("x/a", "1"), Status.COPIED)]], destination=Location("docs", place))
    scene.there = [row("x/a", "1")]
    scene.plan(source=Location("docs", "x/"), copies=[Location("docs", place)])
    [each] = scene.rows()
    assert Proof.decode(each["proof"]).objection == OWN_PLACE


@pytest.mark.parametrize("is_wanted", [False, True])
def test_rows_of_keys_that_are_not_the_pairs_are_left_out_and_counted(scene: Scene, is_wanted: bool) -> None:
    keys = ("ours", "theirs", "theirs too")
    scene.run("replicate", [[Proven(row(key, "1"), Status.COPIED) for key in keys]])
    scene.there = [row(key, "1") for key in keys]
    wanted = [row(key, "1") for key in keys] if is_wanted else None
    planned = scene.plan(wanted, is_own=lambda key: key == "ours")
    assert [key for key, _, _ in scene.names()] == ["ours"]
    assert planned.excluded["--pair"] == 2
    assert planned.current == Share(1, 1)


def test_the_latest_proof_of_a_version_counts_and_is_as_old_as_the_first_of_that_copy(scene: Scene) -> None:
    for etag in ("old", "c", "c"):
        scene.run("replicate", [[Proven(row("a", "1"), Status.COPIED, etag)]])
        scene.now += 100
    scene.plan()
    [each] = scene.rows()
    proof = Proof.decode(each["proof"])
    assert (proof.run_id, proof.etag, proof.proven_at) == (scene.runs[2].run_id, "c", NOW + 100)


# What a manifest asks for.


def test_a_wanted_row_that_no_run_has_proven_is_a_row_without_a_proof(scene: Scene) -> None:
    scene.run("replicate", [[Proven(row(key, "1"), Status.COPIED) for key in ("a", "not wanted")]])
    scene.there = [row("a", "1"), row("b", "1")]
    planned = scene.plan([row("a", "1"), row("b", "1"), row("marker", "1", is_delete_marker=True)])
    assert scene.names() == [("b", "1", None), ("a", "1", "s3://copies/a")]
    assert (planned.rows, planned.versions) == (2, Share(1, 2))


@pytest.mark.parametrize(
    ("wanted", "is_proven"),
    [
        (row("a", "1", "e"), True),
        (row("a", None, "e"), True),
        (row("a", "1", None), True),
        (row("a", "2", "e"), False),
        (row("a", "1", "other"), False),
        (row("b", "1", "e"), False),
    ],
)
def test_a_wanted_row_is_proven_by_a_proof_of_its_own_version_and_bytes(
    scene: Scene, wanted: ObjectVersion, is_proven: bool
) -> None:
    scene.run("replicate", [[Proven(row("a", "1"), Status.COPIED)]])
    scene.plan([wanted])
    [each] = scene.rows()
    assert (each["proof"] is not None) is is_proven


def test_a_wanted_row_without_an_id_that_another_row_names_is_that_row_once_more(scene: Scene) -> None:
    scene.run("replicate", [[Proven(row("a", "1"), Status.COPIED)]])
    scene.plan([row("a", None), row("a", "1"), row("a", "1"), row("b", None), row("b", None)])
    assert sorted(scene.names()) == [("a", "1", "s3://copies/a"), ("b", None, None)]


OLDER, NEWER = row("a", "1", "e"), row("a", "2", "f", last_modified=NOW - 500)
MARKER = row("a", "m", None, is_delete_marker=True, last_modified=NOW - 100)


@pytest.mark.parametrize(
    ("etag", "there", "named"),
    [
        (None, [NEWER, OLDER], "2"),
        (None, [MARKER, NEWER._replace(is_latest=False), OLDER._replace(is_latest=False)], "2"),
        (None, [OLDER], "1"),
        ("e", [NEWER, OLDER], "1"),
        ("f", [NEWER, OLDER], "2"),
        (None, [NEWER._replace(last_modified=NOW - 2_000), OLDER._replace(is_latest=False)], "2"),  # sent in parts
        (None, [NEWER, NEWER._replace(version_id="0", etag="e", is_latest=False)], "2"),
    ],
)
def test_a_wanted_row_without_an_id_means_the_newest_version_of_its_key_and_etag(
    scene: Scene, etag: str | None, there: list[ObjectVersion], named: str
) -> None:
    """An old version was removed for good where a manifest names keys alone, and the current one stayed."""
    proven = [Proven(each, Status.COPIED, copy_etag=f"c{each.version_id}") for each in (NEWER, OLDER)]
    scene.run("verify", [[each._replace(status=Status.VERIFIED) for each in proven]])
    scene.there = there
    scene.plan([row("a", None, etag)])
    assert scene.names() == [("a", named, "s3://copies/a")]
    assert [Proof.decode(each["proof"]).etag for each in scene.rows()] == [f"c{named}"]


def test_a_wanted_row_without_an_id_has_no_proof_if_only_an_older_version_was_proven(scene: Scene) -> None:
    scene.run("replicate", [[Proven(OLDER, Status.COPIED), Proven(row("b", "1"), Status.COPIED)]])
    scene.there = [NEWER, OLDER._replace(is_latest=False), row("b", None)]  # b: in a bucket without versions
    scene.plan([row("a", None, None), row("b", None, None)])
    assert sorted(scene.names()) == [("a", "2", None), ("b", "1", "s3://copies/b")]


def test_wanted_rows_are_weighed_against_the_folder_that_they_share(scene: Scene) -> None:
    keys = ("x/y/a1", "x/y/a2")
    scene.run("replicate", [[Proven(row(key, "1"), Status.COPIED) for key in (*keys, "x/z")]])
    scene.there = [row(key, "1") for key in (*keys, "x/y/b", "x/z", "w")]
    planned = scene.plan([row(key, "1") for key in keys], source=Location("docs", "x/"))
    assert (planned.prefix, planned.current) == (Location("docs", "x/y/"), Share(2, 3))
    assert scene.listed_at == [Location("docs", "x/y/")]
    whole = scene.plan(source=Location("docs", "x/"))
    assert (whole.prefix, whole.current) == (Location("docs", "x/"), Share(3, 4))


# How its shards look.


def test_rows_are_sharded_in_order_with_replicas_first_and_members_by_their_place(scene: Scene) -> None:
    scene.run("replicate", [[Proven(row(key, "1"), Status.COPIED) for key in ("z", "y")]])
    scene.archive("b.tar", [member("k1", b"12345", "1", etag="e", offset=900)])
    places = [("k2", 700, None), ("k3", 600, None), ("k4", 10, 650)]
    sums = (Checksum("SHA256", "s-2", True),)
    frames = [
        member(
            key,
            b"12345",
            "1",
            etag="e",
            offset=offset,
            frame_start=frame,
            frame_offset=frame,
            frame_length=frame and 9,
            checksums=sums,
        )
        for key, offset, frame in places
    ]
    scene.archive("a.tar", frames)
    packed = [Proven(row(f"k{number}", "1"), Status.PACKED) for number in range(1, 5)]
    scene.run("compact", [packed], destination=COLD)
    unproven = row("unproven", "1", size_bytes=None, last_modified=None, storage_class=None)
    planned = scene.plan([unproven, *(each.row for each in packed), row("y", "1"), row("z", "1")], rows_per_shard=3)
    rows = scene.rows()
    assert [each["key"] for each in rows] == ["unproven", "y", "z", "k3", "k4", "k2", "k1"]
    assert [each["row"] for each in rows] == list(range(7))
    assert [number for number, _ in scene.shards] == [0, 1, 2]
    assert [each.rows for each in planned.shards] == [3, 3, 1]
    assert [each.sha256 for each in planned.shards] == [hashlib.sha256(data).hexdigest() for _, data in scene.shards]
    assert sum(each.size_bytes for each in planned.shards) == planned.size_bytes == 30
    assert planned.by_class == {"STANDARD": (7, 4, 7, 30)}
    members = {each["key"]: Proof.decode(each["proof"]).member for each in rows if each["proof"]}
    assert members["y"] is None
    assert members["k4"] == {
        "key": "k4", "size_bytes": 5, "etag": "e", "sha256": hashlib.sha256(b"12345").hexdigest(), "offset": 10,
        "frame_start": 650, "frame_offset": 650, "frame_length": 9, "checksums": [["SHA256", "s-2", True]],
        "last_modified": frames[2].last_modified,
    }  # fmt: skip
