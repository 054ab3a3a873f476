"""What a retry takes: the bad rows of a run that the state does not know to be right by now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import LedgerError
from jobs.ledger.state_files import compact
from jobs.reconcile.since_then import standing_rows
from jobs.reports.document import iso_time
from jobs.runs.request import new_run_id
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import write_parquet
from tests.doubles.ledgers import make_ledger
from tests.ledger.looks import Seen, tell

ENDED = 1_800_000_020.0
ROWS = [("a", None, "missing"), ("b", "v1", "different"), ("b", "v2", "different"), ("c", "null", "blocked")]
FOUND = [
    Seen("bad", 10, code="copy_missing", key="a"),
    Seen("bad", 10, code="size_differs", key="b", version_id="v1", etag="e1"),
    Seen("bad", 10, code="size_differs", key="b", version_id="v2", etag="e2"),
    Seen("unknown", 10, code="denied", key="c"),
]


class Scene:
    """A ledger with a run that ended badly, and what later runs say of its rows."""

    def __init__(self, folder: Path, job: str = "verify", rows: Sequence[tuple[Any, ...]] = ROWS):
        self.folder, self.ledger = folder, make_ledger()
        sides = Side(Location("originals")), Side(Location("copies"))
        self.run_id = new_run_id(job, ENDED)
        self.spec = RunSpec(self.run_id, job, ENDED, *sides, "listing")
        asyncio.run(self._end(rows))

    async def _end(self, rows: Sequence[tuple[Any, ...]]) -> None:
        await self.ledger.create(self.spec)
        await self.ledger.publish_plan(self.run_id, Plan(len(rows), 0, ()))
        table = pa.Table.from_pylist([dict(zip(("key", "version_id", "status"), row, strict=True)) for row in rows])
        uri = await self.ledger.write_failures(self.run_id, write_parquet(table), b"")
        await self.ledger.publish_report(
            self.run_id, {"state": "complete", "failures": len(rows), "failures_manifest": uri}
        )

    def say(self, run_id: str, *seen: Seen) -> None:
        asyncio.run(tell(self.ledger, run_id, *(each._replace(run_id=run_id) for each in seen)))

    def standing(self) -> tuple[Path, dict[str, Any]]:
        return asyncio.run(standing_rows(self.ledger, self.spec, iso_time(ENDED), self.folder))

    def rows(self) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in pq.read_table(self.standing()[0]).to_pylist()]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_rows_that_another_run_put_right_are_left_out(scene: Scene) -> None:
    scene.say(scene.run_id, *FOUND)
    assert scene.rows() == ROWS
    scene.say("later", Seen("good", 20, key="a"), FOUND[1]._replace(verdict="good", code="", at=20))
    asyncio.run(compact(scene.ledger, "night"))
    assert scene.rows() == ROWS[2:]
    first_keys = {"blocked": ["c"], "different": ["b"]}
    assert scene.standing()[1] == {"rows": 2, "outcomes": {"blocked": 1, "different": 1}, "first_keys": first_keys}
    scene.say("last", FOUND[2]._replace(verdict="good", code="", at=30), Seen("good", 30, key="c"))
    assert (scene.rows(), scene.standing()[1]["rows"]) == ([], 0)


def test_what_is_accepted_or_of_another_place_decides_nothing(scene: Scene) -> None:
    scene.say(scene.run_id, FOUND[0])
    scene.say("ann", Seen("accepted", 20, key="a"))
    assert scene.rows() == ROWS[:1]
    scene.spec = RunSpec(
        scene.run_id, "verify", ENDED, scene.spec.source, Side(Location("copies", "below/")), "listing"
    )
    assert scene.rows() == []


def test_what_could_not_be_compared_is_tried_again(tmp_path: Path) -> None:
    """It is no finding, so the findings do not say whether it was proven since."""
    scene = Scene(tmp_path, rows=[("a", None, "unknown"), ("b", None, "missing")])
    scene.say(scene.run_id, Seen("unknown", 10, code="nothing_comparable", key="a"), Seen("good", 10, key="b"))
    assert scene.rows() == [("a", None, "unknown")]


def test_a_run_that_the_state_does_not_know_is_done_whole(scene: Scene, tmp_path: Path) -> None:
    assert scene.rows() == ROWS
    scene.say("another", Seen("good", 20, key="a"))
    assert scene.rows() == ROWS
    asyncio.run(
        scene.ledger.store.put(
            ObjectRef("ledger", "state/deltas/x-0123456789abcdef.parquet"), b"half", Attributes(), guard=UNGUARDED
        )
    )
    scene.say(scene.run_id, *FOUND[:1])
    assert scene.rows() == ROWS, "a state that cannot be read knows nothing"
    packed = Scene(tmp_path, "compact")
    packed.say(packed.run_id, Seen("good", 20, key="a"))
    assert packed.rows() == ROWS, "jobs that make no copies are not in it"


def test_a_damaged_file_of_rows_is_named(scene: Scene) -> None:
    name = f"runs/{scene.run_id}/failures.parquet"
    asyncio.run(scene.ledger.store.put(ObjectRef("ledger", name), b"half", Attributes(), guard=UNGUARDED))
    with pytest.raises(LedgerError, match=rf"{name} cannot be read"):
        scene.standing()
