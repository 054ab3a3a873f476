"""No delete relies on a condition that the server was not seen to heed, when the run was planned."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, Side
from jobs.core.selection import Selection
from jobs.errors import ConfigError, Denied, LedgerError
from jobs.expire import plan
from jobs.expire.kind import KIND
from jobs.expire.plan import Candidates
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Opened
from jobs.runs.request import Request as RunRequest
from jobs.s3.byte_ranges import ByteBudget
from tests.doubles.memory_store import Request
from tests.expire.scene import DAY, LEDGER, Shop, job, shop, work

ORIGINALS = Location("docs")


class Silent:
    """A display that says nothing."""

    def say(self, text: str) -> None: ...


def other_server(*, versioned: bool) -> Shop:
    """A server whose conditions nothing documents."""
    store = shop(versioned=versioned)
    store.heeds_conditions = False
    return store


async def ignore(request: Request) -> Any:
    request.arguments["if_match"] = None
    return await request()


async def deny(request: Request) -> Any:
    raise Denied("PutObject", request.place.key, "AccessDenied", "no", 403)


def keys(store: Shop) -> set[str]:
    return {each.key for each in asyncio.run(store.list_versions("docs", "")).entries}


@pytest.mark.parametrize(
    ("deletes", "hooks", "why"),
    [
        (True, {"delete": ignore}, "ignores conditions on DeleteObject"),
        (True, {"delete": deny}, r"permit .*s3:PutObject.* s3://docs/\.sealift/trial-\*"),
        (True, {"put": deny}, r"permit .*s3:PutObject.* s3://docs/\.sealift/trial-\*"),
        (False, {"delete": ignore, "put": deny}, ""),
    ],
)
@pytest.mark.parametrize("versioned", [True, False])
def test_a_run_that_deletes_is_refused_before_anything_is_planned_and_loses_nothing(
    deletes: bool, hooks: dict[str, Any], why: str, versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ignores If-Match, or nothing can be tried. A dry run writes nothing, not even a trial."""

    class Listed(Exception):
        """Planning has begun."""

    async def nothing(*_: Any) -> None: ...

    async def find(*_: Any, **__: Any) -> Any:
        raise Listed

    store = other_server(versioned=versioned)
    store.originals(2)
    before = keys(store)
    store.hook(**hooks)
    monkeypatch.setattr(plan, "open_side", lambda side, **_: store)
    monkeypatch.setattr(plan, "refuse_lifecycle", nothing)
    monkeypatch.setattr(Candidates, "find", find)
    monkeypatch.setattr("jobs.expire.places.time.time", lambda: store.now + 60 * DAY)
    store.now += 60 * DAY
    options = {
        "copies": ["s3://copies/"],
        "grace_seconds": 0.0,
        "max_share": 1.0,
        "delete": deletes,
        "by_checksum": False,
        "annotations": "skip",
    }
    sides = Side(ORIGINALS), Side(Location("copies"))
    request = RunRequest("expire", *sides, None, Selection(versions="all"), options)
    ledger = Ledger(store, LEDGER)
    with pytest.raises(ConfigError if deletes else Listed, match=why or None):
        asyncio.run(plan.plan_run(request, ledger, Settings.from_environment(), Silent()))  # type: ignore[arg-type]
    assert set(store.current()) == {"k0", "k1"}
    if "delete" not in hooks or hooks["delete"] is ignore:  # else what was tried is left
        assert keys(store) == before


def test_a_worker_refuses_a_run_that_does_not_say_what_was_tried() -> None:
    store = shop()
    side = Side(ORIGINALS)
    options = {"grace_seconds": 0.0, "delete": True, "apart": False, "copies": []}
    spec = RunSpec("r", "expire", 0.0, side, side, "", options)
    opened = Opened(spec, store, store, ByteBudget(1 << 20), Ledger(store, LEDGER), 1, plan=Plan(0, 0, ()))
    assert KIND.open_job is not None
    with pytest.raises(LedgerError, match="no plan of this release"):
        KIND.open_job(opened)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("looks", [0, 1])
def test_a_bucket_that_keeps_versions_since_the_trial_or_no_longer_loses_nothing(versioned: bool, looks: int) -> None:
    """At the first look of a group, or at the one before its deletes."""
    store = shop(versioned=versioned)
    rows, made, answers = store.originals(2), job(store), list[bool]()

    async def turn(request: Request) -> Any:
        answers.append(await request())
        return answers[-1] if len(answers) <= looks else not answers[-1]

    store.hook(is_versioned=turn)
    with pytest.raises(ConfigError, match="plan again"):
        work(made, rows)
    assert set(store.current()) == {"k0", "k1"}
    assert store.is_announced() is bool(looks)
