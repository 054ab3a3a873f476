"""Texts: plans and reports as lines for people, with hints at the next step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jobs.cli.console import emit, table
from jobs.core.display import shown, shown_key
from jobs.core.run import UNSIZED_ROWS, Plan, RunSpec, ignored_conditions
from jobs.core.words import called, explained, why
from jobs.errors import ExitCode
from jobs.registry import kind_of
from jobs.reports.document import (
    IGNORED_CONDITIONS,
    LEFT_OUT,
    counts,
    found_verdict,
    had_no_rows,
    outcomes_of,
    races,
    reasons_of,
    verdict,
)
from jobs.reports.figures import human_bytes, human_dollars, human_seconds, plural
from jobs.runs.batch_executor import failure_texts
from jobs.runs.kind import Kind
from jobs.runs.work import SUBMITTED, Ended

SHOWN_DELETIONS = 20
SHOWN_REASONS = 10
ELSEWHERE_ROWS = 10
"""From so many rows on, a destination that has none of their names is worth a warning."""


def plan_text(spec: RunSpec, plan: Plan) -> str:
    """The plan for people."""
    has_workers = bool(kind_of(spec).open_job)
    shards = f" in {plural(len(plan.open_shards), 'shard')}" if has_workers else ""
    lines = [
        f"Plan of {spec.run_id}: {spec.job} {spec.manifest} → {spec.destination.location}",
        f"  objects   {plan.rows:,} ({_size_text(spec, plan)}){shards}",
        *(_forecast_lines(plan) if has_workers else ()),
        *there_lines(plan.there, plan.rows),
        *_joined_name_lines(spec),
        *race_lines(str(spec.destination.location), ignored_conditions(spec) or ()),
        *savings_lines(plan.savings),
        *thaw_lines(plan.restore),
        *expiry_lines(plan.expiry),
    ]
    if plan.excluded:
        lines.append(f"  left out  {', '.join(f'{count:,} by {name}' for name, count in plan.excluded.items())}")
    return "\n".join(lines)


def _size_text(spec: RunSpec, plan: Plan) -> str:
    """The bytes of a plan's objects, as far as the manifest says them."""
    unsized, known = spec.options.get(UNSIZED_ROWS, 0), human_bytes(plan.size_bytes)
    if not unsized:
        return known
    return "size unknown" if unsized == plan.rows else f"{known}, and {unsized:,} of unknown size"


def retried_text(run_id: str, retried: Mapping[str, Any]) -> str:
    """Which rows of a run a retry would try again: how many of each status, and the first keys."""
    rows = plural(retried["rows"], "row")
    lines = [f"Dry run: a retry of {run_id} would try {rows} again. Nothing was started."]
    for status, count in retried["outcomes"].items():
        keys = _first_keys(retried["first_keys"].get(status, ()), count)
        lines.append(f"  {count:>8,} × {status}{': ' if keys else ''}{', '.join(keys)}")
    return "\n".join(lines)


def _first_keys(keys: Sequence[str], rows: int) -> list[str]:
    """The first keys of so many rows, and how many more there are."""
    more = [f"… and {rows - len(keys):,} more"] if 0 < len(keys) < rows else []
    return [*map(shown_key, keys), *more]


def _range(plan: Plan) -> str:
    """A forecast of time: `19 s to 3 min`, and whose times it is from."""
    least, most, earlier = plan.seconds, plan.seconds_most, plan.timed_by
    if most <= least:
        return f"about {human_seconds(least)}" if least >= 0.05 else "under 0.1 s"
    text = f"{human_seconds(least)} to {human_seconds(most)}" if least >= 1 else f"up to {human_seconds(most)}"
    return f"{text}, by {earlier} and the table" if earlier else text


def _forecast_lines(plan: Plan) -> list[str]:
    """Lines of a plan: requests, cost and duration of its workers."""
    requests = ", ".join(f"{count:,} {kind}" for kind, count in plan.requests.items() if count) or "none"
    prices = f" by {plan.price_table}" if plan.price_table else ""
    return [
        f"  requests  {requests}",
        f"  cost      {human_dollars(plan.total_dollars)}{prices}",
        f"  duration  {_range(plan)}",
    ]


def there_lines(there: Mapping[str, int], rows: int) -> list[str]:
    """How many objects a list of the destination showed to be there already.

    A warning if it is about as full as the source, and has next to none of these names.
    """
    if not there:
        return []
    looks = f"; {there['alike']:,} may be there and take a look each" if there["alike"] else ""
    lines = [f"  there     {there['same']:,} are the same already by size and MD5 ETag, and take no request{looks}"]
    of_these = there["same"] + there["alike"] + there["other"]
    if 2 * there["listed"] >= rows >= ELSEWHERE_ROWS and 10 * of_these < rows:
        others = plural(there["listed"] - of_these, "object")
        lines.append(
            f"  warning   {others} at the destination have other names: is its prefix the one of these copies?"
        )
    return lines


def race_lines(destination: str, ignored: Sequence[str]) -> list[str]:
    """A warning if the destination's server ignores conditions on these operations."""
    return [f"  warning   {shown(races(destination, ignored))}"] if ignored else []


def _joined_name_lines(spec: RunSpec) -> list[str]:
    """A warning if copies get names that continue the last name of the destination's prefix."""
    source, destination = spec.source.location, spec.destination.location
    is_folder = not source.key or source.key.endswith("/")
    if not kind_of(spec).joins_as_text or not is_folder or not destination.key or destination.key.endswith("/"):
        return []
    original, copy, meant = shown(f"{source}a"), shown(f"{destination}a"), shown(f"{destination}/a")
    return [f"  warning   the copy of {original} is {copy}, not {meant}: end the destination with / for a folder"]


def savings_lines(savings: Mapping[str, Any]) -> list[str]:
    """What a compaction saves. Nothing for other runs."""
    if not savings:
        return []
    months = savings["break_even_months"]
    paid = f", paid back after {months:.1f} months" if months is not None else ""
    lines = [
        f"  archives  {savings['archives']:,} with {plural(savings['members'], 'member')}, "
        f"{human_bytes(savings['archive_bytes'])} before compression",
        f"  a month   {human_dollars(savings['monthly_before'])} before, "
        f"{human_dollars(savings['monthly_after'])} once the originals are expired; "
        f"{human_dollars(savings['cost'])} to do it{paid}",
    ]
    return lines + [f"  left alone  {rows:,}: {explained(reason)}" for reason, rows in savings["left_alone"].items()]


def expiry_lines(expiry: Mapping[str, Any]) -> list[str]:
    """Where an expire run finds originals and copies, and the share of objects that would go.

    Nothing for other runs.
    """
    if not expiry:
        return []
    from jobs.expire.places import warning  # for this job alone

    shares = ", ".join(
        f"{share['eligible']:,} of {share['listed']:,} {what}"
        for what, share in (("current objects", expiry["current"]), ("versions", expiry["versions"]))
    )
    return [
        f"  originals in {expiry['source']['uri']}, {_reached(expiry['source'])}",
        *(f"  copies in    {uri}, {_reached(expiry['destination'])}" for uri in expiry["copies"]),
        f"  share     {shares} in {expiry['prefix']}",
        *(f"  read      {human_bytes(each['bytes'])} of {each['storage_class']}" for each in expiry["reads"]),
        *(f"  warning   {warning(each)}" for each in expiry.get("warnings", ())),
    ]


def _reached(side: Mapping[str, Any]) -> str:
    """How to reach a side."""
    named = ", ".join(f"{name} {side[name]}" for name in ("region", "profile") if side[name])
    endpoint = f"reached by endpoint {side['endpoint']}" if side["endpoint"] else "reached as boto3 finds it"
    return f"{endpoint}{f' ({named})' if named else ''}"


def thaw_lines(restore: Mapping[str, Any]) -> list[str]:
    """What a restore has to thaw. Nothing for other runs."""
    if not restore:
        return []
    lines = [f"  archives  {restore['archives']:,}, holding {restore['members']:,} of the objects"]
    if restore["cold"] or restore["cold_versions"]:
        versions = f" and {restore['cold_versions']:,} versions" if restore["cold_versions"] else ""
        lines.append(
            f"  thaw      {len(restore['cold']):,} archives{versions} by {restore['tier']} for {restore['days']} days, "
            f"up to {restore['hours']:g} hours; {restore['restoring']:,} of them are on their way"
        )
        lines += [f"            {uri}" for uri in restore["cold"][:10]]
    return lines


def report_text(report: Mapping[str, Any], kind: Kind, advice: Iterable[str] = (), *, is_repaired: bool = False) -> str:
    """The report in a few lines.

    `kind`: the kind of work of its run. `advice`: lines on what became of its bad rows.
    `is_repaired`: retries have mended all of them.
    """
    if "categories" not in report:
        return _worked(report, kind, advice, is_repaired=is_repaired)
    return _reconciled(report, advice) + (f"\n{repair_text(report)}" if "repaired" in report else "")


def report_ended(kind: Kind, ended: Ended, *, as_json: bool) -> int:
    """Print a run's report, or that the run goes on without this command. Returns the exit code."""
    report, run_id = ended.report, ended.report["run_id"]
    if report["state"] == SUBMITTED:
        texts = [f"Submitted {run_id}; follow it with  sealift runs show {run_id} --follow"]
    else:
        texts = [report_text(report, kind), *failure_texts(ended.failures)]
    children = {"failed_children": [asdict(each) for each in ended.failures]} if ended.failures else {}
    emit(report | children, as_json=as_json, text="\n".join(texts))
    return ended.code


def repair_text(report: Mapping[str, Any]) -> str:
    """What a repair made of a reconciliation's findings, and what to do now."""
    steps = (f"  {shown(each)}" for each in report.get("next_steps", ()))
    return "\n".join([f"After the repair: {verdict(report)}", *steps, f"  page  {report['report_html']}"])


def _worked(report: Mapping[str, Any], kind: Kind, advice: Iterable[str], *, is_repaired: bool) -> str:
    lines = [f"{verdict(report)} They are good by now." if is_repaired else verdict(report)]
    if not had_no_rows(report):
        lines.append(f"  outcomes  {counts(outcomes_of(report), report['job'])} ({human_bytes(report['bytes'])})")
    lines += [line for each in reasons_of(report)[:SHOWN_REASONS] for line in _reason(each, report["job"])]
    lines += race_lines(report["destination"], report.get(IGNORED_CONDITIONS, ()))
    for archive in report.get(LEFT_OUT, ()):
        lines.append(f"  left out  {shown(archive['archive'])}: {shown(archive['reason'])}")
    lines += _deletions(report.get("deletions"))
    if report.get("dry_run"):
        deletes = ", the same with --yes-delete deletes" if report["deletions"]["rows"] else ""
        lines.append(f"  nothing was deleted: this was a dry run{deletes}")
    if report["state"] != "complete":
        again = "the same command again" if kind.not_resumed else f"sealift runs retry {report['run_id']}"
        if ExitCode.TAKEN_OVER in report["exit_codes"]:
            lines.append(f"  another command works at it: sealift runs show {report['run_id']} --follow")
        else:
            lines.append(f"  continue with  {again}")
    elif report["failures"]:
        lines.append(f"  as a page    sealift runs show {report['run_id']} --html report.html")
        lines.append(f"  failed rows  {report['failures_manifest']}")
        lines += [] if is_repaired else [f"  {each}" for each in kind.hints(report)]
    lines += advice
    lines.append(f"  run  {report['run_id']} in {report['ledger']}, {human_seconds(report['seconds'])}")
    return "\n".join(lines)


def _reason(counted: Mapping[str, Any], job: str) -> list[str]:
    """A reason and the first keys of its rows."""
    first = f"  {counted['rows']:>8,} × {called(counted['status'], job, counted['reason'])}: {shown(why(counted))}"
    return [first, *(f"             {text}" for text in _first_keys(counted.get("keys", ()), counted["rows"]))]


def _deletions(deletions: Mapping[str, Any] | None) -> list[str]:
    """What an expire run deleted, or would delete: the first rows, and the file with all of them.

    Each row has the proof of its copy.
    """
    if not deletions or not deletions["rows"]:
        return []
    names = ("key", "version_id", "evidence", "copy")
    first = deletions["shown"][:SHOWN_DELETIONS]
    rows = [[human_bytes(each["size_bytes"] or 0), *(shown_key(each[name] or "") for name in names)] for each in first]
    more = [f"  … and {deletions['rows'] - len(rows):,} more"] if deletions["rows"] > len(rows) else []
    reasons = [
        f"  {each['rows']:>8,} × {shown(why(each))}, {human_bytes(each['bytes'])}, copy proven by {each['evidence']}"
        for each in deletions.get("reasons", ())
    ]
    return [
        *reasons,
        table(["size", "key", "version", "proof", "copy"], rows),
        *more,
        f"  deletions  {deletions['csv']}",
    ]


def _reconciled(report: Mapping[str, Any], advice: Iterable[str]) -> str:
    rows = [
        [name, f"{each['rows']:,}", human_bytes(each["bytes"])]
        for name, each in report["categories"].items()
        if each["rows"]
    ]
    lines = [found_verdict(report), table(["category", "objects", "bytes"], rows)]
    lines += [f"  not judged   {each['rows']:,} × {shown(why(each))}" for each in report["unjudged"][:10]]
    lines += advice
    if "repaired" not in report:
        lines += [f"  {shown(each)}" for each in report.get("next_steps", ())]
    lines.append(f"  report       {report['report_html']}")
    lines.append(f"  differences  {report['differences']['parquet']}")
    lines.append(f"  run  {report['run_id']} in {report['ledger']}, {human_seconds(report['seconds'])}")
    return "\n".join(lines)
