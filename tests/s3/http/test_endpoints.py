"""Endpoints of AWS as botocore's own rules have them, in every region that it knows."""

from __future__ import annotations

from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from jobs.errors import ConfigError
from jobs.s3.http.endpoints import Endpoint, aws_endpoint, given_endpoint

SESSION = boto3.session.Session("id", "secret")
PARTITIONS = [(name, SESSION.get_available_regions("s3", name)) for name in SESSION.get_available_partitions()]
BUCKET = "logs"


def botocore_host(region: str, *, is_fips: bool, is_dualstack: bool) -> str | None:
    """Where boto3 would send a request for a bucket; None where it would not."""
    config = Config(
        use_fips_endpoint=is_fips,
        use_dualstack_endpoint=is_dualstack,
        signature_version="s3v4",
        s3={"addressing_style": "virtual"},
    )
    try:
        client = SESSION.client("s3", region_name=region, config=config)
        url: str = client.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "k"})
    except BotoCoreError:
        return None
    return urlsplit(url).netloc


@pytest.mark.parametrize(("is_fips", "is_dualstack"), [(False, False), (True, False), (False, True), (True, True)])
def test_endpoints_are_those_of_boto3_in_every_partition(is_fips: bool, is_dualstack: bool) -> None:
    compared = 0
    for name, regions in PARTITIONS:
        # The rules know a region by its partition alone: two of each are enough, and one that does not exist yet.
        for region in [*regions[:2], *(f"{regions[0][:-1]}9" for _ in regions[:1])]:
            wanted = botocore_host(region, is_fips=is_fips, is_dualstack=is_dualstack)
            if wanted is None:
                continue
            assert aws_endpoint(region, is_fips=is_fips, is_dualstack=is_dualstack).address(BUCKET)[0] == wanted, name
            assert given_endpoint(f"https://{wanted}").is_aws, wanted
            compared += 1
    assert compared >= 12


def test_china_has_no_fips_endpoints() -> None:
    assert botocore_host("cn-north-1", is_fips=True, is_dualstack=False) is None
    with pytest.raises(ConfigError, match="FIPS"):
        aws_endpoint("cn-north-1", is_fips=True)


def test_a_given_endpoint_is_taken_as_it_is() -> None:
    assert given_endpoint("http://127.0.0.1:8333/s3/") == Endpoint("127.0.0.1:8333", False, "/s3")
    assert given_endpoint("https://s3.example.org") == Endpoint("s3.example.org", True)


def test_a_schemes_own_port_is_not_signed() -> None:
    """A proxy on the way may drop it from the Host header."""
    assert given_endpoint("https://s3.example.org:443") == Endpoint("s3.example.org", True)
    assert given_endpoint("http://s3.example.org:443") == Endpoint("s3.example.org:443", False)


@pytest.mark.parametrize("bucket", ["my_bucket", "a.logs"])
def test_a_bucket_whose_name_no_certificate_matches_is_in_the_path(bucket: str) -> None:
    assert aws_endpoint("us-east-1").address(bucket) == ("s3.us-east-1.amazonaws.com", f"/{bucket}/")
    assert Endpoint("h:1", False, "/s3").address(bucket) == ("h:1", f"/s3/{bucket}/")


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("eu-central-1", True),
        ("me-central-1", False),  # these two have no annotations
        ("me-south-1", False),
        ("cn-north-1", True),
        ("us-gov-west-1", False),  # neither commercial nor China
        ("eusc-de-east-1", False),
    ],
)
def test_annotations_are_known_to_be_kept_where_aws_says_so(region: str, expected: bool) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/annotations-overview.html. Elsewhere S3 is tried."""
    for is_dualstack in (False, True):
        endpoint = aws_endpoint(region, is_dualstack=is_dualstack)
        assert endpoint.is_aws
        assert endpoint.keeps_annotations is expected
    assert not Endpoint("localhost:8333", is_tls=False).keeps_annotations


@pytest.mark.parametrize(
    "url",
    ["http://harbour:s3cret@host", "ftp://harbour:s3cret@host", "http://harbour:s3/cret@host",
     "http://harbour:s3?cret@host:9", "http://harbour:s3#cret@host", "http://s3cret@host", "https://harbour:s3cret@[::1"],
)  # fmt: skip
def test_an_endpoint_with_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\*\*\*@") as refused:
        given_endpoint(url)
    assert "cret" not in str(refused.value)
    assert "harbour" not in str(refused.value)
