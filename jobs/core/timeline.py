"""The versions of one key at both sides: which of the source's are reproduced already?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

S = TypeVar("S")
D = TypeVar("D")


def align(source: Sequence[S], destination: Sequence[D], matches: Callable[[S, D], bool]) -> list[int | None]:
    """For each source version the index of the destination version that reproduces it, or None.

    Both histories are oldest first. The order is kept: a version counts as reproduced only
    after those that count before it. Each takes the earliest match that is left, which finds
    the whole source history whenever it is a subsequence of the destination's.
    """
    found: list[int | None] = []
    start = 0
    for version in source:
        at = next((index for index in range(start, len(destination)) if matches(version, destination[index])), None)
        found.append(at)
        start = start if at is None else at + 1
    return found


def first_missing(alignment: Sequence[int | None]) -> int:
    """Where copying resumes: after the last version that is there. Earlier gaps cannot be filled."""
    return max((index + 1 for index, at in enumerate(alignment) if at is not None), default=0)
