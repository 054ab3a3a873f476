"""Bucket names: buckets and access points are taken, what is no bucket of objects is refused by name."""

from __future__ import annotations

import pytest

from jobs.core.bucket_names import access_point, is_second_name
from jobs.core.model import Location
from jobs.errors import UsageError

ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint"


@pytest.mark.parametrize("separator", ["/", ":"])
@pytest.mark.parametrize("key", ["", "in/", "a/b c", "/x"])
def test_an_access_point_is_a_bucket_by_its_arn(separator: str, key: str) -> None:
    place = Location.parse(f"s3://{ARN}{separator}finance/{key}")
    assert place == Location(f"{ARN}:finance", key)
    assert Location.parse(str(place)) == place
    assert "/" not in place.bucket  # one segment of a path in the ledger
    point = access_point(place.bucket)
    assert point is not None
    assert point == ("eu-west-1", "123456789012", "finance")
    assert is_second_name(place.bucket)


def test_an_alias_is_a_bucket_with_a_second_name() -> None:
    alias = "finance-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias"
    assert Location.parse(f"s3://{alias}/k") == Location(alias, "k")
    assert is_second_name(alias)
    assert not is_second_name("finance")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("logs--use1-az4--x-s3", "directory bucket"),
        ("logs--use1-az4--xa-s3", "directory bucket"),
        ("logs--table-s3", "table bucket"),
        ("point--op-s3", "Outposts"),
        ("arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01/bucket/logs", "is S3 on Outposts"),
        ("arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/mine", "Object Lambda"),
        ("mine-1a4n8yjrb3kda96f67zwrwiiuse1a--ol-s3", "Object Lambda"),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", "Multi-Region"),
        ("arn:aws:s3::123456789012:accesspoint/without-its-end", "Multi-Region"),
        ("mfzwi23gnjvgw.mrap", "Multi-Region"),
        ("arn:aws:s3tables:us-east-1:123456789012:bucket/mine", "table bucket"),
        ("arn:aws:s3express:us-east-1:123456789012:bucket/logs--use1-az4--x-s3", "directory bucket"),
        ("arn:aws:s3:::logs", "name the bucket itself"),
        (f"{ARN}/no_name/k", "not the ARN of an access point"),
        ("arn:aws:s3:eu-west-1:12345:accesspoint/short-account", "not the ARN of an access point"),
        ("No", "legal bucket name"),
    ],
)
def test_what_is_no_bucket_of_objects_is_refused_by_name(name: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        Location.parse(f"s3://{name}/k")
