"""What AWS refuses whatever the policies say: a table of rules, each with its source.

A rule sees one recorded request and the world that it was sent in, and says whether AWS would refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.doubles.aws_recorder import Recorded
from tests.terraform.requests import source_bucket


@dataclass(frozen=True)
class World:
    """`inside`: roles whose requests to S3 go through VPC endpoints. `locked`: buckets with a default retention."""

    inside: Collection[str]
    bucket_regions: Mapping[str, str]
    locked: Collection[str]
    bucket_keys: Mapping[str, str]
    account: str
    owners: Mapping[str, str]


def _copies_across_regions(request: Recorded, world: World) -> bool:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""
    source = source_bucket(request)
    if source is None or request.role not in world.inside:
        return False
    return world.bucket_regions.get(source) != world.bucket_regions.get(request.bucket)


def _lacks_checksum(request: Recorded, world: World) -> bool:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html"""
    if request.bucket not in world.locked or request.method != "PUT" or "x-amz-copy-source" in request.headers:
        return False
    if request.query and "partNumber" not in request.query:
        return False
    names = request.headers.keys()
    return not ("content-md5" in names or "x-amz-trailer" in names or any("x-amz-checksum-" in each for each in names))


def _retains_to_the_past(request: Recorded, world: World) -> bool:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html"""
    until = request.headers.get("x-amz-object-lock-retain-until-date")
    return until is not None and datetime.fromisoformat(until.replace("Z", "+00:00")) <= datetime.now(UTC)


def _has_half_a_lock(request: Recorded, world: World) -> bool:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
    names = {"x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"} & request.headers.keys()
    return len(names) == 1


def _uses_a_far_key(request: Recorded, world: World) -> bool:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html"""
    key = request.headers.get("x-amz-server-side-encryption-aws-kms-key-id", "")
    return key.startswith("arn:") and key.split(":")[3] != world.bucket_regions.get(request.bucket)


def _names_another_owner(request: Recorded, world: World) -> bool:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html"""
    named = {request.bucket: request.headers.get("x-amz-expected-bucket-owner")}
    if (source := source_bucket(request)) is not None:
        named[source] = request.headers.get("x-amz-source-expected-bucket-owner")
    return any(owner not in (None, world.owners.get(bucket, world.account)) for bucket, owner in named.items())


S3_REFUSES: dict[str, Callable[[Recorded, World], bool]] = {
    "buckets of another owner than the request expects": _names_another_owner,
    "copies between regions through a VPC endpoint": _copies_across_regions,
    "uploads without a checksum to a bucket with a default retention": _lacks_checksum,
    "retention dates that have passed": _retains_to_the_past,
    "a lock's mode without its date, and a date without a mode": _has_half_a_lock,
    "KMS keys of another region than the bucket's": _uses_a_far_key,
}
"""What Batch refuses is in tests/doubles/batch/rules.py, and the requests here got past it."""
