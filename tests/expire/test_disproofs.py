"""Disproofs: which proofs of a copy the findings of other runs void, by the ledger alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import duckdb
import pytest

from jobs.core.model import Attributes, Location
from jobs.core.outcome import GOOD, Evidence, Outcome, Status
from jobs.core.run import Side
from jobs.expire import disproofs
from jobs.expire.disproofs import object_to_disproved
from jobs.expire.proofs import PROVEN, add_proofs
from jobs.expire.runs_with_findings import DISPROOFS
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.s3.listing import list_all
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import write_outcomes
from tests.expire.ledger_runs import BY_BYTES, BY_HEAD, COPIED, DEEP, DIFFERENT, SIDES, VERIFIED, Compared, Run
from tests.expire.scene import LEDGER, NOW, Shop

DAMAGED = BY_BYTES._replace(status=Status.DAMAGED, evidence=Evidence.NONE)
UNREAD = BY_BYTES._replace(status=Status.FAILED, evidence=Evidence.NONE, copy_etag=None)
SWAPPED = BY_BYTES._replace(sides=SIDES[::-1], key="out/k")
"""What a run found of the same pair, with the copies as its source."""
COPIED_LATER = COPIED._replace(name="3-copy", second=30)
NAMED = COPIED._replace(version_id="v", copy_version_id="c")
ELSEWHERE = Side(Location("third"))
COMMAND = "sealift verify --deep --source s3://docs/in/ --destination s3://copies/out/"
"""What proves the copies of all runs here by their bytes."""

Alter = Callable[[Shop], Awaitable[None]]


def objection(folder: Path, proving: Run, *others: Run | Compared, alter: Alter | None = None) -> str | None:
    """The objection to the proof of `proving`, beside other runs in the ledger. `alter`: somebody alters that."""

    async def look() -> str | None:
        store = Shop()
        spec = await proving.write(store)
        for run in others:
            await run.write(store)
        if alter:
            await alter(store)
        ledger, place = Ledger(store, LEDGER), folder / str(len(list(folder.iterdir())))
        place.mkdir()
        connection = duckdb.connect()
        connection.execute(f"CREATE TABLE proven ({PROVEN})")
        await add_proofs(ledger, spec, place / "proofs", connection)
        connection.execute("ALTER TABLE proven ADD COLUMN objection VARCHAR")
        await object_to_disproved(ledger, [spec], "docs", place / "disproofs", connection)
        ((found,),) = connection.execute("SELECT objection FROM proven").fetchall()
        return None if found is None else str(found)

    return asyncio.run(look())


VOID = [
    ("nothing was at the destination", COPIED, [BY_HEAD._replace(status=Status.MISSING, copy_etag=None)]),
    ("the newer proof did not look at bytes", VERIFIED, [BY_BYTES]),
    ("nor did this one", COPIED, [BY_BYTES, VERIFIED]),
    ("a checksum beside the bytes is no look at them", VERIFIED._replace(evidence=Evidence.CHECKSUM), [BY_BYTES]),
    ("only bytes answer for a damaged original", COPIED, [DAMAGED, VERIFIED]),
    ("only bytes answer for what nobody could read", COPIED, [UNREAD, VERIFIED]),
    ("the proof is of the same second", DEEP._replace(second=20), [BY_BYTES]),
    ("the worker's clock was fast", COPIED._replace(said=60), [BY_BYTES]),
    ("the disproving worker's clock was slow", COPIED, [BY_BYTES._replace(said=1)]),
    ("the versions of both sides are named", NAMED, [BY_BYTES._replace(version_id="v", copy_version_id="c")]),
    ("one run names no version", NAMED, [BY_BYTES]),
    ("a forged report denies it", COPIED, [
        BY_BYTES._replace(report={"state": "complete", "outcomes": {"verified": 1}})
    ]),
    ("it was disproved again", COPIED, [BY_BYTES, DEEP, BY_BYTES._replace(name="4-deep", second=40)]),
    ("the copies were the source", COPIED, [SWAPPED]),
    ("what is the same from the other side is no answer", COPIED, [
        BY_BYTES, DEEP._replace(sides=SWAPPED.sides, key="out/k")
    ]),
    ("the copy is damaged, as the source of another", COPIED, [
        SWAPPED._replace(status=Status.DAMAGED, job="replicate", sides=(SIDES[1], ELSEWHERE))
    ]),
    ("the original is damaged, as the source of another", COPIED, [DAMAGED._replace(sides=(SIDES[0], ELSEWHERE))]),
    ("some servers take two slashes for one", COPIED._replace(key="in//k"), [BY_BYTES]),
    ("an access point may lead to the copies", COPIED, [
        BY_BYTES._replace(sides=(SIDES[0], Side(Location("point-0a1b-s3alias", "out/"))))
    ]),
    ("a reconciliation saw other checksums", COPIED, [Compared()]),
    ("which was killed before it reported", COPIED, [Compared(report=None)]),
    ("which compared in the other direction", COPIED, [
        Compared(row={**DIFFERENT, "key": "out/k", "destination_key": "in/k"}, sides=SIDES[::-1])
    ]),
    ("and only bytes answer it", COPIED, [Compared(), VERIFIED]),
    ("it has lost its differences", COPIED, [Compared(has_differences=False)]),
]  # fmt: skip
LEFT = [
    ("nothing disproves it", COPIED, [VERIFIED]),
    ("a copy over it is newer", COPIED_LATER, [BY_BYTES]),
    ("a damaged original has a new copy", COPIED_LATER, [DAMAGED]),
    ("the bytes of the copy alone were read since", COPIED, [BY_BYTES, DEEP._replace(evidence=Evidence.CHECKSUM)]),
    ("somebody could read it since", COPIED, [UNREAD, DEEP]),
    ("another run proves it as well since", COPIED, [BY_HEAD, VERIFIED]),
    ("it was about other content", COPIED, [BY_BYTES._replace(etag="f", copy_etag="f")]),
    ("it is about another copy", COPIED, [BY_BYTES._replace(sides=(SIDES[0], Side(Location("copies", "else/"))))]),
    ("it is about another bucket", COPIED, [BY_BYTES._replace(sides=(Side(Location("other", "in/")), SIDES[1]))]),
    ("the original is missing, seen from the copies", COPIED, [SWAPPED._replace(status=Status.MISSING)]),
    ("a copy of the copy is wrong", COPIED, [SWAPPED._replace(sides=(SIDES[1], ELSEWHERE))]),
    ("nobody tried to read it", COPIED, [UNREAD._replace(options={})]),
    ("nobody knows", COPIED, [BY_BYTES._replace(status=Status.UNVERIFIABLE)]),
    ("a reconciliation is older than the copy", COPIED, [Compared(second=5)]),
    ("a reconciliation saw what HEAD shows", COPIED, [Compared(row={**DIFFERENT, "reason": "sizes differ"})]),
    ("bytes answer a reconciliation", COPIED, [Compared(), DEEP]),
]  # fmt: skip


@pytest.mark.parametrize(("why", "proving", "others"), VOID, ids=[each[0] for each in VOID])
def test_what_voids_a_proof(tmp_path: Path, why: str, proving: Run, others: list[Run | Compared]) -> None:
    assert objection(tmp_path, proving, *others), why


@pytest.mark.parametrize(("why", "proving", "others"), LEFT, ids=[each[0] for each in LEFT])
def test_what_leaves_a_proof_as_it_is(tmp_path: Path, why: str, proving: Run, others: list[Run | Compared]) -> None:
    assert objection(tmp_path, proving, *others) is None, why


def _rows(cells: int) -> list[list[str]]:
    """The rows of the docstring's table that has so many columns."""
    lines = [line for line in (disproofs.__doc__ or "").splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [row for row in rows if len(row) == cells][1:]


LOOKS = {"what S3 keeps beside the bytes": BY_HEAD, "the bytes": BY_BYTES}


def test_the_docstring_shows_which_proofs_a_disproof_is_about(tmp_path: Path) -> None:
    rows = _rows(5)
    assert len(rows) == 5
    for version, etag, look, place, effect in rows:
        bad = LOOKS[look]._replace(
            version_id={"same": "v", "another": "w"}[version],
            etag={"same": "e", "another": "f"}[etag],
            copy_version_id={"same": "c", "another": "d"}[place],
        )
        assert (objection(tmp_path, NAMED, bad) is not None) == (effect == "voided"), (version, etag, look, place)


def test_the_docstring_shows_what_restores_a_proof(tmp_path: Path) -> None:
    proofs = {
        "anything": [VERIFIED, DEEP, COPIED_LATER],
        "what S3 keeps beside the bytes": [VERIFIED],
        "the bytes of both, or a new copy over it": [DEEP, COPIED_LATER],
    }
    played = [(disproof, each, counts) for disproof, proof, counts in _rows(3) for each in proofs[proof]]
    assert len(played) == 6
    for disproof, each, counts in played:
        assert (objection(tmp_path, each, LOOKS[disproof]) is None) == (counts == "again"), (disproof, each)


def test_an_objection_names_the_run_and_says_what_frees_the_original(tmp_path: Path) -> None:
    for bad in (BY_BYTES, BY_HEAD, UNREAD):
        found = objection(tmp_path, COPIED, bad) or ""
        assert bad.run_id in found
        assert found.endswith(f", or prove it by its bytes with  {COMMAND}")


@pytest.mark.parametrize("finding", [SWAPPED, SWAPPED._replace(status=Status.DAMAGED), DAMAGED])
def test_the_advice_never_copies_over_an_original_that_may_be_right(tmp_path: Path, finding: Run) -> None:
    """A retry of a run whose source is the copies would; a damaged source is never copied."""
    assert f"runs retry {finding.run_id}" not in (objection(tmp_path, COPIED, finding) or "runs retry")


BROKEN_RUN = "20250615T150640Z-verify-bbbbbb"


def put(name: str, second: float) -> Alter:
    async def alter(store: Shop) -> None:
        store.now = NOW + second
        await store.put("ledger", f"runs/runs/{name}", b"{", Attributes(), guard=UNGUARDED)

    return alter


@pytest.mark.parametrize(("second", "proving", "is_void"), [
    (20, COPIED, True), (20, VERIFIED, True), (20, DEEP, False), (40, DEEP, True), (20, COPIED_LATER, False),
])  # fmt: skip
def test_a_run_that_nobody_can_read_voids_what_was_not_proven_by_bytes_since(
    tmp_path: Path, second: float, proving: Run, is_void: bool
) -> None:
    found = objection(tmp_path, proving, alter=put(f"{BROKEN_RUN}/spec.json", second))
    assert (found is not None) == is_void
    assert not is_void or f"runs/{BROKEN_RUN}/spec.json is not what Sealift writes" in (found or "")


def test_files_that_cannot_be_read_void_and_files_of_a_run_that_was_never_planned_do_not(tmp_path: Path) -> None:
    for name in ("report.json", "outcomes/0/x.parquet", "outcomes/00000/b-000000-1-1-1.parquet"):
        assert objection(tmp_path, COPIED, VERIFIED, alter=put(f"{VERIFIED.run_id}/{name}", 30)), name
    assert objection(tmp_path, COPIED, alter=put(f"{BROKEN_RUN}/shards/00000.parquet", 20)) is None


@pytest.mark.parametrize("lost", ["outcomes/", "plan.json", "spec.json"])
def test_a_run_that_lost_what_its_report_counts_voids_older_proofs(tmp_path: Path, lost: str) -> None:
    bad = BY_BYTES._replace(report={"state": "complete", "outcomes": {"mismatched": 1}})

    async def alter(store: Shop) -> None:
        place = Location("ledger", f"runs/runs/{BY_BYTES.run_id}/{lost}")
        async with aclosing(list_all(store, place, versions=False)) as pages:
            gone = [entry.key async for page in pages for entry in page]
        assert gone
        for key in gone:
            await store.delete("ledger", key)

    assert objection(tmp_path, COPIED, bad, alter=alter)
    assert objection(tmp_path, DEEP, bad, alter=alter) is None


@pytest.mark.parametrize("status", [Status.CHANGED, Status.VERIFIED])
def test_no_other_outcome_of_a_row_hides_a_finding(tmp_path: Path, status: Status) -> None:
    """The fold prefers both to `missing`."""
    missing = BY_HEAD._replace(status=Status.MISSING, copy_etag=None)

    async def alter(store: Shop) -> None:
        outcome = Outcome(0, "in/k", None, status, etag="e", finished_at=NOW + 20, attempt="b")
        checkpoint = Checkpoint(0, "b", 0, 1, int(status not in GOOD), 1)
        await Ledger(store, LEDGER).write_checkpoint(missing.run_id, checkpoint, write_outcomes([outcome]))

    assert objection(tmp_path, COPIED, missing, alter=alter) is not None


def test_all_disproofs_are_bad_outcomes() -> None:
    """So the name of a checkpoint says whether it may have one."""
    assert not any(statuses & GOOD for statuses in DISPROOFS.values())
