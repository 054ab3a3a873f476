"""Bucket names: of buckets, of access points, and of what is no bucket of objects. Pure.

An access point replaces its bucket's name in requests for objects and listings. Its name is an
alias or an ARN:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-_]{1,61}[a-z0-9]")
_ACCESS_POINT = re.compile(
    r"arn:(?:aws[a-z-]*):s3:([a-z]{2,8}(?:-[a-z0-9]{1,16}){1,4}):([0-9]{12}):accesspoint:([a-z0-9][a-z0-9-]{1,48}[a-z0-9])"
)
_REFUSED_ENDS = ("--x-s3", "--xa-s3", "--table-s3", "--op-s3", "--ol-s3", ".mrap")
"""Of S3 Express, S3 Tables, S3 on Outposts, Object Lambda and Multi-Region Access Points."""


class AccessPoint(NamedTuple):
    """What the ARN of an access point says."""

    region: str
    account: str
    name: str


def split(path: str) -> tuple[str, str]:
    """`bucket/key` → bucket and key. The slash in the ARN of an access point becomes a colon.

    S3 knows both spellings. So a bucket is one segment of a path, whatever its name.
    """
    path = re.sub("^(arn:[^/]*:accesspoint)/", r"\1:", path)
    bucket, _, key = path.partition("/")
    return bucket, key


def access_point(bucket: str) -> AccessPoint | None:
    """The access point that an ARN names. None for all other names."""
    match = _ACCESS_POINT.fullmatch(bucket)
    return AccessPoint(*match.groups()) if match else None


def is_second_name(bucket: str) -> bool:
    """Whether it is the name of an access point, so that the bucket has another one as well."""
    return bucket.endswith("-s3alias") or bucket.startswith("arn:")


def refusal(bucket: str) -> str | None:
    """Why there can be no such source or destination. None for a legal name."""
    if access_point(bucket):
        return None
    if bucket.endswith(_REFUSED_ENDS) or bucket.startswith("arn:"):
        return f"{bucket} is neither a general purpose bucket nor the ARN or alias of an access point of one"
    return None if _BUCKET.fullmatch(bucket) else f"no legal bucket name ({bucket!r})"
