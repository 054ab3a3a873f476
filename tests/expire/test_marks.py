"""The bucket of the originals by another name, and servers that ignore conditions: found out before anything goes."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.core.selection import Selection
from jobs.errors import ConfigError, Denied, NotFound
from jobs.expire.copy_checks import Copies
from jobs.expire.deletes import WRONG, ExactDeletes
from jobs.expire.job import Expire
from jobs.expire.marks import CLAIM, LONG_KEY, _names, _suffix
from jobs.expire.rules import Proof
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import Page
from tests.doubles.memory_store import Request
from tests.expire.scene import Shop, job, one, shop, work

VERSIONED = pytest.mark.parametrize("versioned", [True, False])


def history(store: Shop, bucket: str = "docs") -> list[tuple[str, bool]]:
    entries = asyncio.run(store.list_versions(bucket, "")).entries
    return [(each.key, each.is_delete_marker) for each in entries]


def proven_by(store: Shop, row: ObjectVersion, bucket: str, key: str = "k") -> ObjectVersion:
    """The row, proven by what is at that place."""
    info = asyncio.run(store.head(ObjectRef(bucket, key)))
    return row._replace(proof=Proof("run", store.now, bucket, key, row.version_id, info.etag).encode())


def job_with(store: Shop, place: str, *, streamed: bool = False) -> Expire:
    copies = Copies(store, store, ByteBudget(16 << 20), streamed)
    return replace(job(store), copies=copies, places=[Location(place)])


def refuses(store: Shop, row: ObjectVersion, place: str, problem: str = "by another name", **options: Any) -> bool:
    """Whether the run ends, and leaves everything as it was."""
    before = history(store)
    with pytest.raises(ConfigError, match=problem):
        work(job_with(store, place, **options), [row])
    return history(store) == before


@VERSIONED
def test_the_bucket_by_another_name_is_no_place_for_copies(versioned: bool) -> None:
    """A gateway's, for example."""
    store = shop(versioned=versioned)
    row = store.original()
    named = store._buckets.named
    named["docs-too"] = named["docs"]
    assert refuses(store, proven_by(store, row, "docs-too"), "docs-too")
    assert asyncio.run(store.list_objects("ledger", "")).entries == []  # not even announced
    assert refuses(store, proven_by(store, row, "docs"), "docs", streamed=True)  # the same service, another endpoint


def test_a_part_of_the_bucket_by_another_name_is_no_place_for_copies() -> None:
    """The gateway's bucket `gate` is what `docs` has beneath `folder/`."""
    store = shop()
    row = store.original("folder/k")

    async def gateway(request: Request) -> Any:
        given, place = request.arguments, request.place
        if place.bucket == "gate":
            if "ref" in given:
                given["ref"] = place._replace(bucket="docs", key=f"folder/{place.key}")
            else:
                given["bucket"] = "docs"
            if "prefix" in given:
                given["prefix"] = f"folder/{given['prefix']}"
        return await request()

    store.hook(every=gateway)
    assert refuses(store, proven_by(store, row, "gate"), "gate")


@VERSIONED
def test_a_replica_with_the_same_version_ids_and_dates_is_a_place_for_copies(versioned: bool) -> None:
    store = shop(versioned=versioned)
    row = store.original()
    named = store._buckets.named
    named["copies"] = deepcopy(named["docs"])
    assert work(job_with(store, "copies"), [proven_by(store, row, "copies")])[0].status is Status.EXPIRED
    assert history(store, "copies") == [("k", False)]
    assert all(".sealift-" not in key for key, _ in history(store))


@VERSIONED
@pytest.mark.parametrize("delete", [True, False])
def test_a_mark_is_left_once_a_worker_and_never_in_a_dry_run(
    versioned: bool, delete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.expire.job.GROUP_ROWS", 2)
    store = shop(versioned=versioned)
    rows = store.originals(6)
    written: list[str] = []

    async def note(request: Request) -> Any:
        if ".sealift-" in request.place.key and request.arguments.get("version_id") is None:
            written.append("claim" if request.place.key.startswith(CLAIM) else "mark")
        return await request()

    store.hook(**{"delete" if versioned else "put": note})
    status = Status.EXPIRED if delete else Status.SKIPPED
    assert {each.status for each in work(job(store, delete=delete), rows)} == {status}
    marks = 1 if versioned else 2  # the second is for the condition
    assert (written.count("claim"), written.count("mark")) == ((3, marks) if delete else (0, 0))
    assert all(".sealift-" not in key for key, _ in history(store))


@VERSIONED
def test_the_same_key_in_another_spelling_is_no_copy(versioned: bool) -> None:
    """The server takes `x//k` for `x/k`, as one does that keeps objects in folders."""
    store = shop(versioned=versioned)
    row = store.original("x/k")

    async def fold(request: Request) -> Any:
        given = request.arguments
        if "ref" in given:
            given["ref"] = given["ref"]._replace(key=given["ref"].key.replace("//", "/"))
        if "prefix" in given:
            given["prefix"] = given["prefix"].replace("//", "/")
        return await request()

    store.hook(every=fold)
    assert refuses(store, proven_by(store, row, "docs", "x//k"), "docs")


@pytest.mark.parametrize("is_late", [True, False])
def test_where_the_two_cannot_be_told_apart_nothing_goes(is_late: bool) -> None:
    """Listings show what was written only later, or nobody may list the copies."""
    store = shop()
    row = store.original()

    async def listing(request: Request) -> Any:
        if is_late and ".sealift-" in request.arguments["prefix"]:
            return Page([], [], None)
        if not is_late and request.place.bucket == "copies":
            raise Denied("ListObjectVersions", "copies", "AccessDenied", "no", 403)
        return await request()

    store.hook(list_versions=listing)
    with pytest.raises(ConfigError, match="does not list" if is_late else "cannot be found out"):
        one(store, row)
    assert store.current()["k"] == b"content"


@pytest.mark.parametrize(
    "name",
    ["copies-0a1b2c-s3alias", "copies-x--ol-s3", "m1234.mrap", "arn:aws:s3:eu-west-1:123456789012:accesspoint:a"],
)
def test_an_access_point_that_is_no_bucket_is_no_place_for_copies(name: str) -> None:
    store = shop()
    store.create_bucket(name)
    copy = store.put_now(name, "k", b"content")
    row = store.original()
    proof = Proof("run", store.now, *copy, asyncio.run(store.head(copy)).etag)
    assert refuses(store, row._replace(proof=proof.encode()), name, "name the bucket itself")


@pytest.mark.parametrize("key", ["k", "docs/" + "x" * 1019, "docs/" + "ü" * 505, "a" * LONG_KEY])
def test_a_mark_has_a_name_that_s3_takes_keeps_the_prefix_and_is_left_out_of_plans(key: str) -> None:
    tail = key[-200:]
    mark, mapped = _names(key, "backup/" + tail)
    assert len(mark.encode()) <= 1024
    assert mark.startswith(key[:5])
    assert mapped == "backup/" + mark[len(key) - len(tail) :]
    for each in (mark, mapped, f"{CLAIM}run{_suffix()}"):
        excluded = Selection(versions="all").excluded_by(each, is_latest=True, is_delete_marker=True)
        assert excluded == "expire_mark"


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


@VERSIONED
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
    assert refuses(store, row, "copies", r"permit.*s3:PutObject")


def test_a_404_for_a_probe_that_is_there_does_not_say_that_the_server_heeds_if_match() -> None:
    store = shop(versioned=False)
    row = store.original()

    async def forgetful(request: Request) -> Any:
        if request.arguments["if_match"] is not None:
            raise NotFound("DeleteObject", request.place.key, "NoSuchKey", "nothing there", 404)
        return await request()

    store.hook(delete=forgetful)
    assert refuses(store, row, "copies", "cannot be found out whether")


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
