"""The enqueue function over many pairs: bounded in time, and no pair keeps another from its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from jobs.errors import Denied, LedgerError, Unavailable
from scheduler import backlog
from scheduler.backlog import BacklogRow
from scheduler.enqueue import handle
from tests.doubles.hooks import refuse
from tests.scheduler.scene import Scene, slow

NOW = {"action": "backlog", "now": True}


class Pairs(Scene):
    """Two pairs of one ledger."""

    def __init__(self, folder: Path, **second: Any) -> None:
        super().__init__(folder)
        place = {"bucket": "source", "region": "us-east-1"}
        pairs = [
            {"name": name, "source": {**place, "prefixes": [f"{name}/"]}, "destination": place | {"bucket": "hotter"}}
            for name in ("first", "second")
        ]
        self.write_policy(folder, [pairs[0], pairs[1] | second])

    def add(self, pair: str, *names: str) -> None:
        """Put an object with these rows into a pair's backlog."""
        rows = [BacklogRow("source", f"{pair}/{name}", None, 1, None, "large") for name in names]
        self.runtime.run(backlog.add(self.runtime, pair, rows))

    def enqueue(self, remaining_seconds: float = 300.0, **event: Any) -> None:
        """Announce manifests, which are then in `announced`."""
        self.announced.clear()
        self.runtime.run(handle(self.runtime, NOW | event, self.announce, remaining_seconds))

    def waiting(self, pair: str) -> int:
        return len(self.runtime.run(backlog.waiting(self.runtime, pair)))


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    return Pairs(tmp_path)


def test_a_stray_object_of_one_pair_stops_neither_it_nor_the_others(pairs: Pairs) -> None:
    """Nothing was enqueued any more, of any pair."""
    row = asdict(BacklogRow("source", "first/old", None, 1, None, "large"))
    pairs.write("backlog/pair=first/0000000000001-1-1-a.json", row, storage_class="GLACIER")
    pairs.add("first", "a")
    pairs.add("second", "b")
    pairs.enqueue()
    assert [(each.pair, each.rows) for each in pairs.announced] == [("first", 1), ("second", 1)]
    assert pairs.waiting("first") == 1  # it stays, and the log says why
    pairs.write("manifests/pair=first/000009.json", {})
    pairs.add("first", "c")
    pairs.add("second", "d")
    with pytest.raises(LedgerError, match="first"):
        pairs.enqueue()
    assert [each.rows for each in pairs.announced if each.number > 1] == [1]


def test_when_the_time_is_over_what_was_read_is_published(pairs: Pairs) -> None:
    """It kept nothing, so that it never came to an end, and the pairs behind it had no turn."""
    for number in range(100):
        pairs.add("first", f"{number}")
    pairs.add("second", "a")
    pairs.store.hook(get=slow(lambda request: 0.05))
    before, turns = 100, 0
    while before:
        pairs.enqueue(remaining_seconds=0.05)
        assert turns or [each.pair for each in pairs.announced] == ["first", "second"]
        assert pairs.waiting("first") < before
        before, turns = pairs.waiting("first"), turns + 1
    assert turns > 1
    assert sum(each.rows for each in pairs.announced if each.pair == "first") == 100


def test_a_pair_whose_backlog_takes_too_long_is_given_up_for_this_call(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function was killed, and no pair had a run."""
    monkeypatch.setattr("scheduler.enqueue.LISTING_SECONDS", 0.1)
    pairs.add("first", "a")
    pairs.add("second", "b")
    pairs.store.hook(get=slow(lambda request: 3.0 if "pair=first" in request.place.key else 0.0))
    with pytest.raises(Unavailable, match=r"first.*the time was over"):
        pairs.enqueue(remaining_seconds=0.5)
    assert [each.pair for each in pairs.announced] == ["second"]


def test_a_manifest_has_no_more_rows_than_a_run_of_the_pair_may_have(tmp_path: Path) -> None:
    """The run's plan was refused, each time."""
    pairs = Pairs(tmp_path, limits={"max_objects": 5}, thresholds={"backlog_rows": 5})
    for number in range(4):
        pairs.add("second", *(f"{number}-{row}" for row in range(2)))
    pairs.add("second", *(f"large-{row}" for row in range(7)))
    for _ in range(3):
        pairs.enqueue()
    assert [each.rows for each in pairs.announced] == [4, 4, 7]


def test_a_manifest_that_was_not_started_is_announced_however_many_later_ones_were(tmp_path: Path) -> None:
    """One submission failed past its retries, and its rows waited for ever."""
    pairs = Pairs(tmp_path, limits={"max_objects": 2}, thresholds={"backlog_rows": 2})
    for number in range(8):
        pairs.add("second", *(f"{number}-{row}" for row in range(2)))
    for _ in range(8):
        pairs.enqueue(pair="second")
    assert [each.number for each in pairs.announced] == list(range(1, 9))
    for number in range(2, 9):
        pairs.write(f"starts/second/backfill/{number:06d}/submitted.json", {"job_id": "1"})
    pairs.enqueue(pair="second")
    assert [each.number for each in pairs.announced] == [1]
    pairs.write("starts/second/backfill/000001/submitted.json", {"job_id": "1"})
    pairs.enqueue(pair="second")
    assert pairs.announced == []


def test_rows_that_another_pair_has_by_now_wait_for_that_pair(tmp_path: Path) -> None:
    """A pair was divided, and the rows that it had left were in no backlog and in no manifest."""
    pairs = Pairs(tmp_path, limits={"max_objects": 3}, thresholds={"backlog_rows": 3})
    rows = [BacklogRow("source", key, f"v{key[-1]}", 1, None, "large") for key in ("second/1", "first/2", "third/3")]
    for _ in range(2):
        pairs.runtime.run(backlog.add(pairs.runtime, "first", rows))
    pairs.add("second", "4")
    for _ in range(2):
        pairs.enqueue()
    assert (pairs.waiting("first"), pairs.waiting("second")) == (0, 0)
    written = {each.pair: set[str]() for each in pairs.announced}
    for each in pairs.announced:
        name = each.manifest.removeprefix("s3://ledger/l/")
        written[each.pair] |= set(pairs.runtime.run(pairs.runtime.read(name)).decode().splitlines())
    assert written == {"first": {"source,first/2,v2,1,"}, "second": {"source,second/1,v1,1,", "source,second/4,,1,"}}


def test_rows_stay_where_they_are_while_they_cannot_be_moved(pairs: Pairs) -> None:
    pairs.runtime.run(backlog.add(pairs.runtime, "first", [BacklogRow("source", "second/1", None, 1, None, "large")]))
    denied = Denied("PutObject", "k", "AccessDenied", "no", 403)
    pairs.store.hook(put=refuse(denied, lambda request: "backlog/pair=second/" in request.place.key))
    with pytest.raises(Denied):
        pairs.enqueue()
    assert pairs.waiting("first") == 1
