"""Disproofs: which proofs of a replica a verify run voids, by the ledger alone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pytest

import jobs.expire.disproofs
from jobs.core.model import Attributes, Location, ObjectVersion
from jobs.core.outcome import GOOD, Evidence, Outcome, Status
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.expire.disproofs import object_to_disproved
from jobs.expire.proofs import PROVEN, add_proofs
from jobs.expire.runs_with_findings import DISPROOFS
from jobs.ledger.ledger import DIFFERENCES, Checkpoint, Ledger
from jobs.s3.listing import list_all
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import shard_schema, version_batch, write_outcomes, write_parquet
from tests.doubles.memory_store import MemoryStore

NOON = 1_750_000_000.0
SIDES = Side(Location("docs", "in/")), Side(Location("copies", "out/"))


class Run(NamedTuple):
    """A run over one key. `second`: when S3 received its outcome, after noon.

    `said`: when the worker said it was.
    """

    name: str
    second: float
    status: Status
    evidence: Evidence = Evidence.MD5_ETAG
    reason: str = ""
    job: str = "verify"
    options: Mapping[str, Any] = {}
    version_id: str | None = None
    etag: str | None = "e"
    copy_version_id: str | None = None
    copy_etag: str | None = "e"
    said: float | None = None
    report: Mapping[str, Any] | None = None
    sides: tuple[Side, Side] = SIDES
    key: str = "in/k"

    @property
    def run_id(self) -> str:
        return f"20250615T150640Z-{self.job}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"


COPIED = Run("1-copy", 10, Status.COPIED, job="replicate")
BY_BYTES = Run("2-deep", 20, Status.MISMATCHED, Evidence.CONTENT, "content differs at byte 3", options={"deep": True})
BY_HEAD = Run("2-head", 20, Status.MISMATCHED, reason="MD5 differs")
DAMAGED = BY_BYTES._replace(status=Status.DAMAGED, evidence=Evidence.NONE, reason="the source is damaged")
NO_VERSION = BY_BYTES._replace(
    status=Status.MISSING,
    evidence=Evidence.NONE,
    reason="no version at the destination reproduces it",
    options={"deep": True, "all_versions": True},
    copy_etag=None,
)
UNREAD = BY_BYTES._replace(
    status=Status.FAILED,
    evidence=Evidence.NONE,
    reason="gave up after 8 tries: GetObject s3://copies/out/k: InternalError",
    copy_etag=None,
)
SWAPPED = BY_BYTES._replace(sides=SIDES[::-1], key="out/k")
"""What a run found of the same pair, with the copies as its source."""
VERIFIED = Run("3-head", 30, Status.VERIFIED)
DEEP = Run("3-deep", 30, Status.VERIFIED, Evidence.CONTENT, options={"deep": True})


class Books:
    """A ledger in memory, with a clock of its own."""

    def __init__(self) -> None:
        self.now = NOON
        self.store = MemoryStore(clock=lambda: self.now)
        self.store.create_bucket("ledger")
        self.ledger = Ledger(self.store, Location("ledger"))


async def write(books: Books, run: Run) -> RunSpec:
    books.now, ledger = NOON + run.second, books.ledger
    spec = RunSpec(run.run_id, run.job, NOON, *run.sides, "m", dict(run.options))
    await ledger.create(spec)
    row = ObjectVersion(0, run.key, run.version_id, etag=run.etag, size_bytes=1, last_modified=1.0)
    rows = pa.Table.from_batches([version_batch([row])])
    shard = rows.add_column(0, "row", pa.array([0], pa.int64())).cast(shard_schema())
    await ledger.write_shard(run.run_id, 0, write_parquet(shard))
    await ledger.publish_plan(run.run_id, Plan(1, 1, (ShardSummary(1, 1),)))
    outcome = Outcome(
        0,
        run.key,
        run.version_id,
        run.status,
        run.reason,
        run.evidence,
        etag=run.etag,
        destination_version_id=run.copy_version_id,
        destination_etag=run.copy_etag,
        finished_at=NOON + (run.second if run.said is None else run.said),
        attempt="a",
    )
    await ledger.write_checkpoint(
        run.run_id, Checkpoint(0, "a", 0, 1, int(run.status not in GOOD), 1), write_outcomes([outcome])
    )
    if run.report is not None:
        await ledger.publish_report(run.run_id, dict(run.report))
    return spec


COMPARISON_RUN = "20250615T150640Z-reconcile-abcdef"
DIFFERENT = {"key": "in/k", "category": "different", "reason": "checksums differ"}
COUNTED = {"categories": {"different": {"rows": 1, "bytes": 1}, "stale": {"rows": 0, "bytes": 0}}}


class Compared(NamedTuple):
    """A reconciliation whose only difference is `row`. `second`: when it was written, after noon."""

    second: float = 20
    row: Mapping[str, Any] = DIFFERENT
    report: Mapping[str, Any] | None = COUNTED
    has_differences: bool = True
    sides: tuple[Side, Side] = SIDES

    async def write(self, books: Books) -> None:
        books.now, ledger = NOON + self.second, books.ledger
        await ledger.create(RunSpec(COMPARISON_RUN, "reconcile", NOON, *self.sides, "m", {}))
        columns = {
            "destination_key": "out/k",
            "version_id": None,
            "destination_version_id": None,
            "source_etag": "e",
            "destination_etag": "e",
            **self.row,
        }
        table = pa.table({name: pa.array([value], pa.string()) for name, value in columns.items()})
        if self.has_differences:
            await ledger.write_file(COMPARISON_RUN, DIFFERENCES, write_parquet(table), "application/octet-stream")
        if self.report is not None:
            await ledger.publish_report(COMPARISON_RUN, dict(self.report))


def objection(folder: Path, proving: Run, *others: Run | Compared) -> str | None:
    """The objection to the proof of `proving`, beside other runs in the ledger."""

    async def look() -> str | None:
        books = Books()
        spec = await write(books, proving)
        for run in others:
            await (run.write(books) if isinstance(run, Compared) else write(books, run))
        connection = duckdb.connect()
        connection.execute(f"CREATE TABLE proven ({PROVEN})")
        await add_proofs(books.ledger, spec, folder / "proofs", connection)
        connection.execute("ALTER TABLE proven ADD COLUMN objection VARCHAR")
        await object_to_disproved(books.ledger, [spec], "docs", folder / "disproofs", connection)
        ((found,),) = connection.execute("SELECT objection FROM proven").fetchall()
        return None if found is None else str(found)

    return asyncio.run(look())


def test_a_proof_that_a_later_run_disproved_gets_an_objection_that_names_both(tmp_path: Path) -> None:
    found = objection(tmp_path, COPIED, BY_BYTES)
    assert found is not None
    assert BY_BYTES.run_id in found
    assert "content differs at byte 3" in found


COMMAND = "sealift verify --deep --source s3://docs/in/ --destination s3://copies/out/"
"""What proves the copies of all runs here by their bytes."""


def test_an_objection_says_what_frees_the_original(tmp_path: Path) -> None:
    """A retry that finds the copy as it should be proves nothing by bytes."""
    for folder, bad in ((tmp_path / "1", BY_BYTES), (tmp_path / "2", BY_HEAD)):
        folder.mkdir()
        found = objection(folder, COPIED, bad) or ""
        assert f"sealift runs retry {bad.run_id}" in found
        assert found.endswith(f", or prove it by its bytes with  {COMMAND}")


def test_an_objection_says_that_nobody_could_read_the_copy(tmp_path: Path) -> None:
    """HEAD showed it as it was, and its original was deleted. A retry would find it the same."""
    found = objection(tmp_path, COPIED, UNREAD) or ""
    assert found.startswith(f"run {UNREAD.run_id} could not read both sides (gave up after 8 tries: GetObject")
    assert f"sealift runs show {UNREAD.run_id}, or prove it by its bytes with  {COMMAND}" in found


COPIED_LATER = COPIED._replace(name="3-copy", second=30)
VOID = [
    ("the copy is wrong by what S3 keeps", COPIED, [BY_HEAD]),
    ("nothing was at the destination", COPIED, [BY_HEAD._replace(status=Status.MISSING, copy_etag=None)]),
    ("the newer proof did not look at bytes", VERIFIED, [BY_BYTES]),
    ("nor did this one", COPIED, [BY_BYTES, VERIFIED]),
    ("nor did the only proof, however much newer", VERIFIED._replace(second=3_000_000), [BY_BYTES]),
    ("a checksum beside the bytes is no look at them", VERIFIED._replace(evidence=Evidence.CHECKSUM), [BY_BYTES]),
    (
        "a report of checksums at rest is older than its run",
        DEEP._replace(evidence=Evidence.CHECKSUM, reason="checksums at rest: destination 9 h old"),
        [BY_BYTES],
    ),
    (
        "the bytes had another checksum at rest",
        VERIFIED,
        [BY_BYTES._replace(evidence=Evidence.CHECKSUM, options={"destination_checksums": {"uri": "s3://r/m"}})],
    ),
    ("the bytes read had another MD5", VERIFIED, [BY_HEAD._replace(options={"deep": True})]),
    ("the original is damaged, so nobody knows about its copy", COPIED, [DAMAGED]),
    ("only bytes answer for a damaged original", COPIED, [DAMAGED, VERIFIED]),
    ("no version had these bytes", COPIED, [NO_VERSION, VERIFIED]),
    ("nobody could read it", COPIED, [UNREAD]),
    ("only bytes answer for what nobody could read", COPIED, [UNREAD, VERIFIED]),
    ("the copies were the source, and nobody could read them", COPIED, [
        UNREAD._replace(sides=SIDES[::-1], key="out/k")
    ]),
    ("the proof is of the same second", DEEP._replace(second=20), [BY_BYTES]),
    ("the worker's clock was fast", COPIED._replace(said=60), [BY_BYTES]),
    ("the proving worker's clock was three days fast", VERIFIED._replace(said=260_000), [
        BY_BYTES._replace(second=100_000)
    ]),
    ("the disproving worker's clock was slow", COPIED, [BY_BYTES._replace(said=1)]),
    ("the versions of both sides are named", COPIED._replace(version_id="v", copy_version_id="c"), [
        BY_BYTES._replace(version_id="v", copy_version_id="c")
    ]),
    ("one run names no version", COPIED._replace(version_id="v", copy_version_id="c"), [BY_BYTES]),
    ("nor does the other", COPIED, [BY_BYTES._replace(version_id="v", copy_version_id="c")]),
    ("another version with the same content has the same copy", COPIED._replace(version_id="v", copy_version_id="c"), [
        BY_HEAD._replace(version_id="w", copy_version_id="c")
    ]),
    ("the bytes of the same copy were read for another version", COPIED._replace(version_id="v", copy_version_id="c"), [
        BY_BYTES._replace(version_id="w", etag="f", copy_version_id="c")
    ]),
    ("nor has its destination versions", COPIED._replace(version_id="v"), [
        BY_BYTES._replace(version_id="w", etag="f")
    ]),
    ("a report says nothing of a stopped run", COPIED, [
        BY_BYTES._replace(report={"state": "incomplete", "outcomes": {"verified": 1}})
    ]),
    ("a report counts it", COPIED, [BY_BYTES._replace(report={"state": "complete", "outcomes": {"mismatched": 1}})]),
    ("another version is proven since", COPIED._replace(version_id="v", copy_version_id="c"), [
        BY_BYTES._replace(version_id="v"), DEEP._replace(version_id="v", copy_version_id="d")
    ]),
    ("it was disproved again", COPIED, [BY_BYTES, DEEP, BY_BYTES._replace(name="4-deep", second=40)]),
    ("the copies were the source", COPIED, [SWAPPED]),
    ("and nobody read bytes", COPIED, [SWAPPED._replace(evidence=Evidence.MD5_ETAG, options={})]),
    ("the copy, as the source, is damaged", COPIED, [SWAPPED._replace(status=Status.DAMAGED, evidence=Evidence.NONE)]),
    ("no version of the original has the bytes of the copy", COPIED, [
        NO_VERSION._replace(sides=SWAPPED.sides, key="out/k")
    ]),
    ("their versions are swapped as well", COPIED._replace(version_id="v", copy_version_id="c"), [
        SWAPPED._replace(version_id="c", etag="x", copy_version_id="v", copy_etag="e")
    ]),
    ("the swapped prefixes are spelled in another way", COPIED, [
        SWAPPED._replace(sides=(Side(Location("copies", "out/k")), Side(Location("docs", "in/k"))))
    ]),
    ("what is the same from the other side is no answer", COPIED, [
        BY_BYTES, DEEP._replace(sides=SWAPPED.sides, key="out/k")
    ]),
    ("a copy of the copy could not be made, since its source is damaged", COPIED, [
        SWAPPED._replace(status=Status.DAMAGED, job="replicate", sides=(SIDES[1], Side(Location("third"))))
    ]),
    ("nor verified", COPIED._replace(copy_version_id="c"), [
        SWAPPED._replace(
            status=Status.DAMAGED, version_id="c", copy_etag=None, sides=(SIDES[1], Side(Location("third")))
        )
    ]),
    ("the original is damaged, as the source of another copy", COPIED, [
        DAMAGED._replace(sides=(SIDES[0], Side(Location("third"))))
    ]),
    ("a replicate run found the original damaged", COPIED, [DAMAGED._replace(job="replicate")]),
    ("some servers take two slashes for one", COPIED._replace(sides=(Side(Location("docs", "in")), SIDES[1])), [
        BY_BYTES
    ]),
    ("in the name of the original, too", COPIED._replace(key="in//k"), [
        BY_BYTES._replace(key="in/k", sides=(Side(Location("docs", "in/")), Side(Location("copies", "out/"))))
    ]),
    ("an access point may lead to the copies", COPIED, [
        BY_BYTES._replace(sides=(SIDES[0], Side(Location("point-0a1b-s3alias", "out/"))))
    ]),
    ("an access point may lead to the originals", COPIED, [
        BY_BYTES._replace(sides=(Side(Location("point-0a1b-s3alias", "in/")), SIDES[1]))
    ]),
    ("a report that somebody wrote first denies it", COPIED, [
        BY_BYTES._replace(report={"state": "complete", "outcomes": {"verified": 1}})
    ]),
    ("the prefixes are spelled in another way", COPIED, [
        BY_BYTES._replace(sides=(Side(Location("docs", "in/k")), Side(Location("copies", "out/k"))))
    ]),
]  # fmt: skip
LEFT = [
    ("nothing disproves it", COPIED, [VERIFIED]),
    ("the proof is newer", VERIFIED, [BY_HEAD]),
    ("a copy over it is newer", COPIED_LATER, [BY_BYTES]),
    ("the bytes were read since", COPIED, [BY_BYTES, DEEP]),
    ("the bytes of the copy alone were read since", COPIED, [BY_BYTES, DEEP._replace(evidence=Evidence.CHECKSUM)]),
    ("the bytes of a damaged original were mended", COPIED, [DAMAGED, DEEP]),
    ("a damaged original has a new copy", COPIED_LATER, [DAMAGED]),
    ("a version has these bytes since", COPIED, [NO_VERSION, DEEP]),
    ("no version was there, by what S3 keeps", COPIED, [NO_VERSION._replace(options={"all_versions": True}), VERIFIED]),
    ("another run proves it as well since", COPIED, [BY_HEAD, VERIFIED]),
    ("it is another version of the copy", COPIED._replace(version_id="v", copy_version_id="c"), [
        BY_BYTES._replace(version_id="v", copy_version_id="d")
    ]),
    ("it is another version of the original, with other content", COPIED._replace(version_id="v"), [
        BY_BYTES._replace(version_id="w", etag="f", copy_etag="f")
    ]),
    ("it was about other content", COPIED, [BY_BYTES._replace(etag="f", copy_etag="f")]),
    ("it is about another copy", COPIED, [BY_BYTES._replace(sides=(SIDES[0], Side(Location("copies", "else/"))))]),
    ("it is about another bucket", COPIED, [BY_BYTES._replace(sides=(Side(Location("other", "in/")), SIDES[1]))]),
    ("the original is missing, seen from the copies", COPIED, [
        SWAPPED._replace(status=Status.MISSING, evidence=Evidence.NONE, copy_etag=None)
    ]),
    ("it is about another original of the copies", COPIED, [
        SWAPPED._replace(sides=(SIDES[1], Side(Location("docs", "else/"))))
    ]),
    ("a copy of the copy is wrong", COPIED, [SWAPPED._replace(sides=(SIDES[1], Side(Location("third"))))]),
    ("another version of the copy is damaged", COPIED._replace(copy_version_id="c"), [
        SWAPPED._replace(status=Status.DAMAGED, version_id="d", sides=(SIDES[1], Side(Location("third"))))
    ]),
    ("another original is damaged", COPIED, [
        DAMAGED._replace(key="in/other", sides=(SIDES[0], Side(Location("third"))))
    ]),
    ("it is of another access point's key", COPIED, [
        BY_BYTES._replace(sides=(SIDES[0], Side(Location("point-0a1b-s3alias", "else/"))))
    ]),
    ("somebody could read it since", COPIED, [UNREAD, DEEP]),
    ("nobody tried to read it", COPIED, [UNREAD._replace(options={})]),
    ("nobody could copy it", COPIED, [UNREAD._replace(job="replicate")]),
    ("nobody knows", COPIED, [BY_BYTES._replace(status=Status.UNVERIFIABLE)]),
]  # fmt: skip


@pytest.mark.parametrize(("why", "proving", "others"), VOID, ids=[each[0] for each in VOID])
def test_what_voids_a_proof(tmp_path: Path, why: str, proving: Run, others: list[Run]) -> None:
    found = objection(tmp_path, proving, *others)
    assert found, why
    assert "its files cannot be read" not in found


@pytest.mark.parametrize(("why", "proving", "others"), LEFT, ids=[each[0] for each in LEFT])
def test_what_leaves_a_proof_as_it_is(tmp_path: Path, why: str, proving: Run, others: list[Run]) -> None:
    assert objection(tmp_path, proving, *others) is None, why


def _rows() -> list[list[str]]:
    """The rows of the docstring's tables."""
    lines = [line for line in (jobs.expire.disproofs.__doc__ or "").splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [row for row in rows if row[0] not in ("the disproof compared", "version of the original")]


def test_the_docstring_shows_which_proofs_a_disproof_is_about(tmp_path: Path) -> None:
    rows = [row for row in _rows() if len(row) == 5]
    for number, (version, etag, look, place, effect) in enumerate(rows):
        bad = {"what S3 keeps beside the bytes": BY_HEAD, "the bytes": BY_BYTES}[look]._replace(
            version_id={"same": "v", "another": "w"}[version],
            etag={"same": "e", "another": "f"}[etag],
            copy_version_id={"same": "c", "another": "d"}[place],
        )
        folder = tmp_path / str(number)
        folder.mkdir()
        found = objection(folder, COPIED._replace(version_id="v", copy_version_id="c"), bad)
        assert (found is not None) == (effect == "voided"), rows[number]
    assert len(rows) == 5


def test_the_docstring_shows_what_restores_a_proof(tmp_path: Path) -> None:
    cells = [row for row in _rows() if len(row) == 3]
    looks = {"what S3 keeps beside the bytes": BY_HEAD, "the bytes": BY_BYTES}
    proofs = {
        "anything": [VERIFIED, DEEP, COPIED_LATER],
        "what S3 keeps beside the bytes": [VERIFIED],
        "the bytes of both, or a new copy over it": [DEEP, COPIED_LATER],
    }
    played = 0
    for disproof, proof, counts in cells:
        for each in proofs[proof]:
            folder = tmp_path / str(played)
            folder.mkdir()
            assert (objection(folder, each, looks[disproof]) is None) == (counts == "again"), (disproof, each)
            played += 1
    assert played == 6


def _objections(folder: Path, proving: Run, others: Sequence[Run], alter: Callable[[Books], Awaitable[None]]) -> Any:
    """The objection after somebody has altered the ledger."""

    async def look() -> Any:
        books = Books()
        spec = await write(books, proving)
        for run in others:
            await write(books, run)
        await alter(books)
        connection = duckdb.connect()
        connection.execute(f"CREATE TABLE proven ({PROVEN})")
        await add_proofs(books.ledger, spec, folder / "proofs", connection)
        connection.execute("ALTER TABLE proven ADD COLUMN objection VARCHAR")
        await object_to_disproved(books.ledger, [spec], "docs", folder / "disproofs", connection)
        ((found,),) = connection.execute("SELECT objection FROM proven").fetchall()
        return found

    return asyncio.run(look())


BROKEN_RUN = "20250615T150640Z-verify-bbbbbb"


@pytest.mark.parametrize(("second", "proving", "is_void"), [
    (20, COPIED, True), (20, VERIFIED, True), (20, DEEP, False), (40, DEEP, True), (20, COPIED_LATER, False),
    (20, VERIFIED._replace(second=3_000_000), True),
])  # fmt: skip
def test_a_run_that_nobody_can_read_voids_what_was_not_proven_by_bytes_since(
    tmp_path: Path, second: float, proving: Run, is_void: bool
) -> None:
    async def alter(books: Books) -> None:
        books.now = NOON + second
        await books.store.put("ledger", f"runs/{BROKEN_RUN}/spec.json", b"{", Attributes(), guard=UNGUARDED)

    found = _objections(tmp_path, proving, [], alter)
    assert (found is not None) == is_void
    if is_void:
        assert found.startswith(f"run {BROKEN_RUN} may have found its copy wrong, and its files cannot be read")
        assert f"s3://ledger/runs/{BROKEN_RUN}/spec.json is not what Sealift writes (JSONDecodeError" in found
        assert found.endswith(f", or prove it by its bytes with  {COMMAND}")


@pytest.mark.parametrize(
    "name", ["plan.json", "report.json", "outcomes/0/x.parquet", "outcomes/00000/b-000000-1-1-1.parquet"]
)
def test_so_does_one_of_whose_files_one_cannot_be_read(tmp_path: Path, name: str) -> None:
    async def alter(books: Books) -> None:
        key = f"runs/{VERIFIED.run_id}/{name}"
        await books.store.put("ledger", key, b"{", Attributes(), guard=UNGUARDED)

    found = _objections(tmp_path, COPIED, [VERIFIED], alter)
    if name == "plan.json":  # nothing in it has to be read
        assert found is None
        return
    assert found.startswith(f"run {VERIFIED.run_id} may have found its copy wrong")


@pytest.mark.parametrize("lost", ["outcomes/", "plan.json", "spec.json"])
def test_a_run_that_lost_what_its_report_counts_voids_older_proofs(tmp_path: Path, lost: str) -> None:
    async def alter(books: Books) -> None:
        place = Location("ledger", f"runs/{BY_BYTES.run_id}/{lost}")
        async with aclosing(list_all(books.store, place, versions=False)) as pages:
            gone = [entry.key async for page in pages for entry in page]
        assert gone
        for key in gone:
            await books.store.delete("ledger", key)

    bad = BY_BYTES._replace(report={"state": "complete", "outcomes": {"mismatched": 1}})
    found = _objections(tmp_path, COPIED, [bad], alter)
    assert found.startswith(f"run {BY_BYTES.run_id} may have found its copy wrong")
    assert ("has lost outcomes" in found) == (lost == "outcomes/")
    (tmp_path / "other").mkdir()
    assert _objections(tmp_path / "other", DEEP, [bad], alter) is None


def test_a_reconciliation_that_lost_its_spec_voids_older_proofs(tmp_path: Path) -> None:
    async def alter(books: Books) -> None:
        await Compared().write(books)
        await books.store.delete("ledger", f"runs/{COMPARISON_RUN}/spec.json")

    found = _objections(tmp_path, COPIED, [], alter)
    assert found.startswith(f"run {COMPARISON_RUN} may have found its copy wrong")


def test_a_run_that_was_never_planned_voids_nothing(tmp_path: Path) -> None:
    async def alter(books: Books) -> None:
        books.now = NOON + 20
        name = f"runs/{BROKEN_RUN}/shards/00000.parquet"
        await books.store.put("ledger", name, b"", Attributes(), guard=UNGUARDED)

    assert _objections(tmp_path, COPIED, [], alter) is None


def test_no_other_outcome_of_a_row_hides_a_finding(tmp_path: Path) -> None:
    """The fold prefers `changed` to `missing`."""

    async def alter(books: Books) -> None:
        outcome = Outcome(0, "in/k", None, Status.CHANGED, etag="e", finished_at=NOON + 20, attempt="b")
        await books.ledger.write_checkpoint(missing.run_id, Checkpoint(0, "b", 0, 1, 1, 1), write_outcomes([outcome]))

    missing = BY_HEAD._replace(status=Status.MISSING, copy_etag=None)
    assert _objections(tmp_path, COPIED, [missing], alter) is not None


def test_a_proof_does_not_count_if_its_own_run_found_the_row_wrong(tmp_path: Path) -> None:
    async def alter(books: Books) -> None:
        books.now = NOON + 40
        good = Outcome(
            0, "in/k", None, Status.VERIFIED, evidence=Evidence.CONTENT, etag="e", destination_etag="e",
            finished_at=NOON + 40, attempt="b",
        )  # fmt: skip
        await books.ledger.write_checkpoint(BY_BYTES.run_id, Checkpoint(0, "b", 0, 1, 0, 1), write_outcomes([good]))

    assert _objections(tmp_path, COPIED, [BY_BYTES], alter) is not None


def test_all_disproofs_are_bad_outcomes() -> None:
    """So the name of a checkpoint says whether it may have one."""
    assert not any(statuses & GOOD for statuses in DISPROOFS.values())


def test_only_files_with_findings_are_read_and_newer_proofs_of_what_they_name(tmp_path: Path) -> None:
    reads: list[str] = []

    async def alter(books: Books) -> None:
        real = books.store.get

        async def get(ref: Any, **options: Any) -> Any:
            reads.append(ref.key)
            return await real(ref, **options)

        books.store.get = get  # type: ignore[method-assign]

    elsewhere = Side(Location("docs", "else/"))
    older = VERIFIED._replace(name="older", second=15)
    other = VERIFIED._replace(name="other", second=60, key="else/k", sides=(elsewhere, SIDES[1]))
    newer = VERIFIED._replace(name="newer", second=60)
    assert _objections(tmp_path, COPIED, [older, BY_HEAD, other, newer], alter) is None
    read = {run.name: any(f"{run.run_id}/outcomes/" in key for key in reads) for run in (older, BY_HEAD, other, newer)}
    assert read == {"older": False, BY_HEAD.name: True, "other": False, "newer": True}
    reads.clear()
    (tmp_path / "clean").mkdir()
    assert _objections(tmp_path / "clean", COPIED, [older, newer], alter) is None
    assert not [key for key in reads if "-verify-" in key and "/outcomes/" in key]


def test_a_reconciliation_whose_checksums_differ_voids_a_proof(tmp_path: Path) -> None:
    """Checksums at rest see bytes that the copy's ETag and stored checksums do not show."""
    found = objection(tmp_path, COPIED, Compared())
    assert found == (
        f"run {COMPARISON_RUN} disproved its copy (checksums differ), and no run has proven it as well since: "
        f"see what helps with sealift runs show {COMPARISON_RUN}, or prove it by its bytes with  {COMMAND}"
    )


@pytest.mark.parametrize(
    "comparison",
    [
        Compared(row={**DIFFERENT, "category": "stale"}, report={"categories": {"stale": {"rows": 1, "bytes": 1}}}),
        Compared(row={**DIFFERENT, "reason": "checksums differ; replication FAILED"}),
        Compared(report=None),  # it was killed before it reported
        Compared(row={**DIFFERENT, "source_etag": "of a later original"}),  # the same copy
        Compared(row={**DIFFERENT, "key": "out/k", "destination_key": "in/k"}, sides=SIDES[::-1]),
    ],
)
def test_it_voids_the_proof_whenever_it_may_be_about_that_copy(tmp_path: Path, comparison: Compared) -> None:
    assert objection(tmp_path, COPIED, comparison) is not None


def test_a_copy_that_was_made_after_a_reconciliation_is_not_voided_by_it(tmp_path: Path) -> None:
    assert objection(tmp_path, COPIED, Compared(second=5)) is None


@pytest.mark.parametrize(
    "row",
    [
        {**DIFFERENT, "reason": "sizes differ"},  # of an object that the proof is not about: HEAD shows it
        {**DIFFERENT, "category": "missing"},
        {**DIFFERENT, "category": "in flight"},
        {**DIFFERENT, "key": "in/other"},
        {**DIFFERENT, "destination_key": "elsewhere/k"},
        {**DIFFERENT, "source_etag": "another", "destination_etag": "another"},
    ],
)
def test_other_differences_void_nothing(tmp_path: Path, row: Mapping[str, Any]) -> None:
    assert objection(tmp_path, COPIED, Compared(row=row)) is None


def test_only_the_bytes_or_a_new_copy_answer_a_reconciliation(tmp_path: Path) -> None:
    copied_again = COPIED._replace(name="4-copy", second=40)
    for number, (run, is_answer) in enumerate([(VERIFIED, False), (DEEP, True), (copied_again, True)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert (objection(folder, COPIED, Compared(), run) is None) == is_answer


def test_a_reconciliation_that_lost_its_differences_voids_older_proofs(tmp_path: Path) -> None:
    assert "has lost its differences" in (objection(tmp_path, COPIED, Compared(has_differences=False)) or "")
    (tmp_path / "other").mkdir()
    without = {"categories": {"different": {"rows": 0, "bytes": 0}, "missing": {"rows": 3, "bytes": 3}}}
    assert objection(tmp_path / "other", COPIED, Compared(report=without, has_differences=False)) is None


def test_the_advice_never_copies_over_the_original(tmp_path: Path) -> None:
    """A retry of a run whose source is the copies would."""
    for number, status in enumerate((Status.MISMATCHED, Status.DAMAGED)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = objection(folder, COPIED, SWAPPED._replace(status=status)) or ""
        assert "see which of the two is right, and restore the other" in found
        assert "runs retry" not in found


def test_of_a_damaged_original_the_advice_is_about_the_original(tmp_path: Path) -> None:
    found = objection(tmp_path, COPIED, DAMAGED)
    assert found is not None
    assert f"run {DAMAGED.run_id} found the original damaged" in found
    restore = "sealift verify --deep --source s3://copies/out/ --destination s3://docs/in/"
    assert f"restore it from what is right (a retry of  {restore}  copies it back), or prove it" in found
    assert "runs retry" not in found  # a damaged source is never copied
