"""`sealift status`: one screen of what goes on, what is wrong and since when, and what to do."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import click

from jobs import interrupts
from jobs.cli.console import emit, table
from jobs.cli.openmetrics import open_metrics
from jobs.cli.options import Command, command_options, flag, option, shared, takes
from jobs.cli.policy_and_ledger import is_local, ledger_location, read_policy
from jobs.config import Settings
from jobs.core.display import shown, shown_key
from jobs.core.model import Location
from jobs.core.words import explained
from jobs.doctor.undelivered import look_at_undelivered
from jobs.errors import ConfigError, ExitCode, NotFound, StoreError, UsageError
from jobs.ledger.backlog import backlog_pairs, manifest_numbers, read_backlog, read_manifest
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import Summary, last_summaries
from jobs.policy.model import Policy
from jobs.reports.document import iso_time, need_attention
from jobs.reports.figures import UNKNOWN, human_time, plural
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
LINES = 20
"""How many groups of findings are shown."""
IN_STATE = ("replicate", "verify", "reconcile")
"""Jobs whose bad rows are in the state."""
_NEXT = {"stopped": "retry", "unreported": "show", "unreadable": "show"}
_FINDINGS = """
    SELECT concat('s3://', copy_bucket, '/', coalesce(nullif({prefix}, ''), regexp_extract(copy_key, '^[^/]*/')))
               AS place, coalesce(finding, blocked) AS code, count(*) AS objects,
           strftime(min(coalesce(found_at, blocked_at)), '%Y-%m-%dT%H:%M:%SZ') AS since,
           min(key) AS first_key, arg_max(found_by, found_at) AS found_by
    FROM findings WHERE {open} GROUP BY place, code ORDER BY objects DESC, place, code
"""
Problem = tuple[str, str | None]
"""What a person has to act on, and since when (ISO 8601, None if unknown)."""
Answers = AsyncIterator[dict[str, Any] | Problem]
"""A row of the status, and what is wrong about it."""


@command_options
class StatusCommand:
    """`sealift status`, as it was typed."""

    accept: str | None = option(
        "Accept the findings that this condition names (SQL over the table `findings`), until their objects change.",
        metavar="SQL",
    )
    reason: str | None = option("Why nobody has to act on what is accepted.", metavar="TEXT")
    openmetrics: bool = flag("Print the numbers as OpenMetrics text, for a node exporter or a cron job.")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")
    policy: str | None = shared("policy")


@click.command(cls=Command)
@takes(StatusCommand)
def status(options: StatusCommand) -> int:
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
    settings = Settings.from_environment()
    name = options.policy or settings.policy
    policy = read_policy(name).called(settings.system) if name else None
    place = ledger_location(options.ledger or settings.ledger or (policy.ledger.uri if policy else None), settings)
    ledger = open_prompt_ledger(place)
    if options.accept or options.reason:
        return interrupts.run(_accept(ledger, options))
    document = interrupts.run(_look(ledger, policy))
    if options.openmetrics:
        click.echo(interrupts.run(open_metrics(ledger, policy, document, time.time())))
        return 0
    emit(document, as_json=options.as_json, text=status_text(document))
    return int(ExitCode.DONE if document["state"] == "well" else ExitCode.FINDINGS)


async def _accept(ledger: Ledger, options: StatusCommand) -> int:
    from jobs.ledger.state_files import accept

    if not (options.accept and options.reason):
        raise UsageError("--accept and --reason belong together", advice="give both")
    who = f"{os.environ.get('USER') or os.getuid()}@{os.uname().nodename}"
    objects = await accept(ledger, options.accept, options.reason, who)
    emit({"accepted": objects}, as_json=options.as_json, text=f"{plural(objects, 'finding')} accepted")
    return 0


async def _look(ledger: Ledger, policy: Policy | None) -> dict[str, Any]:
    """The whole status, JSON-ready."""
    run_ids, now = await ledger.run_ids(), time.time()
    runs = await summarize_runs(ledger, run_ids[: -RUNS - 1 : -1])
    document: dict[str, Any] = {
        "state": "well",
        "problems": [],
        "not_known": [],
        "ledger": str(ledger.location),
        "looked_at": {"runs": len(runs), "all_runs": len(run_ids), "has_policy": policy is not None},
        "pairs": [],
        "backlogs": [],
        "queues": await _look_at_queues(ledger, policy) if policy else [],
        "running": [run for run in runs if run["state"] == "incomplete"],
        **await _ask_state(ledger, policy),
    }
    unknown = [(f"what is in {each['queue']}", each["error"]) for each in document["queues"] if each["error"]]
    problems = [*_run_problems(runs, iso_time(now - RUN_DAYS * 86_400)), *_finding_problems(document["findings"])]
    problems += [
        (f"{plural(each['waiting'], each['what'])} in {each['queue']}: sealift events list", None)
        for each in document["queues"]
        if each["waiting"]
    ]
    questions: list[tuple[str, str, Answers]] = []
    if policy:
        names = await backlog_pairs(ledger.store, ledger.location)
        questions = [
            *(
                (f"whether pair {each.name} is well", "pairs", _pair(ledger, each.name, runs, now))
                for each in policy.pairs
            ),
            *((f"the backlog of {shown(name)}", "backlogs", _backlog(ledger, policy, name, now)) for name in names),
        ]
    elif not run_ids:
        unknown.append(("everything", f"no run is in {ledger.location} yet, and no policy is named (--policy)"))
    for what, rows, answers in questions:
        try:
            async for answer in answers:
                if isinstance(answer, dict):
                    document[rows].append(answer)
                else:
                    problems.append(answer)
        except (StoreError, ConfigError) as error:
            unknown.append((what, str(error)))
    return document | {
        "state": "wrong" if problems else "not_known" if unknown else "well",
        "problems": [{"problem": text, "since": since} for text, since in problems],
        "not_known": [{"what": what, "why": why} for what, why in unknown],
    }


async def _ask_state(ledger: Ledger, policy: Policy | None) -> dict[str, Any]:
    """Open findings by place and code, the number of accepted ones, and how much is checked and read."""
    from jobs.ledger.state import OPEN
    from jobs.ledger.state_files import open_state, prefix_sql, summary
    from jobs.tables.duck import in_thread

    copies = [Location(pair.destination.bucket, pair.destination.prefix) for pair in (policy.pairs if policy else ())]
    async with open_state(ledger, only_open=True) as database:
        ask, sql = database.connection.sql, _FINDINGS.format(prefix=prefix_sql(copies), open=OPEN)
        found = await in_thread(database.connection, lambda: ask(sql).to_arrow_table().to_pylist())
        accepted = ask("SELECT count(accepted_at) FROM findings").fetchall()[0][0]
    places = [
        {
            "place": f"s3://{each.copy_bucket}/{each.prefix}",
            **{name: getattr(each, name) for name in ("objects", "unchecked", "unread")},
            **{name: at and iso_time(at) for name in ("oldest_checked", "oldest_read") for at in [getattr(each, name)]},
        }
        for each in (await summary(ledger)).places
    ]
    return {"findings": found, "accepted": accepted, "places": places}


def _run_problems(runs: Sequence[Mapping[str, Any]], after: str) -> Iterator[Problem]:
    """Runs that did not end, and bad rows that are not in the state.

    `runs`: the latest first. What a person asked for once, as a restore, counts if it began after
    `after`. A complete run that selected the same rows between the same places, or
    retried them, answers for those before it.
    """
    answered, retried = list[list[Any]](), set[str | None]()
    for run in runs:
        run_id, state, is_kept = run["run_id"], run["state"], run["job"] in IN_STATE
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
            yield f"run {run_id} {', '.join(texts)}: {command}", run["created_at"]


def _finding_problems(findings: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """A line for each place and code."""
    for each in findings[:LINES]:
        command = f": sealift runs show {each['found_by']}" if each["found_by"] else ""
        text = f"{plural(each['objects'], 'object')} in {shown(each['place'])}: {explained(each['code'], '')}"
        yield f"{text} ({shown_key(each['first_key'])}){command}", each["since"]
    if len(findings) > LINES:
        rest = sum(each["objects"] for each in findings[LINES:])
        yield f"{plural(rest, 'more object')}: sealift query 'FROM findings'", None


async def _pair(ledger: Ledger, pair: str, runs: Sequence[Mapping[str, Any]], now: float) -> Answers:
    """The last ended night, and manifests without a run: a refused plan leaves none."""
    last = next(iter(await last_summaries(ledger, pair, 1)), None)
    yield {"pair": pair, **{name: getattr(last, name, None) for name in ("night", "verdict", "exit_code")}}
    for problem in _night_problems(pair, last, datetime.fromtimestamp(now, UTC).date()):
        yield problem
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
            yield f"pair {pair}: no run has taken {rows}: {command}", made_at


def _night_problems(pair: str, night: Summary | None, today: date) -> Iterator[Problem]:
    command = f"sealift nightly --pair {pair}"
    if night is None:
        yield f"pair {pair}: no night has ended yet. Start one: {command}", None
    elif (today - date.fromisoformat(night.night)).days > NIGHT_DAYS:
        text = f"pair {pair}: no night has ended since {night.night}: {command}"
        yield text, iso_time(night.finished_at.timestamp())
    elif night.exit_code:
        step = next(iter(night.next_steps), f"Check again: {command} --again")
        text = f"pair {pair}, night of {night.night}: {night.verdict} {step}"
        yield text, iso_time(night.finished_at.timestamp())


async def _backlog(ledger: Ledger, policy: Policy, name: str, now: float) -> Answers:
    """Rows that wait for a run, also for longer than the policy says."""
    waiting, pair = await read_backlog(ledger.store, ledger.location, name), policy.pair(name)
    oldest, rows = waiting[0].since if waiting else now, sum(each.rows for each in waiting)
    since, text = iso_time(oldest) if waiting else None, f"{plural(rows, 'row')} of the backlog wait"
    yield {"pair": name, "rows": rows, "since": since}
    if waiting and pair is None:
        yield f"{text} for a pair {shown(name)} that the policy does not have", since
    elif pair and now > oldest + pair.thresholds.backlog_age + OVERDUE_SECONDS:
        yield f"pair {shown(name)}: {text}, and no run has taken them: sealift doctor", since


async def _look_at_queues(ledger: Ledger, policy: Policy) -> list[dict[str, Any]]:
    """How many dead letters and undelivered events wait in each queue, or why that is unknown (`error`).

    Nothing where no event was ever handled and there is no queue.
    """
    from jobs.aws.dead_letters import DeadLetters

    name = f"{policy.name}-objects"
    letters: dict[str, Any] = {"queue": name, "what": "dead letter", "waiting": None, "error": None}
    try:
        queue = await asyncio.to_thread(DeadLetters, name, str(policy.ledger.region), tries=1)
        letters |= {"queue": queue.name, "waiting": await asyncio.to_thread(queue.count)}
    except (StoreError, ConfigError) as error:
        if is_local() or (isinstance(error, NotFound) and not await _has_events(ledger)):
            return []
        letters["error"] = f"{error} (with a name_prefix in Terraform, set SEALIFT_SYSTEM)"
    undelivered = await asyncio.to_thread(look_at_undelivered, policy)
    names = ("queue", "waiting", "error")
    return [letters, *({"what": "undelivered event"} | {name: each[name] for name in names} for each in undelivered)]


async def _has_events(ledger: Ledger) -> bool:
    """True if the functions have handled an event. Then their queue has to exist."""
    places = [ledger.location.join(folder) for folder in ("journal/", "backlog/")]
    pages = [await ledger.store.list_objects(place.bucket, place.key, max_keys=1) for place in places]
    return any(page.entries for page in pages)


def _head(document: Mapping[str, Any]) -> str:
    """The first line. "All is well" only where a policy names the pairs, and all could be read."""
    accepted = f" ({document['accepted']:,} accepted by hand)" if document["accepted"] else ""
    problems, unknown = len(document["problems"]), len(document["not_known"])
    if problems:
        return f"{plural(problems, 'problem')}{f', {unknown:,} not known' if unknown else ''}{accepted}"
    if unknown:
        return f"Nothing wrong was found, but {plural(unknown, 'thing')} could not be looked at{accepted}"
    if not document["looked_at"]["has_policy"]:
        return f"Nothing wrong was found{accepted}. No policy is named, so no pair was looked at (--policy)"
    return f"All is well{accepted}"


def status_text(document: Mapping[str, Any]) -> str:
    """The status as text."""
    lines = [_head(document)]
    for each in document["problems"]:
        since = f"since {human_time(each['since'])}: " if each["since"] else ""
        lines.append(f"  ! {since}{each['problem']}")
    lines += [f"  ? {each['what']} is not known: {each['why']}" for each in document["not_known"]]
    fields = ("run_id", "rows", "accounted", "created_at")
    running = [{name: run[name] for name in fields} for run in document["running"]]
    for rows in (document["pairs"], document["backlogs"], document["places"], running):
        if rows:
            headings = [name.replace("_", " ") for name in rows[0]]
            lines += ["", table(headings, [[_cell(value) for value in row.values()] for row in rows])]
    looked_at = document["looked_at"]
    seen = f", the latest {looked_at['runs']:,} looked at" if looked_at["runs"] < looked_at["all_runs"] else ""
    return "\n".join([*lines, "", f"ledger  {document['ledger']}, {plural(looked_at['all_runs'], 'run')}{seen}"])


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else UNKNOWN if value is None else shown(str(value))
