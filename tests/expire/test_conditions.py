"""No delete relies on a condition that the server was not seen to heed, when the run was planned."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from msgspec.structs import replace

from jobs.core.run import Plan, ShardSummary
from jobs.errors import ConfigError, Denied, LedgerError, Rejected, TakenOver
from jobs.expire.kind import KIND
from jobs.runs import launch
from jobs.runs.request import Planned
from tests.doubles.memory_store import Request
from tests.expire.scene import Shop, job, opened, shop, work


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


async def reject(request: Request) -> Any:
    raise Rejected("PutObject", request.place.key, "NotImplemented", "no", 501)


def keys(store: Shop) -> set[str]:
    return {each.key for each in asyncio.run(store.list_versions("docs", "")).entries}


@pytest.mark.parametrize(
    ("deletes", "hooks", "why"),
    [
        (True, {"delete": ignore}, "ignores conditions on DeleteObject"),
        (True, {"delete": deny}, r"permit .*s3:PutObject.* s3://docs/\.sealift/trial-\*"),
        (True, {"put": deny}, r"permit .*s3:PutObject.* s3://docs/\.sealift/trial-\*"),
        (True, {"put": reject}, r"cannot be found out whether the server of s3://docs/ heeds .*NotImplemented"),
        (False, {"delete": ignore, "put": deny}, ""),
    ],
)
@pytest.mark.parametrize("versioned", [True, False])
def test_a_run_that_deletes_is_refused_before_it_begins_and_loses_nothing(
    deletes: bool, hooks: dict[str, Any], why: str, versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of the originals ignores If-Match, or nothing can be tried. A dry run writes not even a trial."""
    store = other_server(versioned=versioned)
    store.originals(2)
    before = keys(store)
    store.hook(**hooks)
    monkeypatch.setattr(launch, "open_side", lambda side: store)
    planned = Planned(opened(store, delete=deletes).spec, Plan(2, 0, (ShardSummary(2, 0),)), Path())

    async def play() -> None:
        async with AsyncExitStack() as behind:
            await launch.try_conditions(planned, KIND.writes(planned.spec), behind)

    with pytest.raises(ConfigError, match=why) if deletes else nullcontext():
        asyncio.run(play())
    assert set(store.current()) == {"k0", "k1"}
    if "delete" not in hooks or hooks["delete"] is ignore:  # else what was tried is left
        assert keys(store) == before


@pytest.mark.parametrize("plan", [None, Plan(0, 0, ())])
def test_a_worker_refuses_a_run_that_does_not_say_in_what_state_the_bucket_was(plan: Plan | None) -> None:
    assert KIND.open_job is not None
    with pytest.raises(LedgerError, match="no plan of this release"):
        KIND.open_job(replace(opened(shop()), plan=plan))


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


def test_a_run_that_was_taken_over_deletes_nothing_more() -> None:
    """Its tombstones are there, and who has taken over may not have seen them."""
    store = shop()
    row, worker = store.original(), job(store)
    worker.opened = replace(worker.opened, look_at_owner=AsyncMock(side_effect=TakenOver("by another")))
    with pytest.raises(TakenOver):
        work(worker, [row])
    assert (store.is_announced(), store.current()) == (True, {"k": b"content"})
