"""Annotations on all ways that an object is copied: what comes along, and what an outcome says where it does not."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import Conflict, Denied, NotFound, Rejected, StoreError, Unavailable
from jobs.s3.annotations import EXCLUDED, NOT_KEPT_THERE, AnnotationLists, AnnotationPair
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED, AnnotationPage
from jobs.sync.job import SyncJob
from jobs.sync.key import SyncOptions
from tests.doubles.memory_store import Hook, MemoryStore, Request

MIB = 1024 * 1024
ROUTE = Route(Location("source", "in/"), Location("destination", "out/"))
COPY = ObjectRef("destination", "out/k")
TEXTS = {"ml.labels": b'{"cat": 0.9}', "transcript": "Łódź, 港".encode()}
SMALL, LARGE, STREAMED_LARGE = b"body", bytes(6 * MIB), bytes(9 * MIB)
PARTS = {"multipart_threshold_bytes": 5 * MIB, "part_size_bytes": 5 * MIB}
WAYS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "by one request": (SMALL, {}),
    "in parts": (LARGE, PARTS),
    "streamed": (SMALL, {"streamed": True}),
    "streamed in parts": (STREAMED_LARGE, {"streamed": True}),
}
WITHOUT_S3 = [way for way in WAYS if way != "by one request"]


class Killed(BaseException):
    """The worker is gone."""


class Scene:
    """A store that remembers the names of requests, and fails those that `fail` says."""

    def __init__(self, *, is_versioned: bool = True) -> None:
        self.asked: list[str] = []
        self.fail: Callable[[Request], BaseException | None] = lambda request: None
        seconds = itertools.count(1_000)
        self.store = MemoryStore(on={"every": self._watch}, clock=lambda: float(next(seconds)))
        for bucket in ("source", "destination"):
            self.store.create_bucket(bucket, is_versioned)

    def _watch(self, request: Request) -> Awaitable[Any]:
        self.asked.append(request.operation)
        if (error := self.fail(request)) is not None:
            raise error
        return request()

    @property
    def asked_for_annotations(self) -> list[str]:
        return [name for name in self.asked if "annotation" in name]

    def fails(self, name: str, error: BaseException, bucket: str = "") -> None:
        """From now on each of these requests (to this bucket) ends so."""
        self.fail = lambda request: (
            error if request.operation == name and request.place.bucket.startswith(bucket) else None
        )

    def works(self) -> None:
        """No request fails any more."""
        self.fail = lambda request: None

    async def put_source(self, body: bytes, texts: dict[str, bytes] = TEXTS) -> ObjectVersion:
        """An annotated object, and the row that an inventory would have of it."""
        written = await MemoryStore.put(self.store, "source", "in/k", body, Attributes(), guard=UNGUARDED)
        ref = ObjectRef("source", "in/k", written.version_id)
        for name, text in texts.items():
            await MemoryStore.put_annotation(self.store, ref, name, text, object_etag=written.etag)
        info = await MemoryStore.head(self.store, ref)
        return ObjectVersion(
            0, "in/k", written.version_id, True, False, len(body), written.etag, info.last_modified, info.storage_class
        )

    async def replicate(self, row: ObjectVersion, **options: Any) -> tuple[Status, str]:
        outcome = await self.outcome(row, **options)
        return outcome.status, outcome.detail if outcome.reason == Reason.COPY_INCOMPLETE else outcome.reason

    async def outcome(self, row: ObjectVersion, **options: Any) -> Outcome:
        job = SyncJob(self.store, self.store, ROUTE, SyncOptions(is_replay=True, **options), ByteBudget(64 * MIB))
        [outcome] = await job.process([row])
        return outcome

    def replaces_source(self, **operation: dict[str, bytes]) -> None:
        """Before the next such request another object with these annotations comes to the source's key."""
        [(name, texts)] = operation.items()

        async def replace_first(request: Request) -> Any:
            self.store.hook(**{name: None})
            await self.put_source(b"another object", texts)
            return await request()

        self.store.hook(**{name: replace_first})

    def texts_at(self, ref: ObjectRef = COPY) -> dict[str, bytes]:
        """The annotations that a version has."""
        return dict(self.store._buckets.find("Look", ref).annotations)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


def played(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def play(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return play


@pytest.mark.parametrize("way", WAYS)
@played
async def test_a_copy_has_the_annotations_of_its_source(way: str) -> None:
    (body, options), store = WAYS[way], Scene()
    assert await store.replicate(await store.put_source(body), **options) == (Status.DONE, "")
    assert store.texts_at() == TEXTS


@pytest.mark.parametrize("way", WITHOUT_S3)
@played
async def test_an_object_without_annotations_costs_one_list(way: str) -> None:
    (body, options), store = WAYS[way], Scene()
    await store.replicate(await store.put_source(body, {}), **options)
    assert store.asked_for_annotations == ["list_annotations"]


@pytest.mark.parametrize("way", WAYS)
@played
async def test_a_copy_without_annotations_says_so(way: str) -> None:
    (body, options), store = WAYS[way], Scene()
    assert await store.replicate(await store.put_source(body), **options, annotations="skip") == (
        Status.DONE,
        EXCLUDED,
    )
    assert store.texts_at() == {}
    assert not store.asked_for_annotations


@pytest.mark.parametrize("all_versions", [False, True])
@pytest.mark.parametrize("put", [0, 1], ids=["before the first", "between the two"])
@pytest.mark.parametrize("way", WITHOUT_S3)
@played
async def test_a_worker_that_was_killed_after_the_copy_leaves_no_annotation_behind(
    way: str, put: int, all_versions: bool
) -> None:
    (body, options), store = WAYS[way], Scene()
    row = await store.put_source(body)
    puts = 0

    def killed(request: Request) -> BaseException | None:
        nonlocal puts
        puts += request.operation == "put_annotation"
        return Killed() if puts > put else None

    store.fail = killed
    with pytest.raises(Killed):
        await store.replicate(row, **options, all_versions=all_versions)
    store.works()
    assert store.texts_at() != TEXTS
    assert await store.replicate(row, **options, all_versions=all_versions) == (Status.SAME, "")
    assert store.texts_at() == TEXTS


@played
async def test_a_copy_by_one_request_is_not_asked_for_its_annotations() -> None:
    store = Scene()
    row = await store.put_source(SMALL)
    await store.replicate(row)
    store.asked.clear()
    assert (await store.replicate(row))[0] is Status.SAME
    assert not store.asked_for_annotations


DENIED = Denied("PutObjectAnnotation", "s3://destination/out/k", "AccessDenied", "no", 403)


@pytest.mark.parametrize(
    ("request_", "bucket", "error", "reason"),
    [
        (
            "list_annotations",
            "source",
            Denied("ListObjectAnnotations", "s3://source/in/k", "AccessDenied", "no", 403),
            "whether the source has annotations that the copy lacks is not known: "
            "ListObjectAnnotations AccessDenied: allow s3:ListObjectAnnotations",
        ),
        (
            "get_annotation",
            "source",
            Denied("GetObjectAnnotation", "s3://source/in/k", "AccessDenied", "no", 403),
            "without some of the source's annotations: GetObjectAnnotation AccessDenied: allow s3:GetObjectAnnotation",
        ),
        (
            "put_annotation",
            "destination",
            DENIED,
            "without some of the source's annotations: PutObjectAnnotation AccessDenied: allow s3:PutObjectAnnotation",
        ),
        (
            "put_annotation",
            "destination",
            Rejected("PutObjectAnnotation", "s3://destination/out/k", "AnnotationLimitExceeded", "full", 400),
            "without some of the source's annotations: PutObjectAnnotation AnnotationLimitExceeded",
        ),
    ],
)
@played
async def test_a_copy_that_lacks_annotations_says_why(
    request_: str, bucket: str, error: StoreError, reason: str
) -> None:
    """The reason names no object, so that a report counts it."""
    store = Scene()
    row = await store.put_source(LARGE)
    store.fails(request_, error, bucket)
    assert await store.replicate(row, **PARTS) == (Status.DONE, reason)
    assert await store.replicate(row, **PARTS) == (Status.SAME, reason)


@played
async def test_an_annotation_is_put_onto_the_copy_alone() -> None:
    """What came on top of the copy meanwhile is compared before it gets any."""
    store = Scene(is_versioned=False)
    row = await store.put_source(LARGE)

    def overwrite(request: Request) -> Awaitable[Any]:
        store.store._buckets.find("Look", COPY).etag = "another object's"
        return request()

    store.store.hook(put_annotation=overwrite)
    assert await store.replicate(row, **PARTS) == (Status.SAME, "")
    assert store.texts_at() == TEXTS


@pytest.mark.parametrize(
    ("name", "replacing"), [("list_annotations", {}), ("list_annotations", TEXTS), ("get_annotation", TEXTS)]
)
@played
async def test_no_annotation_of_an_object_that_replaced_the_source_comes_along(
    name: str, replacing: dict[str, bytes]
) -> None:
    """Without versions nothing but its ETag tells the new object from the copied one."""
    store = Scene(is_versioned=False)
    row = await store.put_source(SMALL, dict.fromkeys(TEXTS, b"of the copied one"))
    copied = await store.outcome(row, annotations="skip")
    store.replaces_source(**{name: replacing})
    pair = AnnotationPair.between(store.store, store.store, ByteBudget(64 * MIB))
    with pytest.raises(Conflict):
        await pair.carry(ObjectRef("source", "in/k"), row.etag, COPY, copied.destination_etag or "")
    assert store.texts_at() == {}


@played
async def test_an_annotation_of_the_copy_s_own_stays() -> None:
    store = Scene()
    row = await store.put_source(LARGE)
    copied = await store.outcome(row, **PARTS)
    ref, etag = COPY._replace(version_id=copied.destination_version_id), copied.destination_etag or ""
    await store.store.put_annotation(ref, "transcript", b"by hand", object_etag=etag)
    await store.store.put_annotation(ref, "note", b"own", object_etag=etag)
    assert await store.replicate(row, **PARTS) == (Status.SAME, "")
    assert store.texts_at() == {**TEXTS, "transcript": b"by hand", "note": b"own"}


def unknown(**on: Hook) -> MemoryStore:
    """A server of another vendor."""
    store = MemoryStore(on=on)
    store.keeps_annotations = False
    for bucket in ("source", "destination"):
        store.create_bucket(bucket)
    return store


def answering(error: StoreError) -> Hook:
    def answer(request: Request) -> Awaitable[Any]:
        raise error

    return answer


def naive() -> MemoryStore:
    """A server that does not know the parameter `annotation`: it reads and writes objects instead."""

    async def read_object(request: Request) -> bytes:
        return (await MemoryStore.get(store, request.place)).data

    def write_object(request: Request) -> Awaitable[Any]:
        place, text = request.place, request.arguments["text"]
        return MemoryStore.put(store, place.bucket, place.key, text, Attributes(), guard=UNGUARDED)

    no_list = Unavailable("ListObjectAnnotations", "k", "MalformedAnswer", "an object, and no list", 200)
    store = unknown(get_annotation=read_object, put_annotation=write_object, list_annotations=answering(no_list))
    return store


def refusing() -> MemoryStore:
    return unknown(get_annotation=answering(Rejected("GetObjectAnnotation", "k", "NotImplemented", "a header", 501)))


def large() -> MemoryStore:
    """A naive server whose object is larger than any annotation."""
    return unknown(get_annotation=answering(Unavailable("GetObjectAnnotation", "k", "AnswerTooLarge", "9 GB", 0)))


@pytest.mark.parametrize("make", [naive, refusing, large])
@played
async def test_no_annotation_is_sent_to_a_server_that_would_replace_the_object(make: Callable[[], MemoryStore]) -> None:
    source, destination = Scene(), make()
    row = await source.put_source(SMALL)
    job = SyncJob(source.store, destination, ROUTE, SyncOptions(is_replay=True, streamed=True), ByteBudget(64 * MIB))
    [outcome] = await job.process([row])
    assert (outcome.status, outcome.detail) == (Status.DONE, NOT_KEPT_THERE)
    assert (await destination.get(COPY)).data == SMALL


@pytest.mark.parametrize(("make", "found"), [(naive, {}), (refusing, {}), (large, {}), (unknown, TEXTS)])
@played
async def test_a_server_that_is_not_known_is_tried_once(
    make: Callable[[], MemoryStore], found: dict[str, bytes]
) -> None:
    store, tried = make(), list[str]()

    def note(request: Request) -> Awaitable[Any]:
        tried.append(request.operation)
        return request()

    store.hook(every=note)
    lists = AnnotationLists(store)
    for key in ("a", "b"):
        written = await store.put("source", key, SMALL, Attributes(), guard=UNGUARDED)
        ref = ObjectRef("source", key, written.version_id)
        for name, text in found.items():
            await store.put_annotation(ref, name, text, object_etag=written.etag)
        assert set(await lists.read(ref)) == set(found)
    assert tried.count("get_annotation") == 1


@pytest.mark.parametrize(
    "error",
    [
        Denied("GetObjectAnnotation", "k", "AccessDenied", "no", 403),
        Unavailable("GetObjectAnnotation", "k", "MalformedAnswer", "a proxy's page", 200),
        NotFound("GetObjectAnnotation", "k", "NoSuchKey", "gone", 404),
    ],
)
@played
async def test_an_answer_that_says_nothing_of_annotations_is_not_taken_for_none(error: StoreError) -> None:
    with pytest.raises(type(error)):
        await AnnotationLists(unknown(get_annotation=answering(error))).read(ObjectRef("source", "k"))


@played
async def test_a_bucket_of_s3_that_cannot_have_annotations_has_none() -> None:
    """As a directory bucket, which answers 501."""
    store = Scene()
    row = await store.put_source(LARGE, {})
    store.fails("list_annotations", Rejected("ListObjectAnnotations", "k", "NotImplemented", "no", 501))
    assert (await store.replicate(row, **PARTS))[1] == ""


@played
async def test_a_list_that_would_never_end_is_given_up() -> None:
    async def list_annotations(request: Request) -> AnnotationPage:
        await asyncio.sleep(0)
        return AnnotationPage([], "again")

    store = MemoryStore(on={"list_annotations": list_annotations})
    with pytest.raises(Unavailable, match="more pages than a version can have"):
        await asyncio.wait_for(AnnotationLists(store).read(ObjectRef("source", "k")), 5)
