"""The calendar of nights: local dates, names, and whose turn it is. Reads no clock.

    nights/<pair>/<YYYY-MM-DD>/claims/          who works at it
    nights/<pair>/<YYYY-MM-DD>.json             the night has ended: its summary
    nights/<pair>/<YYYY-MM-DD>.html             the summary as a page
    nights/<pair>/<YYYY-MM-DD>-02.json          and was checked once more: all of it under this name

Each of them is written once. A night is named after the day on which it begins in the pair's time
zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from jobs.core.run import RunState

if TYPE_CHECKING:
    from jobs.nights.documents import Slice, Summary

INVENTORY_HOURS_MAX = 50
"""The maximum age of an S3 Inventory report that is used: daily reports may take two days to
arrive."""
NIGHTS_REMEMBERED = 30
"""How many earlier summaries are looked at: for the slice that comes next, and a source that had objects."""


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


def due_after(night: date, of: int, stage: str, earlier: Sequence[Summary]) -> Slice:
    """Return the slice (number, of) that follows the one that an earlier night completed last.

    `earlier`: the latest first. A night that was missed, refused or stopped keeps its slice for the
    next one. Without a complete one it is the night's own, as after a change of the rota. A night
    that is checked again takes the slice of its first time, so that it looks at what was found then.
    """
    for each in earlier:
        for done in each.stages:
            if done.stage == stage and done.slice is not None:
                if each.night == str(night):
                    return done.slice
                if done.state == RunState.COMPLETE and done.slice[1] == of:
                    return (done.slice[0] + 1) % of, of
    return night.toordinal() % of, of


def read_turns(turn: Slice, enough: float) -> list[Slice]:
    """The slices that a night may read, in order: it takes the first that is large enough.

    A slice of another number of slices holds all of it, where that number divides its own. `enough`: how many
    times over all objects would be, about.
    """
    number, of = turn
    wider = [(number % fewer, fewer) for fewer in range(of, 1, -1) if of % fewer == 0 and fewer <= 2 * enough]
    return [*wider, (0, 1)]
