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
_SECOND_NAMES = ("-s3alias", "--ol-s3", ".mrap")
_REFUSED_ENDS = {
    "--x-s3": "a directory bucket (S3 Express One Zone), which has other requests, and no versions",
    "--xa-s3": "an access point of a directory bucket (S3 Express One Zone), which has other requests",
    "--table-s3": "a table bucket (S3 Tables), which has tables and no objects",
    "--op-s3": "an access point of S3 on Outposts, which has other requests, and no checksums",
    "--ol-s3": "an Object Lambda access point, which shows computed content",
    ".mrap": "a Multi-Region Access Point, which answers from any of its buckets",
}
_REFUSED_ARNS = {
    r"arn:[^:]*:s3-outposts:.*": _REFUSED_ENDS["--op-s3"].replace("an access point of ", ""),
    r"arn:[^:]*:s3-object-lambda:.*": _REFUSED_ENDS["--ol-s3"],
    r"arn:[^:]*:s3tables:.*": _REFUSED_ENDS["--table-s3"],
    r"arn:[^:]*:s3express:.*": _REFUSED_ENDS["--x-s3"],
    r"arn:[^:]*:s3::[^:]*:accesspoint.*": _REFUSED_ENDS[".mrap"],
}


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
    return bucket.endswith(_SECOND_NAMES) or bucket.startswith("arn:")


def refusal(bucket: str) -> str | None:
    """Why there can be no such source or destination. None for a legal name."""
    for pattern, what in _REFUSED_ARNS.items():
        if re.fullmatch(pattern, bucket):
            return f"{bucket} is {what}: name a general purpose bucket"
    for end, what in _REFUSED_ENDS.items():
        if bucket.endswith(end):
            return f"{bucket} is {what}: name a general purpose bucket"
    if bucket.startswith("arn:"):
        return None if access_point(bucket) else f"{bucket} is not the ARN of an access point: name the bucket itself"
    return None if _BUCKET.fullmatch(bucket) else f"no legal bucket name ({bucket!r})"
