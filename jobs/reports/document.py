"""The report: the result of a run, as one document for people and programs.

`report.schema.json` says which keys of report.json are stable. Keys are only added. When a key that a release
had changes its meaning or goes, `REPORT_VERSION` rises with the next release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jobs.core.category import FINDINGS, Category
from jobs.core.outcome import GOOD, Status
from jobs.core.reasons import Reason
from jobs.core.run import SPEC_VERSION, Plan, RunSpec, RunState, ignored_conditions
from jobs.core.words import called
from jobs.errors import ExitCode
from jobs.reports.figures import human_bytes, human_seconds, plural

REPORT_VERSION = 2
"""The version of report.json, of runs and of reconciliations."""

_STATUSES = tuple(status.value for status in Status)
_CATEGORIES = tuple(category.value for category in Category)
WOULD_BE_DELETED = "would be deleted"
"""The words for rows that a dry run leaves, and would delete."""
LEFT_OUT = "left_out_archives"
"""The option of a restore, and the key of its report: archives whose index is damaged."""
IGNORED_CONDITIONS = "ignored_conditions"
"""The key of a report: the operations whose conditions were ignored."""
SAMPLE = "sample"
"""The name under which a plan counts the rows that a sample left out."""
_GOOD = {status.value for status in GOOD}


def summarize(
    spec: RunSpec,
    plan: Plan,
    state: RunState,
    outcomes: dict[str, int],
    size_bytes: int,
    finished_at: float,
    **details: Any,
) -> dict[str, Any]:
    """The run's report.

    Keys that scripts rely on: run_id, job, state, rows, outcomes, bytes, seconds, report. `rows`
    counts the manifest's rows, `accounted` those with an outcome, `failures` those that ended
    badly. `details` come at the end as they are. The page shows `outcome_bytes` (status → bytes)
    among them beside the counts.
    """
    return {
        **_head(spec.run_id, spec.job, state, spec.created_at, finished_at),
        "spec_version": SPEC_VERSION,
        "rows": plan.rows,
        "accounted": sum(outcomes.values()),
        "outcomes": outcomes,
        "failures": sum(count for status, count in outcomes.items() if status not in _GOOD),
        "bytes": size_bytes,
        "source": str(spec.source.location),
        "destination": str(spec.destination.location),
        "manifest": spec.manifest,
        "retry_of": spec.retry_of,
        **({"versions": "all"} if spec.options.get("all_versions") else {}),
        **({"access": access} if (access := _access(spec)) else {}),
        "excluded": dict(plan.excluded),
        **({LEFT_OUT: spec.options[LEFT_OUT]} if spec.options.get(LEFT_OUT) else {}),
        **({IGNORED_CONDITIONS: ignored} if (ignored := ignored_conditions(spec)) else {}),
        "planned_dollars": round(plan.total_dollars, 6),
        "planned": {
            "rows": plan.rows,
            "bytes": plan.size_bytes,
            "seconds": round(plan.seconds, 3),
            **({"seconds_most": round(plan.seconds_most, 3)} if plan.seconds_most else {}),
            "requests": dict(plan.requests),
            "dollars": round(plan.total_dollars, 6),
            "price_table": plan.price_table,
        },
        **details,
    }


def _access(spec: RunSpec) -> dict[str, str]:
    """The options that reach the sides of a run otherwise than by default: name → value."""
    options: dict[str, str] = {}
    for name, side in (("source", spec.source), ("destination", spec.destination)):
        how = {"endpoint": side.endpoint, "profile": side.profile, "expected_bucket_owner": side.owner}
        options |= {f"{name}_{what}": value for what, value in how.items() if value}
    return options


def summarize_reconcile(
    run_id: str, found: Mapping[str, Any], created_at: float, finished_at: float, **details: Any
) -> dict[str, Any]:
    """The report of a reconciliation. Times are epoch seconds.

    Keys that scripts rely on: run_id, job, state, rows, categories, findings, bytes, seconds,
    differences, report. `found`: what `jobs.reconcile.run.reconcile` found. Its `categories`, each with
    rows and bytes, are together the union of both sides, and `source_rows` of them are the source's.
    `details` come at the end as they are. `report` and `report_html` among them are the URIs of the
    documents themselves.
    """
    return {
        **_head(run_id, "reconcile", RunState.COMPLETE, created_at, finished_at),
        **{total: sum(each[total] for each in found["categories"].values()) for total in ("rows", "bytes")},
        "finding_categories": sorted(FINDINGS, key=_CATEGORIES.index),
        **found,
        **details,
    }


def _head(run_id: str, job: str, state: RunState, created_at: float, finished_at: float) -> dict[str, Any]:
    """What every report says of its run. Times are epoch seconds."""
    return {
        "report_version": REPORT_VERSION,
        "run_id": run_id,
        "job": job,
        "state": state.value,
        "seconds": round(max(0.0, finished_at - created_at), 3),
        "created_at": iso_time(created_at),
        "finished_at": iso_time(finished_at),
    }


def iso_time(epoch_seconds: float) -> str:
    """Epoch seconds as `2026-11-25T00:33:45Z`."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def findings_count(report: Mapping[str, Any]) -> int:
    """How many rows of a report of either kind need attention."""
    return int(report["findings"] if "categories" in report else report["failures"])


def findings_of(report: Mapping[str, Any]) -> dict[str, int]:
    """The findings of a comparison by category. Unverifiable ones count if S3 failed to replicate them."""
    bad: dict[str, int] = {name: count for name, count in _tally(report).items() if name in FINDINGS}
    failed = report["findings"] - sum(bad.values())
    return bad | ({Category.UNVERIFIABLE: failed} if failed else {})


def unread_count(report: Mapping[str, Any]) -> int:
    """How many archives could not be read. What they hold is not known."""
    return len(report.get(LEFT_OUT, ()))


def left_count(report: Mapping[str, Any]) -> int:
    """How many rows of a report of either kind need attention now, after the repair if there was one."""
    return int(report["repaired"]["left"]) if "repaired" in report else findings_count(report)


def exit_code(report: Mapping[str, Any]) -> ExitCode:
    """0 when every row ended well, 3 when one did not, could not be read, compared or may be missing,
    75 when rows are left to do.
    """
    if report["state"] != RunState.COMPLETE:
        return ExitCode.TRANSIENT
    is_well = not (left_count(report) or unread_count(report)) and is_compared(report)
    return ExitCode.DONE if is_well else ExitCode.FINDINGS


def had_no_rows(report: Mapping[str, Any]) -> bool:
    """Whether a complete run had no rows, so that it did nothing."""
    return "categories" not in report and report["state"] == RunState.COMPLETE and not report["rows"]


def is_compared(report: Mapping[str, Any]) -> bool:
    """False for a reconciliation that compared nothing, or could not compare most of what is there."""
    tally = _tally(report)
    judged = tally.keys() - {Category.IN_FLIGHT}
    return "categories" not in report or (bool(judged) and 2 * tally.get(Category.UNVERIFIABLE, 0) <= tally.total())


def _tally(report: Mapping[str, Any]) -> Counter[str]:
    """The rows of a reconciliation by category, without those that are excluded."""
    rows = {name: each["rows"] for name, each in report.get("categories", {}).items() if name != Category.EXCLUDED}
    return +Counter(rows)


def verdict(report: Mapping[str, Any]) -> str:
    """The report in one sentence. After a repair it is about what the repair left."""
    return _repair_verdict(report) if "repaired" in report else found_verdict(report)


def found_verdict(report: Mapping[str, Any]) -> str:
    """The report in one sentence, whatever was repaired since."""
    if "categories" in report:
        return _reconcile_verdict(report)
    rows, job, left_out = report["rows"], report["job"], _left_out(report)
    if report["state"] != RunState.COMPLETE:
        left = rows - report["accounted"]
        has = "has" if left == 1 else "have"
        return f"The {job} run is {report['state']}: {left:,} of {plural(rows, 'row')} {has} no outcome yet."
    if report.get("dry_run"):
        would, size = report["deletions"]["rows"], human_bytes(report["deletions"]["bytes"])
        others = {name: count for name, count in outcomes_of(report).items() if name != WOULD_BE_DELETED}
        rest = f" The others: {counts(others)}." if others else ""
        return f"Dry run: {would:,} of {plural(rows, 'row')} would be deleted ({size}). Nothing was deleted.{rest}"
    if had_no_rows(report):
        return f"Nothing was done: no row was in this run{_excluded(report)}.{left_out}"
    if not report["failures"]:
        return f"{_all(rows, 'row')} ended well: {counts(report['outcomes'], job)}.{left_out}"
    bad = {status: count for status, count in report["outcomes"].items() if status not in _GOOD}
    return f"{need_attention(report['failures'], rows)}: {counts(bad)}.{left_out}"


def races(bucket_uri: str, operations: Iterable[str]) -> str:
    """The warning for a destination whose server ignores conditions on these operations."""
    return (
        f"races cannot be excluded: the server of {bucket_uri} ignores conditions on {', '.join(operations)}. Sealift "
        "looks before it writes, but a write by others in between can be lost"
    )


def _excluded(report: Mapping[str, Any]) -> str:
    """Which filters left out the rows of a run, such as ` (7 left out by the sample)`."""
    parts = [
        f"{rows:,}{'' if number else ' left out'} by {'the sample' if name == SAMPLE else name.replace('_', ' ')}"
        for number, (name, rows) in enumerate(report.get("excluded", {}).items())
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _left_out(report: Mapping[str, Any]) -> str:
    """Why a restore may have brought too little, or something older."""
    archives = unread_count(report)
    which = (
        f" {plural(archives, 'archive')} with a damaged or missing index left out: objects may be missing, or older."
    )
    return which if archives else ""


def need_attention(bad: int, rows: int) -> str:
    """`1 of 7 rows needs attention`."""
    return f"{bad:,} of {plural(rows, 'row')} {'needs' if bad == 1 else 'need'} attention"


def reasons_of(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The reasons to show. Without rows that were deleted, or would be: `deletions` describes them."""
    told = {(status, Reason.DELETED) for status in _GOOD if report.get("deletions")}
    return [each for each in report.get("reasons", ()) if (each["status"], each["reason"]) not in told]


def outcomes_of(report: Mapping[str, Any]) -> dict[str, int]:
    """The rows by status, in order. What a dry run would delete is counted first, by words of its own."""
    names = sorted(report["outcomes"], key=lambda name: _place(name, _STATUSES))
    outcomes = {name: report["outcomes"][name] for name in names}
    if report.get("dry_run") and (would := report["deletions"]["rows"]):
        outcomes[Status.LEFT] -= would
        outcomes = {WOULD_BE_DELETED: would} | outcomes
    return {name: rows for name, rows in outcomes.items() if rows}


def counts(outcomes: Mapping[str, int], job: str = "") -> str:
    """`1,000 copied, 2 blocked`, in the order of the statuses."""
    ordered = sorted(outcomes, key=lambda name: _place(name, _STATUSES))
    return _named({called(name, job): outcomes[name] for name in ordered}, ())


def _reconcile_verdict(report: Mapping[str, Any]) -> str:
    rows, findings, tally = report["rows"], report["findings"], _tally(report)
    if findings:
        failed = {Category.UNVERIFIABLE: "whose replication FAILED"}
        found = {failed.get(Category(name), name): count for name, count in findings_of(report).items()}
        return f"{need_attention(findings, rows)}: {_named(found, _CATEGORIES)}."
    if not tally:
        excluded = "--map, --source and --destination, or deletes, exclude all rows"
        return f"Nothing was compared: {excluded if rows else 'both inventories are empty'}."
    if tally.keys() == {Category.IN_FLIGHT}:
        return (
            f"Nothing could be judged: {_all(rows, 'row').lower()} {_are(rows)} in flight, newer than "
            f"{human_seconds(report['margin_seconds'])} (--margin 0s compares them now) or not yet replicated."
        )
    same = tally[Category.SAME]
    if same == rows:
        return f"{_all(rows, 'row')} {_are(rows)} the same at both sides."
    rest = {name: each["rows"] for name, each in report["categories"].items() if each["rows"] and name != Category.SAME}
    return (
        f"No difference was found: {same:,} of {plural(rows, 'row')} {_are(same)} the same, "
        f"{_named(rest, _CATEGORIES)}."
    )


def _repair_verdict(report: Mapping[str, Any]) -> str:
    """What a repair left of the findings of a reconciliation."""
    repaired, left = report["repaired"]["rows"], report["repaired"]["left"]
    if not left and not repaired:
        return _reconcile_verdict(report)
    if not left:
        return f"{_all(repaired, 'finding')} {_are(repaired)} repaired, or the source object is gone."
    rest = {name: each["left"] for name, each in report["repaired"]["categories"].items() if each["left"]}
    mended = f" {repaired:,} {_are(repaired)} repaired or gone." if repaired else ""
    has, found = "needs" if left == 1 else "need", plural(repaired + left, "finding")
    return f"{left:,} of {found} still {has} attention: {_named(rest, _CATEGORIES)}.{mended}"


def _all(count: int, noun: str) -> str:
    return f"The only {noun}" if count == 1 else f"All {count:,} {noun}s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _named(tally: Mapping[str, int], order: Sequence[str]) -> str:
    named = sorted(tally.items(), key=lambda item: _place(item[0], order)) if order else tally.items()
    return ", ".join(f"{count:,} {name}" for name, count in named) or "nothing"


def _place(name: str, order: Sequence[str]) -> tuple[int, str]:
    """The sort key of a name. Names that the order lacks come last, by their letters."""
    return (order.index(name) if name in order else len(order), name)
