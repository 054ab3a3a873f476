"""Night of a pair: its stages, what the state says then, and one summary."""

from __future__ import annotations

import asyncio
import shlex
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import json, structs

from jobs.core.category import Category
from jobs.core.model import Attributes, parse_time
from jobs.errors import ExitCode
from jobs.nights.documents import Emptied, Known, Night, StageResult, Summary
from jobs.nights.stages import Stages
from jobs.nights.verdicts import judge, next_steps, page_of, verdict
from jobs.policy.coverage import Scope
from jobs.policy.model import Pair
from jobs.policy.run_options import named_places, prefix_map, sides
from jobs.reports.document import iso_time

if TYPE_CHECKING:
    import duckdb

READ_DAYS = 360
"""How long a read of bytes counts where the policy asks for none."""
FIRST_KEYS = 10
"""How many of the objects that are left a night names."""
HTML = Attributes(headers={"content-type": "text/html; charset=utf-8"})


async def run_night(stages: Stages) -> Summary:
    """Start or continue a night that has not ended, and return its summary.

    The summary of a night that cannot continue now is not in the ledger. Exit code 3: the night is done,
    and something is left to people, or nothing was compared. Code 2 would say that nothing was started. A
    night that stopped has its run's code.
    """
    night, results, known, emptied = stages.night, list[StageResult](), Known(), None
    for stage in stages.due():
        results.append(await stages.run(stage, results))
        emptied = _find_emptied(stages, results[0])
        if emptied or not results[-1].is_over:
            break
    compared: Any = await night.ledger.report(str(results[0].run_id))
    began, is_over = parse_time(compared["created_at"]), results[-1].is_over
    places = named_places(stages.policy, stages.pair)
    if is_over:
        known = await _compact_and_ask(stages, results[0], began)
    summary = Summary(
        pair=night.pair,
        night=str(night.day),
        source=places["source"],
        destination=places["destination"],
        state="complete" if is_over else "unfinished",
        left=max(known.left, emptied.objects if emptied else 0),
        exit_code=0,
        began_at=datetime.fromtimestamp(int(began), UTC),
        finished_at=datetime.fromtimestamp(int(time.time()), UTC),
        stages=results,
        known=known,
        emptied=emptied,
        summary=str(night.ledger.location.join(f"{night.name}.json")),
        report_html=str(night.ledger.location.join(f"{night.name}.html")) if is_over else None,
        ledger=str(night.ledger.location),
    )
    is_well, _ = judge(summary)
    code = int(ExitCode.DONE if is_well else ExitCode.FINDINGS) if is_over else results[-1].exit_code
    words = {"verdict": verdict(summary), "next_steps": list(next_steps(summary))}
    summary = structs.replace(summary, exit_code=code, **words)
    if is_over:
        await night.write(".json", json.format(json.encode(summary), indent=2))
        summary = await night.read() or summary
        await write_page(night, summary)
    return summary


async def write_page(night: Night, summary: Summary) -> None:
    """Write the page of the summary that is in the ledger, if it is not there yet."""
    await night.write(".html", (await asyncio.to_thread(page_of, summary)).encode(), HTML)


def _find_emptied(stages: Stages, compared: StageResult) -> Emptied | None:
    """The last night in which the source had objects, if it has none now. Each night passes that on to the next."""
    last = next((each for each in stages.earlier if each.stages[0].source_objects or each.emptied), None)
    if compared.source_objects or last is None:
        return None
    if last.emptied:
        return last.emptied
    # A delete that was mirrored hides a copy, and the version below it is still there.
    source, destination = sides(stages.policy, stages.pair)
    words = ["--source", str(destination.location), "--destination", str(source.location)]
    restore = shlex.join(["sealift", "restore", *words, "--as-of", iso_time(last.finished_at.timestamp())])
    return Emptied(last.night, last.stages[0].source_objects, restore)


async def _compact_and_ask(stages: Stages, compared: StageResult, began: float) -> Known:
    """Compact the state, and read what it says of the pair."""
    from jobs.ledger.state import service_name
    from jobs.ledger.state_files import compact, open_state
    from jobs.reconcile.run import fetch_differences
    from jobs.tables.duck import in_thread, parquet

    ledger, policy, pair = stages.ledger, stages.policy, stages.pair
    await compact(ledger, stages.night.name, prefixes=[sides(policy, each)[1].location for each in policy.pairs])
    ours, theirs = map(service_name, sides(policy, pair))
    async with open_state(ledger) as database:
        differences = await fetch_differences(ledger, str(compared.run_id), database.files)
        sql = known_sql(pair, stages.scope, (ours, theirs), parquet(differences))
        days = int(pair.verify.deep or READ_DAYS)
        return await in_thread(database.connection, ask_state, database.connection, sql, compared, began, days)


def ask_state(connection: duckdb.DuckDBPyConnection, sql: str, compared: StageResult, began: float, days: int) -> Known:
    """Ask the state, which has no objects that comparisons only found to be the same.

    `compared`: what the night's comparison came to. `began`: when, in epoch seconds. `days`: how long a read counts.
    """
    answer: Any = connection.execute(sql, [began - days * 86_400]).fetchone()
    left, first, accepted, checked, read = answer
    checked, objects = checked + compared.counts.get(Category.SAME, 0), compared.source_objects
    checked, read = (min(max(count, 0), objects) for count in (checked, read))
    return Known(left, first or (), accepted, objects, checked, read, days)


def known_sql(pair: Pair, scope: Scope, services: tuple[str, str], differences: str) -> str:
    """SQL for the state's rows of a pair and of its replica. The replica's count with the originals' keys.

    `services`: those of source and destination now, as verdicts name them: what is known of a server with
    another address no look of this pair can end. `differences`: the rows in which the comparison found the
    sides to differ, as a relation. Of other objects it found the same. `?`: since when reads count.
    """
    from jobs.ledger.state import BAD, OVER
    from jobs.tables.duck import quoted

    hot, maps, (ours, theirs) = pair.destination, prefix_map(pair, scope), services
    places = [(ours, pair.source.bucket, theirs, hot.bucket)]
    places += [(theirs, hot.bucket, theirs, pair.replica.bucket)] if pair.replica else []
    at = ", ".join(f"({', '.join(map(quoted, place))})" for place in places)
    return f"""
        WITH looked AS (
            SELECT *, source_bucket = {quoted(hot.bucket)} AS is_of_replica, {BAD} AND NOT {OVER} AS is_bad,
                   is_bad AND accepted_at IS NULL AS is_open, etag IS NOT NULL AND NOT is_of_replica AS is_original,
                   CASE WHEN is_of_replica THEN substr(key, {len(hot.prefix) + 1}) ELSE key END AS name
            FROM state WHERE (source_service, source_bucket, copy_service, copy_bucket) IN ({at})
                AND {maps.source_scope_sql("name")} AND copy_key = {maps.destination_sql("name")}
        ), differing AS (
            SELECT key AS name, bool_or(source_last_modified IS NOT NULL AND NOT is_delete_marker) AS at_source
            FROM {differences} GROUP BY 1
        ), objects AS (
            SELECT name, bool_or(is_open) AS is_open, bool_or(is_bad AND NOT is_open) AS is_accepted, at_source,
                   bool_or(finding IS NOT NULL) FILTER (is_original) AS is_wrong,
                   arg_max(struct_pack(checked := coalesce(checked_at, read_at), read := read_at),
                           coalesce(modified, make_timestamptz(0))) FILTER (is_original) AS newest
            FROM looked LEFT JOIN differing USING (name) GROUP BY name, at_source
        )
        SELECT count(*) FILTER (is_open), min(name, {FIRST_KEYS}) FILTER (is_open),
               count(*) FILTER (is_accepted),
               count(newest.checked) FILTER (NOT is_wrong AND at_source)
                   - count(*) FILTER (is_wrong AND at_source IS NULL),
               count(*) FILTER (NOT is_wrong AND at_source IS DISTINCT FROM false AND epoch(newest.read) >= ?)
        FROM objects"""
