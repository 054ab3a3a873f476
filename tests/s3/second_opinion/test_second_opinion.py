"""Our client and botocore make the same requests of the same calls, and the same results of the same answers.

Neither has a server: both get a canned answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from jobs.core.model import Attributes, ObjectInfo, ObjectRef
from jobs.errors import StoreError
from jobs.s3.http.answers import Answer, NoAnswer, Response
from jobs.s3.http.connection_pool import Bounds
from jobs.s3.http.endpoints import given_endpoint
from jobs.s3.http.signing import Credentials
from jobs.s3.rest_store import RestStore
from jobs.s3.store import UNGUARDED, Body, CopySettings, Page, PartDone, Upload, Written
from jobs.s3.transport import Transport
from tests.doubles.answering import Asked, Reply
from tests.doubles.examples import examples
from tests.s3.second_opinion.botocore_client import BotocoreClient
from tests.s3.second_opinion.calls import BUCKET, METHODS, REPLIES, Call, call_of
from tests.s3.second_opinion.replies import replies

REQUEST_EXAMPLES, ANSWER_EXAMPLES = 15, 25
CHECKSUM = "x-amz-checksum-"
REF, PLAIN = ObjectRef(BUCKET, "k", "v1"), ObjectRef(BUCKET, "k")
UPLOAD = Upload(BUCKET, "k", "u")
CALLS: dict[str, list[Call]] = {
    "abort_multipart": [lambda s: s.abort_multipart(UPLOAD)],
    "complete_multipart": [lambda s: s.complete_multipart(UPLOAD, [PartDone(1, "e")], guard=UNGUARDED)],
    "copy": [lambda s: s.copy(REF, "e1", ObjectRef(BUCKET, "b"), CopySettings(), guard=UNGUARDED)],
    "copy_part": [lambda s: s.copy_part(REF, "e1", 0, 5, UPLOAD, 1)],
    "create_multipart": [lambda s: s.create_multipart(ObjectRef(BUCKET, "k"), Attributes())],
    "delete": [lambda s: s.delete(ObjectRef(BUCKET, "k")), lambda s: s.delete(ObjectRef(BUCKET, "k", "v1"))],
    "get": [
        lambda s: s.get(REF, start=2, end=4, if_match="e1"),
        lambda s: s.get(PLAIN),
        lambda s: s.get(PLAIN, start=2),
    ],
    "get_annotation": [lambda s: s.get_annotation(REF, "a")],
    "get_tags": [lambda s: s.get_tags(REF)],
    "head": [lambda s: s.head(REF), lambda s: s.head(PLAIN)],
    "is_versioned": [lambda s: s.is_versioned(BUCKET)],
    "list_annotations": [lambda s: s.list_annotations(REF)],
    "list_objects": [lambda s: s.list_objects(BUCKET, "")],
    "list_parts": [lambda s: s.list_parts(UPLOAD), lambda s: s.list_parts(UPLOAD, after=2)],
    "list_versions": [lambda s: s.list_versions(BUCKET, "")],
    "may_read_locks": [lambda s: s.may_read_locks(REF)],
    "put": [lambda s: s.put(ObjectRef(BUCKET, "k"), b"x", Attributes(), guard=UNGUARDED, checksum=None)],
    "put_annotation": [lambda s: s.put_annotation(REF, "a", b"x", object_etag="e1")],
    "put_part": [lambda s: s.put_part(UPLOAD, 1, b"x")],
    "request_restore": [lambda s: s.request_restore(REF, days=3, tier="Bulk")],
}
EXPECTED_IN_REQUESTS: dict[str, str] = {
    "accept-encoding": "botocore says that it takes no compressed body; S3 sends none that nobody asked for",
    "amz-sdk-invocation-id": "AWS's number of the call, the same in all its attempts; S3 does not need it",
    "amz-sdk-request": "AWS's count of attempts; S3 does not need it",
    "authorization": "made of all the others: test_signing holds our signatures equal to botocore's",
    "expect": "botocore has bodies announced, and waits a second for servers that ignore that",
    "host": "added when botocore sends, and signed by both",
    "user-agent": "each says who it is",
    "x-amz-content-sha256": "of a body that is spelled otherwise; compared with the body that came",
    "x-amz-date": "the second in which it was sent",
}
EXPECTED_WITH_DOCUMENTS: dict[str, str] = {
    "content-type": "ours says application/xml; botocore says nothing, and S3 asks for nothing",
    "content-length": "the documents are spelled otherwise: order, namespace, escapes",
    "x-amz-checksum-sha256": "of the document; compared with the body that came",
}
_DESCRIBES = "botocore signs all; S3 does not demand it, and proxies change what describes an object"
SIGNED_BY_ONE: dict[str, str] = {
    "cache-control": _DESCRIBES,
    "content-disposition": _DESCRIBES,
    "content-encoding": _DESCRIBES,
    "content-language": _DESCRIBES,
    "content-type": EXPECTED_WITH_DOCUMENTS["content-type"],
    "expires": _DESCRIBES,
}


class _Canned:
    """Instead of a connection pool: takes requests, and answers with `reply`."""

    def __init__(self) -> None:
        self.reply, self.seen = Reply(), list[Asked]()

    async def exchange(self, host: str, head: bytes, body: bytes | None, bounds: Bounds) -> Response:
        line, *fields = head.decode().rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
        self.seen.append(Asked(method, target, headers, bytes(body or b"")))
        sent = {"Content-Length": str(len(self.reply.body))} | self.reply.headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        data = f"HTTP/1.1 {self.reply.status} OK\r\n{lines}\r\n".encode("latin-1")
        answer = Answer(bounds.body_bytes, bounds.is_bodiless)
        response = answer.feed(memoryview(data + (b"" if method == "HEAD" else self.reply.body)))
        if response is None:
            raise NoAnswer("IncompleteBody", "the answer is cut short")
        return response


class Pair:
    """Our client and botocore."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner, self._pool, self._botocore = runner, _Canned(), BotocoreClient()
        transport = Transport(
            given_endpoint("http://s3.test"), "us-east-1", lambda: Credentials("id", "secret"), max_in_flight=1, tries=1
        )
        transport.__dict__["_pool"] = self._pool
        self._ours = RestStore(transport)

    def play(self, call: Call, reply: Reply) -> tuple[Any, Any]:
        """What ours and botocore make of this call and this answer: a value or an error."""
        self._pool.reply = self._botocore.reply = reply
        self._pool.seen.clear()
        self._botocore.seen.clear()
        try:
            ours = self._runner.run(call(self._ours))
        except StoreError as error:
            ours = error
        try:
            theirs = call(self._botocore)
        except ClientError as error:
            theirs = error
        return ours, theirs

    @property
    def seen(self) -> tuple[list[Asked], list[Asked]]:
        """What ours and botocore sent."""
        return self._pool.seen, self._botocore.seen


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with asyncio.Runner() as runner:
        yield Pair(runner)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=examples(REQUEST_EXAMPLES))
@given(data=st.data())
def test_both_clients_send_the_same_requests(pair: Pair, method: str, data: st.DataObject) -> None:
    pair.play(data.draw(call_of(method)), REPLIES[method])
    for one, other in zip(*pair.seen, strict=True):
        mine, its = described(one), described(other)
        assert {n: (v, its[n]) for n, v in mine.items() if v != its[n]} == {}
        assert signed(one) - SIGNED_BY_ONE.keys() == signed(other) - SIGNED_BY_ONE.keys()
    [seen] = pair.seen[0]
    digest = hashlib.sha256(seen.body).digest()
    assert seen.headers["x-amz-content-sha256"] == digest.hex()
    if method in ("put", "put_part"):  # S3 demands one where the bucket has a default retention
        assert any(name == "content-md5" or name.startswith(CHECKSUM) for name in seen.headers)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=examples(ANSWER_EXAMPLES))
@given(data=st.data())
def test_both_clients_make_the_same_of_the_same_answer(pair: Pair, method: str, data: st.DataObject) -> None:
    """What ours refuses of a 200 is not compared: botocore checks less."""
    call, reply = data.draw(st.sampled_from(CALLS[method])), data.draw(replies(method))
    ours, theirs = pair.play(call, reply)
    if reply.status >= 300:
        # the upload is gone, the restore is under way, the lock may not be read
        is_done = method in ("abort_multipart", "request_restore", "may_read_locks")
        assert isinstance(theirs, ClientError)
        assert isinstance(ours, StoreError) or is_done
        if isinstance(ours, StoreError) and method != "head" and b"<Code>" in reply.body:
            assert ours.code in (theirs.response["Error"]["Code"], "DeleteMarker")
    elif not isinstance(ours, StoreError):
        assert comparable(ours) == comparable(theirs)


def comparable(result: Any) -> Any:
    """A result without what cannot differ in meaning: the order of checksums, errors' words, a listing's course."""
    if isinstance(result, (PartDone, Written)):
        return result._replace(checksums=tuple(sorted(result.checksums)))
    if isinstance(result, ObjectInfo):
        return structs.replace(result, checksums=tuple(sorted(result.checksums)))
    if isinstance(result, Body):
        return result._replace(info=comparable(result.info))
    if isinstance(result, Page):
        entries, following = sorted(result.entries, key=lambda entry: entry.is_delete_marker), result.next_marker
        return result._replace(entries=entries, next_marker=following and following._replace(course=(0, None)))
    if isinstance(result, list):
        return [each.code if isinstance(each, StoreError) else each for each in result]
    return result


def described(seen: Asked) -> dict[str, object]:
    """The request without the expected differences."""
    path, _, query = seen.path.partition("?")
    is_document = seen.method == "POST" and seen.body != b""
    expected = EXPECTED_IN_REQUESTS.keys() | (EXPECTED_WITH_DOCUMENTS.keys() if is_document else set())
    headers = {name: value for name, value in seen.headers.items() if name not in expected}
    if "x-amz-copy-source" in headers:  # S3 takes it with a slash before the bucket and without
        headers["x-amz-copy-source"] = headers["x-amz-copy-source"].removeprefix("/")
    if headers.get("content-length") == "0" and not seen.body:
        del headers["content-length"]
    return {
        "method": seen.method,
        "path": "/bucket/" if path == "/bucket" else path,  # S3 takes both for the bucket
        "query": sorted(each if "=" in each else f"{each}=" for each in query.split("&") if each),
        "headers": headers,
        "body": _tree(seen.body) if is_document else seen.body,
    }


def signed(seen: Asked) -> set[str]:
    """The names of the headers that are signed."""
    return set(seen.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";"))


def _tree(body: bytes) -> object:
    """A document without its namespace, and without order among the elements of a structure."""

    def plain(element: ElementTree.Element) -> object:
        tag = element.tag.rpartition("}")[2]
        children = [plain(child) for child in element]
        is_unordered = tag in ("Part", "RestoreRequest")
        return (
            tag,
            (element.text or "") if not children else "",
            sorted(children, key=repr) if is_unordered else children,
        )

    try:
        return plain(ElementTree.fromstring(body))
    except ElementTree.ParseError:
        return body
