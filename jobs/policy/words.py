r"""The types of a policy's values, and how people write them.

A value with `parse` is a text in the YAML file (`100 MiB`, `30d`, `1/30`, `50%`) and a number everywhere else: bytes,
seconds, the N of 1/N, 0 to 1. `expected` ends the sentence "expected …". Patterns are in the dialect that Python and
JSON Schema share: digits are `[0-9]`, and the end is `$(?!\n)`, since Python's `$` may leave out a last line break.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta

from jobs.core.selection import UNIT_SECONDS, parse_age, parse_size

_NAME = "lower-case letters, digits and hyphens, beginning with a letter"
CREATE = "create"
"""A key that Terraform makes in the bucket's region, instead of the ARN of one."""


def _text(pattern: str, expected: str, parse: Callable[[Any], str] | None = None) -> Meta:
    schema = {"errorMessage": f"expected {expected}"}
    return Meta(pattern=rf"^({pattern})$(?!\n)", extra={"expected": expected, "parse": parse}, extra_json_schema=schema)


def _number(pattern: str, expected: str, parse: Callable[[str], float]) -> Meta:
    """A number that is a text in the file."""

    def checked(text: Any) -> float:
        if not isinstance(text, str) or re.fullmatch(pattern, text) is None:
            raise ValueError(expected)
        return parse(text)

    schema = {"pattern": rf"^({pattern})$(?!\n)", "errorMessage": f"expected {expected}"}
    return Meta(ge=0, extra={"expected": expected, "parse": checked}, extra_json_schema=schema)


SystemName = Annotated[str, _text(r"[a-z][a-z0-9-]{1,22}[a-z0-9]", f"3 to 24 {_NAME}")]
PairName = Annotated[str, _text(r"[a-z][a-z0-9-]{0,30}[a-z0-9]", f"2 to 32 {_NAME}")]
_NO_BUCKET = (
    r"(?!xn--|sthree-|amzn-s3-demo-|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$)(?!.*(\.\.|(-s3alias|--[a-z0-9]+-s3|\.mrap)$))"
)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
Bucket = Annotated[
    str,
    _text(
        _NO_BUCKET + r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, no s3://, no prefix",
    ),
]
# Areas come, as mx and eusc-de did. The point of the compass is one of nine.
_REGION = r"[a-z]{2,4}(-[a-z]+)?-(central|(north|south)(east|west)?|east|west)-[0-9]{1,2}"
Region = Annotated[str, _text(_REGION, "a region such as eu-central-1")]
_KEYS = r"(?!s3://)(?![\s\S]*\n(?![\s\S]))[\s\S]{0,900}"
# The beginning of keys, byte for byte: nothing is decoded, no slash is added.
Prefix = Annotated[str, _text(_KEYS, "the beginning of keys such as scans/ (at most 900 characters, no s3://)")]
# A prefix that Sealift writes below: empty, or ending in a slash, so it is never part of a name.
_FOLDER = "nothing, or a prefix that ends in / and begins with none, such as sealift/"
Folder = Annotated[str, _text(r"(?!s3:|/)([\s\S]{0,500}/)?", _FOLDER)]
_KEY = r"create|arn:aws:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+"
KmsKey = Annotated[str, _text(_KEY, "create, or the ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID)")]
AccountId = Annotated[str, _text(r"[0-9]{12}", 'the 12 digits of an account, in quotes ("111122223333")')]
_TOPIC = r"arn:aws:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}"
Topic = Annotated[str, _text(_TOPIC, "the ARN of an SNS topic (arn:aws:sns:REGION:ACCOUNT:NAME)")]
Email = Annotated[str, _text(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address")]
_ZONE = r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}"
TimeZone = Annotated[
    str, _text(_ZONE, "an IANA time zone such as Europe/Berlin or UTC", lambda name: zoneinfo.ZoneInfo(name).key)
]
Hour = Annotated[str, _text(r"([01][0-9]|2[0-3]):[0-5][0-9]", 'a time from 00:00 to 23:59, in quotes ("22:30")')]
_SIZE = r"(0|[1-9][0-9]{0,15}(\.[0-9]{1,6})?)( ?([KMGTPkmgtp][Ii]?)?[Bb])?"
Size = Annotated[int, _number(_SIZE, "a size such as 100 MiB, 5GiB or 10 MB", parse_size)]
Age = Annotated[
    int, _number(r"[0-9]{1,6}[smhdw]", "a duration such as 30d, 12h or 15m", lambda text: int(parse_age(text)))
]
OneIn = Annotated[int, _number(r"1/[1-9][0-9]{0,5}", "1/N such as 1/30", lambda text: int(text[2:]))]
_SHARE = r"(100|[1-9]?[0-9](\.[0-9]{1,3})?)%"
Share = Annotated[float, _number(_SHARE, "a percentage such as 50%", lambda text: float(text[:-1]) / 100)]
Dollars = Annotated[float, Meta(gt=0, lt=1e9, extra={"expected": "US dollars above zero such as 50 or 49.50"})]
Count = Annotated[int, Meta(ge=1, le=10**12, extra={"expected": "a whole number, 1 or more"})]


def minutes_of(hour: str) -> int:
    """Minutes after midnight of `HH:MM`."""
    return int(hour[:2]) * 60 + int(hour[3:])


def region_of(arn: str) -> str | None:
    """The region of an ARN. None for `create`."""
    return arn.split(":")[3] if ":" in arn else None


def age_text(seconds: int) -> str:
    """Seconds as the file has them: `30d`."""
    unit = next(unit for unit in "dhms" if seconds % UNIT_SECONDS[unit] == 0)
    return f"{seconds // UNIT_SECONDS[unit]}{unit}"
