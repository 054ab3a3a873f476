"""`sealift status`: one screen of what goes on, what is wrong and since when, and what to do."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import click

from jobs import interrupts
from jobs.cli.console import emit, table
from jobs.cli.openmetrics import open_metrics
from jobs.cli.options import Command, command_options, flag, option, shared, takes
from jobs.cli.policy_and_ledger import is_local, ledger_location, read_policy
from jobs.config import Settings
from jobs.core.display import shown, shown_key
from jobs.core.outcome import Status
from jobs.core.run import run_of
from jobs.core.words import explained
from jobs.doctor.undelivered import look_at_undelivered
from jobs.errors import ConfigError, ExitCode, NotFound, StoreError, UsageError
from jobs.ledger.backlog import backlog_pairs, manifest_numbers, read_backlog, read_manifest
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import Night, Summary
from jobs.policy.model import Policy
from jobs.reports.document import iso_time, need_attention
from jobs.reports.figures import UNKNOWN, human_time, plural
from jobs.runs.request import open_prompt_ledger
from jobs.runs.summaries import summarize_runs

RUNS = 100
"""How many of the latest runs are looked at."""
RUN_DAYS = 7
"""So long a run counts that is of no pair, and whose rows are not in the state."""
NIGHT_DAYS = 2
"""A pair's last night is at most so old, or something is wrong."""
OVERDUE_SECONDS = 1800
"""Half an hour after a backlog is due, or its manifest is made, a run should have taken it."""
MANIFESTS = RUNS
"""How many of the latest manifests of a pair's backlog are looked at. Those that a run has taken are not read."""
LINES = 20
"""How many groups of findings are shown."""
IN_STATE = ("replicate", "verify", "reconcile")
"""Jobs whose bad rows are in the state."""
_ABSENT = {"replicate": Status.MISSING, "verify": Status.CHANGED}
"""The status of a row whose object the source does not have. A list knew it before; a person named it."""
_NEXT = {"stopped": "retry", "unreported": "show", "unreadable": "show"}
_FINDINGS = """
    SELECT copy_bucket || '/' || regexp_extract(copy_key, '^[^/]*/') AS place, coalesce(finding, blocked) AS code,
           count(*) AS objects, strftime(min(coalesce(found_at, blocked_at)), '%Y-%m-%dT%H:%M:%SZ') AS since,
           min(key) AS first_key, arg_max(found_by, found_at) AS found_by
    FROM findings WHERE {} GROUP BY place, code ORDER BY objects DESC, place, code
"""
_TABLES = {
    "pairs": {"pair": "pair", "last night": "night", "verdict": "verdict"},
    "backlogs": {"backlog of": "pair", "rows": "rows", "since": "since"},
    "places": {
        "copies in": "place", "objects": "objects", "never checked": "unchecked", "never read": "unread",
        "oldest check": "oldest_checked", "oldest read": "oldest_read",
    },
    "running": {"running": "run_id", "rows": "rows", "done": "accounted", "since": "created_at"},
}  # fmt: skip
"""The tables below the problems: heading → field."""


class Problem(NamedTuple):
    """What a person has to act on. `since`: ISO 8601, None if unknown."""

    problem: str
    since: str | None


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
    pairs, backlogs, queues = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    problems = [*_run_problems(runs, iso_time(now - RUN_DAYS * 86_400))]
    unknown = list[dict[str, str]]()
    for pair in policy.pairs if policy else ():
        with _noting(unknown, f"whether pair {pair.name} is well"):
            last = await Night(ledger, pair.name, date.max).earlier(1)
            problems += _night_problems(pair.name, last, datetime.fromtimestamp(now, UTC).date())
            night = {name: getattr(last[0], name) if last else None for name in ("night", "verdict", "exit_code")}
            pairs.append({"pair": pair.name, **night})
            knows_all = len(runs) == len(run_ids)
            problems += [each async for each in _untaken(ledger, pair.name, runs, now, knows_all=knows_all)]
    if policy:
        for name in await backlog_pairs(ledger.store, ledger.location):
            with _noting(unknown, f"the backlog of {shown(name)}"):
                backlogs.append(await _backlog(ledger, name))
        problems += _overdue(policy, backlogs, now)
        queues = await _look_at_queues(ledger, policy)
    for each in queues:
        if each["waiting"]:
            text = f"{plural(each['waiting'], each['what'])} in {each['queue']}: sealift events list"
            problems.append(Problem(text, None))
    known = await _ask_state(ledger)
    problems += _finding_problems(known["findings"])
    unknown += [{"what": f"what is in {each['queue']}", "why": each["error"]} for each in queues if each["error"]]
    if not run_ids and policy is None:
        why = f"no run is in {ledger.location} yet, and no policy is named (--policy)"
        unknown.append({"what": "everything", "why": why})
    return {
        "state": "wrong" if problems else "not_known" if unknown else "well",
        "problems": [each._asdict() for each in problems],
        "not_known": unknown,
        "ledger": str(ledger.location),
        "looked_at": {"runs": len(runs), "all_runs": len(run_ids), "has_policy": policy is not None},
        "pairs": pairs,
        "backlogs": backlogs,
        "queues": queues,
        "running": [run for run in runs if run["state"] == "incomplete"],
        **known,
    }


@contextmanager
def _noting(unknown: list[dict[str, str]], what: str) -> Iterator[None]:
    """Note what cannot be read, and go on."""
    try:
        yield
    except (StoreError, ConfigError) as error:
        unknown.append({"what": what, "why": str(error)})


async def _ask_state(ledger: Ledger) -> dict[str, Any]:
    """Open findings by place and code, the number of accepted ones, and how much is checked and read."""
    from jobs.ledger.state import OPEN
    from jobs.ledger.state_files import open_state, summary
    from jobs.tables.duck import in_thread

    async with open_state(ledger, only_open=True) as database:
        ask = database.connection.sql
        found = await in_thread(database.connection, lambda: ask(_FINDINGS.format(OPEN)).to_arrow_table().to_pylist())
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
        run_id, state = run["run_id"], run["state"]
        asked = [run[name] for name in ("job", "source", "destination", "selection", "manifest")]
        is_forgotten = run["job"] not in IN_STATE and not run["pair"] and (run["created_at"] or after) < after
        if asked in answered or run_id in retried or is_forgotten:
            continue
        text, verb = "", _NEXT.get(state, "show")
        if state in _NEXT:
            text = f"is {state}"
        elif state == "complete":
            answered.append(asked)
            retried.add(run["retry_of"])
            is_known = run["job"] in IN_STATE and run["source"] != run["destination"]  # else it read archives
            is_named = not run["manifest"].startswith("listing of ") and not run["pair"] and not run_of(run["manifest"])
            absent = run["outcomes"].get(_ABSENT.get(run["job"]), 0) if is_named else 0
            left = absent if is_known else run["failures"]
            texts = [need_attention(left, run["rows"])] if left else []
            texts += [f"{plural(run['unread'], 'line or archive')} could not be read"] if run["unread"] else []
            text = f"has ended: {', '.join(texts)}" if texts else ""
        if text:
            yield Problem(f"run {run_id} {text}: sealift runs {verb} {run_id}", run["created_at"])


def _finding_problems(findings: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """A line for each place and code."""
    for each in findings[:LINES]:
        command = f": sealift runs show {each['found_by']}" if each["found_by"] else ""
        text = f"{plural(each['objects'], 'object')} in {shown(each['place'])}: {explained(each['code'], '')}"
        yield Problem(f"{text} ({shown_key(each['first_key'])}){command}", each["since"])
    if len(findings) > LINES:
        rest = sum(each["objects"] for each in findings[LINES:])
        yield Problem(f"{plural(rest, 'more object')}: sealift query 'FROM findings'", None)


def _night_problems(pair: str, last: Sequence[Summary], today: date) -> Iterator[Problem]:
    """What is wrong with the last night that has ended."""
    command = f"sealift nightly --pair {pair}"
    if not last:
        yield Problem(f"pair {pair}: no night has ended yet. Start one: {command}", None)
        return
    [night] = last
    since = iso_time(night.finished_at.timestamp())
    if (today - date.fromisoformat(night.night)).days > NIGHT_DAYS:
        yield Problem(f"pair {pair}: no night has ended since {night.night}: {command}", since)
    elif night.exit_code:
        step = next(iter(night.next_steps), f"Check again: {command} --again")
        yield Problem(f"pair {pair}, night of {night.night}: {night.verdict} {step}", since)


async def _backlog(ledger: Ledger, pair: str) -> dict[str, Any]:
    """Rows that wait for a run. `since`: ISO 8601."""
    waiting = await read_backlog(ledger.store, ledger.location, pair)
    since = iso_time(waiting[0].since) if waiting else None
    return {"pair": pair, "rows": sum(each.rows for each in waiting), "since": since}


def _overdue(policy: Policy, backlogs: Sequence[Mapping[str, Any]], now: float) -> Iterator[Problem]:
    for each in backlogs:
        pair, name = policy.pair(each["pair"]), shown(each["pair"])
        rows = f"{plural(each['rows'], 'row')} of the backlog wait"
        if each["since"] and pair is None:
            yield Problem(f"{rows} for a pair {name} that the policy does not have", each["since"])
        elif each["since"] and pair:
            due = datetime.fromisoformat(each["since"]).timestamp() + pair.thresholds.backlog_age + OVERDUE_SECONDS
            if now > due:
                yield Problem(f"pair {name}: {rows}, and no run has taken them: sealift doctor", each["since"])


async def _untaken(
    ledger: Ledger, pair: str, runs: Sequence[Mapping[str, Any]], now: float, *, knows_all: bool
) -> AsyncIterator[Problem]:
    """Manifests whose rows no run has taken: a refused plan leaves no run.

    `knows_all`: the ledger has no other runs. Else a manifest of before these may have one.
    """
    taken = {str(run["manifest"]).rpartition("-")[0] for run in runs if run["state"] != "unplanned"}
    began = "" if knows_all else min((run["created_at"] for run in runs if run["created_at"]), default="")
    where, folder = (ledger.store, ledger.location, pair), ledger.location.join(f"manifests/pair={pair}/")
    for number in (await manifest_numbers(*where))[: -MANIFESTS - 1 : -1]:
        if f"{folder}{number:06d}" in taken:
            continue
        each = await read_manifest(*where, number)
        if (made_at := iso_time(each.created_at)) < began:
            break
        if each.created_at < now - OVERDUE_SECONDS:
            command = f"sealift replicate --pair {pair} --manifest {shlex.quote(shown(each.manifest))}"
            rows = f"the {plural(each.rows, 'row')} of manifest {each.number} of the backlog"
            yield Problem(f"pair {pair}: no run has taken {rows}: {command}", made_at)


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
    for name, columns in _TABLES.items():
        if rows := document[name]:
            lines += ["", table([*columns], [[_cell(row[field]) for field in columns.values()] for row in rows])]
    looked_at = document["looked_at"]
    seen = f", the latest {looked_at['runs']:,} looked at" if looked_at["runs"] < looked_at["all_runs"] else ""
    return "\n".join([*lines, "", f"ledger  {document['ledger']}, {plural(looked_at['all_runs'], 'run')}{seen}"])


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else UNKNOWN if value is None else shown(str(value))
