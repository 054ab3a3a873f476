"""Our client and botocore make the same requests of the same calls. Neither has a server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import StoreError
from jobs.s3.http.answers import Response
from jobs.s3.http.connection_pool import Bounds
from jobs.s3.http.endpoints import given_endpoint
from jobs.s3.http.signing import Credentials
from jobs.s3.operations import BY_CALL
from jobs.s3.rest_store import RestStore
from jobs.s3.transport import Transport
from tests.doubles.answering import Asked
from tests.doubles.examples import examples
from tests.s3.second_opinion.botocore_client import REFUSED, BotocoreClient
from tests.s3.second_opinion.calls import ARGUMENTS

EXAMPLES = 15
CHECKSUM = "x-amz-checksum-"
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


class Pair:
    """Our client and botocore."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner, self._botocore, self._seen = runner, BotocoreClient(), list[Asked]()
        transport = Transport(
            given_endpoint("http://s3.test"), "us-east-1", lambda: Credentials("id", "secret"), max_in_flight=1, tries=1
        )
        transport.__dict__["_pool"] = self
        self._ours = RestStore(transport)

    async def exchange(self, host: str, head: bytes, body: bytes | None, bounds: Bounds) -> Response:
        """As a connection pool: refuses each request."""
        line, *fields = head.decode().rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
        self._seen.append(Asked(method, target, headers, bytes(body or b"")))
        return Response(REFUSED, {}, b"")

    def send(self, method: str, *arguments: Any, **named: Any) -> tuple[Asked, Asked]:
        """What ours and botocore ask of a server for a call."""
        self._seen.clear()
        self._botocore.seen.clear()
        with contextlib.suppress(StoreError):
            self._runner.run(getattr(self._ours, method)(*arguments, **named))
        self._botocore.send(method, *arguments, **named)
        [ours], [theirs] = self._seen, self._botocore.seen
        return ours, theirs


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with asyncio.Runner() as runner:
        yield Pair(runner)


@pytest.mark.parametrize("method", BY_CALL)
@settings(max_examples=examples(EXAMPLES))
@given(data=st.data())
def test_both_clients_send_the_same_requests(pair: Pair, method: str, data: st.DataObject) -> None:
    arguments, named = data.draw(ARGUMENTS[method])
    seen, other = pair.send(method, *arguments, **named)
    mine, its = described(seen), described(other)
    assert {n: (v, its[n]) for n, v in mine.items() if v != its[n]} == {}
    assert signed(seen) - SIGNED_BY_ONE.keys() == signed(other) - SIGNED_BY_ONE.keys()
    digest = hashlib.sha256(seen.body).digest()
    assert seen.headers["x-amz-content-sha256"] == digest.hex()
    if method in ("put", "put_part"):  # S3 demands one where the bucket has a default retention
        assert any(name == "content-md5" or name.startswith(CHECKSUM) for name in seen.headers)


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
