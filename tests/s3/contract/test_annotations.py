"""Annotations: https://docs.aws.amazon.com/AmazonS3/latest/userguide/annotations-overview.html"""

from __future__ import annotations

import pytest

from jobs.core.model import ObjectRef
from jobs.errors import NotFound, PreconditionFailed, Rejected
from jobs.s3.annotations import AnnotationLists
from jobs.s3.store import ABSENT, ANNOTATION_BYTES, Annotation, CopySettings
from tests.s3.contract.checks import Subject, contract, md5_of

TEXTS = {"ml.labels": b'{"cat": 0.9}', "names-港_1": "Łódź".encode()}


async def annotated(s: Subject) -> tuple[ObjectRef, str]:
    """An object with annotations → it, and its ETag. No annotation goes to a server that would replace the object."""
    ref = await s.put("a key")
    if not (s.store.keeps_annotations or await AnnotationLists(s.store).are_kept(ref)):
        pytest.fail("keeps no annotations")
    etag = (await s.store.head(ref)).etag
    for name, text in TEXTS.items():
        await s.store.put_annotation(ref, name, text, object_etag=etag)
    return ref, etag


@contract(versioned=True)
async def test_annotations_are_listed_and_read(s: Subject) -> None:
    ref, etag = await annotated(s)
    page = await s.store.list_annotations(ref)
    assert sorted(page.annotations) == sorted(Annotation(name, len(text), md5_of(text)) for name, text in TEXTS.items())
    assert {name: await s.store.get_annotation(ref, name) for name in TEXTS} == TEXTS
    assert (await s.store.head(ref)).etag == etag
    with pytest.raises(NotFound) as caught:
        await s.store.get_annotation(ref, "none")
    assert caught.value.code == "NoSuchAnnotation"


@contract(versioned=True)
async def test_an_annotation_belongs_to_one_version(s: Subject) -> None:
    ref, _ = await annotated(s)
    newer = await s.put("a key", b"newer")
    assert await AnnotationLists(s.store).read(newer) == {}
    assert set(await AnnotationLists(s.store).read(ref)) == set(TEXTS)


@contract()
async def test_copy_carries_annotations_unless_it_is_asked_not_to(s: Subject) -> None:
    ref, _ = await annotated(s)
    lists = AnnotationLists(s.store)
    for key, settings, expected in (
        ("with", CopySettings(), set(TEXTS)),
        ("without", CopySettings(without_annotations=True), set()),
    ):
        await s.store.copy(ref, None, s.ref(key), settings, guard=ABSENT)
        assert set(await lists.read(s.ref(key))) == expected


@contract()
async def test_a_copy_in_parts_has_no_annotations(s: Subject) -> None:
    ref, etag = await annotated(s)
    upload_id, _ = await s.upload("copy", [])
    part = await s.store.copy_part(ref, etag, 0, None, upload_id, 1)
    await s.store.complete_multipart(upload_id, [part], guard=ABSENT)
    assert (await s.store.list_annotations(s.ref("copy"))).annotations == []


@contract()
async def test_an_annotation_is_put_onto_the_object_of_the_etag_alone(s: Subject) -> None:
    ref, _ = await annotated(s)
    with pytest.raises(PreconditionFailed):
        await s.store.put_annotation(ref, "a", b"x", object_etag="0" * 32)


@contract("aws.x", "S3-x", "a b", "a/b", "n" * 513)
async def test_a_name_that_is_not_allowed_is_refused(s: Subject, name: str) -> None:
    ref, etag = await annotated(s)
    with pytest.raises(Rejected):
        await s.store.put_annotation(ref, name, b"x", object_etag=etag)


@contract(b"", b"\xff\xfe", b"x" * (ANNOTATION_BYTES + 1))
async def test_a_text_that_is_not_allowed_is_refused(s: Subject, text: bytes) -> None:
    ref, etag = await annotated(s)
    with pytest.raises(Rejected):
        await s.store.put_annotation(ref, "a", text, object_etag=etag)


@contract()
async def test_annotations_of_what_is_not_there(s: Subject) -> None:
    with pytest.raises(NotFound):
        await s.store.list_annotations(s.ref("none"))
