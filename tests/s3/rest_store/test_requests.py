"""RestStore against a server that answers by script: what goes over the wire."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT
from tests.doubles.scripted_server import COPIED, REF, Reply, Script, ask, copy
from tests.doubles.servers import Server


def test_a_copy_is_pinned_and_guarded(script: Script) -> None:
    script.reply = Reply(body=COPIED)
    assert ask(script, copy).etag == "e"
    (seen,) = script.seen
    assert (seen.method, seen.path, seen.body) == ("PUT", "/bucket/b", b"")
    assert seen.headers["x-amz-copy-source"] == "/bucket/a%20key?versionId=v1"
    assert seen.headers["x-amz-copy-source-if-match"] == '"e1"'
    assert seen.headers["if-none-match"] == "*"
    assert seen.headers["host"] == script.endpoint.removeprefix("http://")
    assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert "x-amz-copy-source-if-match" in seen.headers["authorization"]
    assert "x-amz-request-payer" not in seen.headers


def test_the_requester_pays_for_every_request_when_asked_to(script: Script) -> None:
    script.reply = Reply(body=COPIED, headers={"ETag": '"e"'})
    ask(script, copy, request_payer=True)
    ask(script, lambda store: store.head(REF), request_payer=True)
    script.reply = Reply(headers={"ETag": '"e"'})
    ask(script, lambda store: store.put("bucket", "k", b"", Attributes(), guard=ABSENT), request_payer=True)
    assert [seen.headers["x-amz-request-payer"] for seen in script.seen] == ["requester"] * 3


@pytest.mark.slow
def test_64_mib_go_up_in_one_request_and_come_back_in_another(seaweed: Server) -> None:
    os.environ.update(seaweed.environment())
    seaweed.client().create_bucket(Bucket="large")
    data = os.urandom(64 * 1024 * 1024)

    async def run() -> tuple[str, bytes]:
        store = open_store(None, None, None, max_in_flight=4)
        await store.put("large", "k", data, Attributes(), guard=ABSENT)
        body = await store.get(ObjectRef("large", "k"), start=0, end=len(data))
        await store.close()
        return body.info.etag, body.data

    etag, back = asyncio.run(run())
    assert back == data
    assert etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
