"""`sealift status`: one screen of what goes on, what is wrong and since when, and what to do."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from msgspec.structs import asdict

from jobs.cli.command import Answer, LedgerCommand, PolicyOptions, Work, is_local, ledger_location
from jobs.cli.console import table
from jobs.cli.openmetrics import FINDINGS, open_metrics
from jobs.cli.options import flag, option
from jobs.core.display import shown, shown_key
from jobs.core.model import Location
from jobs.core.words import explained
from jobs.doctor.model import Finding, failure, unchecked
from jobs.doctor.model import Status as Answered
from jobs.doctor.pairs import judge_backlog, judge_drill, judge_night
from jobs.doctor.queues import DEAD, EVENT, UNDELIVERED, look_at_queues
from jobs.errors import ConfigError, ExitCode, StoreError, UsageError
from jobs.ledger.backlog import Waiting, manifest_numbers, read_backlog, read_manifest
from jobs.ledger.files import list_folders
from jobs.ledger.ledger import Ledger
from jobs.nights.summary import last_summary
from jobs.policy.model import Pair, Policy
from jobs.reports.document import iso_time, need_attention
from jobs.reports.figures import human_time, plural
from jobs.runs.request import open_prompt_ledger
from jobs.runs.summaries import summarize_runs
from jobs.s3.retries import gather_bounded

RUNS = 100
"""How many of the latest runs, and of the latest manifests of a backlog, are looked at."""
RUN_DAYS = 7
"""So long a run counts that is of no pair, and whose rows are not in the state."""
IN_STATE = ("replicate", "verify", "reconcile")
"""Jobs whose bad rows are in the state."""
_NEXT = {"stopped": "retry", "unreported": "show", "unreadable": "show"}
_FINDINGS = """
    SELECT concat('s3://', copy_bucket, '/', coalesce(nullif({prefix}, ''), regexp_extract(copy_key, '^[^/]*/')))
               AS place, coalesce(finding, blocked) AS code, count(*) FILTER ({open}) AS objects,
           count(accepted_at) AS accepted,
           strftime(min(coalesce(found_at, blocked_at)) FILTER ({open}), '%Y-%m-%dT%H:%M:%SZ') AS since,
           min(key) FILTER ({open}) AS first_key, arg_max(found_by, found_at) FILTER ({open}) AS found_by
    FROM findings GROUP BY place, code HAVING objects + accepted > 0 ORDER BY objects DESC, place, code
"""


_TABLES = {
    "pairs": "pair night verdict exit_code",
    "backlogs": "pair rows since",
    "places": "place objects unchecked unread oldest_checked oldest_read",
    "running": "run_id rows accounted created_at",
}
"""Section → what its table shows. Problems are no table: its folds would break the commands in them."""
Rows = AsyncIterator[tuple[str, dict[str, Any] | Finding]]
"""Rows of the status, each after the name of its section, and findings, each after what it is about."""


class Status(PolicyOptions, LedgerCommand):
    """Show what is wrong and since when, the pairs and their last nights, how much is checked and
    read, what runs and what waits.

    A finding stands until a later look that is as deep finds the object right, until a run makes a
    newer copy and proves it, or until a person accepts it. The exit code is 3 if something needs
    attention, or is not known. Of runs the latest 100 are read. A restore, a compaction or an expire
    run that nobody continues counts for a week. The pairs are those of the policy.

    \b
    sealift status
    sealift status --policy policy.yaml --json
    sealift status --accept "finding = 'metadata_differs' AND key LIKE 'tmp/%'" --reason "ticket 12"
    """

    accept: str | None = option(
        "Accept the findings that this condition names (SQL over the table `findings`), until their objects change.",
        metavar="SQL",
    )
    reason: str | None = option("Why what is accepted needs no action.", metavar="TEXT")
    openmetrics: bool = flag("Print the numbers as OpenMetrics text, for a node exporter or a cron job.")

    def run(self) -> Answer | Work:
        """What is wrong. What a person accepts."""
        policy = self.read_system() if self.policy else None
        ledger = open_prompt_ledger(ledger_location(self.ledger, policy))
        return self._accept(ledger) if self.accept or self.reason else self._show(ledger, policy)

    async def _accept(self, ledger: Ledger) -> Answer:
        from jobs.ledger.views import accept

        if not (self.accept and self.reason):
            raise UsageError("--accept and --reason belong together", advice="give both")
        who = f"{os.environ.get('USER') or os.getuid()}@{os.uname().nodename}"
        objects = await accept(ledger, self.accept, self.reason, who)
        return Answer({"accepted": objects}, f"{plural(objects, 'finding')} accepted")

    async def _show(self, ledger: Ledger, policy: Policy | None) -> Answer:
        document = await _look(ledger, policy)
        if self.openmetrics:
            return Answer(document, open_metrics(document, time.time()))
        code = ExitCode.DONE if document["state"] == "well" else ExitCode.FINDINGS
        return Answer(document, status_text(document), code)


async def _look(ledger: Ledger, policy: Policy | None) -> dict[str, Any]:
    """The whole status, JSON-ready: rows by the section that they are of. What cannot be asked is not known."""
    run_ids = await ledger.run_ids()
    runs = await summarize_runs(ledger, run_ids[: -RUNS - 1 : -1])
    asked = [("what runs", _runs(runs)), (FINDINGS, _findings(ledger, policy)), ("what is checked", _places(ledger))]
    if policy:
        kept = [ledger.location.join(folder) for folder in ("backlog/pair=", "manifests/pair=")]
        names = {name for place in kept for name in await list_folders(ledger.store, place)}  # in the policy or not
        asked += [
            ("what is in the queues", _queues(ledger, policy)),
            *((f"whether pair {pair.name} is well", _night(ledger, policy, pair)) for pair in policy.pairs),
            *((f"the backlog of {shown(name)}", _backlog(ledger, policy, name, runs)) for name in sorted(names)),
        ]
    rows = {name: list[Any]() for name in ("problems", "not_known", *_TABLES, "findings", "queues")}
    if not policy and not run_ids:
        why = f"no run is in {ledger.location} yet, and no policy is named (--policy)"
        rows["not_known"].append({"what": "everything", "why": why})
    for what, answers in asked:
        try:
            async for name, row in answers:
                if isinstance(row, dict):
                    rows[name].append(row)
                    continue
                text = ": ".join(filter(None, (row.says.rstrip("."), row.advice)))
                if row.status == Answered.UNCHECKED:
                    rows["not_known"].append({"what": name, "why": text})
                elif row.status != Answered.OK:
                    rows["problems"].append({"since": row.since, "problem": f"{name}: {text}"})
        except (StoreError, ConfigError) as error:
            rows["not_known"].append({"what": what, "why": str(error)})
    return {
        "state": "wrong" if rows["problems"] else "not_known" if rows["not_known"] else "well",
        "ledger": str(ledger.location),
        "looked_at": {"runs": len(runs), "all_runs": len(run_ids), "has_policy": policy is not None},
        **rows,
    }


async def _runs(runs: Sequence[Mapping[str, Any]]) -> Rows:
    """What runs, runs that did not end, and bad rows that are not in the state.

    `runs`: the latest first. What a person asked for once, as a restore, counts for `RUN_DAYS`. A complete
    run that selected the same rows between the same places, or retried them, answers for those before it.
    """
    after, answered = iso_time(time.time() - RUN_DAYS * 86_400), list[Any]()
    for run in runs:
        run_id, state, is_kept, texts = run["run_id"], run["state"], run["job"] in IN_STATE, list[str]()
        asked = [run[name] for name in ("job", "source", "destination", "selection", "manifest")]
        if state == "incomplete":
            yield "running", dict(run)
        elif state in _NEXT:
            texts = [state]
        is_forgotten = not is_kept and not run["pair"] and (run["created_at"] or after) < after
        if asked in answered or run_id in answered or is_forgotten:
            continue
        if state == "complete":
            answered += [asked, run["retry_of"]]
            if run["failures"] and not (is_kept and run["source"] != run["destination"]):  # else it read archives
                texts.append(need_attention(run["failures"], run["rows"]))
            if run["unread"]:
                texts.append(f"could not read {plural(run['unread'], 'line or archive')}")
        if texts:
            command = f"sealift runs {_NEXT.get(state, 'show')} {run_id}"
            yield f"run {run_id}", failure(", ".join(texts), command, run["created_at"])


async def _findings(ledger: Ledger, policy: Policy | None) -> Rows:
    """Open and accepted findings by place and code."""
    from jobs.ledger.state import OPEN
    from jobs.ledger.state_files import prefix_sql
    from jobs.ledger.views import open_views
    from jobs.tables.duck import in_thread

    copies = [Location(pair.destination.bucket, pair.destination.prefix) for pair in (policy.pairs if policy else ())]
    async with open_views(ledger, ["findings"]) as database:
        ask, sql = database.connection.sql, _FINDINGS.format(prefix=prefix_sql(copies), open=OPEN)
        found = await in_thread(database.connection, lambda: ask(sql).to_arrow_table().to_pylist())
    for each in found:
        yield "findings", each
        if each["objects"]:
            says = f"{explained(each['code'])} ({shown_key(each['first_key'])})"
            command = f"sealift runs show {each['found_by']}" if each["found_by"] else ""
            objects = f"{plural(each['objects'], 'object')} in {shown(each['place'])}"
            yield objects, failure(says, command, each["since"])


async def _places(ledger: Ledger) -> Rows:
    """How much is checked and read."""
    from jobs.ledger.state_files import summary

    for each in (await summary(ledger)).places:
        row = asdict(each) | {"place": f"s3://{each.copy_bucket}/{each.prefix}"}
        yield "places", row | {name: row[name] and iso_time(row[name]) for name in ("oldest_checked", "oldest_read")}


async def _night(ledger: Ledger, policy: Policy, pair: Pair) -> Rows:
    """The last ended night. Objects and bytes are those of its comparison, by category."""
    last, hot = await last_summary(ledger, pair.name), pair.destination
    row = {name: getattr(last, name, None) for name in ("night", "verdict", "exit_code")}
    row["good_at"] = iso_time(last.good_at.timestamp()) if last and last.good_at else None
    sizes = {"objects": last.stages[0].counts, "bytes": last.stages[0].bytes} if last else {"objects": {}, "bytes": {}}
    yield "pairs", {"pair": pair.name, "destination": f"s3://{hot.bucket}/{hot.prefix}"} | row | sizes
    yield f"pair {pair.name}", judge_night(policy, pair, last)
    yield f"pair {pair.name}", await judge_drill(policy.drill, pair, ledger)


async def _backlog(ledger: Ledger, policy: Policy, name: str, runs: Sequence[Mapping[str, Any]]) -> Rows:
    """Objects that wait for a run: in the backlog, and in manifests of it that no run has, as a refused plan leaves."""
    where, folder = (ledger.store, ledger.location, name), ledger.location.join(f"manifests/pair={name}/")
    taken = {str(run["manifest"]).rpartition("-")[0] for run in runs if run["state"] != "unplanned"}
    numbers = [each for each in (await manifest_numbers(*where))[-RUNS:] if f"{folder}{each:06d}" not in taken]
    made = await gather_bounded(lambda number: read_manifest(*where, number), numbers)
    began = runs[-1]["created_at"] or "" if len(runs) == RUNS else ""  # an earlier run may have an earlier manifest
    left = [each for each in made if iso_time(each.created_at) >= began]
    waiting = [Waiting(each.manifest, each.created_at, each.rows, each.size_bytes) for each in left]
    waiting = sorted([*waiting, *await read_backlog(*where)], key=lambda each: each.since)
    since = iso_time(waiting[0].since) if waiting else None
    yield "backlogs", {"pair": name, "rows": sum(each.rows for each in waiting), "since": since}
    yield f"pair {shown(name)}", judge_backlog(name, policy.pair(name), waiting)


async def _queues(ledger: Ledger, policy: Policy) -> Rows:
    """How many events, dead letters and undelivered events wait in each queue.

    Nothing where no event was ever handled and there is no queue.
    """
    looks = await asyncio.to_thread(look_at_queues, policy, EVENT, DEAD, UNDELIVERED)
    folders = [ledger.location.join(folder) for folder in ("journal/dt=", "backlog/pair=")]
    has_events = any([await list_folders(ledger.store, folder) for folder in folders])
    if looks[0]["error"] and (is_local() or (looks[0]["is_absent"] and not has_events)):
        return
    for each in looks:
        yield "queues", each
        if each["error"]:
            yield each["queue"], unchecked(each["error"], "with a name_prefix in Terraform, set SEALIFT_SYSTEM")
        elif each["waiting"] and each["what"] != EVENT:
            yield f"{plural(each['waiting'], each['what'])} in {each['queue']}", failure("", "sealift events list")


def status_text(document: Mapping[str, Any]) -> str:
    """The status as text. "All is well" only where a policy names the pairs, and all could be read."""
    problems, unknown, looked_at = len(document["problems"]), len(document["not_known"]), document["looked_at"]
    no_policy = "Nothing wrong was found. No policy is named, so no pair was looked at (--policy)"
    head = {
        "wrong": f"{plural(problems, 'problem')}{f', {unknown:,} not known' if unknown else ''}",
        "not_known": f"Nothing wrong was found, but {plural(unknown, 'thing')} could not be looked at",
        "well": "All is well" if looked_at["has_policy"] else no_policy,
    }[document["state"]]
    accepted = sum(each["accepted"] for each in document["findings"])
    lines = [head + (f" ({accepted:,} accepted by hand)" if accepted else "")]
    for each in document["problems"]:
        since = f"since {human_time(each['since'])}: " if each["since"] else ""
        lines.append(f"  ! {since}{each['problem']}")
    lines += [f"  ? not known: {each['what']}: {each['why']}" for each in document["not_known"]]
    tables = [table(document[name], names.split()) for name, names in _TABLES.items() if document[name]]
    seen = f", the latest {looked_at['runs']:,} looked at" if looked_at["runs"] < looked_at["all_runs"] else ""
    ledger = f"ledger  {document['ledger']}, {plural(looked_at['all_runs'], 'run')}{seen}"
    return "\n\n".join(["\n".join(lines), *tables, ledger])
