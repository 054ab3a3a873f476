"""Servers that know none of S3's checksums: boto3's settings for them are heeded, and a refusal names them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.errors import Rejected
from jobs.s3.checksums import full_object
from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT, UNGUARDED, PartDone, Upload
from tests.doubles.scripted_server import REF, Reply, Script, ask

SUM = full_object("CRC64NVME", b"data")
UPLOAD = Upload("b", "k", "u")
BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
COMPLETED = b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
REQUESTS: dict[str, tuple[Callable[[RestStore], Awaitable[Any]], bytes]] = {
    "head": (lambda store: store.head(REF), b""),
    "get": (lambda store: store.get(REF), b""),
    "get_annotation": (lambda store: store.get_annotation(REF, "note"), b""),
    "put": (lambda store: store.put(ObjectRef("b", "k"), b"data", Attributes(), guard=ABSENT, checksum=SUM), b""),
    "create_multipart": (lambda store: store.create_multipart(ObjectRef("b", "k"), Attributes(), checksum=SUM), BEGUN),
    "put_part": (lambda store: store.put_part(UPLOAD, 1, b"data", checksum=SUM), b""),
    "complete_multipart": (
        lambda store: store.complete_multipart(UPLOAD, [PartDone(1, "e")], guard=UNGUARDED, checksum=SUM),
        COMPLETED,
    ),
}
SETTINGS = ("RESPONSE_CHECKSUM_VALIDATION", "REQUEST_CHECKSUM_CALCULATION")


@pytest.mark.parametrize("is_in_file", [False, True])
@pytest.mark.parametrize("name", REQUESTS)
def test_checksums_are_left_out_where_boto3_would(
    script: Script, name: str, is_in_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request, body = REQUESTS[name]
    script.reply = Reply(200, {"ETag": '"e"'}, body)
    if is_in_file:
        lines = [f"{each.lower()} = when_required\n" for each in SETTINGS]
        (tmp_path / "config").write_text("[default]\n" + "".join(lines))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        for each in SETTINGS:
            monkeypatch.setenv(f"AWS_{each}", "when_required")
    answer = ask(script, request)
    [seen] = script.seen
    assert [each for each in seen.headers if "checksum" in each.lower()] == []
    assert name not in ("put", "put_part") or "content-md5" in map(str.lower, seen.headers)
    assert name != "put_part" or answer.checksums == ()


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("endpoint", [None, "https://bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com"])
def test_aws_gets_and_gives_checksums_whatever_is_set(
    name: str, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in SETTINGS:
        monkeypatch.setenv(f"AWS_{each}", "when_required")
    sent: list[Any] = []

    class Sent(Exception):
        pass

    async def send(*_: Any, headers: Any = (), body: bytes | None = None, **__: Any) -> None:
        sent.extend([*headers, body])
        raise Sent

    async def run() -> None:
        store = open_store(endpoint, "eu-west-1", None)
        monkeypatch.setattr(store.transport, "send", send)
        await REQUESTS[name][0](store)

    with pytest.raises(Sent):
        asyncio.run(run())
    assert "checksum" in str(sent).lower()


@pytest.mark.parametrize("name", ["head", "put"])
def test_a_refusal_of_checksums_says_what_to_set(script: Script, name: str) -> None:
    text = b"<Error><Code>InvalidArgument</Code><Message>Unsupported header 'x-amz-checksum-mode'</Message></Error>"
    script.reply = Reply(400, body=text)
    with pytest.raises(Rejected, match="AWS_RESPONSE_CHECKSUM_VALIDATION=when_required"):
        ask(script, REQUESTS[name][0])
    assert len(script.seen) == 1 + (name == "head"), "a HEAD has no words of its own"
