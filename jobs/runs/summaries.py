"""Summaries of runs: what a list of runs shows of each, and the id that a person means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.core.run import ROWS_SHA256
from jobs.errors import LedgerError, NotFound, UsageError
from jobs.ledger.ledger import Ledger
from jobs.ledger.run_ids import run_job
from jobs.reports.document import findings_count, iso_time, unread_count
from jobs.runs.progress import find_progress, has_stopped
from jobs.s3.retries import gather_bounded

SHOWN_IDS = 5
SELECTING = (
    "filters", "all_versions", "versions", "sample", ROWS_SHA256, "deep", "compares_tags", "maps", "of_replica",
    "archives", "rule", "earlier_rules", "is_history", "at", "in_place", "skip_damaged", "copies", "grace_seconds",
    "by_checksum", "delete",
)  # fmt: skip
"""Options of a spec that say which rows a run takes, and what it does with them."""
_NUMBERS = dict.fromkeys(("rows", "size_bytes", "accounted", "failures", "unread", "seconds"), 0)
_UNKNOWN = dict.fromkeys(("created_at", "source", "destination", "pair", "retry_of", "manifest", "planned_dollars"))


async def find_run_id(ledger: Ledger, text: str) -> str:
    """The id of the run that a person means: a whole id, its beginning or end, or `latest`.

    Raises LedgerError if no run is meant, and UsageError if several are.
    """
    if run_job(text):  # a whole id
        return text
    run_ids = await ledger.run_ids()
    meant = [each for each in run_ids if each == text or each.startswith(text) or each.endswith(f"-{text}")]
    if text == "latest":
        meant = run_ids[-1:]
    if text in meant:
        return text
    if not meant:
        advice = "see `sealift runs list`, or check --ledger"
        raise LedgerError(f"the ledger {ledger.location} has no run {text}", advice=advice)
    if len(meant) > 1:
        names = ", ".join(meant[:SHOWN_IDS]) + (", …" if len(meant) > SHOWN_IDS else "")
        raise UsageError(f"{text} may be each of {len(meant)} runs, {names}", advice="write more of the id")
    return meant[0]


async def summarize_runs(ledger: Ledger, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """These runs. A run with a damaged document has the state `unreadable`, and `error` says why."""
    return await gather_bounded(lambda run_id: summarize_run(ledger, run_id), run_ids)


async def summarize_run(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """One run, as the list of runs shows it."""
    summary: dict[str, Any] = {"run_id": run_id, "job": run_job(run_id) or "?", "state": "unplanned"}
    summary |= {**_NUMBERS, **_UNKNOWN, "outcomes": {}, "selection": {}}
    try:
        spec = await ledger.spec(run_id)
        summary |= {
            "job": spec.job,
            "created_at": iso_time(spec.created_at),
            "source": str(spec.source.location),
            "destination": str(spec.destination.location),
            "pair": spec.options.get("pair"),
            "retry_of": spec.retry_of,
            "manifest": spec.manifest,
            "selection": {name: value for name in SELECTING if (value := spec.options.get(name))},
        }
        if (ended := await ledger.report(run_id)) is not None:
            known = {name: ended[name] for name in ("state", "rows", "seconds")}
            known |= {"size_bytes": ended["bytes"], "accounted": ended.get("accounted", ended["rows"])}
            return summary | known | counted(ended) | {"planned_dollars": ended.get("planned_dollars")}
        plan = await ledger.plan(run_id)
        progress = await find_progress(ledger, run_id, plan)
        state = "unreported"
        if progress.rows < plan.rows:
            state = "stopped" if await has_stopped(ledger, run_id) else "incomplete"
        known = {"rows": plan.rows, "size_bytes": plan.size_bytes, "planned_dollars": round(plan.total_dollars, 6)}
        return summary | known | {"state": state, "accounted": progress.rows, "failures": progress.bad_rows}
    except (LedgerError, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error.__cause__, NotFound):  # it has no spec, or no plan
            return summary
        damage = f"{ledger.uri(run_id, 'report.json')} is damaged: {error}"
        return summary | {"state": "unreadable", "error": str(error) if isinstance(error, LedgerError) else damage}


def counted(report: dict[str, Any]) -> dict[str, Any]:
    """Rows by status (or category), the rows that need attention, and what could not be read."""
    categories = {name: each["rows"] for name, each in report.get("categories", {}).items() if each["rows"]}
    unread = {"unread": unread_count(report)}
    return {"outcomes": report.get("outcomes", categories), "failures": findings_count(report)} | unread
