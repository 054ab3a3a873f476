"""What a comparison adds to the ledger's state: what is wrong, what is new, and what is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import COMPLETE
from jobs.ledger.state_files import compact, write_delta
from jobs.ledger.views import open_views
from jobs.s3.store import UNGUARDED
from tests.doubles.ledgers import make_ledger
from tests.inventory.samples import CURRENT, VERSIONS, deliver
from tests.ledger.looks import BEGAN, Seen, tell
from tests.reconcile.scene import marker, md5, row, run, version

LISTED = 50
OUTSIDE = version("outside", "v", "x")
"""A list of nothing proves nothing."""
MAPS = PrefixMap((("in/", "in/"),), ("in/not/",))
MISSING = Seen("bad", 10, "listed", "copy_missing", copy_etag=None, copy_modified=None)
ROT = Seen("bad", 10, "bytes", "content_differs")
EXTRA = Seen("bad", 10, "listed", "source_gone", etag=None, modified=None)


@pytest.fixture(autouse=True)
def after_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the second of the lists, which no clock has reached."""
    monkeypatch.setattr("time.time", lambda: float(BEGAN + LISTED))


@dataclass
class World:
    folder: Path
    ledger: Ledger
    number: int = 0

    def know(self, **seen: Seen) -> None:
        """Verdicts about keys below in/, whose names have `__` for `/`."""
        self.number += 1
        named = [each._replace(key=f"in/{key.replace('__', '/')}") for key, each in seen.items()]
        asyncio.run(tell(self.ledger, f"run{self.number}", *named))

    def compare(
        self,
        source: list[dict[str, Any]],
        copies: list[dict[str, Any]],
        *,
        is_complete: bool = True,
        fields: Sequence[str] = CURRENT,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Compare two lists of second 50, and return what that says to the state, which gets it."""
        self.number += 1
        sides = Side(Location("originals")), Side(Location("copies"))
        spec = RunSpec(f"census{self.number}", "reconcile", 0.0, *sides, "m", {**options, COMPLETE: is_complete})
        lists = [
            deliver(self.folder, bucket, [*rows, OUTSIDE], fields=fields, created_at=BEGAN + LISTED)
            for bucket, rows in (("originals", source), ("copies", copies))
        ]
        answer = run(self.folder, *lists, recorded=(self.ledger, spec), maps=MAPS, margin_seconds=0.0)
        path = answer.folder / "verdicts.parquet"
        if not path.exists():
            return []
        asyncio.run(write_delta(self.ledger, spec.run_id, path))
        return pq.read_table(path).to_pylist()

    def state(self) -> dict[str, str]:
        """What is known of each key, and stays known: a finding, or nothing wrong."""

        async def read() -> dict[str, str]:
            async with open_views(self.ledger, ["state"]) as database:
                rows = database.connection.execute("SELECT key, coalesce(finding, blocked, '') FROM state").fetchall()
            return {key.removeprefix("in/"): code for key, code in sorted(rows)}

        before = asyncio.run(read())
        asyncio.run(compact(self.ledger, "test"))
        assert asyncio.run(read()) == before
        return before


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, make_ledger())


def listed(key: str, modified: int, etag: str = "e") -> dict[str, Any]:
    return row(f"in/{key}", "x", ETag=md5(etag), LastModifiedDate=float(BEGAN + modified))


def original(key: str, etag: str = "e") -> dict[str, Any]:
    return listed(key, 0, etag)


def copy(key: str, etag: str = "e") -> dict[str, Any]:
    return listed(key, 1, etag)


def seen(look: Seen) -> Seen:
    """A look at objects with the ETags that `original` and `copy` have."""
    return look._replace(etag=look.etag and md5(look.etag), copy_etag=look.copy_etag and md5(look.copy_etag))


def test_what_is_wrong_is_said_and_of_the_rest_what_the_state_has_not(world: World) -> None:
    world.know(known=seen(Seen("good", 10)), old=seen(Seen("good", 10, etag="before")), other__=seen(Seen("good", 10)))
    found = world.compare(
        [original("known"), original("old"), original("same"), original("late"), original("not/asked")],
        [copy("known"), copy("old"), copy("same"), copy("more"), original("not/other")],
    )
    assert sorted((each["key"], each["verdict"], each["code"]) for each in found) == [
        ("in/late", "bad", "copy_missing"),
        ("in/more", "bad", "source_gone"),
        ("in/old", "gone", ""),
        ("in/old", "good", ""),
        ("in/other/", "gone", ""),
    ]
    old = next(each for each in found if (each["key"], each["verdict"]) == ("in/old", "good"))
    assert (old["etag"], old["copy_etag"], old["copy_key"], old["depth"]) == (md5("e"), md5("e"), "in/old", "listed")
    assert {each["run_id"] for each in found} == {"census2"}
    assert world.state() == {"known": "", "late": "copy_missing", "more": "source_gone", "old": ""}
    assert world.compare([original("known"), original("old")], [copy("known"), copy("old")]) != found


@pytest.mark.parametrize("is_complete", [True, False])
def test_what_a_list_found_is_ended_by_lists_that_have_both_sides(world: World, *, is_complete: bool) -> None:
    world.know(late=seen(MISSING), stray=seen(EXTRA), rot=seen(ROT), denied=seen(Seen("unknown", 10, code="denied")))
    keys = ("late", "stray", "rot", "denied")
    world.compare([original(key) for key in keys], [copy(key) for key in keys], is_complete=is_complete)
    assert world.state() == {"late": "", "stray": "", "rot": "content_differs", "denied": ""}


def test_what_neither_side_has_any_more_is_gone(world: World) -> None:
    world.know(late=seen(MISSING), stray=seen(EXTRA), rot=seen(ROT), fine=seen(Seen("good", 10, "bytes")))
    world.know(later=seen(MISSING)._replace(at=60), not__asked=seen(ROT), version=seen(ROT)._replace(version_id="v"))
    world.know(well=seen(Seen("good", 10, "bytes"))._replace(version_id="v"))
    world.compare([], [], is_complete=False)
    assert len(world.state()) == 8, "lists of a part say nothing of what they lack"
    world.compare([], [])
    assert world.state() == {"later": "copy_missing", "not/asked": "content_differs", "version": "content_differs"}


def test_what_looks_found_of_a_copy_stays_while_the_copy_is_listed(world: World) -> None:
    agreed = seen(ROT)._replace(verdict="accepted", at=20)
    known = {"rot": seen(ROT), "late": seen(MISSING), "fine": seen(Seen("good", 10, "bytes"))}
    world.know(**known, replaced=seen(ROT))
    world.know(rot=agreed)
    found = world.compare([], [copy("rot"), copy("late"), copy("fine"), copy("replaced", "n")], keeps_extra=True)
    assert [(each["key"], each["verdict"]) for each in found] == [
        ("in/fine", "gone"),
        ("in/late", "gone"),
        ("in/replaced", "gone"),
    ]
    assert world.state() == {"rot": "content_differs"}


@pytest.mark.parametrize("is_accepted", [False, True])
def test_what_lists_found_of_a_deleted_original_goes_though_its_copy_is_kept(
    world: World, *, is_accepted: bool
) -> None:
    found = seen(Seen("bad", 10, "listed", "etag_differs", copy_etag="n"))
    world.know(key=found, stray=seen(EXTRA))
    if is_accepted:
        world.know(key=found._replace(verdict="accepted", at=20))
    world.compare([], [copy("key", "n"), copy("stray")], keeps_extra=True)
    assert world.state() == ({"key": "etag_differs"} if is_accepted else {})


def test_a_copy_without_an_original_is_said_until_there_is_an_original_again(world: World) -> None:
    world.know(stray=seen(EXTRA), back=seen(EXTRA))
    world.compare([original("back") | {"ETag": f"{md5('parts')}-2"}], [copy("stray"), copy("back")])
    assert world.state() == {"stray": "source_gone", "back": ""}


def test_a_source_that_is_written_again_is_another_object(world: World) -> None:
    world.know(rot=seen(ROT), fine=seen(Seen("good", 10, "bytes")), other=seen(Seen("good", 10, "bytes")))
    again = [listed("rot", 5), listed("fine", 5), listed("other", 5, "n")]
    world.compare(again, [copy("rot"), copy("fine"), copy("other")])
    assert world.state() == {"fine": "", "other": "etag_differs", "rot": "content_differs"}


def test_what_a_delete_marker_hides_is_not_listed(world: World) -> None:
    world.know(late=seen(MISSING), rot=seen(ROT))
    hidden = [marker("in/late", "m", LastModifiedDate=BEGAN + 5.0), marker("in/rot", "m", LastModifiedDate=BEGAN + 5.0)]
    world.compare(hidden, hidden, fields=VERSIONS)
    assert world.state() == {}


def test_a_state_that_cannot_be_read_hides_nothing_that_is_wrong(world: World) -> None:
    world.know(late=seen(MISSING))
    damaged = world.ledger.store.put(
        ObjectRef("ledger", "state/deltas/run1-0123456789abcdef.parquet"), b"damaged", Attributes(), guard=UNGUARDED
    )
    asyncio.run(damaged)
    assert [each["code"] for each in world.compare([original("late")], [])] == ["copy_missing"]
