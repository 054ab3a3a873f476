"""What a run came to, for people: some lines for the terminal, and the page beside the report."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.cli.console import human_bytes, human_seconds, shown, table
from jobs.core.run import RunSpec
from jobs.errors import LedgerError
from jobs.report import counts, verdict
from jobs.runs.ledger import Ledger

EARLIER_RUNS = 30
"""How many earlier runs of the same job and pair the page compares with."""
PAGE = "report.html"
SHOWN_DELETIONS = 20


async def publish(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any], findings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write `report.html`, then the report, which says that the run has ended; the one that stands.

    `findings` are the first of what the page lists.
    """
    await write_page(ledger, spec, report, findings)
    return await ledger.publish_report(spec.run_id, report)


async def write_page(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any], findings: Sequence[Mapping[str, Any]]
) -> None:
    """The page alone: the run has not ended yet."""
    from jobs.pages.page import render  # jinja2 and pygal load here

    earlier = await earlier_reports(ledger, spec)
    page = await asyncio.to_thread(render, report, findings=findings, earlier=earlier)
    await ledger.write_file(spec.run_id, PAGE, page.encode(), "text/html; charset=utf-8")


async def earlier_reports(ledger: Ledger, spec: RunSpec) -> list[dict[str, Any]]:
    """Reports of the latest runs before this one with the same job, source and destination, oldest first."""
    names = [run_id for run_id in await ledger.run_ids() if run_id < spec.run_id and f"-{spec.job}-" in run_id]

    async def read(run_id: str) -> dict[str, Any] | None:
        try:
            earlier = await ledger.spec(run_id)
        except LedgerError:  # a run that was never planned
            return None
        is_alike = (earlier.source.location, earlier.destination.location) == places
        return await ledger.report(run_id) if is_alike else None

    places = spec.source.location, spec.destination.location
    reports = await asyncio.gather(*map(read, names[-EARLIER_RUNS:]))
    return [each for each in reports if each is not None]


def report_text(report: Mapping[str, Any]) -> str:
    """The report, in some lines."""
    return _reconciled(report) if "categories" in report else _worked(report)


def _worked(report: Mapping[str, Any]) -> str:
    lines = [verdict(report), f"  outcomes  {counts(report['outcomes'])} ({human_bytes(report['bytes'])})"]
    lines += [f"  {each['rows']:>8,} × {each['status']}: {shown(each['reason'])}" for each in report["reasons"][:10]]
    lines += _deletions(report.get("deletions"))
    if report.get("dry_run"):
        named = "with --source, --copies and" if report.get("expiry", {}).get("claimed") else "with"
        lines.append(f"  nothing was deleted: this was a dry run, the same {named} --yes-delete deletes")
    if report["state"] != "complete":
        again = "the same command again" if report["job"] == "expire" else f"sealift runs retry {report['run_id']}"
        lines.append(f"  go on with  {again}")
    elif report["failures"]:
        lines.append(f"  failed rows  {report['failures_manifest']}")
        if "deletions" not in report:
            lines.append(f"  try them again with  sealift runs retry {report['run_id']}")
    lines.append(f"  run  {report['run_id']} in {report['ledger']}, {human_seconds(report['seconds'])}")
    return "\n".join(lines)


def _deletions(deletions: Mapping[str, Any] | None) -> list[str]:
    """What an expire run deleted, or would delete, and the proof of each: the first of it, and where all of it is."""
    if not deletions or not deletions["rows"]:
        return []
    names = ("key", "version_id", "evidence", "copy")
    first = deletions["shown"][:SHOWN_DELETIONS]
    rows = [[human_bytes(each["size_bytes"] or 0), *(shown(each[name] or "") for name in names)] for each in first]
    more = [f"  … and {deletions['rows'] - len(rows):,} more"] if deletions["rows"] > len(rows) else []
    return [table(["size", "key", "version", "proof", "copy"], rows), *more, f"  deletions  {deletions['csv']}"]


def _reconciled(report: Mapping[str, Any]) -> str:
    found = [
        [name, f"{each['rows']:,}", human_bytes(each["bytes"])]
        for name, each in report["categories"].items()
        if each["rows"]
    ]
    lines = [verdict(report), table(["category", "objects", "bytes"], found)]
    lines += [f"  not judged   {each['rows']:,} × {shown(each['reason'])}" for each in report["unjudged"][:10]]
    if confirmed := report.get("confirmed"):
        lines.append(f"  confirmed    {counts(confirmed)}")
    lines.append(f"  report       {report['report_html']}")
    lines.append(f"  differences  {report['differences']['parquet']}")
    lines.append(f"  run  {report['run_id']} in {report['ledger']}, {human_seconds(report['seconds'])}")
    return "\n".join(lines)
