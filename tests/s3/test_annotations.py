"""Annotations on all ways that an object is copied: what comes along, and what an outcome says where it does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from itertools import count, repeat
from typing import Any

import pytest

from jobs.backup.job import Backup, BackupOptions
from jobs.core.model import Attributes, Location, ObjectInfo, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import Conflict, Denied, NotFound, PreconditionFailed, Rejected, StoreError, Unavailable
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.s3.annotations.carrying import (
    AT_ONCE,
    DIFFERENT,
    EXCLUDED,
    NOT_KEPT_THERE,
    UNCOMPARED,
    UNKNOWN,
    AnnotationCarrier,
)
from jobs.s3.annotations.lists import AnnotationLists
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import ANNOTATION_BYTES, UNGUARDED, AnnotationPage
from tests.doubles.memory_store import MemoryStore

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


class Scene(MemoryStore):
    """A store that remembers the names of requests, and fails those that `fail` says."""

    def __init__(self, *, is_versioned: bool = True) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.fail: Callable[[str, tuple[Any, ...]], BaseException | None] = lambda operation, arguments: None
        for bucket in ("source", "destination"):
            self.create_bucket(bucket, is_versioned)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not asyncio.iscoroutinefunction(found) or name in ("put_source", "replicate"):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            self.asked.append(name)
            if (error := self.fail(name, arguments)) is not None:
                raise error
            return await found(*arguments, **named)

        return call

    def fails(self, name: str, error: BaseException, bucket: str = "") -> None:
        """From now on each of these requests (to this bucket) ends so."""

        def fail(operation: str, arguments: tuple[Any, ...]) -> BaseException | None:
            is_it = operation == name and (not bucket or bucket == arguments[0].bucket)
            return error if is_it else None

        self.fail = fail

    def works(self) -> None:
        """No request fails any more."""
        self.fail = lambda operation, arguments: None

    async def put_source(self, body: bytes, texts: dict[str, bytes] | None = None) -> ObjectVersion:
        """An annotated object, and the row that an inventory would have of it."""
        written = await self.put("source", "in/k", body, Attributes(), guard=UNGUARDED)
        ref = ObjectRef("source", "in/k", written.version_id)
        for name, text in (TEXTS if texts is None else texts).items():
            await self.put_annotation(ref, name, text, object_etag=written.etag)
        info = await self.head(ref)
        self.asked.clear()
        return ObjectVersion(
            0, "in/k", written.version_id, True, False, len(body), written.etag, info.last_modified, info.storage_class
        )

    async def replicate(self, row: ObjectVersion, **options: Any) -> Outcome:
        job = Replicate(self, self, ROUTE, ReplicateOptions(**options), ByteBudget(64 * MIB))
        [outcome] = await job.process([row])
        return outcome

    def texts_at(self, ref: ObjectRef = COPY) -> dict[str, bytes]:
        """The annotations that a version has."""
        return dict(self._buckets.find("Look", ref).annotations)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_the_annotations_of_its_source(way: str) -> None:
    body, options = WAYS[way]

    async def scene() -> None:
        store = Scene()
        outcome = await store.replicate(await store.put_source(body), **options)
        assert (outcome.status, outcome.reason) == (Status.COPIED, "")
        assert store.texts_at() == TEXTS

    run(scene)


def test_s3_carries_annotations_by_one_request_and_sealift_asks_for_none() -> None:
    async def scene() -> None:
        store = Scene()
        await store.replicate(await store.put_source(SMALL))
        assert store.asked == ["copy"]

    run(scene)


@pytest.mark.parametrize("way", WITHOUT_S3)
def test_an_object_without_annotations_costs_one_list(way: str) -> None:
    body, options = WAYS[way]

    async def scene() -> None:
        store = Scene()
        await store.replicate(await store.put_source(body, {}), **options)
        asked = [name for name in store.asked if "annotation" in name]
        assert asked == ["list_annotations"]

    run(scene)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_without_annotations_says_so(way: str) -> None:
    body, options = WAYS[way]

    async def scene() -> None:
        store = Scene()
        outcome = await store.replicate(await store.put_source(body), **options, annotations="skip")
        assert (outcome.status, outcome.reason) == (Status.COPIED, EXCLUDED)
        assert store.texts_at() == {}
        assert not [name for name in store.asked if "annotation" in name]

    run(scene)


@pytest.mark.parametrize("all_versions", [False, True])
@pytest.mark.parametrize("put", [0, 1], ids=["before the first", "between the two"])
@pytest.mark.parametrize("way", WITHOUT_S3)
def test_a_worker_that_was_killed_after_the_copy_leaves_no_annotation_behind(
    way: str, put: int, all_versions: bool
) -> None:
    body, options = WAYS[way]

    async def scene() -> None:
        store = Scene()
        row = await store.put_source(body)
        puts = 0

        def killed(operation: str, arguments: tuple[Any, ...]) -> BaseException | None:
            nonlocal puts
            puts += operation == "put_annotation"
            return Killed() if puts > put else None

        store.fail = killed
        with pytest.raises(Killed):
            await store.replicate(row, **options, all_versions=all_versions)
        store.works()
        assert store.texts_at() != TEXTS
        outcome = await store.replicate(row, **options, all_versions=all_versions)
        assert (outcome.status, outcome.reason) == (Status.SAME, "")
        assert store.texts_at() == TEXTS

    run(scene)


@pytest.mark.parametrize("all_versions", [False, True])
def test_a_copy_in_parts_is_completed_whatever_the_threshold_is_now(all_versions: bool) -> None:
    """Its ETag says that it is one in parts, which a run with a lower threshold may have made."""

    async def scene() -> None:
        store = Scene()
        row = await store.put_source(LARGE)
        store.fails("put_annotation", Killed())
        with pytest.raises(Killed):
            await store.replicate(row, **PARTS, all_versions=all_versions)
        store.works()
        outcome = await store.replicate(row, all_versions=all_versions)
        assert (outcome.status, outcome.reason) == (Status.SAME, "")
        assert store.texts_at() == TEXTS

    run(scene)


def test_a_copy_by_one_request_is_not_asked_for_its_annotations() -> None:
    async def scene() -> None:
        store = Scene()
        row = await store.put_source(SMALL)
        await store.replicate(row)
        store.asked.clear()
        assert (await store.replicate(row)).status is Status.SAME
        assert not [name for name in store.asked if "annotation" in name]

    run(scene)


@pytest.mark.parametrize("way", WITHOUT_S3)
def test_a_backup_that_was_killed_after_the_copy_leaves_no_annotation_behind(way: str) -> None:
    body, options = WAYS[way]

    async def scene() -> None:
        store = Scene()
        row = await store.put_source(body)
        job = Backup(store, store, ROUTE, BackupOptions(**options), ByteBudget(64 * MIB))
        store.fails("put_annotation", Killed())
        with pytest.raises(Killed):
            await job.process([row])
        store.works()
        [outcome] = await job.process([row])
        assert (outcome.status, outcome.reason) == (Status.SAME, "")
        assert store.texts_at() == TEXTS

    run(scene)


DENIED = Denied("PutObjectAnnotation", "s3://destination/out/k", "AccessDenied", "no", 403)


@pytest.mark.parametrize(
    ("request_", "bucket", "error", "reason"),
    [
        (
            "list_annotations",
            "source",
            Denied("ListObjectAnnotations", "s3://source/in/k", "AccessDenied", "no", 403),
            "nobody knows whether the source has annotations that the copy lacks: "
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
def test_a_copy_that_lacks_annotations_says_why(request_: str, bucket: str, error: StoreError, reason: str) -> None:
    """The reason names no object, so that a report counts it."""

    async def scene() -> None:
        store = Scene()
        row = await store.put_source(LARGE)
        store.fails(request_, error, bucket)
        outcome = await store.replicate(row, **PARTS)
        assert (outcome.status, outcome.reason) == (Status.COPIED, reason)
        outcome = await store.replicate(row, **PARTS)  # and so does each further run that finds it
        assert (outcome.status, outcome.reason) == (Status.SAME, reason)

    run(scene)


def test_a_failure_that_passes_is_tried_again() -> None:
    async def scene() -> None:
        store = Scene()
        row = await store.put_source(LARGE)
        left = {"list_annotations": 2, "get_annotation": 3, "put_annotation": 3}

        def fail(operation: str, arguments: tuple[Any, ...]) -> BaseException | None:
            if left.get(operation, 0) == 0:
                return None
            left[operation] -= 1
            return Unavailable(operation, "k", "InternalError", "injected", 500)

        store.fail = fail
        outcome = await store.replicate(row, **PARTS)
        assert (outcome.status, outcome.reason) == (Status.COPIED, "")
        assert store.texts_at() == TEXTS

    run(scene)


def test_an_annotation_is_put_onto_the_copy_alone() -> None:
    """What came on top of the copy meanwhile gets none, and the row is done again."""

    async def scene() -> None:
        store = Scene(is_versioned=False)
        row = await store.put_source(LARGE)

        def overwrite(operation: str, arguments: tuple[Any, ...]) -> BaseException | None:
            if operation == "put_annotation":
                store.works()
                version = store._buckets.find("Look", COPY)
                version.etag = "another object's"
            return None

        store.fail = overwrite
        with pytest.raises(Conflict):
            await store.replicate(row, **PARTS)
        assert store.texts_at() == {}

    run(scene)


def test_an_annotation_that_is_deleted_meanwhile_is_not_missed() -> None:
    async def scene() -> None:
        store = Scene()
        row = await store.put_source(LARGE)
        store.fails("get_annotation", NotFound("GetObjectAnnotation", "k", "NoSuchAnnotation", "gone", 404))
        assert (await store.replicate(row, **PARTS)).reason == ""

    run(scene)


def test_an_annotation_of_the_copy_s_own_stays() -> None:
    async def scene() -> None:
        store = Scene()
        row = await store.put_source(LARGE)
        copied = await store.replicate(row, **PARTS)
        ref, etag = COPY._replace(version_id=copied.destination_version_id), copied.destination_etag or ""
        await store.put_annotation(ref, "transcript", b"by hand", object_etag=etag)
        await store.put_annotation(ref, "note", b"own", object_etag=etag)
        outcome = await store.replicate(row, **PARTS)
        assert (outcome.status, outcome.reason) == (Status.SAME, DIFFERENT)
        assert store.texts_at() == {**TEXTS, "transcript": b"by hand", "note": b"own"}

    run(scene)


class ForeignTags(Scene):
    """A store whose annotations have ETags that are no MD5, as S3's with a KMS key, or none."""

    etags: Iterator[str | None] = iter(())

    async def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        page = await super().list_annotations(ref, token=token)
        return page._replace(annotations=[each._replace(etag=next(self.etags)) for each in page.annotations])


KINDS_OF_ETAGS: dict[str, Callable[[], Iterator[str | None]]] = {
    "other ones for each object": lambda: (f"{number:032x}" for number in count()),
    "none": lambda: repeat(None),
    "the same, but no MD5": lambda: repeat("x"),
}


async def copied_with(store: Scene, text: bytes) -> ObjectVersion:
    """A source whose copy has another text for `transcript`, which is as long."""
    assert len(text) == len(TEXTS["transcript"])
    row = await store.put_source(LARGE)
    copied = await store.replicate(row, **PARTS)
    ref = COPY._replace(version_id=copied.destination_version_id)
    await store.put_annotation(ref, "transcript", text, object_etag=copied.destination_etag or "")
    store.asked.clear()
    return row


OTHER_TEXT = TEXTS["transcript"].swapcase()


def test_another_text_of_the_same_length_is_another_text() -> None:
    async def scene() -> None:
        store = Scene()
        row = await copied_with(store, OTHER_TEXT)
        outcome = await store.replicate(row, **PARTS)
        assert (outcome.status, outcome.reason) == (Status.SAME, DIFFERENT)
        assert store.texts_at()["transcript"] == OTHER_TEXT

    run(scene)


@pytest.mark.parametrize("etags", KINDS_OF_ETAGS.values(), ids=KINDS_OF_ETAGS)
@pytest.mark.parametrize(
    ("text", "reason"), [(OTHER_TEXT, DIFFERENT), (TEXTS["transcript"], "")], ids=["another text", "the same"]
)
def test_texts_are_read_where_their_etags_are_no_md5(
    text: bytes, reason: str, etags: Callable[[], Iterator[str | None]]
) -> None:
    async def scene() -> None:
        store = ForeignTags()
        store.etags = etags()
        row = await copied_with(store, text)
        outcome = await store.replicate(row, **PARTS)
        assert (outcome.status, outcome.reason) == (Status.SAME, reason)

    run(scene)


def test_texts_of_one_md5_are_not_read() -> None:
    async def scene() -> None:
        store = Scene()
        row = await copied_with(store, TEXTS["transcript"])
        assert (await store.replicate(row, **PARTS)).reason == ""
        assert "get_annotation" not in store.asked

    run(scene)


def test_texts_that_may_not_be_read_are_not_called_equal() -> None:
    async def scene() -> None:
        store = Scene()
        row = await copied_with(store, OTHER_TEXT)
        store.fails("get_annotation", Denied("GetObjectAnnotation", "k", "AccessDenied", "no", 403), "destination")
        outcome = await store.replicate(row, **PARTS)
        why = "GetObjectAnnotation AccessDenied: allow s3:GetObjectAnnotation"
        assert (outcome.status, outcome.reason) == (Status.SAME, UNCOMPARED.format(why=why))

    run(scene)


@pytest.mark.parametrize(
    ("bucket", "reason"), [("source", ""), ("destination", DIFFERENT)], ids=["the source's", "the copy's"]
)
def test_a_text_that_is_deleted_before_it_is_compared(bucket: str, reason: str) -> None:
    """The source's is missed no more. The copy's is not the source's."""

    async def scene() -> None:
        store = Scene()
        row = await copied_with(store, OTHER_TEXT)
        store.fails("get_annotation", NotFound("GetObjectAnnotation", "k", "NoSuchAnnotation", "gone", 404), bucket)
        assert (await store.replicate(row, **PARTS)).reason == reason

    run(scene)


def test_the_text_of_an_object_that_replaced_the_source_is_not_compared() -> None:
    async def scene() -> None:
        store = Scene(is_versioned=False)
        row = await copied_with(store, OTHER_TEXT)
        get = store.get_annotation

        async def replaced_first(ref: ObjectRef, name: str) -> bytes:
            store.get_annotation = get  # type: ignore[method-assign]
            await store.put_source(b"another object", {"transcript": OTHER_TEXT})
            return await get(ref, name)

        store.get_annotation = replaced_first  # type: ignore[method-assign]
        with pytest.raises(Conflict):
            await store.replicate(row, **PARTS)

    run(scene)


class Naive(MemoryStore):
    """A server that does not know the parameter `annotation`: it reads and writes objects instead."""

    keeps_annotations = False

    async def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        raise Unavailable("ListObjectAnnotations", str(ref), "MalformedAnswer", "an object, and no list", 200)

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        return (await self.get(ref)).data

    async def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        await self.put(ref.bucket, ref.key, text, Attributes(), guard=UNGUARDED)


class Refusing(MemoryStore):
    """A server that answers 501."""

    keeps_annotations = False

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        raise Rejected("GetObjectAnnotation", str(ref), "NotImplemented", "a header you provided", 501)


class Large(Naive):
    """A naive server whose object is larger than any annotation."""

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        raise Unavailable("GetObjectAnnotation", str(ref), "AnswerTooLarge", "a body of 9 GB", 0)


class Like(MemoryStore):
    """A server of another vendor that keeps annotations."""

    keeps_annotations = False


@pytest.mark.parametrize("kind", [Naive, Refusing, Large])
def test_no_annotation_is_sent_to_a_server_that_would_replace_the_object(kind: type[MemoryStore]) -> None:
    async def scene() -> None:
        source, destination = Scene(), kind()
        destination.create_bucket("destination")
        row = await source.put_source(SMALL)
        options = ReplicateOptions(streamed=True)
        job = Replicate(source, destination, ROUTE, options, ByteBudget(64 * MIB))
        [outcome] = await job.process([row])
        assert (outcome.status, outcome.reason) == (Status.COPIED, NOT_KEPT_THERE)
        assert (await destination.get(COPY)).data == SMALL

    run(scene)


@pytest.mark.parametrize(("kind", "found"), [(Naive, {}), (Refusing, {}), (Large, {}), (Like, TEXTS)])
def test_a_server_that_is_not_known_is_tried_once(kind: type[MemoryStore], found: dict[str, bytes]) -> None:
    async def scene() -> None:
        store = kind()
        store.create_bucket("source")
        tried: list[str] = []
        real = store.get_annotation

        async def get_annotation(ref: ObjectRef, name: str) -> bytes:
            tried.append(name)
            return await real(ref, name)

        store.get_annotation = get_annotation  # type: ignore[method-assign]
        lists = AnnotationLists(store)
        for key in ("a", "b"):
            written = await store.put("source", key, SMALL, Attributes(), guard=UNGUARDED)
            ref = ObjectRef("source", key, written.version_id)
            for name, text in found.items():
                await store.put_annotation(ref, name, text, object_etag=written.etag)
            assert set(await lists.read(ref)) == set(found)
        assert len(tried) == 1

    run(scene)


@pytest.mark.parametrize(
    "error",
    [
        Denied("GetObjectAnnotation", "k", "AccessDenied", "no", 403),
        Unavailable("GetObjectAnnotation", "k", "MalformedAnswer", "a proxy's page", 200),
        NotFound("GetObjectAnnotation", "k", "NoSuchKey", "gone", 404),
    ],
)
def test_an_answer_that_says_nothing_of_annotations_is_not_taken_for_none(error: StoreError) -> None:
    async def scene() -> None:
        store = Like()

        async def get_annotation(ref: ObjectRef, name: str) -> bytes:
            raise error

        store.get_annotation = get_annotation  # type: ignore[method-assign]
        with pytest.raises(type(error)):
            await AnnotationLists(store).read(ObjectRef("source", "k"))

    run(scene)


def test_a_bucket_of_s3_that_cannot_have_annotations_has_none() -> None:
    """As a directory bucket, which answers 501."""

    async def scene() -> None:
        store = Scene()
        row = await store.put_source(LARGE, {})
        store.fails("list_annotations", Rejected("ListObjectAnnotations", "k", "NotImplemented", "no", 501))
        assert (await store.replicate(row, **PARTS)).reason == ""

    run(scene)


def test_a_thousand_annotations_come_along_and_few_texts_are_held() -> None:
    async def scene() -> None:
        store = Scene()
        store.listed_annotations = 300
        texts = {f"n{number:04}": b"%d" % number for number in range(999)} | {"large": b"x" * ANNOTATION_BYTES}
        row = await store.put_source(LARGE, texts)
        held = peak = 0
        source = ObjectRef("source", "in/k", row.version_id)
        get, put = store.get_annotation, store.put_annotation

        async def get_annotation(ref: ObjectRef, name: str) -> bytes:
            nonlocal held, peak
            held += 1
            peak = max(peak, held)
            await asyncio.sleep(0)
            return await get(ref, name)

        async def put_annotation(ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
            nonlocal held
            await put(ref, name, text, object_etag=object_etag)
            held -= 1

        copied = await store.replicate(row, **PARTS, annotations="skip")
        copy = COPY._replace(version_id=copied.destination_version_id)
        store.get_annotation, store.put_annotation = get_annotation, put_annotation  # type: ignore[method-assign]
        budget = ByteBudget(2 * ANNOTATION_BYTES)
        reason = await AnnotationCarrier.between(store, store, budget).carry(
            source, row.etag, copy, copied.destination_etag or ""
        )
        assert reason == ""
        assert store.texts_at(copy) == texts
        assert peak <= AT_ONCE
        assert budget.try_acquire(2 * ANNOTATION_BYTES) is not None

    run(scene)


NEVER_ENDING: dict[str, Callable[[str | None], str]] = {
    "the same page": lambda token: "again",
    "two pages in turn": lambda token: "b" if token == "a" else "a",
    "always another page": lambda token: f"{token}x"[-3_000:],
}


@pytest.mark.parametrize("next_of", NEVER_ENDING.values(), ids=NEVER_ENDING)
def test_a_list_that_would_never_end_is_given_up(next_of: Callable[[str | None], str]) -> None:
    async def scene() -> None:
        store = Scene()

        async def list_annotations(ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
            await asyncio.sleep(0)
            return AnnotationPage([], next_of(token))

        store.list_annotations = list_annotations  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="more than a version can have"):
            await asyncio.wait_for(AnnotationLists(store).read(ObjectRef("source", "k")), 5)

    run(scene)


@pytest.mark.parametrize("way", WITHOUT_S3)
def test_an_object_that_replaced_the_source_does_not_hide_its_annotations(way: str) -> None:
    """Its list is empty, and says nothing of the object that was copied."""
    body, options = WAYS[way]

    async def scene() -> None:
        store = Scene(is_versioned=False)
        row = await store.put_source(body)
        lists = store.list_annotations

        async def replaced_first(ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
            store.list_annotations = lists  # type: ignore[method-assign]
            await store.put_source(b"another object", {})
            return await lists(ref, token=token)

        store.list_annotations = replaced_first  # type: ignore[method-assign]
        with pytest.raises(Conflict):
            await store.replicate(row, **options)
        assert (await store.replicate(row, **options)).status is Status.CHANGED

    run(scene)


@pytest.mark.parametrize("way", WITHOUT_S3)
def test_a_source_that_is_deleted_after_an_empty_list_leaves_its_annotations_unknown(way: str) -> None:
    """What was listed may have been another object by then."""
    body, options = WAYS[way]

    async def scene() -> None:
        store = Scene(is_versioned=False)
        row = await store.put_source(body, {})
        lists = store.list_annotations

        async def deleted_next(ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
            page = await lists(ref, token=token)
            await store.delete("source", "in/k")
            return page

        store.list_annotations = deleted_next  # type: ignore[method-assign]
        outcome = await store.replicate(row, **options)
        assert (outcome.status, outcome.reason) == (Status.COPIED, UNKNOWN.format(why="HeadObject NoSuchKey"))

    run(scene)


def test_a_server_without_annotations_is_not_asked_for_the_source_again() -> None:
    async def scene() -> None:
        source, destination = Refusing(), Scene(is_versioned=False)
        source.create_bucket("source")
        written = await source.put("source", "in/k", SMALL, Attributes(), guard=UNGUARDED)
        heads = 0
        head = source.head

        async def counted(ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
            nonlocal heads
            heads += 1
            return await head(ref, part_number=part_number)

        source.head = counted  # type: ignore[method-assign]
        carrier = AnnotationCarrier.between(source, destination, ByteBudget(MIB))
        assert await carrier.carry(ObjectRef("source", "in/k"), written.etag, COPY, "e") == ""
        assert heads == 0

    run(scene)


@pytest.mark.parametrize("way", WITHOUT_S3)
def test_a_source_that_is_replaced_before_its_annotations_are_read_gives_none(way: str) -> None:
    """Without versions nothing but its ETag tells the new object from the copied one."""
    body, options = WAYS[way]

    async def scene() -> None:
        store = Scene(is_versioned=False)
        row = await store.put_source(body, {})
        lists = store.list_annotations

        async def replaced_first(ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
            store.list_annotations = lists  # type: ignore[method-assign]
            await store.put_source(b"another object", {"of": b"the other one"})
            return await lists(ref, token=token)

        store.list_annotations = replaced_first  # type: ignore[method-assign]
        with contextlib.suppress(Conflict):
            outcome = await store.replicate(row, **options)
            assert outcome.status is not Status.COPIED
        assert store.texts_at() == {}

    run(scene)


def test_a_copy_by_one_request_that_may_not_read_annotations_is_denied_by_s3() -> None:
    """S3 refuses the whole copy, so nothing is lost in silence."""

    async def scene() -> None:
        store = Scene()
        row = await store.put_source(SMALL)
        denied = Denied("CopyObject", "s3://destination/out/k", "AccessDenied", "s3:GetObjectAnnotation", 403)

        def refuse(operation: str, arguments: tuple[Any, ...]) -> BaseException | None:
            return denied if operation == "copy" else None

        store.fail = refuse
        assert (await store.replicate(row)).status is Status.DENIED

    run(scene)


def test_a_guard_that_fails_is_s3_s() -> None:
    async def scene() -> None:
        store = Scene()
        row = await store.put_source(SMALL)
        with pytest.raises(PreconditionFailed):
            await store.put_annotation(ObjectRef("source", "in/k", row.version_id), "a", b"x", object_etag="other")

    run(scene)
