"""Which service a side is, by where its requests go, whatever was typed or configured."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import Location
from jobs.core.run import Side
from jobs.core.selection import Selection
from jobs.errors import ConfigError, Denied, UsageError
from jobs.runs.request import Draft, Request, check_sides, is_streamed
from jobs.s3.http.answers import Response
from jobs.s3.http.connection_pool import Pool
from jobs.s3.sessions import are_apart
from tests.doubles.scripted_server import error_body

PROFILES = """
[profile office]
endpoint_url = http://office:9000
aws_access_key_id = a
aws_secret_access_key = b
[profile ours]
endpoint_url = http://office:9000
aws_access_key_id = c
aws_secret_access_key = d
[profile china]
region = cn-north-1
aws_access_key_id = e
aws_secret_access_key = f
[profile archive]
region = eu-west-1
aws_access_key_id = g
aws_secret_access_key = h
"""
BUCKET = Location("b")
POINT = Location("finance-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias")
ARN = Location("arn:aws:s3:eu-west-1:123456789012:accesspoint:finance")


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(PROFILES)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.parametrize(
    ("source", "destination", "apart", "streamed"),
    [
        (Side(BUCKET), Side(BUCKET), False, False),
        (Side(BUCKET, region="us-east-1"), Side(BUCKET, region="eu-west-1"), False, False),
        # AWS by its own URL, and by none.
        (Side(BUCKET, "https://s3.eu-west-1.amazonaws.com"), Side(BUCKET), False, False),
        (Side(BUCKET, "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com"), Side(BUCKET), False, False),
        (Side(BUCKET, "https://minio-1.elb.eu-west-1.amazonaws.com"), Side(BUCKET), True, True),
        (Side(BUCKET, profile="archive"), Side(BUCKET), False, False),
        # A profile with an endpoint of its own, which nobody typed.
        (Side(BUCKET, profile="office"), Side(BUCKET), True, True),
        (Side(BUCKET, profile="office"), Side(BUCKET, "http://OFFICE:9000", profile="office"), False, False),
        (Side(BUCKET, "http://office:9000"), Side(BUCKET, "http://office:9001"), True, True),
        # Partitions have neither buckets nor credentials in common.
        (Side(BUCKET, profile="china"), Side(BUCKET), True, True),
        (Side(BUCKET, region="us-gov-west-1"), Side(BUCKET), True, True),
        # Two accounts of a server may have a bucket of one name each.
        (Side(BUCKET, profile="office"), Side(BUCKET, profile="ours"), False, True),
        # An access point takes copies of its own region alone.
        (Side(POINT, region="eu-west-1"), Side(BUCKET, region="eu-west-1"), False, False),
        (Side(POINT, region="eu-west-1"), Side(BUCKET, region="us-east-1"), False, True),
        (Side(BUCKET, region="us-east-1"), Side(ARN, region="eu-west-1"), False, True),
    ],
)
def test_a_service_is_where_requests_go(source: Side, destination: Side, apart: bool, streamed: bool) -> None:
    assert are_apart(source, destination) is are_apart(destination, source) is apart
    assert is_streamed(source, destination) is is_streamed(destination, source) is streamed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://office:80", "http://office"),
        ("https://office:443", "https://office"),
        ("https://office", "http://office"),
        ("http://office.example./", "http://Office.example"),
        ("http://localhost:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000", "http://LOCALHOST.:9000"),
        ("http://s3.us-east-1.amazonaws.com", None),
        ("https://s3.us-east-1.AMAZONAWS.COM", None),
        ("https://s3.us-east-1.amazonaws.com.", None),
        ("https://s3.us-east-1.amazonaws.com:443", None),
    ],
)
def test_two_spellings_are_one_service(one: str, other: str | None) -> None:
    sides = Side(BUCKET, one), Side(BUCKET, other)
    assert not are_apart(*sides)
    assert not are_apart(*reversed(sides))
    assert are_apart(sides[0], Side(BUCKET, "http://office:9001"))


def test_an_endpoint_of_the_environment_is_the_one_that_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://office:9000")
    assert not are_apart(Side(BUCKET, "http://office:9000"), Side(BUCKET))
    assert are_apart(Side(BUCKET, "http://elsewhere"), Side(BUCKET))


@pytest.mark.parametrize("stream", [False, True])
def test_the_user_may_have_bytes_pass_through_workers(stream: bool) -> None:
    request = Request("replicate", Side(BUCKET), Side(Location("c")), None, Selection(), {"stream": stream})
    ways = Draft(request).ways(Side(BUCKET))
    assert (ways["streamed"], ways["apart"]) == (stream, False)


def at_aws(monkeypatch: pytest.MonkeyPatch, regions: dict[str, str]) -> list[str]:
    """The hosts that are asked at AWS, where buckets are in these regions."""
    hosts: list[str] = []

    async def exchange(_: Pool, host: str, head: bytes, *__: Any) -> Response:
        hosts.append(host)
        first = host.partition(".")[0]
        region = regions[head.decode().split("/")[1] if first == "s3" else first]
        if f".{region}." not in host:
            return Response(301, {"x-amz-bucket-region": region}, error_body("PermanentRedirect"))
        return Response(200, {}, b"<ListBucketResult></ListBucketResult>")

    monkeypatch.setattr(Pool, "exchange", exchange)
    return hosts


def test_regions_are_found_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No region is named: the spec's sides have those of the buckets, and workers go there at once."""
    at_aws(monkeypatch, {"near": "us-east-1", "far": "ap-south-1"})
    source, destination = asyncio.run(check_sides(Side(Location("near")), Side(Location("far"))))
    assert (source.region, destination.region) == ("us-east-1", "ap-south-1")
    draft = Draft(Request("replicate", source, Side(Location("far")), None, Selection(), {}))
    draft.destination = destination
    assert draft.ways(source)["cross_region"]
    assert draft.spec("m", {}, source).destination.region == "ap-south-1"


def test_one_bucket_by_two_regions_is_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    at_aws(monkeypatch, {"near": "eu-west-1"})
    typed = Side(Location("near"), "https://s3.eu-west-1.amazonaws.com", "eu-west-1")
    with pytest.raises(UsageError, match="name two places"):
        asyncio.run(check_sides(Side(Location("near")), typed))


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (403, "AccessDenied", Denied, "does not belong to the account 123456789012"),
        (404, "NoSuchBucket", ConfigError, "the source bucket b does not exist"),
    ],
)
def test_of_two_sides_that_fail_the_source_is_named_and_an_owner_in_doubt(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, kind: type[Exception], says: str
) -> None:
    async def exchange(*_: Any) -> Response:
        return Response(status, {}, error_body(code))

    monkeypatch.setattr(Pool, "exchange", exchange)
    with pytest.raises(kind, match=says):
        asyncio.run(check_sides(Side(BUCKET, owner="123456789012"), Side(Location("c"))))


def test_both_sides_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answers when the other one was asked."""
    asked: list[str] = []
    both = asyncio.Event()

    async def exchange(_: Pool, host: str, *__: Any) -> Response:
        asked.append(host)
        if len(asked) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 10)
        return Response(200, {}, b"<ListBucketResult></ListBucketResult>")

    monkeypatch.setattr(Pool, "exchange", exchange)
    asyncio.run(check_sides(Side(BUCKET), Side(Location("c"))))
    assert len(asked) == 2
