"""`sealift status`: one screen of what goes on, what is wrong and since when, and what to do."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import click
from msgspec import to_builtins

from jobs import interrupts
from jobs.cli.console import emit, table
from jobs.cli.options import Command, command_options, option, shared, takes
from jobs.cli.policy_and_ledger import is_local, ledger_location, read_policy
from jobs.config import Settings
from jobs.core.display import shown, shown_key
from jobs.core.outcome import Status
from jobs.core.run import ROWS_SHA256, run_of
from jobs.core.words import explained
from jobs.doctor.undelivered import look_at_undelivered
from jobs.errors import ConfigError, ExitCode, NotFound, StoreError, UsageError
from jobs.ledger.backlog import backlog_pairs, read_backlog, read_manifests
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import Night
from jobs.policy.model import Pair, Policy
from jobs.reports.document import iso_time, need_attention
from jobs.reports.figures import human_bytes, human_time, plural
from jobs.runs.prompt_ledger import open_prompt_ledger
from jobs.runs.summaries import summarize_runs
from jobs.s3.retries import gather_bounded

RUNS = 100
"""How many of the latest runs are looked at."""
RUN_DAYS = 7
"""So long a run counts that is of no pair, and whose rows are not in the state."""
NIGHT_DAYS = 2
"""A pair's last night is at most so old, or something is wrong."""
OVERDUE_SECONDS = 1800
"""Half an hour after a backlog is due, a run should have taken it."""
MANIFESTS = 5
"""How many of the latest manifests of a pair's backlog are looked at."""
LINES = 20
"""How many groups of findings are shown."""
AT_ONCE = 8
WELL = "All is well"
IN_STATE = ("replicate", "verify", "reconcile")
"""Jobs whose bad rows are in the state."""
_ABSENT = {"replicate": Status.MISSING, "verify": Status.CHANGED}
"""The status of a row whose object the source does not have. A list knew it before; a person named it."""
_NEXT = {"stopped": "retry", "unreported": "show", "unreadable": "show"}
_FINDINGS = """
    SELECT copy_bucket || '/' || regexp_extract(copy_key, '^[^/]*/') AS place, coalesce(finding, blocked) AS code,
           count(*) AS objects, min(coalesce(found_at, blocked_at)) AS since, min(key) AS first_key,
           arg_max(found_by, found_at) AS found_by
    FROM findings WHERE {} GROUP BY place, code ORDER BY objects DESC, place, code
"""
_GROUP = ("place", "code", "objects", "since", "first_key", "found_by")


class Problem(NamedTuple):
    """What a person has to act on. `since`: ISO 8601, None if unknown."""

    problem: str
    since: str | None


class Unknown(NamedTuple):
    """What could not be read, and why."""

    what: str
    why: str


@command_options
class StatusCommand:
    """`sealift status`, as it was typed."""

    accept: str | None = option(
        "Accept the findings that this condition names (SQL over the table `findings`), until their objects change.",
        metavar="SQL",
    )
    reason: str | None = option("Why nobody has to act on what is accepted.", metavar="TEXT")
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
    emit(document, as_json=options.as_json, text=status_text(document))
    return int(ExitCode.DONE if document["state"] == "well" else ExitCode.FINDINGS)


async def _accept(ledger: Ledger, options: StatusCommand) -> int:
    from jobs.ledger.state_files import accept

    if not (options.accept and options.reason):
        raise UsageError("--accept and --reason belong together", advice="give both")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without names of users
        user = str(os.getuid())
    objects = await accept(ledger, options.accept, options.reason, f"{user}@{os.uname().nodename}")
    emit({"accepted": objects}, as_json=options.as_json, text=f"{plural(objects, 'finding')} accepted")
    return 0


async def _look(ledger: Ledger, policy: Policy | None) -> dict[str, Any]:
    """The whole status, JSON-ready."""
    from jobs.ledger.state import OPEN
    from jobs.ledger.state_files import open_state, summary
    from jobs.tables.duck import in_thread

    run_ids, now = await ledger.run_ids(), time.time()
    runs = await summarize_runs(ledger, run_ids[: -RUNS - 1 : -1])
    pairs = policy.pairs if policy else ()
    nights = await gather_bounded(lambda pair: _last_night(ledger, pair), pairs, AT_ONCE)
    problems, unknown = [*_run_problems(runs, iso_time(now - RUN_DAYS * 86_400))], list[Unknown]()
    rows: list[dict[str, Any]] = []
    for pair, night in zip(pairs, nights, strict=True):
        problems += _night_problems(pair, night, datetime.fromtimestamp(now, UTC).date())
        backlog = await _backlog(ledger, pair.name)
        if why := backlog["not_known"]:
            unknown.append(Unknown(f"the backlog of {pair.name}", why))
        rows.append(_pair_row(pair, night) | {"backlog": backlog})
        problems += _overdue(pair, backlog, now)
        try:
            problems += await _manifest_problems(ledger, pair, runs, now, knows_all=len(runs) == len(run_ids))
        except (StoreError, ConfigError) as error:
            unknown.append(Unknown(f"whether runs took the manifests of {pair.name}", str(error)))
    async with open_state(ledger, only_open=True) as database:
        answer = await in_thread(database.connection, database.connection.execute, _FINDINGS.format(OPEN))
        findings = [dict(zip(_GROUP, row, strict=True)) for row in answer.fetchall()]
        [(accepted,)] = database.connection.execute("SELECT count(accepted_at) FROM findings").fetchall()
    problems += _finding_problems(findings)
    known = await summary(ledger)
    document: dict[str, Any] = {
        "ledger": str(ledger.location),
        "looked_at": {"runs": len(runs), "all_runs": len(run_ids), "has_policy": policy is not None},
        "pairs": rows,
        "findings": [each | {"since": each["since"].isoformat()} for each in findings],
        "accepted": accepted,
        "places": [_place_row(each) for each in known.generation.places],
        "running": [run for run in runs if run["state"] == "incomplete" and not run["silent_since"]],
    }
    if policy is not None:
        problems += await _orphaned_backlogs(ledger, policy)
        queues = await asyncio.to_thread(_look_at_queues, policy)
        letters = queues["dead_letters"]
        if (is_local() and letters["waiting"] is None) or (letters["is_missing"] and not await _has_events(ledger)):
            queues["events"]["has_events"] = False
        for look, what in _queue_looks(queues):
            if look["waiting"]:
                text = f"{plural(look['waiting'], what)} in {look['queue']}: sealift events list"
                problems.append(Problem(text, None))
            if look["error"]:
                unknown.append(Unknown(f"what is in {look['queue']}", look["error"]))
        document |= queues
    elif not run_ids:
        unknown.append(Unknown("everything", f"no run is in {ledger.location} yet, and no policy is named (--policy)"))
    return {
        "state": "wrong" if problems else "not_known" if unknown else "well",
        "problems": [each._asdict() for each in problems],
        "not_known": [each._asdict() for each in unknown],
    } | document


def _run_problems(runs: Sequence[Mapping[str, Any]], since: str) -> Iterator[Problem]:
    """Runs that did not end, and bad rows that are not in the state.

    `runs`: the latest first. What a person asked for once, as a restore, counts if it began after
    `since`. A complete run that selected the same rows between the same places, or
    retried them, answers for those before it.
    """
    answered, retried = list[tuple[Any, ...]](), set[str | None]()
    for run in runs:
        run_id, state = run["run_id"], run["state"]
        is_comparison = run["job"] == "reconcile"  # another day's inventories list the same places
        names = ("job", "source", "destination", "selection", *(() if is_comparison else ("manifest",)))
        asked = tuple(run[name] for name in names)
        is_forgotten = run["job"] not in IN_STATE and not run["pair"] and (run["created_at"] or since) < since
        if asked in answered or run_id in retried or is_forgotten:
            continue
        if state in _NEXT:
            yield Problem(f"run {run_id} is {state}: sealift runs {_NEXT[state]} {run_id}", run["created_at"])
        elif run["silent_since"]:
            text = f"run {run_id} is incomplete, and nobody writes to it: sealift runs show {run_id}"
            yield Problem(text, run["silent_since"])
        elif state == "complete":
            answered.append(asked)
            retried.add(run["retry_of"])
            is_known = run["job"] in IN_STATE and run["source"] != run["destination"]  # else it read archives
            is_named = run["selection"].get(ROWS_SHA256) and not run["pair"] and not run_of(run["manifest"])
            absent = run["outcomes"].get(_ABSENT.get(run["job"]), 0) if is_named else 0
            left = absent if is_known else run["failures"]
            texts = [need_attention(left, run["rows"])] if left else []
            texts += [f"{plural(run['unread'], 'line or archive')} could not be read"] if run["unread"] else []
            if texts:
                yield Problem(f"run {run_id}: {', '.join(texts)}: sealift runs show {run_id}", run["created_at"])


def _finding_problems(findings: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """A line for each place and code."""
    for each in findings[:LINES]:
        command = f": sealift runs show {each['found_by']}" if each["found_by"] else ""
        text = f"{plural(each['objects'], 'object')} in {shown(each['place'])}: {explained(each['code'], '')}"
        yield Problem(f"{text} ({shown_key(each['first_key'])}){command}", each["since"].isoformat())
    if len(findings) > LINES:
        rest = sum(each["objects"] for each in findings[LINES:])
        yield Problem(f"{plural(rest, 'more object')}: sealift query 'FROM findings'", None)


async def _last_night(ledger: Ledger, pair: Pair) -> Mapping[str, Any]:
    """The summary of the pair's last night that has ended, else nothing."""
    last = await Night(ledger, pair.name, date.max).earlier(1)
    return to_builtins(last[0]) if last else {}


def _night_problems(pair: Pair, night: Mapping[str, Any], today: date) -> Iterator[Problem]:
    command = f"sealift nightly --pair {pair.name}"
    if not night:
        yield Problem(f"pair {pair.name}: no night has ended yet. Start one: {command}", None)
    elif (today - date.fromisoformat(night["night"])).days > NIGHT_DAYS:
        text = f"pair {pair.name}: no night has ended since {night['night']}: {command}"
        yield Problem(text, night["finished_at"])
    elif night["exit_code"]:
        step = next(iter(night["next_steps"]), f"Check again: {command} --again")
        text = f"pair {pair.name}, night of {night['night']}: {night['verdict']} {step}"
        yield Problem(text, night["finished_at"])


def _pair_row(pair: Pair, night: Mapping[str, Any]) -> dict[str, Any]:
    source = ", ".join(f"s3://{pair.source.bucket}/{prefix}" for prefix in pair.source.prefixes)
    places = {"source": source, "destination": f"s3://{pair.destination.bucket}/{pair.destination.prefix}"}
    return {"pair": pair.name, **places} | {
        name: night.get(name) for name in ("night", "finished_at", "verdict", "exit_code")
    }


def _place_row(place: Any) -> dict[str, Any]:
    times = {name: getattr(place, name) for name in ("oldest_checked", "oldest_read")}
    return {
        "place": f"s3://{place.copy_bucket}/{place.prefix}",
        **{name: getattr(place, name) for name in ("objects", "unchecked", "unread")},
        **{name: None if at is None else iso_time(at) for name, at in times.items()},
    }


async def _backlog(ledger: Ledger, pair: str) -> dict[str, Any]:
    """Rows that wait for a run: `rows`, `bytes`, `oldest_since` (ISO 8601). Else `not_known`: why."""
    try:
        backlog = await read_backlog(ledger.store, ledger.location, pair)
    except (StoreError, ConfigError) as error:
        return {"rows": None, "bytes": None, "oldest_since": None, "is_whole": False, "not_known": str(error)}
    strays = f"{plural(len(backlog.strays), 'object')} there were not written by Sealift" if backlog.strays else None
    return {
        "rows": sum(each.rows for each in backlog.waiting),
        "bytes": sum(each.size_bytes for each in backlog.waiting),
        "oldest_since": iso_time(backlog.waiting[0].since) if backlog.waiting else None,
        "is_whole": backlog.is_whole,
        "not_known": strays,
    }


def _overdue(pair: Pair, backlog: Mapping[str, Any], now: float) -> Iterator[Problem]:
    since = backlog["oldest_since"]
    due = pair.thresholds.backlog_age + OVERDUE_SECONDS
    if since is not None and now - datetime.fromisoformat(since).timestamp() > due:
        text = f"pair {pair.name}: {plural(backlog['rows'], 'row')} of the backlog, and no run has taken them"
        yield Problem(f"{text}: sealift doctor", since)


async def _manifest_problems(
    ledger: Ledger, pair: Pair, runs: Sequence[Mapping[str, Any]], now: float, *, knows_all: bool
) -> list[Problem]:
    """Manifests whose rows no run has taken: a refused plan leaves no run.

    `knows_all`: the ledger has no other runs. Else a manifest of before these may have one.
    """
    taken = {run["manifest"] for run in runs if run["state"] != "unplanned"}
    began = min((run["created_at"] for run in runs if run["created_at"]), default=iso_time(now))
    problems = []
    for each in await read_manifests(ledger.store, ledger.location, pair.name, MANIFESTS):
        is_known = knows_all or each.created_at >= datetime.fromisoformat(began).timestamp()
        if each.manifest not in taken and is_known and each.created_at < now - OVERDUE_SECONDS:
            rows = f"the {plural(each.rows, 'row')} of manifest {each.number} of the backlog"
            command = f"sealift replicate --pair {pair.name} --manifest {shlex.quote(shown(each.manifest))}"
            problems.append(Problem(f"pair {pair.name}: no run has taken {rows}: {command}", iso_time(each.created_at)))
    return problems


async def _orphaned_backlogs(ledger: Ledger, policy: Policy) -> list[Problem]:
    """Backlogs whose pair is not in the policy: nothing of them is ever copied."""
    problems = []
    for name in await backlog_pairs(ledger.store, ledger.location):
        backlog: dict[str, Any] = {"rows": 0, "not_known": None}
        if policy.pair(name) is None:
            backlog = await _backlog(ledger, name)
        if backlog["rows"] or backlog["not_known"]:
            text = f"rows wait in the backlog of {shown(name)}, and the policy has no such pair"
            problems.append(Problem(f"{text}: give the pair its name back", backlog["oldest_since"]))
    return problems


def _look_at_queues(policy: Policy) -> dict[str, Any]:
    """How many events and dead letters wait (`queue`, `waiting`), or why that is unknown (`error`)."""
    from jobs.aws.dead_letters import DeadLetters

    name = f"{policy.name}-objects"
    events: dict[str, Any] = {"queue": name, "has_events": True, "waiting": None, "in_flight": None}
    letters: dict[str, Any] = {"queue": name, "waiting": None, "error": None, "is_missing": False}
    try:
        queue = DeadLetters(name, str(policy.ledger.region), tries=1)
        depth, dead = queue.queue.depth(), queue.count()
        events |= {"waiting": depth.waiting + depth.delayed, "in_flight": depth.in_flight}
        letters |= {"queue": queue.name, "waiting": dead}
    except NotFound as error:
        letters |= {"error": f"{error}. If Terraform has a name_prefix, set SEALIFT_SYSTEM", "is_missing": True}
    except (StoreError, ConfigError) as error:
        letters["error"] = str(error)
    names = ("queue", "region", "account", "waiting", "error")
    undelivered = [{name: each[name] for name in names} for each in look_at_undelivered(policy)]
    return {"events": events, "dead_letters": letters, "undelivered": undelivered}


def _queue_looks(queues: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
    """What was seen of each queue, and what lies in it. Nothing where no event was ever handled."""
    if not queues["events"]["has_events"]:
        return []
    return [(queues["dead_letters"], "dead letter"), *((each, "undelivered event") for each in queues["undelivered"])]


async def _has_events(ledger: Ledger) -> bool:
    """True if the functions have handled an event. Then their queue has to exist."""
    for folder in ("journal/", "backlog/"):
        place = ledger.location.join(folder)
        if (await ledger.store.list_objects(place.bucket, place.key, max_keys=1)).entries:
            return True
    return False


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
    return f"{WELL}{accepted}"


def status_text(document: Mapping[str, Any]) -> str:
    """The status as text."""
    lines = [_head(document)]
    for each in document["problems"]:
        since = f"since {human_time(each['since'])}: " if each["since"] else ""
        lines.append(f"  ! {since}{each['problem']}")
    lines += [f"  ? {each['what']} is not known: {each['why']}" for each in document["not_known"]]
    for each in document["pairs"]:
        backlog = each["backlog"]
        rows = "not known" if backlog["rows"] is None else f"{'' if backlog['is_whole'] else 'more than '}"
        rows += "" if backlog["rows"] is None else f"{plural(backlog['rows'], 'row')} ({human_bytes(backlog['bytes'])})"
        night = f"{each['night']}: {each['verdict']}" if each["night"] else "none has ended yet"
        lines += [
            "",
            shown(f"pair {each['pair']}  {each['source']} → {each['destination']}"),
            f"  last night  {night}",
            f"  backlog     {rows}",
        ]
    if document["places"]:
        names = ["copies in", "objects", "never checked", "never read", "oldest check", "oldest read"]
        places = [
            [each["place"], *(f"{each[name]:,}" for name in ("objects", "unchecked", "unread")),
             human_time(each["oldest_checked"]), human_time(each["oldest_read"])]
            for each in document["places"]
        ]  # fmt: skip
        lines += ["", table(names, places)]
    if document["running"]:
        going = [
            [run["run_id"], f"{run['accounted']:,} of {run['rows']:,}", human_time(run["created_at"]),
             run["destination"] or ""]
            for run in document["running"]
        ]  # fmt: skip
        lines += ["", table(["running", "rows", "since", "destination"], going)]
    events, looked_at = document.get("events"), document["looked_at"]
    if events is not None and not events["has_events"]:
        why = "`sealift local` has none" if is_local() else "no event was ever handled: nights and backfills copy"
        lines += ["", f"events  there is no queue {events['queue']}, and {why}"]
    elif events is not None and events["waiting"] is not None:
        dead = plural(document["dead_letters"]["waiting"], "dead letter")
        text = f"{events['waiting']:,} waiting and {events['in_flight']:,} being handled in {events['queue']}, {dead}"
        lines += ["", f"events  {text}"]
    seen = f", the latest {looked_at['runs']:,} looked at" if looked_at["runs"] < looked_at["all_runs"] else ""
    return "\n".join([*lines, "", f"ledger  {document['ledger']}, {plural(looked_at['all_runs'], 'run')}{seen}"])
