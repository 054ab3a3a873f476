"""A schedule of archives as data: what is compacted, verified, expired and restored in turn, and what goes wrong."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from jobs.core.enums import ArchiveFormat
from tests.simulation.copies.schedule import (
    FULL_EVERY,
    SOURCE,
    WEIGHTS,
    Fault,
    Kind,
    Put,
    Schedule,
    Step,
    Where,
    aimed,
    faults_of_answers,
)

ARCHIVES = "cold/"
"""Where the archives lie, in the destination's bucket."""
MONTH_SECONDS = 1_203_200
"""So long before the simulation begins the month of its first moment did."""
KEYS = ("a", "a/b", "a//c", "ü", "../x", "b ", "d/e/f", "%41+")
"""Odd ones: each is a file and a folder, or means something to tar, to a shell or to a URL."""
SIZES = (0, 1, 7, 20, 31, 32, 32, 33, 40, 48, 70)
"""Up to 32 bytes an object is small; from 48 on S3 copies it itself into a plain tar."""
C, V, E, U, R, A = (
    Step.COMPACT, Step.VERIFY_ARCHIVES, Step.EXPIRE, Step.UNDO, Step.RESTORE, Step.RESTORE_AS_OF,
)  # fmt: skip
COURSES = (
    *[(C,)] * 11, *[(C, C)] * 2, *[(C, V)] * 4, (C, C, V),
    *[(C, E)] * 5, *[(C, E, E)] * 2, *[(C, E, U)] * 2, (C, E, U, A),
    *[(C, R)] * 4, (C, A), (C, E, R), (C, E, A), (C, E, E, R), (C, E, E, A), (C, E, C, R), (C, V, E, R),
    (Step.REPLICATE, E), (Step.REPLICATE, E, E), (Step.REPLICATE, E, U),
)  # fmt: skip
"""What is done one after the other, the usual more often."""
_WEIGHTS = WEIGHTS | {Kind.FLIP: 5, Kind.TARGET_PUT: 4, Kind.TARGET_MARK: 3}


_AT_DELETES = (
    Kind.SOURCE_PUT, Kind.SOURCE_PUT, Kind.SOURCE_MARK, Kind.LOST, Kind.LATE, Kind.KILL_AFTER, Kind.KILL_ALL,
)  # fmt: skip
LOCKED_SECONDS = (60.0, 3_000.0, 1_000_000.0)


class Lock(NamedTuple):
    """Before a step, somebody locks the newest version of a key that has bytes: until some seconds later, by a legal
    hold (None), or not any more (0).
    """

    step: int
    key: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSchedule(Schedule):
    """Commands over archives. `target_bytes` and `members_max`: when an archive is full. `with_tag`: which are packed.

    `grace_seconds` and `deletes`: of the expire runs. `in_place`: restores go to the source's bucket.
    `pauses_seconds`: before each step. `at_seconds`: which time an `--as-of` asks for, from the beginning of the
    simulation. `payback_months`: None packs whatever it costs. `gives_up`: an expire run that is taken back is not
    finished before. `edits`: what the source's writers do before each step. `locks`: what is put under Object Lock.
    """

    kind: ArchiveFormat = ArchiveFormat.TAR
    target_bytes: int = 1_000_000
    members_max: int = 100
    archive_class: str = "GLACIER_IR"
    with_tag: bool = False
    payback_months: float | None = None
    grace_seconds: float = 0.0
    deletes: bool = True
    in_place: bool = False
    pauses_seconds: tuple[float, ...] = ()
    at_seconds: float = 0.0
    setup_seconds: float = 10_000.0
    gives_up: bool = False
    edits: tuple[Put | None, ...] = ()
    locks: tuple[Lock, ...] = ()


def make_archive_schedule(seed: int, *, is_full: bool | None = None) -> ArchiveSchedule:
    """The schedule of a seed; `is_full` None: one of 256 is, of the seeds that take archives."""
    chance = random.Random(seed * 3 + 2)
    pick, roll = chance.choice, chance.random
    is_source_versioned = roll() < 0.75
    all_versions = is_source_versioned and roll() < 0.3
    default_checksum = "CRC64NVME" if roll() < 0.6 else None
    keys = chance.sample(KEYS, chance.choice((1, 1, 2, 2, 3, 4)))
    source: list[Put] = []
    for key in keys:
        for _ in range(chance.randint(1, 2) if all_versions else 1 + (is_source_versioned and roll() < 0.2)):
            is_marker = is_source_versioned and roll() < 0.06
            source.append(Put(key, 0, 0, is_marker=True) if is_marker else _put(chance, key))
    steps = pick(COURSES)
    count = 0 if roll() < 0.12 else chance.randint(1, 6)
    kinds = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count)
    span = 20 + 18 * len(steps) + 4 * len(keys) * len(steps)
    faults = [Fault(chance.randint(1, span), kind, chance.getrandbits(24)) for kind in kinds]
    faults += faults_of_answers(seed, span)
    gives_up = U in steps and roll() < 0.6
    if gives_up:
        killed = Fault(chance.randint(35, 100), pick((Kind.KILL_AFTER, Kind.KILL_ALL)), 0)
        faults.append(_end_of_a_run(seed, keys, killed))
    elif E in steps:
        faults += _faults_at_deletes(seed, keys)
    return ArchiveSchedule(
        seed=seed,
        steps=steps,
        source=tuple(source),
        faults=tuple(sorted(faults)),
        is_full=seed // 8 % FULL_EVERY == 0 if is_full is None else is_full,
        all_versions=all_versions,
        is_source_versioned=is_source_versioned,
        is_destination_versioned=roll() < 0.6 or (all_versions and Step.REPLICATE in steps),
        default_checksum=default_checksum,
        rows_per_shard=pick((2, 4, 12, 12)),
        in_flight=chance.randint(1, 4),
        checkpoint_rows=pick((1, 2, 5)),
        is_in_order=roll() < 0.2,
        kind=pick((ArchiveFormat.TAR, ArchiveFormat.TAR_ZST)),
        target_bytes=pick((2_500, 6_000, 1_000_000, 1_000_000)),
        members_max=pick((1, 2, 100, 100)),
        archive_class=pick(["GLACIER_IR"] * 7 + ["GLACIER"]),
        with_tag=roll() < 0.06,
        payback_months=24.0 if roll() < 0.04 else None,
        grace_seconds=pick((0.0, 0.0, 0.0, 60.0, 1_000.0)),
        deletes=roll() < 0.94,
        in_place=roll() < 0.4,
        pauses_seconds=tuple(pick((0.0, 5.0, 150.0, 2_000.0)) for _ in steps),
        at_seconds=pick((-5_000.0, 0.0, 30.0, 1_000_000.0)),
        setup_seconds=pick((10_000.0, MONTH_SECONDS + 11.0)),
        gives_up=gives_up,
        edits=tuple(
            _edit(chance, keys, is_source_versioned) if step and roll() < 0.3 else None for step in range(len(steps))
        ),
        held_writes=pick((0.0, 0.0, 0.2)),
        locks=_locks(seed, keys, len(steps)) if is_source_versioned and E in steps else (),
    )


def _faults_at_deletes(seed: int, keys: list[str]) -> list[Fault]:
    """Sometimes one, at the delete of an original or the look whether the server heeds its condition.

    By dice of its own, like the locks.
    """
    dice = random.Random(seed * 7 + 5)
    where = Where("delete", SOURCE, dice.choice(keys))
    return [aimed(dice, _AT_DELETES, where, (1, 2))] if dice.random() < 0.3 else []


def _end_of_a_run(seed: int, keys: list[str], usual: Fault) -> Fault:
    """The end of a run that is given up: mostly at one of its deletes, whatever becomes of its row."""
    dice = random.Random(seed * 7 + 6)
    where = Where("delete", SOURCE, dice.choice(keys))
    return aimed(dice, (Kind.KILL_ALL,), where, (1, 2, 2)) if dice.random() < 0.8 else usual


def _locks(seed: int, keys: list[str], steps: int) -> tuple[Lock, ...]:
    """Seldom some; a legal hold may be lifted. By dice of its own: a seed's other choices stay what they were."""
    chance = random.Random(seed * 5 + 11)
    if chance.random() >= 0.2:
        return ()
    locks = []
    for _ in range(chance.randint(1, 2)):
        key, step = chance.choice(keys), chance.randrange(steps)
        locks.append(Lock(step, key, chance.choice((None, None, *LOCKED_SECONDS))))
        if step + 1 < steps and chance.random() < 0.5:
            locks.append(Lock(chance.randrange(step + 1, steps), key, 0.0))
    return tuple(locks)


def _edit(chance: random.Random, keys: list[str], is_source_versioned: bool) -> Put:
    """A key is written anew, or deleted; or there is one more."""
    key = chance.choice([*keys, *keys, "z"])
    is_marker = is_source_versioned and key != "z" and chance.random() < 0.2
    return Put(key, 0, 0, is_marker=True) if is_marker else _put(chance, key)


def _put(chance: random.Random, key: str) -> Put:
    size_bytes = chance.choice(SIZES)
    parts, algorithm = 0, None
    if size_bytes > 8 and chance.random() < 0.3:
        parts = chance.randint(2, 4)
        algorithm = chance.choice([None, "SHA256", "CRC32C"])
    storage_class = chance.choice([None] * 12 + ["GLACIER", "STANDARD_IA"])
    number = 7 if chance.random() < 0.2 else chance.randint(1, 9_999)
    return Put(key, size_bytes, number, parts, algorithm, storage_class)


def smaller(schedule: ArchiveSchedule) -> Iterable[ArchiveSchedule]:
    """Schedules a step simpler."""
    for index in range(len(schedule.steps)):
        steps = schedule.steps[:index] + schedule.steps[index + 1 :]
        if steps:
            pauses = schedule.pauses_seconds[:index] + schedule.pauses_seconds[index + 1 :]
            edits = schedule.edits[:index] + schedule.edits[index + 1 :]
            yield replace(schedule, steps=steps, pauses_seconds=pauses, edits=edits)
        if any(lock.step == index for lock in schedule.locks):
            yield replace(schedule, locks=tuple(lock for lock in schedule.locks if lock.step != index))
        if schedule.edits[index] is not None:
            yield replace(schedule, edits=(*schedule.edits[:index], None, *schedule.edits[index + 1 :]))
    for key in schedule.keys:
        source = tuple(put for put in schedule.source if put.key != key)
        if source:
            yield replace(schedule, source=source)
    for plain in (
        {"is_full": False}, {"in_flight": 1}, {"held_writes": 0.0}, {"grace_seconds": 0.0}, {"members_max": 100},
        {"target_bytes": 1_000_000}, {"kind": ArchiveFormat.TAR}, {"rows_per_shard": 6}, {"with_tag": False},
        {"archive_class": "GLACIER_IR"}, {"setup_seconds": 10_000.0},
    ):  # fmt: skip
        simpler = replace(schedule, **plain)
        if simpler != schedule:
            yield simpler
