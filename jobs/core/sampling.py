"""Samples that add up: 1/30 today, another 1/30 tomorrow, all in 30 runs."""

from __future__ import annotations

import re
import zlib
from typing import Any, NamedTuple

from jobs.errors import UsageError


class Sample(NamedTuple):
    """The slice number `number` of `of` slices of the key space."""

    number: int
    of: int

    def contains(self, key: str) -> bool:
        """Whether the key is in this slice.

        Each key is in exactly one slice, always the same one.
        """
        return zlib.crc32(key.encode(), 0x5EA11F7) % self.of == self.number

    @classmethod
    def from_list(cls, data: Any) -> Sample:
        """From JSON's two-element list."""
        return cls(*data)


def parse_fraction(text: str) -> int:
    """`1/30` → 30. Raises UsageError for anything else."""
    match = re.fullmatch(r"1/([1-9]\d{0,5})", text)
    if match is None:
        raise UsageError(f"--sample {text!r}: write it as 1/N, for example 1/30")
    return int(match[1])


def next_number(earlier_runs: int, of: int) -> int:
    """The slice for a run that follows `earlier_runs` rotating runs over the same pair."""
    return earlier_runs % of
