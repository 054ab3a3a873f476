"""A schedule as data: what the world holds, what is asked of Sealift, and what goes wrong when. A seed says it all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, TypeVar

from jobs.replicate.decision import Overwrite

SOURCE, DESTINATION, LEDGER = "source", "destination", "ledger"
PREFIX = "copy/"
"""Where the destination's keys lie."""
FULL_EVERY = 256
"""Of so many seeds one goes through the real DuckDB planner and fold, Parquet and the report's page."""


S = TypeVar("S", bound="Conditions")


class Kind(StrEnum):
    """What may go wrong at a request, or happen at that moment."""

    REFUSED = "500 before it took effect"
    BROKEN = "connection lost before it took effect"
    LOST = "took effect, answer lost"
    HALF = "took effect, answered 500"
    REPEAT = "answer lost, sent again by the client"
    LATE = "timed out, took effect later"
    SLOW = "slow request"
    SLOW_ANSWER = "slow answer"
    BURST = "burst of 503"
    DENIED = "access denied once"
    EXPIRED = "credentials expired"
    ERROR_IN_200 = "error inside a 200"
    KILL = "process killed before the request"
    KILL_AFTER = "process killed after the effect"
    KILL_ALL = "all processes killed"
    STOP = "SIGTERM"
    TWIN = "same shard run twice, or a second operator"
    JUMP = "clock jumped"
    FLIP = "bit flipped at rest"
    SOURCE_FLIP = "bit flipped at rest at the source"
    SOURCE_PUT = "source overwritten by others"
    SOURCE_MARK = "source deleted by others"
    SOURCE_REMOVE = "source version removed by others"
    TARGET_PUT = "destination written by others"
    TARGET_MARK = "destination deleted by others"


DOCUMENTED = ("copy", "copy", "copy_part", "complete_multipart", "list_objects", "list_versions")
"""Requests that S3 answers with a document, in which an error may come although the status is 200."""
EXPIRED_SECONDS_MAX = 15.0
WEIGHTS = {
    Kind.REFUSED: 3, Kind.BROKEN: 3, Kind.LOST: 6, Kind.HALF: 3, Kind.LATE: 5, Kind.REPEAT: 4, Kind.SLOW: 4,
    Kind.SLOW_ANSWER: 3, Kind.BURST: 3, Kind.DENIED: 1, Kind.KILL: 2, Kind.KILL_AFTER: 4, Kind.KILL_ALL: 2,
    Kind.STOP: 3, Kind.TWIN: 4, Kind.JUMP: 2, Kind.FLIP: 3, Kind.SOURCE_PUT: 3, Kind.SOURCE_MARK: 2,
    Kind.SOURCE_REMOVE: 2, Kind.TARGET_PUT: 3, Kind.TARGET_MARK: 2,
}  # fmt: skip
_AT_WRITES = (Kind.TARGET_PUT, Kind.TARGET_PUT, Kind.SOURCE_PUT, Kind.KILL_AFTER, Kind.LOST)
OTHERS = {Kind.SOURCE_PUT, Kind.SOURCE_MARK, Kind.SOURCE_REMOVE, Kind.TARGET_PUT, Kind.TARGET_MARK}


class Where(NamedTuple):
    """Requests of a name at a bucket, about a key. Empty: any."""

    name: str = ""
    bucket: str = ""
    key: str = ""

    def has(self, name: str, bucket: str, key: str) -> bool:
        """Whether a request is one of them."""
        return self.name in ("", name) and self.bucket in ("", bucket) and self.key in ("", key)


class Fault(NamedTuple):
    """`kind` happens at request number `at` of those of `where`. `pick` decides what the kind leaves open."""

    at: int
    kind: Kind
    pick: int
    where: Where = Where()


class Put(NamedTuple):
    """An object that is there at the beginning. `parts` 0: written whole; `content`: a number for its bytes.

    `tag`: its tag, where not the content decides.
    """

    key: str
    size_bytes: int
    content: int
    parts: int = 0
    algorithm: str | None = None
    storage_class: str | None = None
    is_marker: bool = False
    tag: int | None = None


class Step(StrEnum):
    """What is asked of Sealift, one after the other."""

    REPLICATE = "replicate"
    VERIFY = "verify"
    RETRY = "retry"
    """`runs retry` of the run before: its failed rows, as a new replicate run."""
    COMPACT = "compact"
    VERIFY_ARCHIVES = "verify --archives"
    EXPIRE = "expire"
    UNDO = "expire --undo"
    RESTORE = "restore"
    RESTORE_AS_OF = "restore --as-of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What every schedule says of the world.

    `source` and `destination`: what is written at the beginning, in this order; the destination's first, or last.
    `held_writes`: the share of writes at the destination that take up to two seconds.
    """

    seed: int
    source: tuple[Put, ...]
    destination: tuple[Put, ...] = ()
    is_destination_newer: bool = False
    faults: tuple[Fault, ...] = ()
    is_source_versioned: bool = True
    is_destination_versioned: bool = True
    default_checksum: str | None = "CRC64NVME"
    is_in_order: bool = False
    held_writes: float = 0.0

    @property
    def has_leases(self) -> bool:
        """Whether attempts at a shard keep each other out. Without leases, all else must hold as well."""
        return self.seed % 2 == 1

    @property
    def keys(self) -> list[str]:
        """The keys at the source, in order."""
        return sorted({put.key for put in self.source})


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(Conditions):
    """Commands, one after the other, and what they are given."""

    steps: tuple[Step, ...]
    is_full: bool = False
    all_versions: bool = False
    streamed: bool = False
    deep: bool = False
    overwrite: Overwrite = Overwrite.OLDER
    rows_per_shard: int = 4
    in_flight: int = 4
    checkpoint_rows: int = 3


def make_schedule(seed: int, *, is_full: bool | None = None) -> Schedule:
    """The schedule of a seed; `is_full` None: as `FULL_EVERY` says."""
    chance = random.Random(seed)
    pick, roll = chance.choice, chance.random
    all_versions = roll() < 0.35
    is_source_versioned = all_versions or roll() < 0.8
    keys = [f"{pick('abc')}{number}" for number in range(chance.randint(1, 6))]
    default_checksum = "CRC64NVME" if roll() < 0.6 else None
    source: list[Put] = []
    for key in keys:
        for _ in range(chance.randint(1, 3) if all_versions else 1 + (is_source_versioned and roll() < 0.25)):
            if roll() < (0.2 if all_versions else 0.04) and is_source_versioned:
                source.append(Put(key, 0, 0, is_marker=True))
            else:
                source.append(_put(chance, key, default_checksum))
    destination = []
    for put in source:
        if not put.is_marker and roll() < 0.3:
            destination.append(_beside(chance, put, default_checksum))
    steps = pick(
        [
            (Step.REPLICATE,),
            (Step.REPLICATE, Step.VERIFY),
            (Step.REPLICATE, Step.RETRY),
            (Step.REPLICATE, Step.VERIFY, Step.RETRY),
            (Step.VERIFY, Step.RETRY),
        ]
    )
    size = len(keys) * len(steps)
    faults = [*_faults(chance, size), *_faults_at_writes(seed), *faults_of_answers(seed, _span(size))]
    faults += _rot_of_source(seed, _span(size))
    return Schedule(
        seed=seed,
        steps=steps,
        source=tuple(source),
        destination=tuple(destination),
        is_destination_newer=roll() < 0.5,
        faults=tuple(sorted(faults)),
        is_full=seed % FULL_EVERY == 0 if is_full is None else is_full,
        all_versions=all_versions,
        streamed=roll() < 0.3,
        deep=roll() < 0.5,
        overwrite=pick([Overwrite.OLDER, Overwrite.OLDER, Overwrite.OLDER, Overwrite.ALWAYS, Overwrite.NEVER]),
        is_source_versioned=is_source_versioned,
        is_destination_versioned=all_versions or roll() < 0.75,
        default_checksum=default_checksum,
        rows_per_shard=chance.randint(2, 6),
        in_flight=chance.randint(1, 6),
        checkpoint_rows=chance.randint(1, 5),
        is_in_order=roll() < 0.2,
    )


def _put(chance: random.Random, key: str, default_checksum: str | None) -> Put:
    size_bytes = chance.choice([0, 1, 3, 7, 8, 9, 15, 16, 17, 24, 31, 40])
    parts, algorithm = 0, None
    if size_bytes > 8 and chance.random() < 0.4:
        parts = chance.randint(2, size_bytes // 4)
        algorithm = chance.choice([None, "SHA256", "CRC32C"])
    storage_class = chance.choice([None] * 9 + ["GLACIER", "STANDARD_IA"])
    return Put(key, size_bytes, chance.randint(1, 9_999), parts, algorithm, storage_class)


def _beside(chance: random.Random, put: Put, default_checksum: str | None) -> Put:
    """What lies at the destination already: the same, the same in other parts, or something else."""
    roll = chance.random()
    if roll < 0.3:
        return put._replace(storage_class=None)
    if roll < 0.6:
        parts = 0 if put.parts else min(2, put.size_bytes // 8)
        return put._replace(parts=parts, algorithm=None, storage_class=None)
    if roll < 0.8:
        return put._replace(content=put.content + 1, storage_class=None)
    return _put(chance, put.key, default_checksum)._replace(storage_class=None)


def _faults(chance: random.Random, size: int) -> list[Fault]:
    """None in a tenth of the schedules; the first requests see more of them than the last."""
    count = 0 if chance.random() < 0.1 else chance.randint(1, 7)
    kinds = chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    return sorted(Fault(chance.randint(1, _span(size)), kind, chance.getrandbits(24)) for kind in kinds)


def _span(size: int) -> int:
    """How many requests there may be, of so many rows."""
    return 20 + 16 * size


def _faults_at_writes(seed: int) -> list[Fault]:
    """Sometimes one. By dice of its own: a seed's other choices stay what they were."""
    dice = random.Random(seed * 7 + 5)
    if dice.random() >= 0.2:
        return []
    write = dice.choice(("copy", "copy", "put", "complete_multipart"))
    return [aimed(dice, _AT_WRITES, Where(write, DESTINATION), (1, 2, 3))]


def _rot_of_source(seed: int, span: int) -> list[Fault]:
    """Sometimes an object of the source rots, and perhaps a copy as well. By dice of its own."""
    dice = random.Random(seed * 13 + 4)
    if dice.random() >= 0.12:
        return []
    kinds = dice.choice(((Kind.SOURCE_FLIP,), (Kind.SOURCE_FLIP,), (Kind.SOURCE_FLIP, Kind.FLIP)))
    return [Fault(dice.randint(1, span), kind, dice.getrandbits(24)) for kind in kinds]


def faults_of_answers(seed: int, span: int) -> list[Fault]:
    """Sometimes one that is not among `WEIGHTS`. By dice of its own: a seed's other choices stay what they were."""
    dice = random.Random(seed * 11 + 3)
    roll = dice.random()
    if roll < 0.1:
        return [Fault(dice.randint(1, span), Kind.EXPIRED, dice.getrandbits(24))]
    if roll < 0.3:
        return [aimed(dice, (Kind.ERROR_IN_200,), Where(dice.choice(DOCUMENTED)), (1, 1, 2, 3, 4))]
    return []


def aimed(chance: random.Random, kinds: Sequence[Kind], where: Where, at: Sequence[int]) -> Fault:
    """A fault at one of the requests that matter most. Counted among all, few faults would meet these."""
    return Fault(chance.choice(at), chance.choice(kinds), chance.getrandbits(24), where)


def without(schedule: S, index: int) -> S:
    """The schedule with one fault less."""
    faults = schedule.faults[:index] + schedule.faults[index + 1 :]
    return replace(schedule, faults=faults)


def content(number: int, size_bytes: int) -> bytes:
    """The bytes of an object: those of two numbers differ from the first one on."""
    return bytes([number & 255, number >> 8 & 255] + [number * 7 + i & 255 for i in range(size_bytes)])[:size_bytes]
