"""What happened in a schedule, as the reference model knows it: what was where and when, and what Sealift said."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.core.model import ObjectVersion
from jobs.core.outcome import Outcome
from tests.doubles.memory_buckets import Version
from tests.simulation.copies.schedule import DESTINATION, PREFIX, Schedule
from tests.simulation.engine.processes import Process
from tests.simulation.engine.world import World

GOOD = {"copied", "same", "deleted", "verified", "packed", "restored", "expired", "skipped", "waiting"}
ORDER = [
    "damaged",
    "mismatched", "copied", "packed", "restored", "expired", "deleted", "same", "skipped", "changed", "missing", "kept",
    "waiting", "verified", "unverifiable", "unrestorable", "thawing", "archived", "denied", "failed",
]  # fmt: skip
"""Which outcome stands when attempts disagree, from the design: bad news found, then work done, then what was seen."""


@dataclass(slots=True)
class Placed:
    """A write at a key, or a removal (`version` None). `data`: as it was written. `run_id` "": others.

    `is_below`: it was never current, since its upload began before what was there.
    """

    time: float
    run_id: str
    version: Version | None
    data: bytes | None
    is_below: bool = False

    @property
    def is_object(self) -> bool:
        return self.data is not None


class Judge:
    """Keeps what was wrong. `violations`: promise, what broke it; `branches` counts what was seen.

    `known_limits` counts what the design accepts and no guard of S3's could have prevented.
    """

    world: World

    def __init__(self) -> None:
        self.violations: list[tuple[str, str]] = []
        self.known_limits: Counter[str] = Counter()
        self.branches: Counter[str] = Counter()

    def violate(self, promise: str, what: str) -> None:
        """Note a violation."""
        self.violations.append((promise, what))
        self.world.note("VIOLATION", promise, what)

    def demand(self, holds: object, promise: str, what: str) -> None:
        """Note a violation unless it holds."""
        if not holds:
            self.violate(promise, what)


class Facts(Judge):
    """What runs did. By run: `rows`, `specs`, `reports`, `starts`, `outcomes`; by key: `sources`, `places`.

    `touches`: bucket and key that others changed. `once_flipped`: versions (ids in memory) of which a bit has flipped.
    `rots`: by version of the source (id in memory), when a bit of it flipped, and the bytes before that. `reads`: run,
    bucket, ETag, offset and bytes that were read. `calls`: when a process took up the rows of a key.
    """

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule
        self.rows: dict[str, list[ObjectVersion]] = {}
        self.specs: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.starts: dict[str, float] = {}
        self.sources: dict[str, list[Version]] = defaultdict(list)
        self.places: dict[str, list[Placed]] = defaultdict(list)
        self.touches: set[tuple[str, str]] = set()
        self.once_flipped: set[int] = set()
        self.rots: dict[int, list[tuple[float, bytes]]] = defaultdict(list)
        self.calls: dict[tuple[Process, str], float] = {}
        self.outcomes: dict[str, list[list[Outcome]]] = defaultdict(list)
        self.reads: set[tuple[str, str, str | None, int, bytes]] = set()

    def placed(self, key: str, version: Version | None, run_id: str) -> None:
        data = None if version is None or version.is_delete_marker else version.data
        is_below = version is not None and self.world.versions(DESTINATION, PREFIX + key)[-1:] != [version]
        self.places[key].append(Placed(self.world.loop.time(), run_id, version, data, is_below))

    def as_placed(self, key: str, version: Version) -> bytes | None:
        """The bytes with which the version came: S3 goes on to describe them when a bit has flipped."""
        return next((each.data for each in self.places[key] if each.version is version), version.data)

    def is_overtaken(self, key: str, original: Version, data: bytes | None) -> bool:
        """Whether an original was uploaded in parts, and the bytes are those of a version below it.

        S3 dates it by the beginning of its upload, so a copy of the version below may be newer.
        """
        below = itertools.takewhile(lambda each: each is not original, self.sources[key])
        return "-" in original.etag and any(
            not each.is_delete_marker and data is not None and self.is_made_of(each, data) for each in below
        )

    def whole(self, original: Version) -> bytes:
        """The bytes with which a version of the source was written."""
        rots = self.rots.get(id(original))
        return rots[0][1] if rots else original.data

    def is_made_of(self, original: Version, data: bytes) -> bool:
        """Whether the bytes are those of a version of the source, each as it was at some time."""
        states = {original.data, *(before for _, before in self.rots.get(id(original), ()))}
        is_mixed = len(states) > 1 and len(data) == len(original.data)
        return data in states or (
            is_mixed and all(each in some for each, some in zip(data, zip(*states, strict=True), strict=True))
        )

    def was_damaged(self, original: Version, since: float = math.inf) -> bool:
        """Whether a version of the source had other bytes than S3's checksum of it says, already at that time."""
        is_refutable = "-" not in original.etag or any(not each.is_composite for each in original.checksums)
        return is_refutable and any(time < since for time, _ in self.rots.get(id(original), ()))

    def originals(self, row: ObjectVersion) -> list[Version]:
        """The source versions that the row may mean: more than one only where an ETag alone pins it."""
        return [
            each
            for each in self.sources[row.key]
            if row.version_id in (None, each.version_id)
            and row.is_delete_marker == each.is_delete_marker
            and row.etag in (None, each.etag)
        ]


def stand(checkpoints: Sequence[Sequence[Outcome]]) -> dict[int, Outcome]:
    """The outcome that stands for each row."""
    chosen: dict[int, Outcome] = {}
    for outcomes in checkpoints:
        for each in outcomes:
            known = chosen.get(each.row)
            if known is None or ORDER.index(each.status) < ORDER.index(known.status):
                chosen[each.row] = each
    return chosen


def is_flipped(placed: Placed) -> bool:
    return placed.version is not None and placed.version.data != placed.data
