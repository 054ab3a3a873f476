"""Access points by ARN, accounts that have to own a bucket, and who pays: what is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest
from botocore.config import Config

from jobs import errors
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Side
from jobs.s3 import wire
from jobs.s3.http.answers import Response
from jobs.s3.http.connection_pool import Pool
from jobs.s3.sessions import open_side, open_store
from jobs.s3.store import ABSENT, CopySettings, Store, Upload
from tests.doubles.scripted_server import COPIED, REF, Reply, Script, ask, copy

ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint:finance"


def asked_at_aws(monkeypatch: pytest.MonkeyPatch, bucket: str, **environment: str) -> tuple[str, str]:
    """The host of a HEAD, and the region that it is signed for."""
    asked: list[tuple[str, bytes]] = []

    async def exchange(_: Pool, host: str, head: bytes, *__: Any) -> Response:
        asked.append((host, head))
        return Response(200, {"etag": '"e"', "content-length": "1"}, b"")

    monkeypatch.setattr(Pool, "exchange", exchange)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asyncio.run(open_store(None, None, None).head(ObjectRef(bucket, "k")))
    ((host, head),) = asked
    return host, head.decode().partition("Credential=")[2].split("/")[2]


@pytest.mark.parametrize("is_fips", [False, True])
@pytest.mark.parametrize("is_dualstack", [False, True])
def test_an_access_point_has_the_host_that_botocore_gives_it(
    monkeypatch: pytest.MonkeyPatch, is_fips: bool, is_dualstack: bool
) -> None:
    config = Config(use_fips_endpoint=is_fips, use_dualstack_endpoint=is_dualstack, signature_version="s3v4")
    client = boto3.session.Session("id", "secret").client("s3", region_name="eu-west-1", config=config)
    url: str = client.generate_presigned_url("head_object", {"Bucket": ARN, "Key": "k"})
    environment = {"AWS_USE_FIPS_ENDPOINT": str(is_fips), "AWS_USE_DUALSTACK_ENDPOINT": str(is_dualstack)}
    assert asked_at_aws(monkeypatch, ARN, **environment) == (url.split("/")[2], "eu-west-1")


def test_a_given_endpoint_knows_no_arn() -> None:
    with pytest.raises(errors.Rejected, match="the ARN of an access point has an endpoint of its own"):
        asyncio.run(open_store("http://127.0.0.1:9", None, None).head(ObjectRef(ARN, "k")))


def test_a_copy_names_the_access_point_of_its_source_as_botocore_does() -> None:
    from botocore.handlers import handle_copy_source_param

    params: dict[str, Any] = {"CopySource": {"Bucket": ARN, "Key": "a b/ü", "VersionId": "v"}}
    handle_copy_source_param(params)
    assert wire.copy_source(ObjectRef(ARN, "a b/ü", "v")) == params["CopySource"]


def ask_side(script: Script, request: Any) -> None:
    """A request of a store whose buckets `mine` and `theirs` have owners."""

    async def run() -> None:
        mine = Side(Location("mine"), script.endpoint, "us-east-1", owner="111111111111")
        theirs = Side(Location("theirs"), script.endpoint, "us-east-1", owner="222222222222")
        store: Store = open_side(mine, theirs, max_in_flight=2)
        try:
            await request(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_requests_name_the_account_that_has_to_own_the_bucket(script: Script) -> None:
    async def requests(store: Store) -> None:
        await store.head(ObjectRef("mine", "k"))
        await store.head(ObjectRef("others", "k"))
        await store.list_objects("theirs", "")

    script.first = [Reply(headers={"ETag": '"e"'})] * 2
    script.reply = Reply(body=b"<ListBucketResult></ListBucketResult>")
    ask_side(script, requests)
    sent = [seen.headers.get("x-amz-expected-bucket-owner") for seen in script.seen]
    assert sent == ["111111111111", None, "222222222222"]


@pytest.mark.parametrize(("source", "owner"), [("theirs", "222222222222"), ("mine", "111111111111"), ("others", None)])
def test_a_copy_names_the_owners_of_both_buckets(script: Script, source: str, owner: str | None) -> None:
    async def copies(store: Store) -> None:
        ref = ObjectRef(source, "k", "v")
        await store.copy(ref, "e", ObjectRef("mine", "k"), CopySettings(), guard=ABSENT)
        await store.copy_part(ref, "e", 0, 5, Upload("mine", "k", "u"), 1)

    script.first = [Reply(body=COPIED), Reply(body=COPIED.replace(b"CopyObjectResult", b"CopyPartResult"))]
    ask_side(script, copies)
    assert len(script.seen) == 2
    for seen in script.seen:
        assert seen.headers["x-amz-expected-bucket-owner"] == "111111111111"
        assert seen.headers.get("x-amz-source-expected-bucket-owner") == owner


def test_the_requester_pays_for_every_request_when_asked_to(script: Script) -> None:
    script.reply = Reply(body=COPIED, headers={"ETag": '"e"'})
    ask(script, copy, request_payer=True)
    ask(script, lambda store: store.head(REF), request_payer=True)
    script.reply = Reply(headers={"ETag": '"e"'})
    ask(script, lambda store: store.put(ObjectRef("bucket", "k"), b"", Attributes(), guard=ABSENT), request_payer=True)
    assert [seen.headers["x-amz-request-payer"] for seen in script.seen] == ["requester"] * 3
