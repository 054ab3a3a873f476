"""Selection of a manifest's rows, and how sizes and times are written.

A glob is matched against the whole key, case-sensitively: `*` matches any characters, `/` and
newlines included (as with s5cmd and `aws s3`), `?` for one, `[abc]` and `[!a-c]` for a set. A
prefix is plain text.
"""

from __future__ import annotations

import contextlib
import re
from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from jobs.core.model import parse_time
from jobs.errors import UsageError

OWN_OBJECT = r"(^|/)\.sealift/(place|trial)-[0-9a-f]{32}[^/]*\z"
"""The keys of Sealift's own objects, for RE2: documents of places (`jobs.expire.places`), and trials
of conditional writes. They say something of where they are, so no verb copies, packs, restores or
deletes one. Other keys below a user's own `.sealift/` are keys like any."""
_OWN_OBJECT = re.compile(OWN_OBJECT.replace(r"\z", r"\Z"))
_GLOB_PART = re.compile(r"\*+|\[!?+\]?+[^]]*\]|.", re.DOTALL)
"""What a glob is made of. A `]` right after the bracket is a member of the set. A bracket that never
closes is itself."""

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Selection(Struct, frozen=True):
    """Which rows are taken. None and empty tuples take everything.

    `newer_than` and `older_than` are epoch seconds (exclusive), sizes are inclusive. `versions` is
    `current` or `all`. `sample` is (number, of), see `jobs.core.sampling.Sample`. A row that does
    not say its size or time is never dropped for it, nor is a delete marker, which has no size.
    Sealift's own objects are never taken.
    """

    prefix: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_size_bytes: int | None = None
    newer_than: float | None = None
    older_than: float | None = None
    versions: str = "current"
    sample: tuple[int, int] | None = None

    def filters(self) -> dict[str, Any]:
        """The filters that take less than all, JSON-ready. Prefix and versions are not among them."""
        values = asdict(replace(self, prefix="", versions=""))
        given = {name: value for name, value in values.items() if value not in (None, (), "")}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def is_sealift_object(key: str) -> bool:
    """True for a key of Sealift's own."""
    return ".sealift/" in key and _OWN_OBJECT.search(key) is not None


def glob_pattern(glob: str) -> str:
    """The glob as a regular expression for the whole key, for both `re` and RE2."""
    return f"(?s:{_GLOB_PART.sub(_part_pattern, glob)})"


def _part_pattern(part: re.Match[str]) -> str:
    """Stars, a set or one character."""
    if part[0].startswith("*"):
        return ".*"
    if len(part[0]) > 1:
        return _set_pattern(part[0][1:-1])
    return "." if part[0] == "?" else re.escape(part[0])


def _set_pattern(inside: str) -> str:
    """`a-z_` or `!0-9`, the inside of a set's brackets, as a character class.

    All of it is escaped: to RE2 `[:alpha:]` within a set is a class of its own.
    """
    negated, members = inside.startswith("!"), inside.removeprefix("!")
    ranges = [(low, high or low) for low, high in re.findall(r"(.)(?:-(.))?", members, re.DOTALL)]
    classes = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if not classes:
        return "." if negated else r"[^\s\S]"
    return f"[{'^' if negated else ''}{classes}]"


def parse_size(text: str) -> int:
    """`1024`, `10MB` (powers of 1000) or `5GiB` (powers of 1024) → bytes.

    Raises UsageError for anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGTP])(I?))?B?", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise UsageError(f"{text!r} is not a size", advice="write bytes or a unit, for example 1024, 10MB or 5GiB")
    number, letter, binary = match.groups()
    exponent = "KMGTP".index(letter.upper()) + 1 if letter else 0
    if letter and not text.strip().upper().endswith("B"):
        raise UsageError(f"{text!r} may mean 1000 or 1024", advice=f"write {number}{letter}B or {number}{letter}iB")
    return int(Decimal(number) * (1024 if binary else 1000) ** exponent)


def parse_age(text: str) -> float:
    """`30d`, `12h`, `15m`, `45s`, `2w` → seconds. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", text.strip(), re.ASCII)
    if match is None:
        raise UsageError(f"{text!r} is not an age", advice="write a number and s, m, h, d or w, for example 15m or 30d")
    return float(match[1]) * UNIT_SECONDS[match[2]]


def parse_when(text: str, now: float) -> float:
    """`30d` (so long before `now`, epoch seconds), `2026-11-01` or ISO 8601 → epoch seconds.

    Without an offset a time is UTC. Times before 1970 are 1970: no object is older. Raises
    UsageError for anything else, and for a time to come. A day of tolerance allows for a wrong clock.
    """
    with contextlib.suppress(UsageError):
        return max(0.0, now - parse_age(text))
    try:
        at_seconds = parse_time(text.strip())
    except ValueError:
        example = "write 30d, 12h, 2026-11-01 or 2026-11-01T06:00:00Z"
        raise UsageError(f"{text!r} is neither an age nor a date", advice=example) from None
    if at_seconds > now + 86_400:
        raise UsageError(f"{text!r} is in the future", advice="name a time that has passed")
    return max(0.0, at_seconds)
