"""A schedule of last copies as data: a world in which a copy may be none, and who expires what in it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from jobs.core.enums import ArchiveFormat
from jobs.replicate.decision import Overwrite
from tests.simulation.archives.schedule import SIZES, ArchiveSchedule
from tests.simulation.copies.schedule import SOURCE, Fault, Kind, Put, Where, faults_of_answers


class Act(StrEnum):
    """What somebody does. The first word is the job, for those that are runs."""

    REPLICATE = "replicate"
    VERIFY = "verify"
    VERIFY_BACK = "verify back"
    VERIFY_ROUND = "verify round"
    """The third side of three against the first."""
    COMPACT = "compact"
    EXPIRE = "expire"
    EXPIRE_BACK = "expire back"
    EXPIRE_ROUND = "expire round"
    EXPIRE_BOTH = "expire both"
    EXPIRE_AT_ONCE = "expire at once"
    EXPIRE_LATE = "expire late"
    """An expiry that waits in a queue. Meanwhile a copy rots, and a deep verification reads it."""
    VERIFY_DEEP = "verify deep"
    UNDO = "undo"
    MEDDLE = "meddle"
    FORGE = "forge"
    EDIT = "edit"


class World(StrEnum):
    """What is odd about the world of a schedule."""

    HONEST = "nothing is odd"
    MUTUAL = "each side is the other's copy"
    CYCLE = "each of three sides is another's copy"
    HIDDEN = "others hide copies"
    ALIAS = "a bucket has two names"
    WEAK = "contents share a CRC"
    NULL = "null versions lie below"
    TOMBSTONE = "a tombstone is forged"
    PLACE = "a run is forged"
    MEMBER = "an archive's member is forged"
    CONDITION = "the server ignores conditions"
    ORPHAN = "a command is killed, its workers are not"
    LATER = "a copy is found wrong after the plan"


V, B, R, C, E, U, M = (
    Act.VERIFY,
    Act.VERIFY_BACK,
    Act.REPLICATE,
    Act.COMPACT,
    Act.EXPIRE,
    Act.UNDO,
    Act.MEDDLE,
)
F, X, T, Q, D = Act.FORGE, Act.EXPIRE_BACK, Act.EXPIRE_BOTH, Act.EXPIRE_AT_ONCE, Act.EDIT
W, Z, L = Act.VERIFY_ROUND, Act.EXPIRE_ROUND, Act.EXPIRE_LATE
_ACTS: dict[World, tuple[tuple[Act, ...], ...]] = {
    World.HONEST: ((R, E), (C, E), (V, E), (R, E, E), (C, E, E), (R, E, U), (R, V, C, E)),
    World.MUTUAL: (
        (V, B, T), (V, B, T, T), (V, B, E, X), (V, B, E, X, E, X), (V, B, E, E, X, X), (V, B, Q), (V, B, Q, Q),
        (B, V, X, E, E), (C, V, B, E, X), (V, B, Q, E, X),
        (V, B, E, U, X), (V, B, E, U, T),
    ),
    World.CYCLE: ((V, B, W, T), (V, B, W, E, X, Z), (V, B, W, Q), (V, B, W, Q, Q), (V, B, W, X, Z, E, E, X, Z)),
    World.HIDDEN: ((R, M, E), (C, M, E), (V, M, E), (R, E, M, E), (C, E, M, E), (R, M, M, E, E)),
    World.ALIAS: ((V, E), (V, E, E), (V, B, E, X), (V, B, T)),
    World.WEAK: ((V, E), (V, E, E), (R, V, E)),
    World.NULL: ((R, E), (V, E), (V, E), (V, E, E), (R, E, D, E), (C, E), (R, D, E), (C, D, E)),
    World.TOMBSTONE: ((R, E, F, U), (C, E, F, U)),
    World.PLACE: ((V, F, E), (V, F, E, E)),
    World.MEMBER: ((C, F, E), (C, F, E, E), (C, E, F, E)),
    World.CONDITION: ((R, E), (R, D, E), (V, E), (C, E), (R,)),
    World.ORPHAN: ((R, E), (C, E), (V, E)),
    World.LATER: ((R, L), (V, L), (V, L), (R, L, E), (V, L, E), (R, L, V, E), (V, L, L)),
}  # fmt: skip
_WEIGHTS = {
    World.HONEST: 3, World.MUTUAL: 5, World.CYCLE: 2, World.HIDDEN: 5, World.ALIAS: 2, World.WEAK: 2, World.NULL: 2,
    World.TOMBSTONE: 2, World.PLACE: 2, World.MEMBER: 2, World.CONDITION: 3, World.ORPHAN: 3,
}  # fmt: skip
_FAULTS = {
    Kind.LOST: 4, Kind.HALF: 2, Kind.LATE: 5, Kind.REPEAT: 3, Kind.SLOW: 4, Kind.SLOW_ANSWER: 3, Kind.KILL: 3,
    Kind.KILL_AFTER: 4, Kind.KILL_ALL: 2, Kind.STOP: 2, Kind.TWIN: 4, Kind.REFUSED: 2, Kind.FLIP: 2,
    Kind.TARGET_MARK: 3, Kind.TARGET_PUT: 3, Kind.SOURCE_PUT: 2,
}  # fmt: skip
_STRIKES = {World.CONDITION: ("edit", "edit", ""), World.HONEST: ("",), World.ORPHAN: ("kill",), World.LATER: ("",)}
KEYS = ("a", "b/c", "ü", "d e")
MANY = tuple(f"n{number}" for number in range(8))
"""So many that a worker is at work for a while."""
IGNORED = (
    frozenset({"delete"}), frozenset({"delete", "copy"}), frozenset({"copy"}), frozenset({"delete of what is there"}),
)  # fmt: skip


LATER_SHARE = 0.06
"""Of the schedules, in which a copy is found wrong after the plan."""
QUEUES_SECONDS = (40.0, 90.0, 200.0)
"""How long such an expiry waits."""
SECOND_NAMES = ("destination", "both")
"""Which bucket's copies have second names, of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCopySchedule(ArchiveSchedule):
    """Acts in a world. `is_one_bucket`: both sides are prefixes of one bucket. `picks`: dice for each act.

    `by_manifest`: expire runs take all that the ledger has proven. `second`: what is written above null versions.
    `alias_of`: the bucket whose copies are known by a second name. `ignored`: the conditions that are not heeded.
    `strike`: what others do, to the original (`edit`) or to a copy (`hide`), when the first delete is on its way.
    Or somebody kills the command (`kill`), or the copy of a late expiry rots only then (`rot`).
    `is_tied`: workers notice when their command has ended.
    `is_opaque`: objects are encrypted with KMS. `is_suspended`: versioning is, before the first expire run.
    `queue_seconds`: how long the workers of a late expiry wait when it is planned.
    """

    world: World
    acts: tuple[Act, ...]
    picks: tuple[int, ...]
    is_one_bucket: bool = False
    by_manifest: bool = False
    second: tuple[Put, ...] = ()
    alias_of: str = ""
    strike: str = ""
    is_tied: bool = False
    ignored: frozenset[str] = frozenset()
    is_opaque: bool = False
    is_suspended: bool = False
    queue_seconds: float = 0.0


def make_last_copy_schedule(seed: int) -> LastCopySchedule:
    """The schedule of a seed."""
    chance = random.Random(seed * 7 + 5)
    pick, roll = chance.choice, chance.random
    world = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    dice = random.Random(seed * 13 + 7)  # of its own: the choices of other seeds stay what they were
    world = World.LATER if dice.random() < LATER_SHARE else world
    is_rot_late = world is World.LATER and dice.random() < 0.5
    acts = pick(_ACTS[world])
    is_long = world is World.ORPHAN or is_rot_late
    keys = list(MANY) if is_long else chance.sample(KEYS, pick((1, 1, 2, 2, 3)))
    is_opaque = roll() < (0.7 if world is World.MEMBER else 0.15)
    source = tuple(_put(chance, key) for key in keys)
    count = 0 if roll() < 0.4 else chance.randint(1, 3)
    kinds = chance.choices(list(_FAULTS), list(_FAULTS.values()), k=count)
    span = 30 + 25 * len(acts)
    faults = [Fault(chance.randint(1, span), kind, chance.getrandbits(24)) for kind in kinds]
    faults += faults_of_answers(seed, span)
    if is_rot_late:  # while a worker waits for all its deletes, the finding comes
        faults += [Fault(at, Kind.SLOW_ANSWER, dice.getrandbits(24), Where("delete", SOURCE)) for at in range(1, 7)]
    is_one_bucket = world in (World.MUTUAL, World.HIDDEN) and C not in acts and (T in acts or roll() < 0.4)
    is_one_bucket |= world is World.CYCLE
    is_versioned = roll() < 0.7
    return LastCopySchedule(
        seed=seed,
        world=world,
        steps=(),
        acts=acts,
        picks=tuple(chance.getrandbits(24) for _ in acts),
        source=source,
        faults=tuple(sorted(faults)),
        all_versions=world is World.NULL and C not in acts,
        is_source_versioned=is_versioned and world is not World.NULL,
        is_destination_versioned=is_versioned if is_one_bucket else world is World.NULL or roll() < 0.6,
        default_checksum=_checksum(chance, world),
        is_one_bucket=is_one_bucket,
        by_manifest=T in acts or world is World.PLACE or roll() < 0.3,
        second=tuple(_second(chance, put) for put in source if roll() < 0.7) if world is World.NULL else (),
        alias_of=_alias(chance, world, is_one_bucket),
        strike="rot" if is_rot_late else pick(_STRIKES.get(world, ("", "", "", "", "edit", "hide"))),
        is_tied=roll() < 0.5,
        ignored=pick(IGNORED) if world is World.CONDITION else frozenset(),
        is_opaque=is_opaque,
        is_suspended=world is World.NULL and roll() < 0.3,
        queue_seconds=dice.choice(QUEUES_SECONDS) if world is World.LATER else 0.0,
        overwrite=pick((Overwrite.OLDER, Overwrite.NEVER)) if world is World.CONDITION else Overwrite.OLDER,
        rows_per_shard=100 if is_long else pick((1, 4)),
        in_flight=2,
        checkpoint_rows=pick((1, 5)),
        is_in_order=roll() < 0.3,
        grace_seconds=pick((0.0, 0.0, 0.0, 60.0)),
        pauses_seconds=tuple(pick((5.0, 90.0, 90.0)) for _ in acts),
        kind=ArchiveFormat.TAR if world is World.MEMBER else pick((ArchiveFormat.TAR, ArchiveFormat.TAR_ZST)),
    )


def _alias(chance: random.Random, world: World, is_one_bucket: bool) -> str:
    """The bucket that has a second name, by which copies in it are known."""
    if world is World.ALIAS:
        return chance.choice(("source", "source", "destination"))
    is_mutual = world is World.MUTUAL and chance.random() < 0.2
    return ("source" if is_one_bucket else chance.choice(SECOND_NAMES)) if is_mutual else ""


def _checksum(chance: random.Random, world: World) -> str | None:
    """What S3 adds to each object: for forged twins a CRC, for forged members mostly nothing."""
    if world is World.WEAK:
        return chance.choice(("CRC64NVME", "CRC32C", "CRC32"))
    return "CRC64NVME" if chance.random() < (0.3 if world is World.MEMBER else 0.6) else None


def _put(chance: random.Random, key: str) -> Put:
    size_bytes = chance.choice(SIZES)
    parts = chance.randint(2, 3) if size_bytes > 16 and chance.random() < 0.25 else 0
    return Put(key, size_bytes, chance.randint(1, 9_999), parts)


def _second(chance: random.Random, put: Put) -> Put:
    """A newer version: of the same bytes, or of others."""
    return put if chance.random() < 0.5 else put._replace(content=put.content + 1)


def smaller(schedule: LastCopySchedule) -> Iterable[LastCopySchedule]:
    """Schedules a step simpler."""
    for index in range(len(schedule.acts)):
        if len(schedule.acts) > 1:
            before, after = slice(index), slice(index + 1, None)
            acts = schedule.acts[before] + schedule.acts[after]
            picks = schedule.picks[before] + schedule.picks[after]
            pauses = schedule.pauses_seconds[before] + schedule.pauses_seconds[after]
            yield replace(schedule, acts=acts, picks=picks, pauses_seconds=pauses)
    for put in schedule.source if len(schedule.source) > 1 else ():
        yield replace(
            schedule,
            source=tuple(each for each in schedule.source if each is not put),
            second=tuple(each for each in schedule.second if each.key != put.key),
        )
    for plain in (
        {"grace_seconds": 0.0},
        {"is_opaque": False},
        {"is_suspended": False},
        {"rows_per_shard": 4},
        {"strike": ""},
    ):
        simpler = replace(schedule, **plain)
        if simpler != schedule:
            yield simpler
