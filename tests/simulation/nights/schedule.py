"""A schedule of nights as data: who asks the functions for what and when, how jobs end, how late events come."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from tests.simulation.copies.schedule import LEDGER, WEIGHTS, Conditions, Fault, Kind, Where, faults_of_answers

PAIRS = ("east", "west")
NIGHT_SECONDS = 1_000.0
"""When the pairs' hour comes for the first time: 22:30 UTC, which is 07:30 of the next day in Tokyo."""
DAY_SECONDS = 86_400.0
SPAN_SECONDS = 1_600.0
HURRY_SECONDS = 2.0
_LEFT_OUT = {
    Kind.STOP, Kind.FLIP, Kind.SOURCE_PUT, Kind.SOURCE_MARK, Kind.SOURCE_REMOVE, Kind.TARGET_PUT, Kind.TARGET_MARK,
}  # fmt: skip
"""Lambda has no SIGTERM, and these functions touch no object of a source or a hot bucket."""
_WEIGHTS = {kind: weight for kind, weight in WEIGHTS.items() if kind not in _LEFT_OUT}
NIGHT_KINDS = frozenset(_WEIGHTS)
_OUTAGES = (Kind.KILL, Kind.KILL_AFTER, Kind.DENIED, Kind.BROKEN)


class What(StrEnum):
    """What happens."""

    NIGHT = "EventBridge Scheduler says that a pair's night has begun"
    TICK = "EventBridge Scheduler asks for backlogs"
    ADD = "the backup function hands rows over"
    NOW = "a person asks for a pair's backlog"
    LIST = "a person lists keys and prefixes"
    BACKFILL = "a person asks for a backfill"
    INVENTORY = "a report of a bucket is complete"
    RESTORED = "an archived object of a source can be read"
    THAWED = "an archive that restores wait for can be read"
    RETRY = "a person retries the run that has no report"
    BAD = "somebody sends what makes no sense"
    EXPIRE = "lifecycle removes what manifests have taken of the backlog"


_ACTS = {
    What.NIGHT: 6, What.TICK: 4, What.ADD: 7, What.NOW: 2, What.LIST: 2, What.BACKFILL: 2, What.INVENTORY: 4,
    What.RESTORED: 2, What.THAWED: 2, What.BAD: 1, What.EXPIRE: 1, What.RETRY: 2,
}  # fmt: skip


class Act(NamedTuple):
    """`what` happens to a pair; `pick` decides what the kind leaves open."""

    at_seconds: float
    what: What
    pair: str
    pick: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSchedule(Conditions):
    """`acts` by time. `lateness`: the share of events that come minutes late; `doubles`: of those that come twice.

    `failures`: the share of jobs that end badly. `listing_seconds`: how long Batch may not list a job that it has.
    """

    acts: tuple[Act, ...]
    lateness: float
    doubles: float
    failures: float
    listing_seconds: float
    is_hurried: bool


def make_night_schedule(seed: int) -> NightSchedule:
    """The schedule of a seed."""
    chance = random.Random(seed * 3 + 2)
    pick, roll = chance.choice, chance.random
    is_hurried = roll() < 0.5
    acts = [_act(chance, is_hurried) for _ in range(chance.randint(1, 7))]
    if roll() < 0.05:  # a script that lists more keys than one call takes
        at_seconds, pair = 500 * roll(), pick(PAIRS)
        acts += [Act(at_seconds + number, What.LIST, pair, 2 * number + 1) for number in range(chance.randint(5, 7))]
        acts.append(Act(at_seconds, What.TICK, pair, 0))
    count = 0 if roll() < 0.2 else chance.randint(1, 6)
    kinds = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count)
    span = 8 + 12 * len(acts)
    faults = [Fault(chance.randint(1, span), kind, chance.getrandbits(24)) for kind in kinds]
    faults += faults_of_answers(seed, span)
    if roll() < 0.15:  # an outage: all that is asked for a while
        begin, kind = chance.randint(1, 2 * span), pick(_OUTAGES)
        faults += [Fault(begin + number, kind, 0) for number in range(chance.randint(3, 12))]
    if (listed := _half_started(seed)) is not None:
        acts.append(listed)
        second = f"l/starts/sealift-{listed.pair}-backfill-000001-1.json"
        faults += [Fault(at, Kind.DENIED, 0, Where("put", LEDGER, second)) for at in range(1, 4)]
    return NightSchedule(
        seed=seed,
        source=(),
        faults=tuple(sorted(faults)),
        is_in_order=roll() < 0.2,
        acts=tuple(sorted(acts)),
        lateness=pick((0.0, 0.2, 0.6)),
        doubles=pick((0.0, 0.2, 0.5)),
        failures=pick((0.1, 0.3, 0.6)),
        listing_seconds=pick((0.0, 0.0, 1.0, 5.0)),
        is_hurried=is_hurried,
    )


def _half_started(seed: int) -> Act | None:
    """Sometimes somebody lists two prefixes, and only the first run of the manifest is started for a long while.

    By dice of its own: a seed's other choices stay what they were.
    """
    dice = random.Random(seed * 7 + 5)
    if dice.random() >= 0.05:
        return None
    return Act(dice.random() * SPAN_SECONDS, What.LIST, dice.choice(PAIRS), 12 * dice.getrandbits(8) + 4)


def _act(chance: random.Random, is_hurried: bool) -> Act:
    what = chance.choices(list(_ACTS), list(_ACTS.values()))[0]
    at_seconds = NIGHT_SECONDS + chance.random() * HURRY_SECONDS if is_hurried else chance.random() * SPAN_SECONDS
    if what is What.NIGHT:  # a flexible window of fifteen minutes; hurried, all are as prompt as the others
        at_seconds = NIGHT_SECONDS + chance.random() * (HURRY_SECONDS if is_hurried else 900.0)
    if what is What.TICK and chance.random() < 0.4:
        at_seconds += 3_700.0
    if what is What.EXPIRE or chance.random() < 0.15:
        at_seconds += DAY_SECONDS
    return Act(at_seconds, what, chance.choice(PAIRS), chance.getrandbits(16))


def fewer_asked(schedule: NightSchedule) -> Iterable[NightSchedule]:
    """Schedules a step simpler."""
    for index in range(len(schedule.acts)):
        if len(schedule.acts) > 1:
            yield replace(schedule, acts=schedule.acts[:index] + schedule.acts[index + 1 :])
    calm: tuple[dict[str, Any], ...] = (
        {"lateness": 0.0},
        {"doubles": 0.0},
        {"failures": 0.0},
        {"listing_seconds": 0.0},
    )
    for each in calm:
        smaller = replace(schedule, **each)
        if smaller != schedule:
            yield smaller
