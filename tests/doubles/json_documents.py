"""Keys of the documents that --json prints, walked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
NAMES = re.compile(r"prices|buckets|pairs|tags|headers|checksums|metadata")
"""Keys whose values are maps by somebody else's names: of storage classes, regions, pairs, headers."""


def check_keys(document: Any) -> None:
    """Fails for a key that is not in snake_case."""
    assert not (odd := list(_odd_keys(document, ""))), odd


def _odd_keys(document: Any, place: str) -> Iterator[str]:
    if isinstance(document, list):
        for each in document:
            yield from _odd_keys(each, place)
    if isinstance(document, Mapping):
        is_of_names = NAMES.fullmatch(place.rpartition(".")[2]) is not None
        for key, value in document.items():
            if not is_of_names and not SNAKE_CASE.fullmatch(key):
                yield f"{place}: {key!r}"
            yield from _odd_keys(value, f"{place}.{key}")
