"""The same calls go over the wire as the same requests, but for differences that have a name and a reason."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles.examples import examples
from tests.doubles.scripted_server import Seen
from tests.s3.second_opinion.calls import METHODS, REPLIES, call_of
from tests.s3.second_opinion.clients import Pair, pair_of_clients
from tests.s3.second_opinion.differences import (
    EXPECTED_IN_REQUESTS,
    EXPECTED_PATHS,
    EXPECTED_WITH_DOCUMENTS,
    SIGNED_BY_ONE,
)

CHECKSUM = "x-amz-checksum-"
EXAMPLES = 40
"""Of each method: botocore takes ten times as long as the server."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with pair_of_clients() as clients:
        yield clients


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=examples(EXAMPLES))
@given(data=st.data())
def test_both_clients_send_the_same_requests(pair: Pair, method: str, data: st.DataObject) -> None:
    call = data.draw(call_of(method))
    ours, theirs = pair.play(call, REPLIES[method])
    for one, other in zip(ours.seen, theirs.seen, strict=True):
        mine, its = described(one), described(other)
        assert {n: (v, its[n]) for n, v in mine.items() if v != its[n]} == {}
    for seen in (*ours.seen, *theirs.seen):
        digest = hashlib.sha256(seen.body).digest()
        assert seen.headers["x-amz-content-sha256"] == digest.hex()
        if method == "delete_versions" and seen.method == "POST":
            assert seen.headers["x-amz-checksum-sha256"] == base64.b64encode(digest).decode()
        if method in ("put", "put_part"):  # S3 demands one where the bucket has a default retention
            assert any(name == "content-md5" or name.startswith(CHECKSUM) for name in seen.headers)
    for one, other in zip(ours.seen, theirs.seen, strict=True):
        assert signed(one) - SIGNED_BY_ONE.keys() == signed(other) - SIGNED_BY_ONE.keys()


def described(seen: Seen) -> dict[str, object]:
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
        "path": EXPECTED_PATHS.get(path, path),
        "query": sorted(each if "=" in each else f"{each}=" for each in query.split("&") if each),
        "headers": headers,
        "body": _tree(seen.body) if is_document else seen.body,
    }


def signed(seen: Seen) -> set[str]:
    """The names of the headers that are signed."""
    return set(seen.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";"))


def _tree(body: bytes) -> object:
    """A document without its namespace, and without order among the elements of a structure."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return body

    def plain(element: ElementTree.Element) -> object:
        tag = element.tag.rpartition("}")[2]
        children = [plain(child) for child in element]
        return (
            tag,
            (element.text or "") if not children else "",
            sorted(children, key=repr) if tag in ("Part", "RestoreRequest") else children,
        )

    return plain(root)
