"""`sealift status`: one screen of what goes on, what is wrong and since when, and what to do."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from jobs.cli.command import Answer, LedgerCommand, PolicyOptions, Work, is_local, ledger_location
from jobs.cli.console import table
from jobs.cli.openmetrics import FINDINGS, open_metrics
from jobs.cli.options import Command, flag, option
from jobs.config import Settings
from jobs.core.display import shown, shown_key
from jobs.core.model import Location
from jobs.core.words import explained
from jobs.doctor.queues import DEAD, EVENT, UNDELIVERED, look_at_queues
from jobs.errors import ConfigError, ExitCode, StoreError, UsageError
from jobs.ledger.backlog import manifest_numbers, read_backlog, read_manifest
from jobs.ledger.files import list_folders
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import last_summaries
from jobs.policy.model import Policy
from jobs.reports.document import iso_time, need_attention
from jobs.reports.figures import human_time, plural
from jobs.runs.request import open_prompt_ledger
from jobs.runs.summaries import summarize_runs

RUNS = 100
"""How many of the latest runs, and of the latest manifests of a backlog, are looked at."""
RUN_DAYS = 7
"""So long a run counts that is of no pair, and whose rows are not in the state."""
NIGHT_DAYS = 2
"""A pair's last night is at most so old, or something is wrong."""
OVERDUE_SECONDS = 1800
"""Half an hour after a backlog is due, or its manifest is made, a run should have taken it."""
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


Answers = AsyncIterator[tuple[str, dict[str, Any]]]
"""Rows of the status, each with the section that it is of."""


def _problem(text: str, since: str | None = None) -> tuple[str, dict[str, Any]]:
    """What a person has to act on, and since when (ISO 8601, None if unknown)."""
    return "problems", {"problem": text, "since": since}


def _not_known(what: str, why: object) -> tuple[str, dict[str, Any]]:
    """What could not be looked at."""
    return "not_known", {"what": what, "why": str(why)}


class ShowStatus(PolicyOptions, LedgerCommand):
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
        policy = self.read_system() if self.policy or Settings.from_environment().policy else None
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
            return Answer(document, await open_metrics(ledger, policy, document, time.time()))
        code = ExitCode.DONE if document["state"] == "well" else ExitCode.FINDINGS
        return Answer(document, status_text(document), code)


async def _look(ledger: Ledger, policy: Policy | None) -> dict[str, Any]:
    """The whole status, JSON-ready."""
    run_ids, now = await ledger.run_ids(), time.time()
    runs = await summarize_runs(ledger, run_ids[: -RUNS - 1 : -1])
    questions = [
        ("what runs", _runs(runs, iso_time(now - RUN_DAYS * 86_400))),
        (FINDINGS, _findings(ledger, policy)),
        ("what is checked", _places(ledger)),
    ]
    if policy:
        names = await list_folders(ledger.store, ledger.location.join("backlog/pair="))  # in the policy or not
        questions += [
            ("what is in the queues", _queues(ledger, policy)),
            *((f"whether pair {each.name} is well", _pair(ledger, each.name, runs, now)) for each in policy.pairs),
            *((f"the backlog of {shown(name)}", _backlog(ledger, policy, name, now)) for name in names),
        ]
    sections = ("problems", "not_known", "pairs", "backlogs", "places", "running", "findings", "queues")
    rows: dict[str, list[Any]] = {name: [] for name in sections}
    if not policy and not run_ids:
        why = f"no run is in {ledger.location} yet, and no policy is named (--policy)"
        rows["not_known"].append(_not_known("everything", why)[1])
    for what, answers in questions:
        try:
            async for section, row in answers:
                rows[section].append(row)
        except (StoreError, ConfigError) as error:
            rows["not_known"].append(_not_known(what, error)[1])
    return {
        "state": "wrong" if rows["problems"] else "not_known" if rows["not_known"] else "well",
        "ledger": str(ledger.location),
        "looked_at": {"runs": len(runs), "all_runs": len(run_ids), "has_policy": policy is not None},
        **rows,
    }


async def _runs(runs: Sequence[Mapping[str, Any]], after: str) -> Answers:
    """What runs, runs that did not end, and bad rows that are not in the state.

    `runs`: the latest first. What a person asked for once, as a restore, counts if it began after
    `after`. A complete run that selected the same rows between the same places, or
    retried them, answers for those before it.
    """
    answered, retried = list[list[Any]](), set[str | None]()
    for run in runs:
        run_id, state, is_kept = run["run_id"], run["state"], run["job"] in IN_STATE
        if state == "incomplete":
            yield "running", {name: run[name] for name in ("run_id", "rows", "accounted", "created_at")}
        asked = [run[name] for name in ("job", "source", "destination", "selection", "manifest")]
        is_forgotten = not is_kept and not run["pair"] and (run["created_at"] or after) < after
        if asked in answered or run_id in retried or is_forgotten:
            continue
        texts = [f"is {state}"] if state in _NEXT else []
        if state == "complete":
            answered.append(asked)
            retried.add(run["retry_of"])
            if run["failures"] and not (is_kept and run["source"] != run["destination"]):  # else it read archives
                texts.append(f"has ended: {need_attention(run['failures'], run['rows'])}")
            if run["unread"]:
                texts.append(f"could not read {plural(run['unread'], 'line or archive')}")
        if texts:
            command = f"sealift runs {_NEXT.get(state, 'show')} {run_id}"
            yield _problem(f"run {run_id} {', '.join(texts)}: {command}", run["created_at"])


async def _findings(ledger: Ledger, policy: Policy | None) -> Answers:
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
            text = f"{plural(each['objects'], 'object')} in {shown(each['place'])}: {explained(each['code'], '')}"
            command = f": sealift runs show {each['found_by']}" if each["found_by"] else ""
            yield _problem(f"{text} ({shown_key(each['first_key'])}){command}", each["since"])


async def _places(ledger: Ledger) -> Answers:
    """How much is checked and read."""
    from jobs.ledger.state_files import summary

    for each in (await summary(ledger)).places:
        counts = {name: getattr(each, name) for name in ("objects", "unchecked", "unread")}
        times = {"oldest_checked": each.oldest_checked, "oldest_read": each.oldest_read}
        when = {name: at and iso_time(at) for name, at in times.items()}
        yield "places", {"place": f"s3://{each.copy_bucket}/{each.prefix}", **counts, **when}


async def _pair(ledger: Ledger, pair: str, runs: Sequence[Mapping[str, Any]], now: float) -> Answers:
    """The last ended night, and manifests without a run: a refused plan leaves none."""
    last, again = next(iter(await last_summaries(ledger, pair, 1)), None), f"sealift nightly --pair {pair}"
    yield "pairs", {"pair": pair, **{name: getattr(last, name, None) for name in ("night", "verdict", "exit_code")}}
    if last is None:
        yield _problem(f"pair {pair}: no night has ended yet. Start one: {again}")
    else:
        since, today = iso_time(last.finished_at.timestamp()), datetime.fromtimestamp(now, UTC).date()
        if (today - date.fromisoformat(last.night)).days > NIGHT_DAYS:
            yield _problem(f"pair {pair}: no night has ended since {last.night}: {again}", since)
        elif last.exit_code:
            # What leads here is left out: what the night has found is among the findings.
            steps = [each for each in last.next_steps if not each.endswith(": sealift status")]
            step = next(iter(steps), f"Check again: {again} --again")
            yield _problem(f"pair {pair}, night of {last.night}: {last.verdict} {step}", since)
    taken = {str(run["manifest"]).rpartition("-")[0] for run in runs if run["state"] != "unplanned"}
    began = min((run["created_at"] for run in runs if run["created_at"]), default="") if len(runs) >= RUNS else ""
    where, folder = (ledger.store, ledger.location, pair), ledger.location.join(f"manifests/pair={pair}/")
    for number in (await manifest_numbers(*where))[: -RUNS - 1 : -1]:
        if f"{folder}{number:06d}" in taken:
            continue
        each = await read_manifest(*where, number)
        if (made_at := iso_time(each.created_at)) < began:
            break  # a run that is not among the latest may have it
        if each.created_at < now - OVERDUE_SECONDS:
            command = f"sealift replicate --pair {pair} --manifest {shlex.quote(shown(each.manifest))}"
            rows = f"the {plural(each.rows, 'row')} of manifest {each.number} of the backlog"
            yield _problem(f"pair {pair}: no run has taken {rows}: {command}", made_at)


async def _backlog(ledger: Ledger, policy: Policy, name: str, now: float) -> Answers:
    """Rows that wait for a run, also for longer than the policy says."""
    waiting, pair = await read_backlog(ledger.store, ledger.location, name), policy.pair(name)
    oldest, rows = waiting[0].since if waiting else now, sum(each.rows for each in waiting)
    since, text = iso_time(oldest) if waiting else None, f"{plural(rows, 'row')} of the backlog wait"
    yield "backlogs", {"pair": name, "rows": rows, "since": since}
    if waiting and pair is None:
        yield _problem(f"{text} for a pair {shown(name)} that the policy does not have", since)
    elif pair and now > oldest + pair.thresholds.backlog_age + OVERDUE_SECONDS:
        yield _problem(f"pair {shown(name)}: {text}, and no run has taken them: sealift doctor", since)


async def _queues(ledger: Ledger, policy: Policy) -> Answers:
    """How many events, dead letters and undelivered events wait in each queue.

    Nothing where no event was ever handled and there is no queue.
    """
    [events] = await asyncio.to_thread(look_at_queues, policy, EVENT)
    if events["error"]:
        places = [ledger.location.join(folder) for folder in ("journal/dt=", "backlog/pair=")]
        has_events = [each for place in places for each in await list_folders(ledger.store, place)]
        if is_local() or (events["is_absent"] and not has_events):
            return
    for each in [*await asyncio.to_thread(look_at_queues, policy, DEAD, UNDELIVERED), events]:
        what, queue = each["what"], each["queue"]
        yield "queues", {name: each[name] for name in ("what", "queue", "waiting", "error")}
        if each["error"]:
            why = f"{each['error']} (with a name_prefix in Terraform, set SEALIFT_SYSTEM)"
            yield _not_known(f"what is in {queue}", why)
        elif each["waiting"] and what != EVENT:
            yield _problem(f"{plural(each['waiting'], what)} in {queue}: sealift events list")


def status_text(document: Mapping[str, Any]) -> str:
    """The status as text. "All is well" only where a policy names the pairs, and all could be read."""
    problems, unknown = len(document["problems"]), len(document["not_known"])
    no_policy = "Nothing wrong was found. No policy is named, so no pair was looked at (--policy)"
    head = {
        "wrong": f"{plural(problems, 'problem')}{f', {unknown:,} not known' if unknown else ''}",
        "not_known": f"Nothing wrong was found, but {plural(unknown, 'thing')} could not be looked at",
        "well": "All is well" if document["looked_at"]["has_policy"] else no_policy,
    }[document["state"]]
    accepted = sum(each["accepted"] for each in document["findings"])
    lines = [head + (f" ({accepted:,} accepted by hand)" if accepted else "")]
    for each in document["problems"]:
        since = f"since {human_time(each['since'])}: " if each["since"] else ""
        lines.append(f"  ! {since}{each['problem']}")
    lines += [f"  ? {each['what']} is not known: {each['why']}" for each in document["not_known"]]
    for rows in (document[name] for name in ("pairs", "backlogs", "places", "running") if document[name]):
        lines += ["", table(rows)]
    looked_at = document["looked_at"]
    seen = f", the latest {looked_at['runs']:,} looked at" if looked_at["runs"] < looked_at["all_runs"] else ""
    return "\n".join([*lines, "", f"ledger  {document['ledger']}, {plural(looked_at['all_runs'], 'run')}{seen}"])


status = Command(ShowStatus, "status")
