"""A schedule of the event-driven path as data: what is written at the source when, and how its queue is read."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import NamedTuple

from tests.simulation.copies.schedule import WEIGHTS, Conditions, Fault, Kind, Put, faults_of_answers

SPAN_SECONDS = 240.0
"""Within this time the source's writers do their work."""
HURRY_SECONDS = 1.0
"""The same in schedules where all happens at once."""
_LEFT_OUT = {Kind.STOP, Kind.FLIP, Kind.TARGET_PUT, Kind.TARGET_MARK}
"""Lambda has no SIGTERM; the hot bucket is Sealift's alone, and what flips there is for verify to find."""
_WEIGHTS = {kind: weight for kind, weight in WEIGHTS.items() if kind not in _LEFT_OUT}
EVENT_KINDS = frozenset(_WEIGHTS)


class Act(NamedTuple):
    """What somebody does at the source. `removes`: a version of the put's key goes for good, instead of a write."""

    at_seconds: float
    put: Put
    removes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSchedule(Conditions):
    """`acts` by time. `lateness`: the share of events that come minutes late; `doubles`: of those that come twice.

    `runs_at`: when the backlog becomes a run, besides at the end. `storage_class`: of copies.
    """

    acts: tuple[Act, ...]
    mirrors_deletes: bool
    limit_bytes: int
    pollers: int
    batch_messages: int
    lateness: float
    doubles: float
    is_hurried: bool
    runs_at: tuple[float, ...] = ()
    storage_class: str | None = None

    @property
    def keys(self) -> list[str]:
        """The keys that somebody writes, in order."""
        return sorted({act.put.key for act in self.acts})


def make_event_schedule(seed: int) -> EventSchedule:
    """The schedule of a seed."""
    chance = random.Random(seed * 2 + 1)
    pick, roll = chance.choice, chance.random
    is_versioned = roll() < 0.8
    is_hurried = roll() < 0.4
    span_seconds = HURRY_SECONDS if is_hurried else SPAN_SECONDS
    keys = [f"{pick(('a', 'b', 'c %41+'))}{number}" for number in range(chance.randint(1, 3))]
    acts = sorted(_act(chance, pick(keys), is_versioned, span_seconds) for _ in range(chance.randint(1, 9)))
    count = 0 if roll() < 0.15 else chance.randint(1, 6)
    kinds = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count)
    span = 15 + 14 * len(acts)
    late = random.Random(seed * 2 + 1_000_000_007)  # what came later does not move what was there
    runs_at = tuple(sorted(late.random() * span_seconds * 1.2 for _ in range(late.choice((0, 0, 1, 3)))))
    storage_class = "DEEP_ARCHIVE" if late.random() < 0.15 else None
    acts = [act._replace(put=act.put._replace(tag=late.choice((None, None, 0, 1, 3)))) for act in acts]
    source = tuple(Put(key, 3, 5) for key in keys[: pick((0, 0, 1))])
    faults = [Fault(chance.randint(1, span), kind, chance.getrandbits(24)) for kind in kinds]
    schedule = EventSchedule(
        seed=seed,
        source=source,
        faults=tuple(sorted([*faults, *faults_of_answers(seed, span)])),
        is_source_versioned=is_versioned,
        default_checksum="CRC64NVME" if roll() < 0.6 else None,
        is_in_order=roll() < 0.2,
        acts=tuple(acts),
        mirrors_deletes=roll() < 0.5,
        limit_bytes=pick((24, 24, 100)),
        pollers=chance.randint(1, 3),
        batch_messages=pick((1, 3, 10)),
        lateness=pick((0.0, 0.2, 0.6)),
        doubles=pick((0.0, 0.2, 0.5)),
        is_hurried=is_hurried,
        held_writes=pick((0.0, 0.0, 0.3)),
        runs_at=runs_at,
        storage_class=storage_class,
    )
    return _with_brief_object(schedule, late) if is_hurried and late.random() < 0.3 else schedule


def _with_brief_object(schedule: EventSchedule, chance: random.Random) -> EventSchedule:
    """An object is deleted at once, and writes are slow: its copy may come when its deletion was handled."""
    at_seconds = schedule.acts[-1].at_seconds
    put = Act(at_seconds, Put("brief", 3, chance.randint(1, 9_999)))
    deletion = Act(at_seconds + 0.4 * chance.random(), Put("brief", 0, 0, is_marker=True))
    acts, pollers = (*schedule.acts, put, deletion), max(2, schedule.pollers)
    return replace(schedule, acts=acts, pollers=pollers, held_writes=0.6)


def _act(chance: random.Random, key: str, is_versioned: bool, span_seconds: float) -> Act:
    at_seconds, roll = chance.random() ** 2 * span_seconds, chance.random()
    if roll < 0.15:
        return Act(at_seconds, Put(key, 0, 0, is_marker=True))
    if roll < 0.27 and is_versioned:
        return Act(at_seconds, Put(key, 0, 0), chance.randint(0, 5))
    size_bytes = chance.choice([0, 1, 3, 9, 9, 17, 24, 40])
    parts = 2 if size_bytes > 8 and chance.random() < 0.3 else 0
    storage_class = "GLACIER" if chance.random() < 0.06 else None
    number = chance.choice([7, 8, chance.randint(1, 9_999)])  # a writer may well write what was there before
    return Act(at_seconds, Put(key, size_bytes, number, parts, None, storage_class))
