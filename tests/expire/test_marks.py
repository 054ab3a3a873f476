"""The bucket of the originals by another name, and servers that ignore conditions: found out before anything goes."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Listed, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.core.selection import Selection
from jobs.errors import ConfigError, Denied, NotFound, PreconditionFailed, Unavailable
from jobs.expire.copy_checks import Copies
from jobs.expire.deletes import WRONG, ExactDeletes
from jobs.expire.job import Expire
from jobs.expire.marks import CLAIM, LONG_KEY, Marks, _names, _suffix
from jobs.expire.rules import Proof
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import Deleted, Page, Written
from tests.expire.scene import Shop, job, one, replica, row_of, work

CONTENT = b"content"
VERSIONED = pytest.mark.parametrize("versioned", [True, False])


def history(store: Shop, bucket: str = "docs") -> list[tuple[str, bool]]:
    entries = asyncio.run(store.list_versions(bucket, "")).entries
    return [(each.key, each.is_delete_marker) for each in entries]


def stocked(kind: type[Shop] = Shop, *, versioned: bool) -> tuple[Any, ObjectRef]:
    """A shop with one original."""
    store = kind()
    store.create_bucket("docs", versioned=versioned)
    return store, store.put_now("docs", "k", CONTENT)


def row_by(store: Shop, ref: ObjectRef, bucket: str) -> ObjectVersion:
    """The original is proven by what is at its key in that bucket."""
    copy = ref._replace(bucket=bucket)
    return row_of(store, 0, ref, Proof("run", store.now, *copy, asyncio.run(store.head(copy)).etag))


def job_with(store: Shop, place: str, *, streamed: bool = False) -> Expire:
    copies = Copies(store, store, ByteBudget(16 << 20), streamed)
    return replace(job(store), copies=copies, places=[Location(place)])


@VERSIONED
def test_the_bucket_by_another_name_is_no_place_for_copies(versioned: bool) -> None:
    """A gateway's, for example."""
    store, ref = stocked(versioned=versioned)
    named = store._buckets.named
    named["docs-too"] = named["docs"]
    row = row_by(store, ref, "docs-too")
    with pytest.raises(ConfigError, match="in s3://docs by another name"):
        work(job_with(store, "docs-too"), [row])
    assert history(store) == [("k", False)]
    assert asyncio.run(store.list_objects("ledger", "")).entries == []  # not even announced


@VERSIONED
def test_the_same_service_at_another_endpoint_is_no_place_for_copies(versioned: bool) -> None:
    store, ref = stocked(versioned=versioned)
    with pytest.raises(ConfigError, match="by another name"):
        work(job_with(store, "docs", streamed=True), [row_by(store, ref, "docs")])
    assert history(store) == [("k", False)]


class Gateway(Shop):
    """Its bucket `gate` is what another bucket has beneath `folder/`."""

    async def list_versions(self, bucket: str, prefix: str, **more: Any) -> Page:
        if bucket != "gate":
            return await super().list_versions(bucket, prefix, **more)
        return await super().list_versions("docs", f"folder/{prefix}", **more)

    async def is_versioned(self, bucket: str) -> bool:
        return await super().is_versioned("docs" if bucket == "gate" else bucket)

    async def head(self, ref: ObjectRef, **more: Any) -> Any:
        if ref.bucket != "gate":
            return await super().head(ref, **more)
        return await super().head(ref._replace(bucket="docs", key=f"folder/{ref.key}"), **more)

    async def get(self, ref: ObjectRef, **more: Any) -> Any:
        if ref.bucket == "gate":
            ref = ref._replace(bucket="docs", key=f"folder/{ref.key}")
        return await super().get(ref, **more)


def test_a_part_of_the_bucket_by_another_name_is_no_place_for_copies() -> None:
    store = Gateway()
    store.create_bucket("docs")
    ref = store.put_now("docs", "folder/k", CONTENT)
    proof = Proof("run", store.now, "gate", "k", ref.version_id, asyncio.run(store.head(ref)).etag)
    with pytest.raises(ConfigError, match="by another name"):
        work(job_with(store, "gate"), [row_of(store, 0, ref, proof)])
    assert history(store) == [("folder/k", False)]


@VERSIONED
def test_a_replica_with_the_same_version_ids_and_dates_is_a_place_for_copies(versioned: bool) -> None:
    store, ref = stocked(versioned=versioned)
    named = store._buckets.named
    named["copies"] = deepcopy(named["docs"])
    assert work(job_with(store, "copies"), [row_by(store, ref, "copies")])[0].status is Status.EXPIRED
    assert history(store, "copies") == [("k", False)]
    assert all(".sealift-" not in key for key, _ in history(store))


class Counting(Shop):
    """`marks` and `claims`: what was written and listed of them."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[str] = []
        self.claims: list[str] = []

    def _count(self, name: str, key: str) -> None:
        if key.startswith(CLAIM):
            self.claims.append(name)
        elif ".sealift-" in key:
            self.marks.append(name)

    async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
        self._count("delete", key)
        return await super().delete(bucket, key, **more)

    async def put(self, bucket: str, key: str, *given: Any, **more: Any) -> Any:
        self._count("put", key)
        return await super().put(bucket, key, *given, **more)

    async def list_versions(self, bucket: str, prefix: str, **more: Any) -> Page:
        self._count("list", prefix)
        return await super().list_versions(bucket, prefix, **more)

    async def list_objects(self, bucket: str, prefix: str, **more: Any) -> Page:
        self._count("list", prefix)
        return await super().list_objects(bucket, prefix, **more)


@VERSIONED
@pytest.mark.parametrize("delete", [True, False])
def test_a_mark_is_left_once_a_worker_and_never_in_a_dry_run(
    versioned: bool, delete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.expire.job.GROUP_ROWS", 2)
    store = Counting()
    store.create_bucket("docs", versioned=versioned)
    refs = [store.put_now("docs", f"k{number}", CONTENT) for number in range(6)]
    rows = [row_of(store, number, ref, replica(store, ref)) for number, ref in enumerate(refs)]
    status = Status.EXPIRED if delete else Status.SKIPPED
    assert {each.status for each in work(job(store, delete=delete), rows)} == {status}
    assert len(store.claims) == (15 if delete and versioned else 12 if delete else 0)  # three groups
    if not delete:
        assert store.marks == []
    elif versioned:
        assert store.marks == ["delete", "list", "list", "list", "delete"]
    else:  # the second is for the condition
        assert store.marks == ["put", "list", "list", "delete", "put", "delete", "delete"]
    assert all(".sealift-" not in key for key, _ in history(store))


def test_copies_in_the_bucket_of_the_originals_are_told_apart_by_their_keys() -> None:
    store, ref = stocked(Counting, versioned=True)
    copy = store.put_now("docs", "backup/k", CONTENT)
    proof = Proof("run", store.now, copy.bucket, copy.key, copy.version_id, asyncio.run(store.head(copy)).etag)
    assert one(store, row_of(store, 0, ref, proof)).status is Status.EXPIRED
    assert store.marks == ["delete", "list", "list", "list", "delete"]


class Folding(Shop):
    """It takes `x//k` for `x/k`, as a server does that keeps objects in folders."""

    async def head(self, ref: ObjectRef, **more: Any) -> Any:
        return await super().head(ref._replace(key=ref.key.replace("//", "/")), **more)

    async def get(self, ref: ObjectRef, **more: Any) -> Any:
        return await super().get(ref._replace(key=ref.key.replace("//", "/")), **more)

    async def list_versions(self, bucket: str, prefix: str, **more: Any) -> Page:
        return await super().list_versions(bucket, prefix.replace("//", "/"), **more)

    async def list_objects(self, bucket: str, prefix: str, **more: Any) -> Page:
        return await super().list_objects(bucket, prefix.replace("//", "/"), **more)


@VERSIONED
def test_the_same_key_in_another_spelling_is_no_copy(versioned: bool) -> None:
    store = Folding()
    store.create_bucket("docs", versioned=versioned)
    ref = store.put_now("docs", "x/k", CONTENT)
    proof = Proof("run", store.now, "docs", "x//k", ref.version_id, asyncio.run(store.head(ref)).etag)
    with pytest.raises(ConfigError, match="by another name"):
        work(job_with(store, "docs"), [row_of(store, 0, ref, proof)])
    assert history(store) == [("x/k", False)]


class Late(Shop):
    """Its listings show what was written only later."""

    async def list_versions(self, bucket: str, prefix: str, **more: Any) -> Page:
        return Page([], [], None) if ".sealift-" in prefix else await super().list_versions(bucket, prefix, **more)


class Barred(Counting):
    """Nobody may list the copies."""

    async def list_versions(self, bucket: str, prefix: str, **more: Any) -> Page:
        if bucket == "copies":
            raise Denied("ListObjectVersions", bucket, "AccessDenied", "no", 403)
        return await super().list_versions(bucket, prefix, **more)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [(Late, "does not list"), (Barred, "cannot be found out.*listing the versions")],
)
def test_where_the_two_cannot_be_told_apart_nothing_goes(kind: type[Shop], problem: str) -> None:
    store, ref = stocked(kind, versioned=True)
    with pytest.raises(ConfigError, match=problem):
        one(store, row_of(store, 0, ref, replica(store, ref)))
    assert [each for each in store._buckets.named["docs"].versions["k"] if each.is_delete_marker] == []
    assert kind is Late or list(store._buckets.named["docs"].versions) == ["k"]


@pytest.mark.parametrize(
    "name",
    ["copies-0a1b2c-s3alias", "copies-x--ol-s3", "m1234.mrap", "arn:aws:s3:eu-west-1:123456789012:accesspoint:a"],
)
def test_an_access_point_that_is_no_bucket_is_no_place_for_copies(name: str) -> None:
    store, ref = stocked(versioned=True)
    store.create_bucket(name)
    store.put_now(name, "k", CONTENT)
    info = asyncio.run(store.head(ObjectRef(name, "k")))
    proof = Proof("run", store.now, name, "k", info.version_id, info.etag)
    with pytest.raises(ConfigError, match="name the bucket itself"):
        work(job_with(store, name), [row_of(store, 0, ref, proof)])


@pytest.mark.parametrize("key", ["k", "a/b", "é" * 500])
def test_the_delete_marker_of_a_mark_is_left_out_of_plans(key: str) -> None:
    plain = Selection(versions="all")
    for mark in (*_names(key, f"copy/{key}"), f"{CLAIM}run{_suffix()}"):
        assert plain.excluded_by(mark, is_latest=True, is_delete_marker=True) == "expire_mark"


@pytest.mark.parametrize("key", ["k", "docs/" + "x" * 1019, "docs/" + "ü" * 505, "a" * LONG_KEY])
def test_a_mark_has_a_name_that_s3_takes_and_keeps_the_prefix(key: str) -> None:
    tail = key[-200:]
    mark, mapped = _names(key, "backup/" + tail)
    assert len(mark.encode()) <= 1024
    assert mark.startswith(key[:5])
    assert mapped == "backup/" + mark[len(key) - len(tail) :]
    assert ".sealift-" in mark


class Careless(Shop):
    """It ignores If-Match, and answers 404 where nothing is: that was taken for heeding it."""

    async def delete(self, bucket: str, key: str, *, if_match: str | None = None, **more: Any) -> Deleted:
        if if_match is not None:
            versions = self._buckets.named[bucket].versions.get(key, [])
            if not versions or versions[-1].is_delete_marker:
                raise NotFound("DeleteObject", key, "NoSuchKey", "nothing there", 404)
        return await super().delete(bucket, key, **more)


@VERSIONED
def test_a_server_that_ignores_if_match_and_answers_404_for_what_is_not_there_is_found_out(versioned: bool) -> None:
    store, ref = stocked(Careless, versioned=versioned)
    row = row_of(store, 0, ref, replica(store, ref))
    with pytest.raises(ConfigError, match="whatever If-Match says"):
        one(store, row)
    assert history(store) == [("k", False)]


class Forbidding(Shop):
    """What may be asked of it is limited: `denied` are the keys that nobody may delete."""

    denied: frozenset[str] = frozenset()

    async def delete(self, bucket: str, key: str, *, if_match: str | None = None, **more: Any) -> Deleted:
        if if_match is not None and key in self.denied:
            raise Denied("DeleteObject", key, "AccessDenied", "no", 403)
        return await super().delete(bucket, key, if_match=if_match, **more)


@pytest.mark.parametrize("denied", [{"k0"}, {"k0", "k1", "k2"}])
def test_a_delete_that_is_denied_does_not_say_that_the_server_heeds_if_match(denied: set[str]) -> None:
    store = Forbidding()
    store.create_bucket("docs")
    store.denied = frozenset(denied)
    refs = [store.put_now("docs", f"k{number}", CONTENT) for number in range(3)]
    rows = [row_of(store, number, ref, replica(store, ref)) for number, ref in enumerate(refs)]
    outcomes = work(job(store), rows)
    gone = [each.key for each in outcomes if each.status is Status.EXPIRED]
    assert gone == [f"k{number}" for number in range(3) if f"k{number}" not in denied]
    assert all("AccessDenied" in each.reason for each in outcomes if each.status is Status.KEPT)


def test_where_no_probe_can_be_written_nothing_goes() -> None:
    class ReadOnly(Shop):
        async def put(self, bucket: str, key: str, *given: Any, **more: Any) -> Any:
            if ".sealift-" in key:
                raise Denied("PutObject", key, "AccessDenied", "no", 403)
            return await super().put(bucket, key, *given, **more)

    store, ref = stocked(ReadOnly, versioned=False)
    store.put_now("docs", "backup/k", CONTENT)
    copy = Proof("run", store.now, "docs", "backup/k", None, asyncio.run(store.head(ref)).etag)
    for row in (row_of(store, 0, ref, replica(store, ref)), row_of(store, 0, ref, copy)):
        with pytest.raises(ConfigError, match=r"permit.*s3:PutObject"):
            one(store, row)
    assert history(store) == [("backup/k", False), ("k", False)]


def test_a_denied_question_leaves_open_whether_the_server_heeds_if_match() -> None:
    """The first key may not be deleted, the second is deleted whatever the condition says."""

    class Both(Careless):
        async def delete(self, bucket: str, key: str, *, if_match: str | None = None, **more: Any) -> Deleted:
            if if_match is not None and key == "k0":
                raise Denied("DeleteObject", key, "AccessDenied", "no", 403)
            return await super().delete(bucket, key, if_match=if_match, **more)

    store = Both()
    store.create_bucket("docs")
    refs = [store.put_now("docs", f"k{number}", CONTENT) for number in range(2)]
    rows = [row_of(store, number, ref, replica(store, ref)) for number, ref in enumerate(refs)]
    with pytest.raises(ConfigError, match="whatever If-Match says"):
        work(job(store), rows)
    assert history(store) == [("k0", False), ("k1", False)]


def test_a_marker_of_a_lost_answer_that_may_still_hide_an_original_is_named() -> None:
    """The server has set a marker whose id nobody learned, and the one that was learned is removed."""

    class Forgetful(Shop):
        lost = 0

        async def delete(self, bucket: str, key: str, *, if_match: str | None = None, **more: Any) -> Deleted:
            made = await super().delete(bucket, key, **more)
            if if_match is not None and not self.lost:
                self.lost += 1
                raise Unavailable("DeleteObject", f"s3://{bucket}/{key}", "NoAnswer")
            return made

    store = Forgetful()
    store.create_bucket("docs")
    ref = store.put_now("docs", "k0", CONTENT)
    row = row_of(store, 0, ref, replica(store, ref))
    with pytest.raises(ConfigError, match=r"look whether a delete marker of this check hides s3://docs/k0$"):
        work(job(store), [row])


class SlowToShow(Careless):
    """It ignores If-Match, and is slow to remove a marker: `removing` says that it has been asked to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.removing = asyncio.Event()
        self.trials = 0

    async def delete(
        self, bucket: str, key: str, *, version_id: str | None = None, if_match: str | None = None, **more: Any
    ) -> Deleted:
        self.trials += if_match == WRONG
        if version_id is not None and not self.removing.is_set():
            self.removing.set()
            await asyncio.sleep(3600)
        return await super().delete(bucket, key, version_id=version_id, if_match=if_match)


def test_a_trial_that_is_cut_off_shows_the_original_again() -> None:
    store, _ = stocked(SlowToShow, versioned=True)
    etag = asyncio.run(store.head(ObjectRef("docs", "k"))).etag

    async def cut_off() -> None:
        deletes = ExactDeletes(store, "docs")
        trial = asyncio.create_task(deletes.check_hiding([("k", etag)]))
        await store.removing.wait()
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial

    asyncio.run(cut_off())
    assert history(store) == [("k", False)]


def test_one_original_at_most_is_asked_for_a_trial() -> None:
    store, _ = stocked(SlowToShow, versioned=True)
    store.removing.set()
    etag = asyncio.run(store.head(ObjectRef("docs", "k"))).etag

    async def together() -> list[Any]:
        deletes = ExactDeletes(store, "docs")
        return await asyncio.gather(*(deletes.check_hiding([("k", etag)]) for _ in range(3)), return_exceptions=True)

    assert all(isinstance(each, ConfigError) for each in asyncio.run(together()))
    assert store.trials == 1
    assert history(store) == [("k", False)]


class Forgetful(Shop):
    """It answers 404 to any If-Match, for what is there as well, and deletes nothing then."""

    async def delete(self, bucket: str, key: str, *, if_match: str | None = None, **more: Any) -> Deleted:
        if if_match is not None:
            raise NotFound("DeleteObject", key, "NoSuchKey", "nothing there", 404)
        return await super().delete(bucket, key, if_match=if_match, **more)


def test_a_404_for_a_probe_that_is_there_does_not_say_that_the_server_heeds_if_match() -> None:
    store, ref = stocked(Forgetful, versioned=False)
    with pytest.raises(ConfigError, match="cannot be found out whether"):
        one(store, row_of(store, 0, ref, replica(store, ref)))
    assert history(store) == [("k", False)]


class Suspended:
    """A bucket whose versioning is suspended: a delete without a version id leaves a null marker.

    `entries`: key → whether the marker is all that is there. `tells` whether a delete says the marker's id.
    """

    def __init__(self, *, tells: bool) -> None:
        self.entries: dict[str, bool] = {}
        self.tells = tells

    async def is_versioned(self, bucket: str) -> bool:
        return False

    async def put(self, bucket: str, key: str, *_: Any, **more: Any) -> Written:
        self.entries[key] = False
        return Written("etag")

    async def delete(
        self, bucket: str, key: str, *, version_id: str | None = None, if_match: str | None = None
    ) -> Deleted:
        if if_match is not None:
            raise PreconditionFailed("DeleteObject", key, "PreconditionFailed", "", 412)
        if version_id is not None:
            assert version_id == "null"
            return Deleted(version_id, self.entries.pop(key))
        self.entries[key] = True
        return Deleted("null" if self.tells else None, is_delete_marker=True)

    async def list_objects(self, bucket: str, prefix: str, **more: Any) -> Page:
        names = [key for key, is_marker in self.entries.items() if key.startswith(prefix) and not is_marker]
        return Page([Listed(name, None, True, False, 0, "etag", 1e9, "STANDARD") for name in names], [], None)


@pytest.mark.parametrize("tells", [True, False])
def test_where_versioning_is_suspended_no_marker_of_a_check_is_left(tells: bool) -> None:
    store: Any = Suspended(tells=tells)
    asyncio.run(ExactDeletes(store, "docs").check_removing("k"))
    assert store.entries == {}

    async def claim() -> None:
        async with Marks(store, "docs", store, is_one_service=True).claim("run", ["copies"], is_versioned=False):
            assert [(name.startswith(CLAIM), marker) for name, marker in store.entries.items()] == [(True, False)]

    asyncio.run(claim())
    assert store.entries == {}
