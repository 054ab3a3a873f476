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
    "name",
    [
        "logs--use1-az4--x-s3",
        "logs--use1-az4--xa-s3",
        "logs--table-s3",
        "point--op-s3",
        "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01/bucket/logs",
        "arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/mine",
        "mine-1a4n8yjrb3kda96f67zwrwiiuse1a--ol-s3",
        "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
        "mfzwi23gnjvgw.mrap",
        "arn:aws:s3tables:us-east-1:123456789012:bucket/mine",
        "arn:aws:s3express:us-east-1:123456789012:bucket/logs--use1-az4--x-s3",
        "arn:aws:s3:::logs",
        f"{ARN}/no_name/k",
        "arn:aws:s3:eu-west-1:12345:accesspoint/short-account",
    ],
)
def test_what_is_no_bucket_of_objects_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="neither a general purpose bucket"):
        Location.parse(f"s3://{name}/k")
    with pytest.raises(UsageError, match="legal bucket name"):
        Location.parse("s3://No/k")
