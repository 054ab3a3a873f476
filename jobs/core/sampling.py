"""Samples that add up: 1/30 today, another 1/30 tomorrow, all in 30 runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jobs.errors import UsageError

AGE_SECONDS = 3600.0
"""Two ages that differ by less are one, as in `--newer-than 30d`, which each run reads as a time."""


class Sample(NamedTuple):
    """The slice number `number` of `of` slices of the key space."""

    number: int
    of: int

    def contains(self, key: str) -> bool:
        """Whether the key is in this slice.

        Each key is in exactly one slice, always the same one. The hash has nothing in common with
        that of the shards (`jobs.runs.sharding`), so a slice has its share of each shard.
        """
        digest = hashlib.blake2b(key.encode(), digest_size=8, person=b"sealift-sample").digest()
        return int.from_bytes(digest) % self.of == self.number

    @classmethod
    def from_list(cls, data: Any) -> Sample:
        """From JSON's two-element list."""
        return cls(*data)


def parse_fraction(text: str) -> int:
    """`1/30` → 30. Raises UsageError for anything else."""
    match = re.fullmatch(r"1/([1-9]\d{0,5})", text)
    if match is None:
        raise UsageError(f"--sample {text!r}", advice="write it as 1/N, for example 1/30")
    return int(match[1])


def next_number(number: int, of: int) -> int:
    """The slice that follows number `number`, or the one of day `number`."""
    return number % of


class Rota(NamedTuple):
    """What takes its slices in turn: the same question about the same rows.

    `question`: sides, depth and all filters but times. `times`: the filters that are times, in
    epoch seconds. `asked_at`: epoch seconds.
    """

    question: Mapping[str, Any]
    times: Mapping[str, float]
    asked_at: float

    def continues(self, other: Rota) -> bool:
        """Whether both are one rota. A time is the same as a moment, or as an age."""
        return (
            self.question == other.question
            and self.times.keys() == other.times.keys()
            and all(
                time == other.times[name]
                or abs((self.asked_at - time) - (other.asked_at - other.times[name])) < AGE_SECONDS
                for name, time in self.times.items()
            )
        )
