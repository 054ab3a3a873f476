"""A schedule as data: what the world holds, who does what in it, and what goes wrong when. A seed says it all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

SOURCE, DESTINATION, LEDGER = "source", "destination", "ledger"
COPIES, ARCHIVES, BACK = "copy/", "cold/", "back/"
"""Where copies, archives and restored objects lie at the destination."""


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
    KILL = "process killed before the request"
    KILL_AFTER = "process killed after the effect"
    KILL_ALL = "all processes killed"
    STOP = "SIGTERM"
    TWIN = "the same worker or command started once more"
    JUMP = "clock jumped"
    ROT = "bit flipped at rest at the destination"
    SOURCE_ROT = "bit flipped at rest at the source"
    SOURCE_PUT = "source overwritten by others"
    SOURCE_MARK = "source deleted by others"
    SOURCE_REMOVE = "source version removed by others"
    TARGET_PUT = "destination written by others"
    TARGET_MARK = "destination deleted by others"


WEIGHTS = {
    Kind.REFUSED: 3, Kind.BROKEN: 3, Kind.LOST: 6, Kind.HALF: 3, Kind.LATE: 5, Kind.REPEAT: 4, Kind.SLOW: 4,
    Kind.SLOW_ANSWER: 3, Kind.BURST: 3, Kind.DENIED: 1, Kind.EXPIRED: 1, Kind.KILL: 2, Kind.KILL_AFTER: 5,
    Kind.KILL_ALL: 2, Kind.STOP: 3, Kind.TWIN: 4, Kind.JUMP: 2, Kind.ROT: 3, Kind.SOURCE_ROT: 1, Kind.SOURCE_PUT: 4,
    Kind.SOURCE_MARK: 2, Kind.SOURCE_REMOVE: 2, Kind.TARGET_PUT: 4, Kind.TARGET_MARK: 2,
}  # fmt: skip
OTHERS = (Kind.SOURCE_PUT, Kind.SOURCE_MARK, Kind.SOURCE_REMOVE, Kind.TARGET_PUT, Kind.TARGET_MARK)


class Where(NamedTuple):
    """Requests of a name at a bucket. Empty: any."""

    name: str = ""
    bucket: str = ""


class Fault(NamedTuple):
    """`kind` happens at request number `at` of those of `where`. `pick` decides what the kind leaves open."""

    at: int
    kind: Kind
    pick: int = 0
    where: Where = Where()


class Put(NamedTuple):
    """An object that somebody writes. `content`: a number for its bytes. `parts` 0: written whole."""

    key: str
    size_bytes: int
    content: int
    parts: int = 0
    algorithm: str | None = None
    storage_class: str | None = None
    is_marker: bool = False


class Verb(StrEnum):
    """What is asked of Sealift, or what somebody else does between two commands."""

    REPLICATE = "replicate"
    VERIFY = "verify"
    RETRY = "retry"
    COMPACT = "compact"
    VERIFY_ARCHIVES = "verify archives"
    RESTORE = "restore"
    RESTORE_AS_OF = "restore as of"
    EXPIRE = "expire"
    UNDO = "undo"
    BACKLOG = "backlog"
    EDIT = "edit"
    MEDDLE = "meddle"
    ROT = "rot"


V = Verb
COURSES: tuple[tuple[Verb, ...], ...] = (
    *[(V.REPLICATE,)] * 3, *[(V.REPLICATE, V.VERIFY)] * 3, (V.REPLICATE, V.VERIFY, V.RETRY), (V.VERIFY, V.RETRY),
    (V.REPLICATE, V.RETRY), (V.REPLICATE, V.ROT, V.VERIFY, V.RETRY), (V.REPLICATE, V.EDIT, V.REPLICATE),
    (V.COMPACT, V.VERIFY_ARCHIVES), (V.COMPACT, V.EDIT, V.COMPACT), (V.COMPACT, V.RESTORE),
    (V.COMPACT, V.EXPIRE, V.RESTORE), (V.COMPACT, V.EXPIRE, V.EXPIRE, V.RESTORE_AS_OF), (V.COMPACT, V.EXPIRE, V.UNDO),
    (V.REPLICATE, V.EXPIRE), (V.REPLICATE, V.EXPIRE, V.EXPIRE), (V.REPLICATE, V.EXPIRE, V.UNDO),
    (V.REPLICATE, V.ROT, V.EXPIRE), (V.REPLICATE, V.MEDDLE, V.EXPIRE), (V.VERIFY, V.EDIT, V.EXPIRE),
    (V.REPLICATE, V.COMPACT, V.EXPIRE, V.EXPIRE),
)  # fmt: skip
EVENT_COURSES: tuple[tuple[Verb, ...], ...] = (
    (V.EDIT, V.EDIT, V.EDIT), (V.EDIT, V.BACKLOG, V.EDIT), (V.EDIT, V.REPLICATE, V.EDIT), (V.EDIT, V.VERIFY, V.EDIT),
    (V.EDIT, V.EDIT, V.VERIFY, V.RETRY), (V.EDIT, V.COMPACT, V.EDIT),
)  # fmt: skip
"""Courses of a pair whose source tells of its events."""


class Act(NamedTuple):
    """One step of a course, after a pause. `puts`: what somebody writes; of EDIT alone."""

    verb: Verb
    pause_seconds: float
    pick: int
    puts: tuple[Put, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What a world is and what happens in it.

    `source`, `destination`: what is written at the beginning, the destination's first, or last. `has_events`: the
    source tells of its writes, and functions copy them. `is_settled`: at the end, when all is quiet, the copies are
    made once more, verified by their bytes, and made again.
    """

    seed: int
    acts: tuple[Act, ...]
    source: tuple[Put, ...]
    destination: tuple[Put, ...] = ()
    is_destination_newer: bool = False
    faults: tuple[Fault, ...] = ()
    has_events: bool = False
    mirrors_deletes: bool = False
    is_settled: bool = True
    is_source_versioned: bool = True
    is_destination_versioned: bool = True
    default_checksum: str | None = "CRC64NVME"
    all_versions: bool = False
    overwrite: str = "older"
    deep: bool = False
    streamed: bool = False
    in_place: bool = False
    archive_format: str = "tar"
    grace: str = "0s"
    rows_per_shard: int = 4
    in_flight: int = 4
    checkpoint_rows: int = 3
    pollers: int = 1
    doubles: float = 0.0
    lateness: float = 0.0
    held_writes: float = 0.0
    is_in_order: bool = False
    is_full: bool = False

    @property
    def keys(self) -> list[str]:
        """All keys that somebody writes, in order."""
        return sorted({put.key for put in self.source} | {put.key for act in self.acts for put in act.puts})


SIZES = (0, 1, 7, 8, 9, 16, 17, 24, 33, 40)
NAMES = ("a", "a/b", "ü", "c d", "%41+", "../x", "b//c")
FULL_EVERY = 256
"""Of so many seeds one plans and folds by the real DuckDB and makes the real page."""


def make_schedule(seed: int, *, is_full: bool | None = None) -> Schedule:
    """The schedule of a seed."""
    chance = random.Random(seed)
    pick, roll = chance.choice, chance.random
    has_events = roll() < 0.3
    verbs = pick(EVENT_COURSES if has_events else COURSES)
    has_archives = bool({V.COMPACT, V.EXPIRE} & set(verbs))
    all_versions = not has_events and not has_archives and roll() < 0.35
    is_versioned = all_versions or has_events or roll() < 0.75
    keys = chance.sample(NAMES, chance.randint(1, 3 if has_events else 5))
    source = [
        _put(chance, key, is_versioned)
        for key in keys
        for _ in range(chance.randint(1, 3) if all_versions else 1 + (is_versioned and roll() < 0.25))
    ]
    destination = [_beside(chance, put) for put in source if not put.is_marker and roll() < 0.3 and not has_events]
    acts = tuple(_act(chance, verb, keys, is_versioned, has_events) for verb in verbs)
    return Schedule(
        seed=seed,
        acts=acts,
        source=tuple(source),
        destination=tuple(destination),
        is_destination_newer=roll() < 0.5,
        faults=_faults(chance, len(keys), acts, has_events),
        has_events=has_events,
        mirrors_deletes=has_events and roll() < 0.5,
        is_settled=roll() < 0.5,
        is_source_versioned=is_versioned,
        is_destination_versioned=all_versions or has_events or roll() < 0.7,
        default_checksum="CRC64NVME" if roll() < 0.6 else None,
        all_versions=all_versions,
        overwrite=pick(("older", "older", "older", "older", "always", "never")),
        deep=roll() < 0.5,
        streamed=roll() < 0.3,
        in_place=roll() < 0.4,
        archive_format=pick(("tar", "tar.zst")),
        grace=pick(("0s", "0s", "60s")),
        rows_per_shard=pick((2, 4, 4, 12)),
        in_flight=chance.randint(1, 6),
        checkpoint_rows=chance.randint(1, 4),
        pollers=chance.randint(1, 3),
        doubles=pick((0.0, 0.2, 0.5)),
        lateness=pick((0.0, 0.2, 0.6)),
        held_writes=pick((0.0, 0.0, 0.3)),
        is_in_order=roll() < 0.2,
        is_full=seed % FULL_EVERY == 0 if is_full is None else is_full,
    )


def _put(chance: random.Random, key: str, is_versioned: bool, markers: float = 0.08) -> Put:
    if is_versioned and chance.random() < markers:
        return Put(key, 0, 0, is_marker=True)
    size_bytes, parts, algorithm = chance.choice(SIZES), 0, None
    if size_bytes > 8 and chance.random() < 0.35:
        parts, algorithm = chance.randint(2, size_bytes // 4), chance.choice((None, "SHA256", "CRC32C"))
    content = chance.choice((7, 8, *(chance.randint(1, 9_999) for _ in range(4))))
    storage_class = chance.choice([None] * 14 + ["GLACIER", "STANDARD_IA"])
    return Put(key, size_bytes, content, parts, algorithm, storage_class)


def _beside(chance: random.Random, put: Put) -> Put:
    """What lies at the destination already: the same, the same in other parts, or something else."""
    roll = chance.random()
    if roll < 0.3:
        return put._replace(storage_class=None)
    if roll < 0.6:
        return put._replace(parts=0 if put.parts else min(2, put.size_bytes // 8), algorithm=None, storage_class=None)
    return put._replace(content=put.content + 1, storage_class=None)


def _act(chance: random.Random, verb: Verb, keys: list[str], is_versioned: bool, has_events: bool) -> Act:
    pause_seconds, puts = chance.choice((0.0, 5.0, 150.0)), tuple[Put, ...]()
    if verb is V.EDIT:
        count = chance.randint(1, 4 if has_events else 2)
        puts = tuple(_put(chance, chance.choice((*keys, "new")), is_versioned, 0.25) for _ in range(count))
    return Act(verb, pause_seconds, chance.getrandbits(24), puts)


def _faults(chance: random.Random, keys: int, acts: tuple[Act, ...], has_events: bool) -> tuple[Fault, ...]:
    """None in a tenth of the schedules. Some are aimed at the writes that matter most."""
    count = 0 if chance.random() < 0.1 else chance.randint(1, 6)
    span = 20 + 20 * len(acts) + 8 * keys * len(acts)
    found = chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    faults = [Fault(chance.randint(1, span), kind, chance.getrandbits(24)) for kind in found]
    if chance.random() < 0.3:
        where = chance.choice((
            Where("copy", DESTINATION), Where("put", DESTINATION), Where("complete_multipart", DESTINATION),
            Where("copy_part", DESTINATION), Where("delete", SOURCE), Where("put", LEDGER),
        ))  # fmt: skip
        if V.EXPIRE in [act.verb for act in acts] and chance.random() < 0.6:
            where = Where("delete", SOURCE)
        kinds = [Kind.KILL_AFTER, Kind.LOST, Kind.LATE, Kind.TWIN]
        kind = chance.choice(([Kind.SOURCE_PUT] if where.bucket == SOURCE else [Kind.TARGET_PUT]) * 4 + kinds)
        faults.append(Fault(chance.choice((1, 1, 2, 3)), kind, chance.getrandbits(24), where))
    return tuple(sorted(faults))


def smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules that are a step simpler."""
    for name in ("faults", "acts", "source", "destination"):
        some = getattr(schedule, name)
        for index in range(len(some)):
            if len(some) > 1 or name in ("faults", "destination"):
                yield replace(schedule, **{name: some[:index] + some[index + 1 :]})
    for index, act in enumerate(schedule.acts):
        for place in range(len(act.puts) if len(act.puts) > 1 else 0):
            fewer = act._replace(puts=act.puts[:place] + act.puts[place + 1 :])
            yield replace(schedule, acts=(*schedule.acts[:index], fewer, *schedule.acts[index + 1 :]))
    for plain in (
        {"is_full": False}, {"is_settled": False}, {"in_flight": 1}, {"pollers": 1}, {"doubles": 0.0},
        {"lateness": 0.0},
        {"held_writes": 0.0}, {"rows_per_shard": 12}, {"is_in_order": True}, {"grace": "0s"}, {"streamed": False},
        {"archive_format": "tar"},
    ):  # fmt: skip
        if (simpler := replace(schedule, **plain)) != schedule:
            yield simpler


def content(number: int, size_bytes: int) -> bytes:
    """The bytes of an object: those of two numbers differ from the first one on."""
    return bytes([number & 255, number >> 8 & 255] + [number * 7 + i & 255 for i in range(size_bytes)])[:size_bytes]
