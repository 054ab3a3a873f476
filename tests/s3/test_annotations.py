"""Lists of annotations: what an answer says of a server, and what says nothing."""

from __future__ import annotations

import asyncio

import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.errors import Denied, NotFound, Rejected, StoreError, Unavailable
from jobs.s3.annotations import AnnotationLists
from jobs.s3.store import UNGUARDED, AnnotationPage
from tests.doubles.hooks import refuse
from tests.doubles.memory_store import MemoryStore, Request


def make_store() -> MemoryStore:
    return MemoryStore(buckets=["source"])


@pytest.mark.parametrize(
    "error",
    [
        Denied("GetObjectAnnotation", "k", "AccessDenied", "no", 403),
        Unavailable("GetObjectAnnotation", "k", "MalformedAnswer", "a proxy's page", 200),
        NotFound("GetObjectAnnotation", "k", "NoSuchKey", "gone", 404),
    ],
)
async def test_an_answer_that_says_nothing_of_annotations_is_not_taken_for_none(error: StoreError) -> None:
    store = make_store()
    store.keeps_annotations = False
    store.hook(get_annotation=refuse(error))
    with pytest.raises(type(error)):
        await AnnotationLists(store).read(ObjectRef("source", "k"))


async def test_a_bucket_of_s3_that_cannot_have_annotations_has_none() -> None:
    """As a directory bucket, which answers 501."""
    store = make_store()
    await store.put(ObjectRef("source", "k"), b"", Attributes(), guard=UNGUARDED)
    store.hook(list_annotations=refuse(Rejected("ListObjectAnnotations", "k", "NotImplemented", "no", 501)))
    assert await AnnotationLists(store).read(ObjectRef("source", "k")) == {}


async def test_a_list_that_would_never_end_is_given_up() -> None:
    async def list_annotations(request: Request) -> AnnotationPage:
        await asyncio.sleep(0)
        return AnnotationPage([], "again")

    store = make_store()
    store.hook(list_annotations=list_annotations)
    with pytest.raises(Unavailable, match="more pages than a version can have"):
        await asyncio.wait_for(AnnotationLists(store).read(ObjectRef("source", "k")), 5)
