"""Texts: plans and reports as lines for people, with hints at the next step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import asdict

from jobs.cli.command import Answer
from jobs.cli.console import table
from jobs.core.display import shown, shown_key
from jobs.core.run import PROVEN_BEFORE, UNSIZED_ROWS, Plan, RunSpec, RunState, continuation, ignored_conditions
from jobs.core.words import called, explained, why
from jobs.errors import ExitCode
from jobs.registry import kind_of
from jobs.reports import document
from jobs.reports.figures import human_bytes, human_dollars, human_seconds, plural
from jobs.runs.batch_executor import failure_texts
from jobs.runs.work import SUBMITTED, Ended

SHOWN_DELETIONS = 20
SHOWN_REASONS = 10
ELSEWHERE_ROWS = 10
"""From so many rows on, a destination that has none of their names is worth a warning."""


def plan_text(spec: RunSpec, plan: Plan) -> str:
    """The plan for people."""
    return "\n".join(_plan_lines(spec, plan))


def _plan_lines(spec: RunSpec, plan: Plan) -> Iterator[str]:
    kind, destination = kind_of(spec), spec.destination.location
    unsized, known = spec.options.get(UNSIZED_ROWS, 0), human_bytes(plan.size_bytes)
    if unsized:
        known = "size unknown" if unsized == plan.rows else f"{known}, and {unsized:,} of unknown size"
    shards = f" in {plural(len(plan.open_shards), 'shard')}" if kind.open_job else ""
    yield f"Plan of {spec.run_id}: {spec.job} {spec.manifest} → {destination}"
    yield f"  objects   {plan.rows:,} ({known}){shards}"
    if kind.open_job:
        requests = ", ".join(f"{count:,} {kind}" for kind, count in plan.requests.items() if count) or "none"
        yield f"  requests  {requests}"
        yield f"  cost      {human_dollars(plan.total_dollars)}{f' by {plan.price_table}' if plan.price_table else ''}"
        yield f"  duration  {_range(plan)}"
    if there := plan.there:
        looks = f"; {there['alike']:,} may be there and take a look each" if there["alike"] else ""
        yield f"  there     {there['same']:,} are the same already by size and MD5 ETag, and take no request{looks}"
        named = there["same"] + there["alike"] + there["other"] + plan.excluded.get(PROVEN_BEFORE, 0)
        # About as full as the source, with next to none of these names.
        if 2 * there["listed"] >= plan.rows >= ELSEWHERE_ROWS and 10 * named < plan.rows:
            others = plural(there["listed"] - named, "object")
            yield f"  warning   {others} at the destination have other names: is its prefix the one of these copies?"
    if kind.joins_as_text and str(spec.source.location).endswith("/") and not str(destination).endswith("/"):
        original, copy, meant = (shown(f"{each}a") for each in (spec.source.location, destination, f"{destination}/"))
        yield f"  warning   the copy of {original} is {copy}, not {meant}: end the destination with / for a folder"
    if ignored := ignored_conditions(spec):
        yield f"  warning   {shown(document.races(str(destination), ignored))}"
    yield from _savings_lines(plan.savings) if plan.savings else ()
    yield from _thaw_lines(plan.restore) if plan.restore else ()
    yield from _expiry_lines(plan.expiry) if plan.expiry else ()
    if plan.rollback:
        steps = [f"{count:,} to {step}" for step, count in plan.rollback.items() if step != "keys"]
        yield f"  keys      {plan.rollback['keys']:,} listed, {', '.join(steps) or 'none to change'}"
    if plan.excluded:
        yield f"  left out  {', '.join(f'{count:,} by {name}' for name, count in plan.excluded.items())}"


def _range(plan: Plan) -> str:
    """A forecast of time: `19 s to 3 min`, and whose times it is from."""
    least, most, earlier = plan.seconds, plan.seconds_most, plan.timed_by
    if most <= least:
        return f"about {human_seconds(least)}" if least >= 0.05 else "under 0.1 s"
    text = f"{human_seconds(least)} to {human_seconds(most)}" if least >= 1 else f"up to {human_seconds(most)}"
    return f"{text}, by {earlier} and the table" if earlier else text


def _savings_lines(savings: Mapping[str, Any]) -> Iterator[str]:
    """What a compaction saves."""
    months, members = savings["break_even_months"], plural(savings["members"], "member")
    before, after, cost = (human_dollars(savings[name]) for name in ("monthly_before", "monthly_after", "cost"))
    paid = f", paid back after {months:.1f} months" if months is not None else ""
    size = human_bytes(savings["archive_bytes"])
    yield f"  archives  {savings['archives']:,} with {members}, {size} before compression"
    yield f"  a month   {before} before, {after} once the originals are expired; {cost} to do it{paid}"
    for reason, rows in savings["left_alone"].items():
        yield f"  left alone  {rows:,}: {explained(reason)}"


def _thaw_lines(restore: Mapping[str, Any]) -> Iterator[str]:
    """What a restore has to thaw."""
    yield f"  archives  {restore['archives']:,}, holding {restore['members']:,} of the objects"
    if restore["cold"] or restore["cold_versions"]:
        versions = f" and {plural(restore['cold_versions'], 'version')}" if restore["cold_versions"] else ""
        yield (
            f"  thaw      {plural(len(restore['cold']), 'archive')}{versions} by {restore['tier']} "
            f"for {plural(restore['days'], 'day')}, up to {restore['hours']:g} hours; "
            f"{restore['restoring']:,} of them are on their way"
        )


def _expiry_lines(expiry: Mapping[str, Any]) -> Iterator[str]:
    """Where an expire run finds originals and copies, how it reaches them, and the share of objects that would go."""
    from jobs.expire.places import warning  # for this job alone

    for name, uris in (("source", [expiry["source"]["uri"]]), ("destination", expiry["copies"])):
        reached = "".join(f", {word} {expiry[name][word]}" for word in ("endpoint", "profile") if expiry[name][word])
        yield from (f"  {name:<11} {uri}{reached}" for uri in uris)
    shares = (f"{expiry[each]['eligible']:,} of {expiry[each]['listed']:,} {each}" for each in ("current", "versions"))
    yield f"  share       {' and '.join(shares)} in {expiry['prefix']}"
    yield from (f"  read        {human_bytes(each['bytes'])} of {each['storage_class']}" for each in expiry["reads"])
    for each in expiry.get("warnings", ()):
        yield f"  warning   {warning(each)}"


def retried(planned: Answer, run_id: str, retried: Mapping[str, Any]) -> Answer:
    """The plan of a retry, with the rows that it would try again: how many of each status, and the first keys."""
    lines = [f"A retry of {run_id} would try {plural(retried['rows'], 'row')} again:"]
    for status, count in retried["outcomes"].items():
        keys = _first_keys(retried["first_keys"].get(status, ()), count)
        lines.append(f"  {count:>8,} × {status}{': ' if keys else ''}{', '.join(keys)}")
    return Answer(planned.document | {"retry_of": run_id, "retried": retried}, "\n".join([*lines, planned.text]))


def _first_keys(keys: Sequence[str], rows: int) -> list[str]:
    """The first keys of so many rows, and how many more there are."""
    more = [f"… and {rows - len(keys):,} more"] if 0 < len(keys) < rows else []
    return [*map(shown_key, keys), *more]


def report_ended(ended: Ended) -> Answer:
    """A run's report, or that the run goes on without this command."""
    report, run_id = ended.report, ended.report["run_id"]
    if report["state"] == SUBMITTED:
        texts = [f"Submitted {run_id}; follow it with  sealift runs show {run_id} --follow"]
    else:
        texts = [report_text(report), *failure_texts(ended.failures)]
    children = {"failed_children": [asdict(each) for each in ended.failures]} if ended.failures else {}
    return Answer(report | children, "\n".join(texts), ended.code)


def repair_text(report: Mapping[str, Any]) -> str:
    """What a repair made of a reconciliation's findings, and what to do now."""
    steps = (f"  {shown(each)}" for each in report.get("next_steps", ()))
    return "\n".join([f"After the repair: {document.verdict(report)}", *steps, f"  page  {report['report_html']}"])


def report_text(report: Mapping[str, Any]) -> str:
    """The report in a few lines, with what is left of its bad rows by now (`since_then`) if it says so."""
    is_comparison = "categories" in report
    lines = [
        document.found_verdict(report),
        *(_compared_lines(report) if is_comparison else _worked_lines(report)),
    ]
    if since := report.get("since_then"):
        lines.append(f"  since then   {since['left']:,} of {report['failures']:,} are left")
    steps = () if "repaired" in report else report.get("next_steps", ())
    lines += [f"  {shown(step)}" for step in (*_files(report), *steps)]
    lines.append(f"  run  {report['run_id']} in {report['ledger']}, {human_seconds(report['seconds'])}")
    return "\n".join([*lines, repair_text(report)] if "repaired" in report else lines)


def _files(report: Mapping[str, Any]) -> Iterable[str]:
    """Where to read on of a run's bad rows, and where its rows are worked on."""
    run_id = report["run_id"]
    if "categories" in report:
        return f"report       {report['report_html']}", f"differences  {report['differences']['parquet']}"
    if report["state"] != RunState.COMPLETE:
        if ExitCode.TAKEN_OVER in report["exit_codes"]:
            return [f"another command works at it: sealift runs show {run_id} --follow"]
        return [f"continue with  {continuation(run_id)}"]
    if not report.get("failures"):
        return ()
    return f"as a page    sealift runs show {run_id} --html report.html", f"failed rows  {report['failures_manifest']}"


def _compared_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What a reconciliation found."""
    found = {name: each for name, each in report["categories"].items() if each["rows"]}
    rows = [{"category": name, "objects": each["rows"], "bytes": each["bytes"]} for name, each in found.items()]
    yield table(rows, ("category", "objects", "bytes"))
    for each in report["unjudged"][:10]:
        yield f"  not judged   {each['rows']:,} × {shown(why(each))}"


def _worked_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """How the rows of a run ended."""
    if not document.had_no_rows(report):
        outcomes = document.counts(document.outcomes_of(report), report["job"])
        yield f"  outcomes  {outcomes} ({human_bytes(report['bytes'])})"
    for each in document.reasons_of(report)[:SHOWN_REASONS]:
        yield f"  {each['rows']:>8,} × {called(each['status'], report['job'], each['reason'])}: {shown(why(each))}"
        yield from (f"             {text}" for text in _first_keys(each.get("keys", ()), each["rows"]))
    if ignored := report.get(document.IGNORED_CONDITIONS):
        yield f"  warning   {shown(document.races(report['destination'], ignored))}"
    for each in report.get(document.LEFT_OUT, ()):
        yield f"  left out  {shown(each['archive'])}: {shown(each['reason'])}"
    if undo := report.get("rollback", {}).get("undo"):
        yield f"  take back  {shown(undo)}"
    if (deletions := report.get("deletions")) and deletions["rows"]:
        yield from _deletion_lines(deletions)
        yield from ["  the same command with --yes-delete deletes them"] if report.get("dry_run") else ()


def _deletion_lines(deletions: Mapping[str, Any]) -> Iterator[str]:
    """What an expire run deleted, or would delete, with the proof of each copy, and the file with all of it."""
    if (hidden := deletions.get("hidden")) is not None:  # reports of 0.1.0 do not say it
        yield f"  hidden {hidden:,}, removed for good {deletions['rows'] - hidden:,}"
    first = deletions["shown"][:SHOWN_DELETIONS]
    yield table(first, ("size_bytes", "key", "version_id", "evidence", "copy"))
    if deletions["rows"] > len(first):
        yield f"  … and {deletions['rows'] - len(first):,} more"
    yield f"  deletions  {deletions['csv']}"
