"""RestStore against a server that answers by script: what goes over the wire."""

from __future__ import annotations

from jobs.core.model import Attributes
from jobs.s3.store import ABSENT
from tests.doubles.scripted_server import COPIED, REF, Reply, Script, ask, copy


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
