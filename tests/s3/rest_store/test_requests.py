"""RestStore against a server that answers by script: what goes over the wire."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os

import pytest

from jobs import errors
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


def test_versions_are_deleted_by_one_request_and_each_has_its_answer(script: Script) -> None:
    script.reply = Reply(
        body=b"<DeleteResult><Deleted><Key>a&amp;b&#10;</Key><VersionId>1</VersionId></Deleted>"
        b"<Deleted><Key>m</Key><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>2</DeleteMarkerVersionId></Deleted>"
        b"<Error><Key>held</Key><VersionId>3</VersionId><Code>AccessDenied</Code><Message>locked</Message></Error>"
        b"</DeleteResult>"
    )
    versions = [("a&b\n", "1"), ("m", "2"), ("held", "3"), ("forgotten", "4")]
    told = ask(script, lambda store: store.delete_versions("bucket", versions))
    (seen,) = script.seen
    assert (seen.method, seen.path) == ("POST", "/bucket/?delete=")
    assert seen.headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(seen.body).digest()).decode()
    assert b"<Object><Key>a&amp;b&#10;</Key><VersionId>1</VersionId></Object>" in seen.body
    assert b"Quiet" not in seen.body
    assert told[:2] == [None, None]
    assert isinstance(told[2], errors.Denied)
    assert isinstance(told[3], errors.Unavailable)  # nothing is known of it


def test_a_version_that_is_gone_counts_as_deleted_and_a_missing_bucket_does_not(script: Script) -> None:
    """AWS says Deleted of it, others NoSuchVersion, SeaweedFS no version where none are kept."""
    script.reply = Reply(
        body=b"<DeleteResult><Error><Key>gone</Key><VersionId>1</VersionId><Code>NoSuchVersion</Code></Error>"
        b"<Error><Key>key</Key><VersionId>2</VersionId><Code>NoSuchKey</Code></Error><Deleted><Key>plain</Key></Deleted>"
        b"<Error><Key>b</Key><VersionId>3</VersionId><Code>NoSuchBucket</Code></Error></DeleteResult>"
    )
    versions = [("gone", "1"), ("key", "2"), ("plain", "null"), ("plain", "4"), ("b", "3")]
    *gone, unknown, bucket = ask(script, lambda store: store.delete_versions("bucket", versions))
    assert gone == [None] * 3
    assert isinstance(unknown, errors.Unavailable)  # not named, so it may be there
    assert isinstance(bucket, errors.NoSuchBucket)


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
