"""Prefix map: which destination key belongs to a source key.

Keys outside of all prefixes belong to none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations

from msgspec import Struct

from jobs.errors import UsageError


class PrefixMap(Struct, frozen=True):
    """Pairs of (source prefix, destination prefix).

    Keys that begin with none of them are excluded, and so are source keys that begin with one of
    `excluded`, and the destination keys that these would have.

    Raises UsageError when a prefix begins with another of the same side: two source keys could have
    one destination.
    """

    pairs: tuple[tuple[str, str], ...] = (("", ""),)
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for one, other in permutations(self.pairs, 2):
            for prefix, longer in zip(one, other, strict=True):
                if longer.startswith(prefix):
                    raise UsageError(f"the prefixes {prefix!r} and {longer!r} overlap", advice="map each key only once")

    @classmethod
    def parse(cls, texts: tuple[str, ...]) -> PrefixMap:
        r"""`source-prefix=destination-prefix`, each. A `=` of a prefix itself is written `\=`.

        None: every key stays as it is. Raises UsageError.
        """
        pairs = []
        for text in texts:
            sides = [side.replace("\\=", "=") for side in re.split(r"(?<!\\)=", text)]
            if len(sides) != 2:
                raise UsageError(
                    f"{text!r} is not a prefix mapping",
                    advice=r"write source-prefix=destination-prefix, and \= for each = of a prefix itself, as in "
                    r"dt\=2026/=copies/dt\=2026/",
                )
            pairs.append((sides[0], sides[1]))
        return cls(tuple(pairs)) if pairs else cls()

    def texts(self) -> tuple[str, ...]:
        """The map as `parse` reads it."""
        return tuple("=".join(side.replace("=", r"\=") for side in pair) for pair in self.pairs)

    @property
    def inverse(self) -> PrefixMap:
        """The map from the destination to the source."""
        excluded = [
            destination + out[len(source) :]  # all of the destination's where it is all of the source's
            for source, destination in self.pairs
            for out in self.excluded
            if out.startswith(source) or source.startswith(out)
        ]
        return PrefixMap(tuple((destination, source) for source, destination in self.pairs), tuple(excluded))

    def destination_of(self, key: str) -> str | None:
        """The destination's key of a source key. None when it is outside."""
        if self.excluded and key.startswith(self.excluded):
            return None
        return next((other + key[len(one) :] for one, other in self.pairs if key.startswith(one)), None)

    def source_of(self, key: str) -> str | None:
        """The source's key of a destination key. None when it is outside."""
        return self.inverse.destination_of(key)

    def destination_sql(self, key: str) -> str:
        """`destination_of` as SQL over the column `key`."""
        if all(one == other for one, other in self.pairs):
            return key
        whens = " ".join(
            f"WHEN starts_with({key}, {_text(one)}) THEN {_text(other)} || substr({key}, {len(one) + 1})"
            for one, other in self.pairs
        )
        return f"CASE {whens} END"

    def scope_sql(self, key: str) -> str:
        """Whether a source key is inside."""
        prefixes = [prefix for prefix, _ in self.pairs]
        inside = "true" if "" in prefixes else _any_of(key, prefixes)
        return f"({inside} AND NOT {_any_of(key, self.excluded)})" if self.excluded else inside


def _any_of(key: str, prefixes: Sequence[str]) -> str:
    return "(" + " OR ".join(f"starts_with({key}, {_text(prefix)})" for prefix in prefixes) + ")"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
