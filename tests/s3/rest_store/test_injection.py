"""Nothing that comes from data becomes another header, another request or another address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs import errors
from jobs.core.model import Attributes, Checksum, ObjectRef
from jobs.s3.http.endpoints import Endpoint, given_endpoint
from jobs.s3.http.signing import Credentials
from jobs.s3.operations import Operation
from jobs.s3.rest_store import RestStore
from jobs.s3.store import UNGUARDED, CopySettings, PartDone, Upload
from jobs.s3.transport import Transport
from tests.doubles.raw_server import head, raw_server, use
from tests.doubles.scripted_server import Reply, Script, ask

REF = ObjectRef("bucket", "k")
EVIL = ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "a\0", "a\r\n\r\nGET /bucket/other HTTP/1.1\r\n\r\n"]


def put(**attributes: Any) -> Callable[[RestStore], Awaitable[Any]]:
    return lambda store: store.put(ObjectRef("bucket", "k"), b"x", Attributes(**attributes), guard=UNGUARDED)


def requests_with(evil: str) -> dict[str, Callable[[RestStore], Awaitable[Any]]]:
    """Every place of a request's head that data may reach without being percent-encoded."""
    return {
        "a metadata name": put(metadata={evil: "v"}),
        "a metadata value": put(metadata={"n": evil}),
        "a header's name": put(headers={evil: "v"}),
        "a header's value": put(headers={"content-type": evil}),
        "a storage class": put(storage_class=evil),
        "a KMS key": put(sse="aws:kms", kms_key_id=evil),
        "a bucket": lambda store: store.head(ObjectRef(f"b{evil}", "k")),
        "a source's bucket": lambda store: store.copy(
            ObjectRef(f"b{evil}", "k"), None, ObjectRef("bucket", "k"), CopySettings(), guard=UNGUARDED
        ),
        "an ETag": lambda store: store.get(REF, if_match=evil),
        "an ETag of a source": lambda store: store.copy(
            REF, evil, ObjectRef("bucket", "b"), CopySettings(), guard=UNGUARDED
        ),
        "a checksum algorithm": lambda store: store.create_multipart(
            ObjectRef("bucket", "k"), Attributes(), checksum=Checksum(evil, "")
        ),
    }


@pytest.mark.parametrize("evil", EVIL, ids=ascii)
@pytest.mark.parametrize("place", requests_with(""))
def test_a_line_break_sends_nothing(script: Script, place: str, evil: str) -> None:
    with pytest.raises(errors.Rejected, match=r"line break|bucket name"):
        ask(script, requests_with(evil)[place])
    assert not script.seen


@pytest.mark.parametrize("name", ["a: b", "a b", "a:", "ä", "a\t", "(a)", "a,b", "\x7f"], ids=ascii)
def test_a_metadata_name_is_a_token(script: Script, name: str) -> None:
    with pytest.raises(errors.Rejected, match="not a valid header name"):
        ask(script, put(metadata={name: "v"}))
    assert not script.seen


@pytest.mark.parametrize("text", [*EVIL, "a b", "a&x=y", "a?b", "a#b", "ü", "\ud800", "../../b", "%0d%0a"], ids=ascii)
def test_keys_version_ids_upload_ids_prefixes_and_tokens_are_encoded(script: Script, text: str) -> None:
    script.reply = Reply(404)

    async def requests(store: RestStore) -> None:
        for request in (
            store.delete(ObjectRef("bucket", text, text)),
            store.abort_multipart(Upload("bucket", text, text)),
            store.list_objects("bucket", text),
            store.copy(
                ObjectRef("bucket", text, text), None, ObjectRef("bucket", text), CopySettings(), guard=UNGUARDED
            ),
            store.complete_multipart(Upload("bucket", text, text), [PartDone(1, "e")], guard=UNGUARDED),
        ):
            with contextlib.suppress(errors.NotFound):
                await request

    ask(script, requests)
    assert len(script.seen) == 5
    for seen in script.seen:
        assert "x-evil" not in seen.headers
        assert all(character.isascii() and character.isprintable() for character in seen.path)
        assert " " not in seen.path
        assert seen.path.count("?") <= 1
        assert "#" not in seen.path


@pytest.mark.parametrize(
    "bucket", ["..", ".", "a/b", "a?versions", "a#b", "a b", "a%2fb", "ü", "a@b", "a:80", "", "a\\b"], ids=ascii
)
def test_a_bucket_is_one_segment_of_the_path(script: Script, bucket: str) -> None:
    with pytest.raises(errors.Rejected, match="bucket name"):
        ask(script, lambda store: store.head(ObjectRef(bucket, "k")))
    assert not script.seen


@pytest.mark.parametrize("evil", EVIL, ids=ascii)
@pytest.mark.parametrize("place", ["region", "access_key", "token", "host", "path"])
def test_settings_and_credentials_have_no_line_break(place: str, evil: str) -> None:
    region = evil if place == "region" else "us-east-1"
    credentials = Credentials(evil if place == "access_key" else "id", "secret", evil if place == "token" else "token")
    endpoint = Endpoint(evil if place == "host" else "127.0.0.1:9", False, f"/{evil}" if place == "path" else "")

    async def run() -> None:
        transport = Transport(endpoint, region, lambda: credentials, max_in_flight=1)
        await transport.send(Operation.HEAD, REF)

    with pytest.raises(errors.Rejected, match="line break") as caught:
        asyncio.run(run())
    assert evil not in str(caught.value)  # it may be a secret


def test_a_lone_surrogate_in_a_header_is_refused(script: Script) -> None:
    with pytest.raises(errors.Rejected, match="surrogate"):
        ask(script, put(metadata={"n": "\ud800"}))


def test_a_name_with_a_semicolon_is_not_two_names(script: Script) -> None:
    """The signature lists names with semicolons between."""
    with pytest.raises(errors.Rejected, match="not a valid header name"):
        ask(script, put(metadata={"a;b": "v"}))


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:80", "ftp://host", "http://", "http://host:port",
     "http://host/?x=y", "http://host/#x", "http://ho st/", "http://[::1", "http://host\n/", "http://host/a b",
     "http://host:0", "http://hö.example", "http://host/\r\nx"],
)  # fmt: skip
def test_an_endpoint_is_a_plain_url(url: str) -> None:
    with pytest.raises(errors.ConfigError, match="expected http"):
        given_endpoint(url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(status: int) -> None:
    """Else the signature, the token and, with 307, the bytes would go wherever the server points."""
    with raw_server(lambda *_: [head(Content_Length=0, ETag='"e"')]) as elsewhere:

        def answer(method: str, path: str) -> list[bytes]:
            return [head(f"{status} Elsewhere", Location=f"{elsewhere.endpoint}{path}", Content_Length=0)]

        with raw_server(answer) as server:
            for request in (lambda store: store.get(REF), put(), lambda store: store.head(REF)):
                with pytest.raises(errors.StoreError):
                    use(server, request)
            assert len(server.paths) >= 3
        assert not elsewhere.paths
