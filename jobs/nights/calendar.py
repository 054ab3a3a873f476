"""The calendar of nights: local dates, names, and what is left. Reads no clock.

    nights/<pair>/<YYYY-MM-DD>/claim.json       the first start of a night: what it will do
    nights/<pair>/<YYYY-MM-DD>/<stage>.json     before a stage's run is made: which run that is
    nights/<pair>/<YYYY-MM-DD>/<stage>.2.json   the run of the first record never came to be: another one
    nights/<pair>/<YYYY-MM-DD>.json             the night has ended: its summary
    nights/<pair>/<YYYY-MM-DD>.html             the summary as a page
    nights/<pair>/<YYYY-MM-DD>-2.json           and was checked once more: all of it under this name

Each of them is written once. A night is named after the day on which it begins in the pair's time
zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from jobs.core.category import Category
from jobs.core.outcome import GOOD, Status
from jobs.core.run import RunState
from jobs.core.sampling import Sample, next_number
from jobs.errors import UsageError

NIGHT_VERSION = 1
"""The version of the documents of a night."""

INVENTORY_HOURS_MAX = 50
"""The maximum age of an S3 Inventory report that is used: daily reports may take two days to
arrive."""

NIGHTS_REMEMBERED = 7
"""How many summaries of other nights are looked at: for the slice that comes next, for the last
comparison, and for what was found wrong."""

LEFT_OUT = "left out"
"""What a summary calls rows that a run was given and that are not in its plan."""


class Stage(StrEnum):
    """The stages of a night, in their order."""

    RECONCILE = "reconcile"
    REPAIR = "repair"
    VERIFY = "verify"
    SAMPLE = "sample"
    DEEP = "deep"
    REPLICA = "replica"


def find_night(now: float, minutes: int, zone: tzinfo) -> date:
    """Return the latest night that has begun at `now` (epoch seconds), `minutes` after local
    midnight of its day.

    So a night that is late, or goes on past midnight, keeps its date. Where the clocks are put
    forward over the hour, it begins that much later. Where the hour comes twice, the first one
    counts.
    """
    day = datetime.fromtimestamp(now, zone).date() + timedelta(days=1)
    while begins_at(day, minutes, zone) > now:
        day -= timedelta(days=1)
    return day


def begins_at(night: date, minutes: int, zone: tzinfo) -> float:
    """Return when a night begins, in epoch seconds."""
    return datetime.combine(night, time(minutes // 60, minutes % 60), zone).timestamp()


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


def due(night: date, of: int) -> Sample:
    """Return the night's slice.

    Any `of` nights in a row take every slice, and so every key, exactly once.
    """
    return Sample(next_number(night.toordinal(), of), of)


def due_after(night: date, of: int, stage: Stage, earlier: Sequence[Mapping[str, Any]]) -> Sample:
    """Return the slice that follows the one that an earlier night completed last.

    `earlier`: summaries, the latest first. A night that was missed, refused or stopped keeps its
    slice for the next one. Without a complete one it is the night's own (`due`). A night that is
    checked again takes the slice of its first time, so that it looks at what was found then.
    A policy with another rota does not change that. A slice of which all was younger than the
    night's margin is taken once more, and then has had its turn: what is written each minute may be
    all that it has.
    """
    taken = [
        (summary["night"] == night.isoformat(), each, Sample(*each["sample"]))
        for summary in earlier
        for each in summary["stages"]
        if each["stage"] == stage and each.get("sample")
    ]
    own = [sample for is_own, _, sample in taken if is_own]
    if own:
        return own[-1]
    once = None
    for _, each, sample in taken:
        if each["state"] == RunState.COMPLETE and sample.of == of:
            if not _is_too_young(each) or sample == once:
                return Sample(next_number(sample.number + 1, of), of)
            once = sample
    return due(night, of)


def _is_too_young(stage: Mapping[str, Any]) -> bool:
    """Return True if a stage had nothing to verify but what is younger than the night's margin."""
    return not stage.get("rows") and bool((stage.get("excluded") or {}).get("older_than"))


def label(night: date, times: int = 1) -> str:
    """Return the ledger's name of a night. `times`: 2 for a night that is checked once more."""
    return night.isoformat() + (f"-{times}" if times > 1 else "")


def parse_label(text: str) -> tuple[str, int] | None:
    """Return the day and the `times` of a label. None for another text."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:-(\d{1,9}))?", text, re.ASCII)
    return (match[1], int(match[2] or 1)) if match else None


def summary_name(pair: str, night: date, times: int = 1) -> str:
    """Return the ledger's name for the summary of a night."""
    return f"nights/{pair}/{label(night, times)}.json"


def page_name(pair: str, night: date, times: int = 1) -> str:
    """Return the ledger's name for the page of a night."""
    return f"nights/{pair}/{label(night, times)}.html"


def claim_name(pair: str, night: date, times: int = 1) -> str:
    """Return the ledger's name for the claim of a night."""
    return f"nights/{pair}/{label(night, times)}/claim.json"


def record_name(pair: str, night: date, stage: Stage, number: int, times: int = 1) -> str:
    """Return the ledger's name for a stage's record. `number` counts from 1."""
    return f"nights/{pair}/{label(night, times)}/{stage}{f'.{number}' if number > 1 else ''}.json"


def left_by_reconcile(categories: Mapping[str, int], findings: int, *, repairable: int, keeps_extra: bool) -> int:
    """Return how many rows of a reconciliation need attention besides the `repairable` ones.

    Those are in the repair's manifest, and the repair accounts for each. With `keeps_extra`,
    deletes are retained, so the policy asks for what is extra.
    """
    return findings - repairable - (categories.get(Category.EXTRA, 0) if keeps_extra else 0)


def count_source(stage: Mapping[str, Any]) -> int:
    """Return how many objects a night's reconciliation found at the source.

    Its notes have the number. In a night of an older Sealift the categories say so, all but
    exactly: what is in flight may be only at the destination.
    """
    noted = stage.get("notes", {}).get("source_objects")
    if noted is not None:
        return int(noted)
    not_there = (Category.EXTRA, Category.EXCLUDED)
    return sum(count for category, count in stage["counts"].items() if category not in not_there)


def find_emptied(stage: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the last night in which the source had objects, if it has none now.

    `earlier`: summaries, the latest first. The first one that compared decides. `{"night": …,
    "objects": …, "at": …}` with the time of its end. None: the source has objects, or had none in
    that night. A night that found the source emptied passes that on, until objects are there again.
    """
    if count_source(stage):
        return None
    for summary in earlier:
        for last in summary["stages"]:
            if last["stage"] != Stage.RECONCILE or last["refused"]:
                continue
            if last.get("emptied"):
                return dict(last["emptied"])
            objects = count_source(last)
            if not objects:
                return None
            return {"night": summary["night"], "objects": objects, "at": summary["finished_at"]}
    return None


def left_by_run(stage: Stage, outcomes: Mapping[str, int]) -> int:
    """Return how many rows of a stage's run need attention.

    A source that has `changed` during the night needs none where a stage verifies: it is in flight,
    and judged the next time.
    """
    well = GOOD if stage is Stage.REPAIR else {*GOOD, Status.CHANGED}
    return sum(count for status, count in outcomes.items() if status not in well)


def left_out(given: int, taken: int, duplicates: int) -> int:
    """Return how many of the rows that a run was given are not in its plan.

    Nobody worked on these. A plan that `taken` rows are in holds each row once.
    """
    return max(0, given - taken - duplicates)
