r"""The words of a policy file: sizes, ages, names and shares as people write them.

Once parsed, each word is a plain `str`, `int` or `float`, in the unit that its docstring names.
`pattern` is a regular expression in the dialect that Python and JSON Schema share. So digits are
`[0-9]`, since Python's `\d` takes those of all scripts. A pattern ends in `$(?!\n)`, since Python's
`$` may leave out a last line break. `expected` ends the sentence "expected …".
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from jobs.core.selection import parse_size
from jobs.errors import UsageError


class Word:
    """The base of all words: `parse`, and what a schema or a message says of them."""

    pattern: ClassVar[str]
    expected: ClassVar[str]

    @classmethod
    def parse(cls, text: Any) -> Self:
        """The value of the text. Raises ValueError, which ends the sentence "expected …"."""
        if not isinstance(text, str) or re.search(cls.pattern, text) is None:
            raise ValueError(cls.expected)
        return cls._from_text(text)

    def as_written(self) -> str | int | float:
        """The value as one would write it in the file."""
        return str(self)

    @classmethod
    def _from_text(cls, text: str) -> Self:
        return cls(text)  # type: ignore[call-arg]  # every word is a str, int or float as well


class SystemName(Word, str):
    """The name that all resources in AWS are named after."""

    pattern = r"^[a-z][a-z0-9-]{1,22}[a-z0-9]$(?!\n)"
    expected = "3 to 24 lower-case letters, digits and hyphens, beginning with a letter"


class PairName(Word, str):
    """The name of a pair or of a rule: part of run ids, schedules, roles and metrics."""

    pattern = r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$(?!\n)"
    expected = "2 to 32 lower-case letters, digits and hyphens, beginning with a letter"


class Bucket(Word, str):
    """A general purpose bucket:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """

    pattern = (
        r"^(?!xn--|sthree-|amzn-s3-demo-|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$)(?!.*\.\.)(?!.*(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$)"
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$(?!\n)"
    )
    expected = "a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, no s3://, no prefix"


class Region(Word, str):
    """An AWS region by its code."""

    pattern = r"^[a-z]{2,3}(-[a-z]+){1,3}-[0-9]{1,2}$(?!\n)"
    expected = "a region such as eu-central-1"


class Prefix(Word, str):
    """The beginning of keys, byte for byte: nothing is decoded, no slash is added."""

    pattern = r"^(?!s3://)(?![\s\S]*\n(?![\s\S]))[\s\S]{0,900}$(?!\n)"
    expected = "the beginning of keys such as scans/ (at most 900 characters, no s3://)"


class Folder(Word, str):
    """A prefix that Sealift writes below: empty, or ending in a slash, so it is never part of a
    name.
    """

    pattern = r"^(?!s3:|/)([\s\S]{0,500}/)?$(?!\n)"
    expected = "nothing, or a prefix that ends in / and begins with none, such as sealift/"


class KmsKey(Word, str):
    """`create` (Terraform makes one in the bucket's region), or the ARN of a key or an alias."""

    pattern = r"^(create|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+)$(?!\n)"
    expected = "create, or the ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID)"

    @property
    def region(self) -> str | None:
        """The region of the ARN. None for `create`."""
        return self.split(":")[3] if ":" in self else None

    @property
    def is_alias(self) -> bool:
        """Whether it is the ARN of an alias."""
        return ":alias/" in self


class AccountId(Word, str):
    """An AWS account by its id."""

    pattern = r"^[0-9]{12}$(?!\n)"
    expected = 'the 12 digits of an account, in quotes ("111122223333")'


class JobQueue(Word, str):
    """A job queue of AWS Batch in the ledger's region, by its name: rules and roles make an ARN of it."""

    pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$(?!\n)"
    expected = "the name of a job queue: letters, digits, - and _, no ARN"


class Topic(Word, str):
    """The ARN of an SNS topic."""

    pattern = r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$(?!\n)"
    expected = "the ARN of an SNS topic (arn:aws:sns:REGION:ACCOUNT:NAME)"

    @property
    def region(self) -> str:
        """The region that it is in."""
        return self.split(":")[3]


class Email(Word, str):
    """An address that alarms are sent to."""

    pattern = r"^[^@\s]+@[^@\s]+\.[^@\s]+$(?!\n)"
    expected = "an e-mail address"


class TimeZone(Word, str):
    """A name of the IANA time zone database. The reader checks that the zone exists."""

    pattern = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$(?!\n)"
    expected = "an IANA time zone such as Europe/Berlin or UTC"


class Hour(Word, str):
    """A time of the day, `HH:MM`, 24 hours."""

    pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)"
    expected = "a time from 00:00 to 23:59, HH:MM"

    @property
    def minutes(self) -> int:
        """Minutes after midnight."""
        return int(self[:2]) * 60 + int(self[3:])


class Size(Word, int):
    """Bytes. Written `100 MiB` (powers of 1024) or `100 MB` (powers of 1000)."""

    pattern = r"^(0|[1-9][0-9]{0,15}(\.[0-9]{1,6})?)( ?([KMGTPkmgtp][Ii]?)?[Bb])?$(?!\n)"
    expected = "a size such as 100 MiB, 5GiB or 10 MB"

    @classmethod
    def _from_text(cls, text: str) -> Self:
        try:
            return cls(parse_size(text))
        except UsageError:
            raise ValueError(cls.expected) from None

    def __str__(self) -> str:
        for power, unit in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
            if self and self % 1024**power == 0:
                return f"{int(self) // 1024**power} {unit}"
        return f"{int(self)} B"


_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}


class Age(Word, int):
    """Seconds. Written `30d`, `12h`, `15m`, `45s` or `2w`."""

    pattern = r"^[0-9]{1,6}[smhdw]$(?!\n)"
    expected = "a duration such as 30d, 12h or 15m"

    @classmethod
    def _from_text(cls, text: str) -> Self:
        return cls(int(text[:-1]) * _SECONDS[text[-1]])

    @property
    def days(self) -> float:
        """The same in days."""
        return int(self) / _SECONDS["d"]

    def __str__(self) -> str:
        unit = next(unit for unit in "dhms" if int(self) % _SECONDS[unit] == 0)
        return f"{int(self) // _SECONDS[unit]}{unit}"


class OneIn(Word, int):
    """The N of `1/N`: one slice of N of the key space."""

    pattern = r"^1/[1-9][0-9]{0,5}$(?!\n)"
    expected = "1/N such as 1/30"

    @classmethod
    def _from_text(cls, text: str) -> Self:
        return cls(text[2:])

    def __str__(self) -> str:
        return f"1/{int(self)}"


class Share(Word, float):
    """A share between 0 and 1. Written `50%`."""

    pattern = r"^(100|[1-9]?[0-9](\.[0-9]{1,3})?)%$(?!\n)"
    expected = "a percentage such as 50%"

    @classmethod
    def _from_text(cls, text: str) -> Self:
        return cls(float(text[:-1]) / 100)

    def __str__(self) -> str:
        return f"{float(self) * 100:g}%"


class Dollars(Word, float):
    """US dollars. Written `$50` or as a plain number."""

    pattern = r"^\$(?!0+(\.0+)?$)[0-9]{1,9}(\.[0-9]{1,2})?$(?!\n)"
    expected = "US dollars above zero such as 50 or 49.50"

    @classmethod
    def parse(cls, text: Any) -> Self:
        """A number, or a text with a dollar sign."""
        if isinstance(text, int | float) and not isinstance(text, bool) and 0 < text < 1e9:
            return cls(text)
        return super().parse(text)

    def as_written(self) -> float:
        """A plain number."""
        return float(self)

    @classmethod
    def _from_text(cls, text: str) -> Self:
        value = cls(text[1:])
        if value <= 0:
            raise ValueError(cls.expected)
        return value


class Count(Word, int):
    """A whole number, one or more."""

    pattern = ""
    expected = "a whole number, 1 or more"

    @classmethod
    def parse(cls, text: Any) -> Self:
        """An integer above zero and below 10^12. JSON has one kind of number: 5.0 is 5."""
        is_whole = isinstance(text, int) or (isinstance(text, float) and text.is_integer())
        if isinstance(text, bool) or not is_whole or not 0 < text < 10**12:
            raise ValueError(cls.expected)
        return cls(text)

    def as_written(self) -> int:
        """A plain number."""
        return int(self)
