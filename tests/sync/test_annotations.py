"""Annotations on all ways that an object is copied: what comes along, and what an outcome says where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs.core.model import Attributes, ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.errors import Conflict, Denied, Rejected, StoreError, Unavailable
from jobs.s3.annotations import EXCLUDED, NOT_KEPT_THERE, AnnotationLists, AnnotationPair, Pinned
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from jobs.sync.key import Sides, SyncOptions
from tests.doubles.hooks import kill, names, once, refuse, watch
from tests.doubles.memory_store import MemoryStore, Request
from tests.sync.scene import COPY, KIB, PARTS, ROUTE, SOURCE, make_store, put, replicate

TEXTS = {"ml.labels": b'{"cat": 0.9}', "transcript": "Łódź, 港".encode()}
SMALL, LARGE = b"body", bytes(9 * KIB)
WAYS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "by one request": (SMALL, {}),
    "in parts": (LARGE, PARTS),
    "streamed": (SMALL, {"streamed": True}),
    "streamed in parts": (LARGE, {"streamed": True}),
}
WITHOUT_S3 = [way for way in WAYS if way != "by one request"]


async def put_annotated(store: MemoryStore, body: bytes, texts: dict[str, bytes] = TEXTS) -> ObjectVersion:
    """An annotated object, and the row that an inventory would have of it."""
    row = await put(store, body)
    for name, text in texts.items():
        ref = SOURCE._replace(version_id=row.version_id)
        await MemoryStore.put_annotation(store, ref, name, text, object_etag=row.etag or "")
    return row


async def copied(store: MemoryStore, row: ObjectVersion, **options: Any) -> tuple[Status, str]:
    outcome = await replicate(store, row, **options)
    return outcome.status, outcome.detail if outcome.reason == Reason.COPY_INCOMPLETE else outcome.reason


def texts_at(store: MemoryStore, ref: ObjectRef = COPY) -> dict[str, bytes]:
    """The annotations that a version has."""
    return dict(store._buckets.find("Look", ref).annotations)


def of_annotations(requests: list[Request]) -> list[str]:
    return [name for name in names(requests) if "annotation" in name]


@pytest.mark.parametrize("way", WAYS)
async def test_a_copy_has_the_annotations_of_its_source_unless_it_is_asked_not_to(way: str) -> None:
    (body, options), store, other = WAYS[way], make_store(), make_store()
    assert await copied(store, await put_annotated(store, body), **options) == (Status.DONE, "")
    assert texts_at(store) == TEXTS
    row, requests = await put_annotated(other, body), watch(other)
    assert await copied(other, row, **options, annotations="skip") == (Status.DONE, EXCLUDED)
    assert texts_at(other) == {}
    assert not of_annotations(requests)


@pytest.mark.parametrize("way", WITHOUT_S3)
async def test_an_object_without_annotations_costs_one_list(way: str) -> None:
    (body, options), store = WAYS[way], make_store()
    row, requests = await put(store, body), watch(store)
    await replicate(store, row, **options)
    assert of_annotations(requests) == ["list_annotations"]


@pytest.mark.parametrize("all_versions", [False, True])
@pytest.mark.parametrize("number", [1, 2], ids=["before the first", "between the two"])
@pytest.mark.parametrize("way", WITHOUT_S3)
async def test_a_worker_that_was_killed_after_the_copy_leaves_no_annotation_behind(
    way: str, number: int, all_versions: bool
) -> None:
    (body, options), store = WAYS[way], make_store()
    row = await put_annotated(store, body)
    await kill(store, "put_annotation", number, replicate(store, row, **options, all_versions=all_versions))
    assert texts_at(store) != TEXTS
    assert await copied(store, row, **options, all_versions=all_versions) == (Status.SAME, "")
    assert texts_at(store) == TEXTS


async def test_a_copy_by_one_request_is_not_asked_for_its_annotations() -> None:
    store = make_store()
    row = await put_annotated(store, SMALL)
    await replicate(store, row)
    requests = watch(store)
    assert (await copied(store, row))[0] is Status.SAME
    assert not of_annotations(requests)


@pytest.mark.parametrize(
    ("operation", "error", "reason"),
    [
        (
            "list_annotations",
            Denied("ListObjectAnnotations", "s3://source/in/k", "AccessDenied", "no", 403),
            "whether the source has annotations that the copy lacks is not known: "
            "ListObjectAnnotations AccessDenied: allow s3:ListObjectAnnotations",
        ),
        (
            "get_annotation",
            Denied("GetObjectAnnotation", "s3://source/in/k", "AccessDenied", "no", 403),
            "without some of the source's annotations: GetObjectAnnotation AccessDenied: allow s3:GetObjectAnnotation",
        ),
        (
            "put_annotation",
            Rejected("PutObjectAnnotation", "s3://destination/out/k", "AnnotationLimitExceeded", "full", 400),
            "without some of the source's annotations: PutObjectAnnotation AnnotationLimitExceeded",
        ),
    ],
)
async def test_a_copy_that_lacks_annotations_says_why(operation: str, error: StoreError, reason: str) -> None:
    """The reason names no object, so that a report counts it."""
    store = make_store()
    row = await put_annotated(store, LARGE)
    store.hook(**{operation: refuse(error)})
    assert await copied(store, row, **PARTS) == (Status.DONE, reason)
    assert await copied(store, row, **PARTS) == (Status.SAME, reason)


async def test_an_annotation_is_put_onto_the_copy_alone() -> None:
    """What came on top of the copy meanwhile is compared before it gets any."""
    store = make_store(versioned=False)
    row = await put_annotated(store, LARGE)

    async def overwrite() -> None:
        store._buckets.find("Look", COPY).etag = "another object's"

    store.hook(put_annotation=once(overwrite))
    assert await copied(store, row, **PARTS) == (Status.SAME, "")
    assert texts_at(store) == TEXTS


@pytest.mark.parametrize(
    ("operation", "replacing"), [("list_annotations", {}), ("list_annotations", TEXTS), ("get_annotation", TEXTS)]
)
async def test_no_annotation_of_an_object_that_replaced_the_source_comes_along(
    operation: str, replacing: dict[str, bytes]
) -> None:
    """Without versions nothing but its ETag tells the new object from the copied one."""
    store = make_store(versioned=False)
    row = await put_annotated(store, SMALL, dict.fromkeys(TEXTS, b"of the copied one"))
    copy = await replicate(store, row, annotations="skip")

    async def replace() -> None:
        await put_annotated(store, b"another object", replacing)

    store.hook(**{operation: once(replace)})
    pair = AnnotationPair(store, store, ByteBudget(64 * KIB))
    with pytest.raises(Conflict):
        await pair.carry(Pinned(SOURCE, row.etag), Pinned(COPY, copy.destination_etag))
    assert texts_at(store) == {}


async def test_an_annotation_of_the_copy_s_own_stays() -> None:
    store = make_store()
    row = await put_annotated(store, LARGE)
    copy = await replicate(store, row, **PARTS)
    ref, own = COPY._replace(version_id=copy.destination_version_id), {"transcript": b"by hand", "note": b"own"}
    for name, text in own.items():
        await store.put_annotation(ref, name, text, object_etag=copy.destination_etag or "")
    assert await copied(store, row, **PARTS) == (Status.SAME, "")
    assert texts_at(store) == TEXTS | own


def unknown() -> MemoryStore:
    """A server of another vendor."""
    store = make_store()
    store.keeps_annotations = False
    return store


def naive() -> MemoryStore:
    """A server that does not know the parameter `annotation`: it reads and writes objects instead."""

    async def read_object(request: Request) -> bytes:
        return (await MemoryStore.get(store, request.place)).data

    async def write_object(request: Request) -> Any:
        text = request.arguments["text"]
        return await MemoryStore.put(store, request.place, text, Attributes(), guard=UNGUARDED)

    no_list = Unavailable("ListObjectAnnotations", "k", "MalformedAnswer", "an object, and no list", 200)
    store = unknown()
    store.hook(get_annotation=read_object, put_annotation=write_object, list_annotations=refuse(no_list))
    return store


def refusing() -> MemoryStore:
    store = unknown()
    store.hook(get_annotation=refuse(Rejected("GetObjectAnnotation", "k", "NotImplemented", "a header", 501)))
    return store


def large() -> MemoryStore:
    """A naive server whose object is larger than any annotation."""
    store = unknown()
    store.hook(get_annotation=refuse(Unavailable("GetObjectAnnotation", "k", "AnswerTooLarge", "9 GB", 0)))
    return store


@pytest.mark.parametrize("make", [naive, refusing, large])
async def test_no_annotation_is_sent_to_a_server_that_would_replace_the_object(make: Callable[[], MemoryStore]) -> None:
    source, destination = make_store(), make()
    row = await put_annotated(source, SMALL)
    job = Sides(
        source, destination, ROUTE, SyncOptions.from_dict({"is_replay": True, "streamed": True}), ByteBudget(64 * KIB)
    )
    [outcome] = await job.process([row])
    assert (outcome.status, outcome.detail) == (Status.DONE, NOT_KEPT_THERE)
    assert (await destination.get(COPY)).data == SMALL


@pytest.mark.parametrize(("make", "texts"), [(naive, {}), (refusing, {}), (large, {}), (unknown, TEXTS)])
async def test_a_server_that_is_not_known_is_tried_once(
    make: Callable[[], MemoryStore], texts: dict[str, bytes]
) -> None:
    store = make()
    requests, lists = watch(store), AnnotationLists(store)
    for _ in range(2):
        row = await put_annotated(store, SMALL, texts)
        assert set(await lists.read(SOURCE._replace(version_id=row.version_id))) == set(texts)
    assert names(requests).count("get_annotation") == 1
