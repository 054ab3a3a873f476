"""The calendar of nights: local dates, names, and whose turn it is. Reads no clock.

    nights/<pair>/<YYYY-MM-DD>/claim.json       what the night will do, by its first start
    nights/<pair>/<YYYY-MM-DD>/<stage>-1.json   a stage's run, named before it is made, or why it has none
    nights/<pair>/<YYYY-MM-DD>/<stage>-2.json   the first one never came to be: another one
    nights/<pair>/<YYYY-MM-DD>.json             the night has ended: its summary
    nights/<pair>/<YYYY-MM-DD>.html             the summary as a page
    nights/<pair>/<YYYY-MM-DD>-2.json           and was checked once more: all of it under this name

Each of them is written once. A night is named after the day on which it begins in the pair's time
zone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING

from jobs.core.run import RunState
from jobs.core.sampling import Sample
from jobs.errors import UsageError

if TYPE_CHECKING:
    from jobs.nights.documents import Summary

INVENTORY_HOURS_MAX = 50
"""The maximum age of an S3 Inventory report that is used: daily reports may take two days to
arrive."""

NIGHTS_REMEMBERED = 7
"""How many earlier summaries are looked at: for the slice that comes next, and the last comparison."""


class Stage(StrEnum):
    """The stages of a night, in their order. The summary is the last one."""

    RECONCILE = "reconcile"
    REPAIR = "repair"
    REPLICA = "replica"
    SLICE = "slice"
    DEEP = "deep"


def find_night(now: float, minutes: int, zone: tzinfo) -> date:
    """Return the latest night that has begun at `now` (epoch seconds), `minutes` after local
    midnight of its day.

    So a night that is late, or goes on past midnight, keeps its date. Where the clocks are put
    forward over the hour, it begins that much later. Where the hour comes twice, the first one
    counts.
    """
    day = datetime.fromtimestamp(now, zone).date() + timedelta(days=1)
    while datetime.combine(day, time(minutes // 60, minutes % 60), zone).timestamp() > now:
        day -= timedelta(days=1)
    return day


def parse_night(text: str, latest: date) -> date:
    """Read `2026-11-25`.

    Raises UsageError for another form, and for a night after the `latest` that began.
    """
    try:
        night = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day, not a moment
    except ValueError as error:
        raise UsageError(f"--night {text!r} is not a date", advice=f"write YYYY-MM-DD, as in {latest}") from error
    if night > latest:
        raise UsageError(f"--night {text}: that night has not begun, the latest one is {latest}")
    return night


def due_after(night: date, of: int, stage: Stage, earlier: Sequence[Summary]) -> Sample:
    """Return the slice that follows the one that an earlier night completed last.

    `earlier`: the latest first. A night that was missed, refused or stopped keeps its slice for the
    next one. Without a complete one it is the night's own, as after a change of the rota. A night
    that is checked again takes the slice of its first time, so that it looks at what was found then.
    """
    taken = [(each.night, done) for each in earlier for done in each.stages if done.stage == stage and done.slice]
    for name, done in taken:
        assert done.slice is not None
        if name == night.isoformat():
            return Sample(*done.slice)
        if done.state == RunState.COMPLETE and done.slice[1] == of:
            return Sample((done.slice[0] + 1) % of, of)
    return Sample(night.toordinal() % of, of)


def wider(number: int, of: int) -> list[tuple[int, int]]:
    """Return the slices that hold a slice, from itself to the whole.

    A slice of another number of slices holds all of it, where that number divides its own.
    """
    return [(number % fewer, fewer) for fewer in range(of, 0, -1) if of % fewer == 0]


def label(night: date, times: int = 1) -> str:
    """Return the ledger's name of a night. `times`: 2 for a night that is checked once more."""
    return night.isoformat() + (f"-{times}" if times > 1 else "")


def parse_label(text: str) -> tuple[str, int] | None:
    """Return the day and the `times` of a label. None for another text."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:-(\d{1,9}))?", text, re.ASCII)
    return (match[1], int(match[2] or 1)) if match else None


def summary_name(pair: str, night: date) -> str:
    """Return the ledger's name for the summary of a night."""
    return f"nights/{pair}/{label(night)}.json"
