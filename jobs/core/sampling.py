"""Samples that add up: 1/30 today, another 1/30 tomorrow, all in 30 runs."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from jobs.errors import UsageError


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
    def parse(cls, text: str) -> Sample:
        """`2/30`, the second of thirty slices. Raises UsageError for anything else."""
        match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text, re.ASCII)
        if match is None or int(match[1]) > int(match[2]):
            raise UsageError(f"{text!r} is no sample", advice="write it as K/N, for example 1/30")
        return cls(int(match[1]) - 1, int(match[2]))
