"""Oldest unproven object of a pair, by what its last night compared, repaired and verified.

A night's reports prove what they can compare. What they cannot compare, such as an object of many
parts, is proven when its slice is verified.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from jobs.core.category import Category
from jobs.core.outcome import Status
from jobs.core.run import RunState
from jobs.core.sampling import Sample
from jobs.errors import ConfigError, LedgerError, StoreError, UsageError
from jobs.ledger.agreement import begin_order
from jobs.ledger.ledger import DIFFERENCES, Ledger
from jobs.nights.calendar import Stage
from jobs.nights.left_objects import CopyRules, fetch, find_left_file
from jobs.nights.records import NightRecords
from jobs.nights.verdicts import count_unproven
from jobs.policy.model import Pair
from jobs.reports.document import iso_time
from jobs.reports.figures import plural
from jobs.runs.request import failures_of

ROWS_MAX = 200_000
"""Up to so many rows are read one by one, since a person waits."""
NIGHTS_MAX = 60
"""How many summaries are read to find when each slice was verified."""
BY_TURNS = "each at the turn of its slice"
"""How objects are proven that no report can compare: no later change of a copy is known."""
NIGHTS_MORE = 3
"""Allows for nights that are missed, refused or repeated."""
MARGIN_SECONDS = 900.0
"""The default margin, for a night that recorded none. What is younger was not compared."""
_MEMORY = "256MB"
_WRONG = f"status IN ('{Status.DIFFERENT}', '{Status.DAMAGED}')"
_UNVERIFIABLE = f"category = '{Category.UNVERIFIABLE}'"
_IN_FLIGHT = f"category = '{Category.IN_FLIGHT}' AND source_last_modified IS NOT NULL"


class OldestUnproven(NamedTuple):
    """The object that waits longest for a proof.

    `key`: None if all that was written before `until` is proven. `written_at`, `until`: ISO 8601.
    `why`: why it is not proven. Without a key: how objects were proven, if not by the last night.
    `not_known`: why the oldest unproven object is not known, else empty.
    """

    key: str | None = None
    written_at: str | None = None
    why: str = ""
    until: str | None = None
    not_known: str = ""


class _Row(NamedTuple):
    """An object of the source. `changed_at`: when it or its copy was written last."""

    key: str
    written_at: datetime | None
    changed_at: datetime | None
    why: str


async def find_oldest_unproven(
    records: NightRecords, pair: Pair, last: Mapping[str, Any], disproving: Collection[str]
) -> OldestUnproven:
    """Find the oldest unproven object by the summary of the pair's last night.

    `disproving`: ids of runs of nights that found copies wrong which nothing answered. A document
    that is missing or damaged makes the answer `not_known`, never "all is proven".
    """
    try:
        return await _find(records, pair, last, disproving)
    except (_NotKnown, ConfigError, StoreError, UsageError) as error:
        return OldestUnproven(not_known=str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return OldestUnproven(not_known=f"the report of the night of {last['night']} is damaged ({error!r})")


class _NotKnown(Exception):
    """Why the oldest unproven object is not known."""


async def _find(
    records: NightRecords, pair: Pair, last: Mapping[str, Any], disproving: Collection[str]
) -> OldestUnproven:
    """Do as `find_oldest_unproven`. Raises _NotKnown."""
    ledger, stages = records.ledger, last["stages"]
    compared, report = await _read_comparison(ledger, last)
    listed = min(datetime.fromisoformat(report[side]["created_at"]) for side in ("source", "destination"))
    until, how = listed - timedelta(seconds=report["margin_seconds"]), ""
    rows = [row async for row in _left(ledger, stages, CopyRules.of(pair))]
    for run_id in sorted(disproving, key=begin_order):
        rows += await _read(ledger, await failures_of(ledger, run_id), _WRONG)
    differences, is_listable = ledger.uri(compared["run_id"], DIFFERENCES), _is_listable(report)
    if in_flight := compared["counts"].get(Category.IN_FLIGHT, 0):
        if not is_listable:
            raise _NotKnown(f"{plural(in_flight, 'object')} may be in flight, too many to look at here")
        # An old object is in flight, too, if its copy was written just now.
        found = await _read(ledger, differences, _IN_FLIGHT)
        rows += [row for row in found if row.written_at is None or row.written_at < until]
    unproven, _ = count_unproven(stages)
    if unproven:
        rota = int(pair.verify.rota)
        turns = await _turns(records, last, rota, report["margin_seconds"])
        if is_listable:
            found = await _read(ledger, differences, _UNVERIFIABLE)
            rows += [row for row in found if not _had_turn(row, turns, rota)]
        elif len(turns) == rota:
            until, how = min(until, *turns.values()), BY_TURNS
            rows = [row for row in rows if row.written_at is None or row.written_at <= until]
        else:
            raise _NotKnown(
                f"the reports cannot compare {plural(unproven, 'object')}, and {rota - len(turns):,} of "
                f"{plural(rota, 'slice')} have had no turn yet that ended well"
            )
    if any(row.written_at is None for row in rows):
        raise _NotKnown("nobody has recorded when some of the unproven objects were written")
    oldest = min(rows, key=lambda row: (row.written_at or until, row.key), default=None)
    if oldest is None or oldest.written_at is None:
        return OldestUnproven(until=_iso(until), why=how)
    return OldestUnproven(oldest.key, _iso(oldest.written_at), oldest.why, _iso(until))


async def _read_comparison(ledger: Ledger, last: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The stage of a night that compared, and its report, if the two say enough. Raises _NotKnown."""
    night, stages = last["night"], last["stages"]
    compared = next((each for each in stages if each["stage"] == Stage.RECONCILE), None)
    if compared is None or compared["refused"] or compared["state"] != RunState.COMPLETE:
        raise _NotKnown(f"the night of {night} compared nothing")
    report = await ledger.report(compared["run_id"])
    if report is None:
        raise _NotKnown(f"the report of {compared['run_id']} is not in the ledger")
    left = sum(each["left"] for each in stages if each["stage"] != Stage.REPLICA)
    if left > ROWS_MAX:
        raise _NotKnown(f"the night of {night} left {left:,} objects, too many to look at here")
    return compared, report


def _is_listable(report: Mapping[str, Any]) -> bool:
    """True if the file of differences has few enough rows to read them one by one."""
    not_listed = (Category.SAME, Category.EXCLUDED)
    rows = sum(each["rows"] for name, each in report["categories"].items() if name not in not_listed)
    return bool(rows <= ROWS_MAX)


async def _left(ledger: Ledger, stages: Sequence[Mapping[str, Any]], rules: CopyRules) -> AsyncIterator[_Row]:
    """Yield the objects of the source that the stages leave.

    Raises LedgerError if no file names them.
    """
    for stage in stages:
        if not stage["left"] or stage["stage"] == Stage.REPLICA or stage.get("emptied"):
            continue
        file = await find_left_file(ledger, stages, stage, rules)
        if file is None:
            raise LedgerError(f"{stage['stage']} left {plural(stage['left'], 'row')}, and no file names them")
        for row in await _read(ledger, file.uri, file.condition):
            yield row


async def _read(ledger: Ledger, uri: str, condition: str) -> list[_Row]:
    """The rows of a Parquet file of differences, of failures or of what a repair copies."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="sealift-unproven-") as folder:
        file = Path(folder) / "rows.parquet"
        if not await fetch(ledger, uri, file):
            raise LedgerError(f"{uri} is not in the ledger")
        try:
            return await asyncio.to_thread(_ask, file, condition)
        except duckdb.Error as error:
            raise LedgerError(f"{uri} cannot be read ({error}): it was altered") from error


def _ask(file: Path, condition: str) -> list[_Row]:
    from jobs.tables.duck import connect, parquet

    with connect(file.parent, memory_limit=_MEMORY) as connection:
        table = parquet(file)
        columns = {name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}
        written = next(each for each in ("source_last_modified", "last_modified") if each in columns)
        why = next((each for each in ("category", "status") if each in columns), "'to be repaired'")
        at_source = f"category <> '{Category.EXTRA}'" if "category" in columns else "true"
        changed = f"greatest({written}, destination_last_modified)" if "category" in columns else written
        select = f"SELECT key, epoch({written}), epoch({changed}), {why} FROM {table}"
        found = connection.execute(f"{select} WHERE ({condition}) AND {at_source} AND key IS NOT NULL").fetchall()
    return [_Row(str(key), _time(written), _time(changed), str(why)) for key, written, changed, why in found]


def _time(epoch_seconds: float | None) -> datetime | None:
    return None if epoch_seconds is None else datetime.fromtimestamp(epoch_seconds, UTC)


async def _turns(
    records: NightRecords, last: Mapping[str, Any], rota: int, margin_seconds: float
) -> dict[int, datetime]:
    """The slices that nights have verified without a finding.

    Number of the slice → the time before which an object had to be written to be verified then.
    """
    turns: dict[int, datetime] = {}
    for summary in await records.earlier(min(rota + NIGHTS_MORE, NIGHTS_MAX)):
        if any(summary.get(side) != last.get(side) for side in ("source", "destination")):
            continue  # it verified other copies
        is_last = summary["finished_at"] == last["finished_at"]
        unrecorded = margin_seconds if is_last else max(margin_seconds, MARGIN_SECONDS)
        margin = summary.get("margin_seconds", unrecorded)
        began = datetime.fromisoformat(summary["finished_at"]) - timedelta(seconds=summary["seconds"] + margin)
        for stage in summary["stages"]:
            sample = stage.get("sample")
            is_well = stage["state"] == RunState.COMPLETE and not stage["left"]
            if stage["stage"] == Stage.SAMPLE and is_well and sample and sample[1] == rota:
                turns[sample[0]] = max(turns.get(sample[0], began), began)
    return turns


def _had_turn(row: _Row, turns: Mapping[int, datetime], rota: int) -> bool:
    """True if a night has verified the object and its copy as they are now."""
    return row.changed_at is not None and any(
        row.changed_at < at and Sample(number, rota).contains(row.key) for number, at in turns.items()
    )


def _iso(at: datetime) -> str:
    return iso_time(at.timestamp())
