"""Who works at a run, exhaustively: see `one_run` for the bound. SEALIFT_EXAMPLES: how many schedules are played."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from jobs.ledger.owner import Owner
from tests.doubles.examples import VARIABLE
from tests.runs.one_run import Case, World, cases, installed

QUICK = 150


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    with installed():
        yield


def test_whatever_happens_at_any_request_the_run_keeps_its_promises() -> None:
    every, wanted, schedules = list(cases()), int(os.environ.get(VARIABLE) or QUICK), set[int]()
    random.Random(1).shuffle(every)
    for case in every:
        world = World(case).play()
        assert world.violations == [], world.trace
        schedules.add(world.schedule)
        if len(schedules) == wanted:
            break
    print(f"{len(schedules):,} schedules of at most {len(every):,}")
    assert len(schedules) > min(wanted, QUICK) // 2  # many plays are the same requests in the same order


@pytest.mark.parametrize(
    ("case", "what"),
    [
        (Case("deletes", fate="asleep before", second="cancel"), "deleted 9.* s after another one took over"),
        (Case("copies", second="cancel"), "the first one went on"),
    ],
)
def test_a_worker_that_does_not_look_is_noticed(case: Case, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def see_nobody(owner: Owner) -> None:
        owner.looked_at = owner.clock()

    monkeypatch.setattr(Owner, "look", see_nobody)
    wrong = [each for at in range(1, 30) for each in World(replace(case, at=at)).play().violations]
    assert any(re.search(what, each) for each in wrong)
