"""The calendar of nights: local dates, names, and slices. Reads no clock.

    nights/<pair>/<YYYY-MM-DD>/claims/          who works at it
    nights/<pair>/<YYYY-MM-DD>.json             the night has ended: its summary
    nights/<pair>/<YYYY-MM-DD>.html             the summary as a page
    nights/<pair>/<YYYY-MM-DD>-02.json          and was checked once more: all of it under this name

Each of them is written once. A night is named after the day on which it begins in the pair's time
zone.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo

from jobs.core.sampling import Sample

INVENTORY_HOURS_MAX = 50
"""The maximum age of an S3 Inventory report that is used: daily reports may take two days to
arrive."""


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


def slices(number: int, of: int, enough: float) -> list[Sample]:
    """The slices that a night may take, in order: number `number`, and wider ones, which hold it. The last one is all.

    `enough`: how many times over all objects would be, about. None is much wider than that asks for.
    """
    wider = [fewer for fewer in range(of, 1, -1) if of % fewer == 0 and fewer <= 2 * enough]
    return [*(Sample(number % fewer, fewer) for fewer in wider), Sample(0, 1)]
