"""RestStore and the documents of answers: a 200 with another document than the expected one is a failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs import errors
from jobs.core.model import Attributes, ObjectRef
from jobs.s3.rest_store import RestStore
from jobs.s3.store import UNGUARDED, Upload
from tests.doubles.scripted_server import REF, Reply, Script, ask, complete, copy, copy_part, error_body

Request = Callable[[RestStore], Awaitable[Any]]
DOCUMENTS: dict[str, tuple[Request, bytes]] = {
    "CopyObject": (copy, b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'),
    "UploadPartCopy": (copy_part, b'<CopyPartResult><ETag>"e"</ETag></CopyPartResult>'),
    "CompleteMultipartUpload": (
        complete,
        b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>',
    ),
    "CreateMultipartUpload": (
        lambda store: store.create_multipart(ObjectRef("bucket", "k"), Attributes()),
        b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
    ),
    "ListObjectsV2": (lambda store: store.list_objects("bucket", ""), b"<ListBucketResult/>"),
    "ListObjectVersions": (lambda store: store.list_versions("bucket", ""), b"<ListVersionsResult/>"),
    "ListObjectAnnotations": (lambda store: store.list_annotations(REF), b"<ListObjectAnnotationsOutput/>"),
    "GetObjectTagging": (lambda store: store.get_tags(REF), b"<Tagging><TagSet/></Tagging>"),
    "GetBucketVersioning": (lambda store: store.is_versioned("bucket"), b"<VersioningConfiguration/>"),
}
BODILESS: dict[str, Request] = {
    "PutObject": lambda store: store.put(ObjectRef("bucket", "k"), b"x", Attributes(), guard=UNGUARDED),
    "UploadPart": lambda store: store.put_part(Upload("bucket", "k", "u"), 1, b"x"),
    "DeleteObject": lambda store: store.delete(ObjectRef("bucket", "k")),
}
OTHERS = {
    "page": b"<html><head><title>Log in</title></head><body><ETag>e</ETag><UploadId>u</UploadId></body></html>",
    "document": b"<Other><ETag>e</ETag><UploadId>u</UploadId><TagSet/></Other>",
    "within": b"<Other><CopyObjectResult/><CopyPartResult/><ListBucketResult/></Other>",
    "nothing": b"",
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("operation", DOCUMENTS)
def test_another_document_in_a_200_is_no_answer(script: Script, operation: str, other: str) -> None:
    if (operation, other) == ("GetObjectTagging", "nothing"):
        pytest.skip("some servers send no document for no tags")
    script.reply = Reply(body=OTHERS[other])
    with pytest.raises(errors.Unavailable) as caught:
        ask(script, DOCUMENTS[operation][0], is_paced=True)
    assert caught.value.code == "MalformedAnswer"
    assert caught.value.operation == operation


@pytest.mark.parametrize("other", ["page", "document", "within"])
@pytest.mark.parametrize("operation", BODILESS)
def test_a_document_where_s3_sends_none_is_no_answer(script: Script, operation: str, other: str) -> None:
    """It comes from something between: nobody knows what has become of the request."""
    script.reply = Reply(200, {"ETag": '"e"'}, OTHERS[other])
    with pytest.raises(errors.Unavailable) as caught:
        ask(script, BODILESS[operation], is_paced=True)
    assert (caught.value.code, caught.value.operation) == ("MalformedAnswer", operation)


def test_no_document_for_tags_is_no_tags(script: Script) -> None:
    script.reply = Reply()
    assert ask(script, lambda store: store.get_tags(REF)) == {}


@pytest.mark.parametrize("operation", [*DOCUMENTS, *BODILESS])
def test_an_error_in_a_200_is_asked_again(script: Script, operation: str) -> None:
    request, document = DOCUMENTS[operation] if operation in DOCUMENTS else (BODILESS[operation], b"")
    etag = {"ETag": '"e"'}
    script.first = [Reply(200, etag, error_body("InternalError")), Reply(200, etag, error_body("SlowDown"))]
    script.reply = Reply(200, etag, document)
    ask(script, request)
    assert len(script.seen) == 3


@pytest.mark.parametrize("operation", [*DOCUMENTS, *BODILESS])
def test_an_error_in_each_200_is_an_error(script: Script, operation: str) -> None:
    request = DOCUMENTS[operation][0] if operation in DOCUMENTS else BODILESS[operation]
    script.reply = Reply(200, {"ETag": '"e"'}, b" \n " + error_body("SlowDown"))
    with pytest.raises(errors.Throttled):
        ask(script, request, is_paced=True)
    assert len(script.seen) == 2


@pytest.mark.parametrize("code", ["PreconditionFailed", "NoSuchUpload", "AccessDenied"])
def test_an_error_in_a_200_that_stays_is_asked_once(script: Script, code: str) -> None:
    script.reply = Reply(body=error_body(code))
    with pytest.raises(errors.StoreError) as caught:
        ask(script, complete)
    assert caught.value.code == code
    assert len(script.seen) == 1
