"""Servers that ignore conditions are found out before anything goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.core.outcome import Status
from jobs.core.selection import is_sealift_object
from jobs.errors import ConfigError, Denied, NotFound
from jobs.expire.deletes import WRONG, ExactDeletes
from tests.doubles.memory_store import Request
from tests.expire.scene import Shop, job, one, shop, work


def history(store: Shop) -> list[tuple[str, bool]]:
    entries = asyncio.run(store.list_versions("docs", "")).entries
    return [(each.key, each.is_delete_marker) for each in entries if not is_sealift_object(each.key)]


def careless(store: Shop, *, denied: frozenset[str] = frozenset(), is_heeding: bool = False) -> list[str]:
    """The server ignores If-Match, and answers 404 where nothing is: that was taken for heeding it.

    `denied` are the keys that nobody may delete. Returns the trials, as they come.
    """
    trials: list[str] = []

    async def delete(request: Request) -> Any:
        key, if_match = request.place.key, request.arguments["if_match"]
        if if_match is not None:
            if if_match == WRONG:
                trials.append(key)
            if key in denied:
                raise Denied("DeleteObject", key, "AccessDenied", "no", 403)
            versions = store._buckets.named[request.place.bucket].versions.get(key, [])
            if not versions or versions[-1].is_delete_marker:
                raise NotFound("DeleteObject", key, "NoSuchKey", "nothing there", 404)
            if not is_heeding:
                request.arguments["if_match"] = None
        return await request()

    store.hook(delete=delete)
    return trials


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("denied", [frozenset(), frozenset({"k0"})])
def test_a_server_that_ignores_if_match_is_found_out_before_anything_goes(
    versioned: bool, denied: frozenset[str]
) -> None:
    store = shop(versioned=versioned)
    rows = store.originals(2)
    careless(store, denied=denied)
    with pytest.raises(ConfigError, match="whatever If-Match says"):
        work(job(store), rows)
    assert history(store) == [("k0", False), ("k1", False)]


@pytest.mark.parametrize("denied", [{"k0"}, {"k0", "k1", "k2"}])
def test_a_delete_that_is_denied_does_not_say_that_the_server_heeds_if_match(denied: set[str]) -> None:
    store = shop()
    rows = store.originals(3)
    careless(store, denied=frozenset(denied), is_heeding=True)
    outcomes = work(job(store), rows)
    assert {each.key for each in outcomes if each.status is Status.KEPT} == denied
    assert set(store.current()) == denied


def test_where_no_probe_can_be_written_nothing_goes() -> None:
    store = shop(versioned=False)
    row = store.original()

    async def read_only(request: Request) -> Any:
        if ".sealift-" in request.place.key:
            raise Denied("PutObject", request.place.key, "AccessDenied", "no", 403)
        return await request()

    store.hook(put=read_only)
    with pytest.raises(ConfigError, match=r"permit.*s3:PutObject"):
        one(store, row)
    assert history(store) == [("k", False)]


def test_a_404_for_a_probe_that_is_there_does_not_say_that_the_server_heeds_if_match() -> None:
    store = shop(versioned=False)
    row = store.original()

    async def forgetful(request: Request) -> Any:
        if request.arguments["if_match"] is not None:
            raise NotFound("DeleteObject", request.place.key, "NoSuchKey", "nothing there", 404)
        return await request()

    store.hook(delete=forgetful)
    with pytest.raises(ConfigError, match="cannot be found out whether"):
        one(store, row)
    assert history(store) == [("k", False)]


def test_one_original_at_most_is_asked_for_a_trial_and_shown_again() -> None:
    store = shop()
    row = store.original()
    trials = careless(store)

    async def together() -> list[Any]:
        deletes = ExactDeletes(store, "docs")
        checks = (deletes.check_hiding([("k", row.etag or "")]) for _ in range(3))
        return await asyncio.gather(*checks, return_exceptions=True)

    assert all(isinstance(each, ConfigError) for each in asyncio.run(together()))
    assert (trials, history(store)) == (["k"], [("k", False)])


def test_a_trial_that_is_cut_off_shows_the_original_again() -> None:
    store = shop()
    row = store.original()
    careless(store)
    heedless = store.delete

    async def cut_off() -> None:
        removing = asyncio.Event()

        async def slow(bucket: str, key: str, **more: Any) -> Any:
            if more.get("version_id") is not None and not removing.is_set():
                removing.set()
                await asyncio.sleep(3600)
            return await heedless(bucket, key, **more)

        store.delete = slow  # type: ignore[method-assign]
        trial = asyncio.create_task(ExactDeletes(store, "docs").check_hiding([("k", row.etag or "")]))
        await removing.wait()
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial

    asyncio.run(cut_off())
    assert history(store) == [("k", False)]
