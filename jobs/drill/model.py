"""The nouns of drills: what is asked, where it is restored from, what was chosen, and what was found of it."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from jobs.core.run import Side

SOURCE, INDEX, VERSION = "source", "index", "version"
"""What says how an object has to be (`jobs.drill.proof`)."""
MOST = 999_999
"""So many objects of each place at most: DuckDB's `arg_min` takes no more."""
ARCHIVES = "archives"
"""The leg of archives. The others are buckets."""


class Leg(Struct, frozen=True):
    """A place that a pair's objects can be restored from.

    `prefix`: what its keys have before the source's. `prefixes`, `exclude`: which of its keys, in whole. `packed_from`:
    of archives, the bucket that their members were in.
    """

    name: str
    side: Side
    prefix: str
    prefixes: tuple[str, ...]
    exclude: tuple[str, ...]
    packed_from: str | None = None


class Asked(Struct, frozen=True):
    """What a drill restores: of each leg, as of `at` (epoch seconds), so many objects chosen at random, and at most so
    many bytes. `prefix`: of the source's keys. `seed`: of the choice. `to`: the place of the drill. `manifest`: a
    file that names the source keys, of which all are restored.
    """

    at: float
    prefix: str
    sample: int
    max_size: int
    seed: int
    to: Side
    manifest: str | None = None


class Sample(Struct, frozen=True):
    """What was chosen: `random` of `population` current objects by chance, and `rows` in all.

    `cold` objects must be thawed before anything reads them, and `large` ones do not fit: both are left out.
    `absent`: so many keys that a manifest names are not among `random`: not there, cold or too large.
    """

    rows: int
    size_bytes: int
    random: int
    population: int
    cold: int
    large: int
    absent: int = 0


class Written(NamedTuple):
    """A version that a drill has written below its place, by its key and id."""

    key: str
    version_id: str | None


class Proof(Struct, frozen=True, kw_only=True):
    """What a drill found of one object. `key`: as the leg has it.

    `by`: what said how the object has to be. `reason`: what is wrong, a `Reason`, else empty. `lag_seconds`:
    how long after a recent object of the source its copy was written.
    """

    key: str
    by: str = ""
    reason: str = ""
    detail: str = ""
    size_bytes: int = 0
    lag_seconds: float | None = None
