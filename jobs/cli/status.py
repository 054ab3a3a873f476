"""`sealift status`: one screen of what goes on, what is wrong and since when, and what to do."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import click

from jobs import interrupts
from jobs.cli.console import emit, table
from jobs.cli.options import command_options, json_option, ledger_option, policy_option, takes
from jobs.cli.policy_and_ledger import is_local, ledger_location, read_policy
from jobs.config import Settings
from jobs.core.category import Category
from jobs.core.display import shown
from jobs.core.model import Location
from jobs.core.outcome import Status
from jobs.core.run import continuation
from jobs.doctor.undelivered import look_at_undelivered
from jobs.errors import ConfigError, ExitCode, NotFound, StoreError
from jobs.ledger.backlog import backlog_pairs, read_backlog, read_manifests
from jobs.ledger.dismissals import Dismissal, find_dismissal
from jobs.ledger.ledger import Ledger
from jobs.nights.calendar import NIGHTS_REMEMBERED
from jobs.nights.disproofs import FOUND, Disproof, disproof_steps, open_disproofs, unanswered_text
from jobs.nights.oldest_unproven import OldestUnproven, find_oldest_unproven
from jobs.nights.records import NightRecords
from jobs.nights.verdicts import WELL, head_of, is_well
from jobs.policy.model import Pair, Policy
from jobs.policy.run_options import named_places
from jobs.registry import is_look, is_proof_only
from jobs.reports.document import iso_time, need_attention
from jobs.reports.figures import human_bytes, human_time, plural
from jobs.runs.progress import SILENT_SECONDS
from jobs.runs.prompt_ledger import open_prompt_ledger
from jobs.runs.replaced_runs import began_at, covers, ended_at, find_repair, find_repaired, has_judged
from jobs.runs.summaries import RunFilter, summarize_runs
from jobs.s3.retries import gather_bounded

RUNS = 100
"""How many of the latest runs are looked at."""
NIGHT_DAYS = 2
"""A pair's last night is at most so old, or something is wrong."""
PAIRS_AT_ONCE = 8
READS = 32
BACKLOG_SECONDS_MORE = 1800
"""Half an hour after a backlog is due, a run should have taken it."""
MANIFESTS = 5
"""How many of the latest manifests of a pair's backlog are looked at."""
NO_NIGHT = "no night has compared the pair yet"
OTHER_PLACES = "compared other places than the policy gives the pair now"

_SHOW = "sealift runs show {}".format
_NEXT = {"stopped": continuation, "unreported": _SHOW, "unreadable": _SHOW}


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

    policy: str | None = policy_option()
    ledger: str | None = ledger_option()
    as_json: bool = json_option()


@click.command()
@takes(StatusCommand)
def status(options: StatusCommand) -> int:
    """Show the pairs, their last nights, the oldest unproven object of each, what runs, what waits,
    and what is wrong since when.

    The exit code is 3 if something needs attention, or is not known. A run's bad rows count until a
    retry mends them, or a later run of the same kind checks all of them: between the same places,
    with the same filters or none, as deep. Those of a pair's runs count until its next night, and a
    night counts until a later one, or --again, is well. Copies that a night proved wrong count
    until a retry mends them, or a later night finds proof that they are right or gone. Only the
    latest 100 runs are read. A run that a person has dismissed (runs dismiss) is named apart. The
    pairs are those of the policy. Without a policy only the runs are read.

    \b
    sealift status
    sealift status --policy policy.yaml --json
    """
    settings = Settings.from_environment()
    name = options.policy or settings.policy
    policy = read_policy(name).called(settings.system) if name else None
    place = ledger_location(options.ledger or settings.ledger or (policy.ledger.uri if policy else None), settings)
    document = interrupts.run(_look(open_prompt_ledger(place), policy))
    emit(document, as_json=options.as_json, text=status_text(document))
    return int(ExitCode.DONE if document["state"] == "well" else ExitCode.FINDINGS)


async def _look(ledger: Ledger, policy: Policy | None) -> dict[str, Any]:
    """The whole status, JSON-ready."""
    run_ids = await ledger.run_ids()
    runs = await summarize_runs(ledger, RUNS, RunFilter())
    pairs = policy.pairs if policy else ()
    places = {pair.name: named_places(policy, pair) for pair in policy.pairs} if policy else {}
    nights = await gather_bounded(lambda pair: _last_night(ledger, pair, places[pair.name]), pairs, PAIRS_AT_ONCE)
    now = time.time()
    problems = [*_night_problems(nights, runs, datetime.fromtimestamp(now, UTC).date())]
    run_problems, dismissals = await _find_run_problems(ledger, runs, nights)
    problems += [problem for run_id, problem in run_problems.items() if run_id not in dismissals]
    unmended = [*_unmended(runs, nights, dismissals)]
    unknown: list[Unknown] = []
    rows: list[dict[str, Any]] = []
    for pair, night in zip(pairs, nights, strict=True):
        row = await _pair_row(ledger, pair, night, runs, unmended)
        unknown += _pair_unknowns(row)
        problems += _backlog_problems(pair, row["backlog"], now)
        try:
            problems += await _manifest_problems(ledger, pair, runs, now, knows_all=len(runs) == len(run_ids))
        except (StoreError, ConfigError) as error:
            unknown.append(Unknown(f"whether runs took the manifests of {pair.name}", str(error)))
        rows.append(row)
    document: dict[str, Any] = {
        "ledger": str(ledger.location),
        "looked_at": {"runs": len(runs), "all_runs": len(run_ids), "has_policy": policy is not None},
        "pairs": rows,
        "running": [run for run in _going_on(runs) if not run["silent_since"] and run["run_id"] not in dismissals],
        "dismissed": [_dismissed_row(run_id, each, run_problems) for run_id, each in dismissals.items()],
    }
    if policy is not None:
        problems += await _orphaned_backlogs(ledger, policy)
        queues = await asyncio.to_thread(_look_at_queues, policy)
        letters = queues["dead_letters"]
        if (is_local() and letters["waiting"] is None) or (letters["is_missing"] and not await _has_events(ledger)):
            queues["events"]["has_events"] = False
        problems += _queue_problems(queues)
        unknown += _queue_unknowns(queues)
        document |= queues
    elif not run_ids:
        unknown.append(Unknown("everything", f"no run is in {ledger.location} yet, and no policy is named (--policy)"))
    return {
        "state": "wrong" if problems else "not_known" if unknown else "well",
        "problems": [each._asdict() for each in problems],
        "not_known": [each._asdict() for each in unknown],
    } | document


def _going_on(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run for run in runs if run["state"] == "incomplete"]


async def _find_run_problems(
    ledger: Ledger, runs: list[dict[str, Any]], nights: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Problem], dict[str, Dismissal]]:
    """(what to do about each run, dismissed or not, and the dismissals), by the runs' ids.

    What a dismissed run took the place of may count again, and be dismissed itself.
    """
    dismissals, asked = dict[str, Dismissal](), set[str]()
    while True:
        problems = [*_run_problems(runs, nights, dismissals)]
        candidates = (*_going_on(runs), *(run for run, _ in problems))
        new = {run["run_id"]: run for run in candidates if run["run_id"] not in asked}
        if not new:
            return {run["run_id"]: problem for run, problem in problems}, dismissals
        asked.update(new)
        dismissals |= await _dismissals(ledger, new.values())


def _dismissed_row(run_id: str, dismissal: Dismissal, problems: Mapping[str, Problem]) -> dict[str, Any]:
    """A dismissed run, JSON-ready, with what there would be to do about it."""
    return {
        "run_id": run_id,
        "problem": problems[run_id].problem if run_id in problems else f"run {run_id} is incomplete",
        "reason": dismissal.reason,
        "by": dismissal.by,
        "at": iso_time(dismissal.at),
    }


async def _pair_row(
    ledger: Ledger,
    pair: Pair,
    night: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    unmended: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """A pair, JSON-ready: its last night, its oldest unproven object, its backlog."""
    oldest = await _oldest_unproven(ledger, pair, night, _mended_since(runs, night))
    return {
        **{name: night.get(name) for name in ("pair", "night", "finished_at", "verdict", "exit_code")},
        **_places(pair),
        "oldest_unproven": {
            **{name: value or None for name, value in oldest._asdict().items()},
            "found_since": _found_since(pair, oldest, unmended),
        },
        "backlog": await _backlog(ledger, pair.name),
    }


def _pair_unknowns(row: Mapping[str, Any]) -> Iterator[Unknown]:
    """What of a pair could not be read. That no night has compared it is a problem of its own."""
    why = row["oldest_unproven"]["not_known"]
    if why and why != NO_NIGHT:
        yield Unknown(f"the oldest unproven object of {row['pair']}", why)
    if why := row["backlog"]["not_known"]:
        yield Unknown(f"the backlog of {row['pair']}", why)


def _places(pair: Pair) -> dict[str, str]:
    """The pair's places in the current policy. A night may have compared other ones."""
    source = ", ".join(f"s3://{pair.source.bucket}/{prefix}" for prefix in pair.source.prefixes)
    return {"source": source, "destination": f"s3://{pair.destination.bucket}/{pair.destination.prefix}"}


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
    undelivered = [
        {name: each[name] for name in ("queue", "region", "account", "waiting", "error")}
        for each in look_at_undelivered(policy)
    ]
    return {"events": events, "dead_letters": letters, "undelivered": undelivered}


def _queue_problems(queues: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem for each queue of dead letters, or of undelivered events, that is not empty."""
    for look, what in _queue_looks(queues):
        if look["waiting"]:
            yield Problem(f"{plural(look['waiting'], what)} in {look['queue']}: sealift events list", None)


def _queue_unknowns(queues: Mapping[str, Any]) -> Iterator[Unknown]:
    """The queues that could not be looked at."""
    for look, _ in _queue_looks(queues):
        if look["error"]:
            yield Unknown(f"what is in {look['queue']}", look["error"])


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


async def _last_night(ledger: Ledger, pair: Pair, places: Mapping[str, str]) -> Mapping[str, Any]:
    """The summary of the last night of a pair that has ended, or the pair's name alone.

    `open`: what the pair's nights have found wrong and nothing answered (`Disproof`).
    `wrong_since`: the end of the first of the latest nights that are all not well. `is_of_others`:
    it compared other places than `places`, those of the current policy.
    """
    summaries = await NightRecords(ledger, pair.name, date.max).remembered(NIGHTS_REMEMBERED)
    last = summaries[0] if summaries else {}
    wrong_since = last.get("finished_at")
    for summary in sorted(summaries, key=lambda each: datetime.fromisoformat(each["finished_at"]), reverse=True):
        if not summary["exit_code"]:
            break
        wrong_since = summary["finished_at"]
    found = open_disproofs(summaries, str(last.get("destination", "")))
    is_of_others = any(_listed(last.get(name, uris)) != _listed(uris) for name, uris in places.items())
    return last | {"pair": pair.name, "open": found, "wrong_since": wrong_since, "is_of_others": is_of_others}


def _listed(uris: str) -> list[str]:
    return sorted(uris.split(", "))


async def _oldest_unproven(
    ledger: Ledger, pair: Pair, night: Mapping[str, Any], mended: Collection[str]
) -> OldestUnproven:
    if night.get("night") is None:
        return OldestUnproven(not_known=NO_NIGHT)
    if night["is_of_others"]:
        return OldestUnproven(not_known=f"the night of {night['night']} {OTHER_PLACES}")
    disproving = {each.run_id for each in night["open"]} - {*mended}
    return await find_oldest_unproven(NightRecords(ledger, pair.name, date.max), pair, night, disproving)


async def _backlog(ledger: Ledger, pair: str) -> dict[str, Any]:
    """Rows that wait for a run: `rows`, `bytes`, `oldest_since` (ISO 8601). Else `not_known`: why."""
    nothing = {"rows": None, "bytes": None, "oldest_since": None, "is_whole": False, "not_known": None}
    try:
        backlog = await read_backlog(ledger.store, ledger.location, pair)
    except (StoreError, ConfigError) as error:
        return nothing | {"not_known": str(error)}
    return {
        "rows": sum(each.rows for each in backlog.waiting),
        "bytes": sum(each.size_bytes for each in backlog.waiting),
        "oldest_since": iso_time(backlog.waiting[0].since) if backlog.waiting else None,
        "is_whole": backlog.is_whole,
        "not_known": f"{plural(backlog.strays, 'object')} there were not written by Sealift"
        if backlog.strays
        else None,
    }


def _backlog_problems(pair: Pair, backlog: Mapping[str, Any], now: float) -> Iterator[Problem]:
    """A problem if a run should have taken the backlog."""
    since = backlog["oldest_since"]
    if since is None:
        return
    seconds = now - datetime.fromisoformat(since).timestamp()
    if seconds > pair.thresholds.backlog_age + BACKLOG_SECONDS_MORE:
        text = f"pair {pair.name}: {plural(backlog['rows'], 'row')} of the backlog, and no run has taken them"
        yield Problem(f"{text}: sealift doctor", since)


async def _manifest_problems(
    ledger: Ledger, pair: Pair, runs: Sequence[Mapping[str, Any]], now: float, *, knows_all: bool
) -> list[Problem]:
    """A problem for each manifest whose rows no run has taken: a refused plan leaves no run.

    `knows_all`: the ledger has no other runs. Else a manifest of before the first of these may have
    one.
    """
    first = 0.0 if knows_all else min(map(began_at, runs), default=now)
    taken = {run["scope"]["manifest"] for run in runs if _takes_all_rows(run, pair)}
    problems = []
    for each in await read_manifests(ledger.store, ledger.location, pair.name, MANIFESTS):
        is_due = first <= each.created_at < now - BACKLOG_SECONDS_MORE
        if each.manifest not in taken and is_due:
            rows = f"the {plural(each.rows, 'row')} of manifest {each.number} of the backlog"
            command = f"sealift replicate --pair {pair.name} --manifest {shlex.quote(shown(each.manifest))}"
            problems.append(Problem(f"pair {pair.name}: no run has taken {rows}: {command}", iso_time(each.created_at)))
    return problems


def _takes_all_rows(run: Mapping[str, Any], pair: Pair) -> bool:
    """Whether a run copies all rows of its manifest to the pair's place. What was never planned
    copies nothing. The pair's own globs leave out what it does not want.
    """
    if run["scope"] is None or is_proof_only(run["job"]) or run["state"] == "unplanned":
        return False
    is_of_pair = run["pair"] == pair.name or run["destination"] == _places(pair)["destination"]
    return is_of_pair and not (run["scope"]["filters"] or {}).keys() - {"include", "exclude"}


async def _orphaned_backlogs(ledger: Ledger, policy: Policy) -> list[Problem]:
    """A problem for each backlog whose pair is not in the policy: nothing of it is ever copied."""
    problems = []
    for name in await backlog_pairs(ledger.store, ledger.location):
        if policy.pair(name) is None:
            backlog = await _backlog(ledger, name)
            if backlog["rows"] or backlog["not_known"]:
                rows = "rows" if backlog["rows"] is None else plural(backlog["rows"], "row")
                text = f"{rows} wait in the backlog of {shown(name)}, and the policy has no such pair"
                text += ": give the pair its name back"
                problems.append(Problem(text, backlog["oldest_since"]))
    return problems


def _night_problems(
    nights: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]], today: date
) -> Iterator[Problem]:
    """A line for each pair without a night that is well, or for each thing to do then.

    A repair alone does not make a night well: only the next check proves it.
    """
    for night in nights:
        command = f"sealift nightly --pair {night['pair']}"
        stages = night.get("stages", ())
        run_ids = {each["run_id"] for each in stages if each["run_id"]}
        carried = [Disproof.from_dict(each) for each in night.get("unanswered", ())]
        of_others = {step for each in carried for step in disproof_steps(night["pair"], each)}
        if night.get("night") is None:
            yield Problem(f"pair {night['pair']}: no night has ended yet. Start one: {command}", None)
        elif _days_ago(night["night"], today) > NIGHT_DAYS:
            text = f"pair {night['pair']}: no night has ended since {night['night']}: {command}"
            yield Problem(text, night["finished_at"])
        elif night["is_of_others"]:
            text = f"pair {night['pair']}: the night of {night['night']} {OTHER_PLACES}: {command} --again"
            yield Problem(text, None)
        elif night["exit_code"] and not (carried and is_well(stages)):
            head = f"pair {night['pair']}, night of {night['night']}: {head_of(night['verdict'])}"
            steps = [each for each in night.get("next_steps", ()) if each not in of_others]
            steps = steps or [f"Check again: {command} --again"]
            if repair := find_repair(runs, run_ids, is_proof_only):
                text = f"{head}. {repair} has repaired since. Check again: {command} --again --margin 0s"
                yield Problem(text, night["wrong_since"])
                steps = steps if len(steps) > 1 else []
            yield from (Problem(f"{head}. {step}", night["wrong_since"]) for step in steps)
        mended = _mended_since(runs, night)
        for disproof in night["open"]:
            if disproof.run_id not in mended | run_ids:
                head = f"pair {night['pair']}: {unanswered_text([disproof])}"
                steps = disproof_steps(night["pair"], disproof)
                yield from (Problem(f"{head}. {step}", disproof.found_at) for step in steps)


def _mended_since(runs: Sequence[Mapping[str, Any]], night: Mapping[str, Any]) -> set[str]:
    """The runs that retries have mended.

    What the last night carries on, only a retry mends that began later: the night knew the others,
    and a copy may be wrong again.
    """
    mended = find_repaired(runs, is_proof_only)
    carried = {each["run_id"] for each in night.get("unanswered", ())}
    if not mended & carried:
        return mended
    began = datetime.fromisoformat(night["finished_at"]).timestamp() - night["seconds"]
    later = [run for run in runs if run["retry_of"] is None or began_at(run) >= began]
    return (mended - carried) | (find_repaired(later, is_proof_only) & carried)


def _days_ago(night: str, today: date) -> int:
    """How old a night is. Any text may be in the ledger: what is no date is old."""
    try:
        return (today - date.fromisoformat(night)).days
    except ValueError:
        return NIGHT_DAYS + 1


async def _dismissals(ledger: Ledger, runs: Iterable[Mapping[str, Any]]) -> dict[str, Dismissal]:
    """Which of the runs a person has dismissed as they are now."""
    known = {run["run_id"]: run for run in runs}
    found = await gather_bounded(lambda run_id: find_dismissal(ledger, known[run_id]), known, READS)
    return {run_id: dismissal for run_id, dismissal in zip(known, found, strict=True) if dismissal is not None}


def _run_problems(
    runs: list[dict[str, Any]], nights: Sequence[Mapping[str, Any]], dismissed: Collection[str] = ()
) -> Iterator[tuple[dict[str, Any], Problem]]:
    """Runs that somebody has to act on, with why. `runs`: the latest first.

    `nights`: the last ones of the pairs, which say more of their own runs, and of those that ended
    before they did. `dismissed`: ids of runs that a person has dismissed.
    """
    unmended = {run["run_id"] for run in _unmended(runs, nights, dismissed)}
    for run in runs:
        if run["state"] in _NEXT:
            text = f"run {run['run_id']} is {run['state']}: {_NEXT[run['state']](run['run_id'])}"
            yield run, Problem(text, run["created_at"])
        elif run["silent_since"]:
            text = (
                f"run {run['run_id']} is incomplete, and nobody has written to it for "
                f"{SILENT_SECONDS / 3600:.0f} hours: sealift runs show {run['run_id']}"
            )
            yield run, Problem(text, run["silent_since"])
        elif run["run_id"] in unmended:
            text = f"run {run['run_id']}: {_found_text(run)}: sealift runs show {run['run_id']}"
            yield run, Problem(text, run["created_at"])


def _found_text(run: Mapping[str, Any]) -> str:
    """What needs attention of a run: `1 of 7 rows needs attention, 2 archives could not be read`."""
    what = "inventory line" if is_look(run["job"]) else "archive"
    unread = [f"{plural(run['unread'], what)} could not be read"] if run["unread"] else []
    bad = [need_attention(run["failures"], run["rows"])] if run["failures"] else []
    return ", ".join([*bad, *unread])


def _unmended(
    runs: Sequence[dict[str, Any]], nights: Sequence[Mapping[str, Any]], dismissed: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """The runs whose bad rows count: no retry mended them, no later run or night checked them.

    `dismissed`: runs that nobody has to act on. One that could not judge a row checked nothing.
    """
    of_nights = {stage["run_id"] for night in nights for stage in night.get("stages", ())}
    ended = {night["pair"]: datetime.fromisoformat(night["finished_at"]) for night in nights if "finished_at" in night}
    mended = find_repaired(runs, is_proof_only)
    for number, run in enumerate(runs):
        until = ended.get(run["pair"])
        is_over = run["run_id"] in {*mended, *of_nights} or (until is not None and ended_at(run) < until.timestamp())
        followers = [each for each in runs[:number] if each["run_id"] not in dismissed or has_judged(each)]
        if (run["failures"] or run["unread"]) and not is_over and not any(covers(later, run) for later in followers):
            yield run


def _found_since(pair: Pair, oldest: OldestUnproven, runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The `runs` that found objects of a pair wrong after its last night, and how many (`rows`)."""
    until = oldest.until
    if until is None:
        return []
    since = datetime.fromisoformat(until).timestamp()
    later = [run for run in runs if run["created_at"] and ended_at(run) > since and _is_of(pair, run)]
    found = [{"run_id": run["run_id"], "rows": _wrong_rows(run)} for run in later]
    return [each for each in found if each["rows"]]


def _is_of(pair: Pair, run: Mapping[str, Any]) -> bool:
    """True if a run worked on keys of the pair and on their copies."""
    source, destination = Location.parse(run["source"]), Location.parse(run["destination"])
    if (source.bucket, destination.bucket) != (pair.source.bucket, pair.destination.bucket):
        return False
    if pair.copy_key(source.key).rstrip("/") != destination.key.rstrip("/"):
        return False
    return any(Location(source.bucket, each).overlaps(source) for each in pair.source.prefixes)


def _wrong_rows(run: Mapping[str, Any]) -> int:
    """How many rows a run proved wrong. For a run that copies, `missing` is about the original."""
    wrong = {*FOUND, *((Status.MISSING, Category.STALE) if is_look(run["job"]) else ())}
    return sum(run["outcomes"].get(str(each), 0) for each in wrong)


def _head(document: Mapping[str, Any]) -> str:
    """The first line. "All is well" only if everything could be read, and each night says so."""
    if problems := document["problems"]:
        unknown = f", {len(document['not_known']):,} not known" if document["not_known"] else ""
        return f"{plural(len(problems), 'problem')}{unknown}"
    dismissed = plural(len(document["dismissed"]), "run")
    by_hand = f"{dismissed} {'was' if dismissed == '1 run' else 'were'} dismissed by hand"
    more = f", but {by_hand}" if document["dismissed"] else ""
    if unknown := document["not_known"]:
        things = "1 thing is" if len(unknown) == 1 else f"{len(unknown):,} things are"
        return f"Nothing wrong was found, but {things} not known{f', and {by_hand}' if more else ''}"
    looked_at = document["looked_at"]
    if not looked_at["has_policy"]:
        runs = plural(looked_at["runs"], "run")
        which = f"the latest {runs} of {looked_at['all_runs']:,}" if looked_at["runs"] < looked_at["all_runs"] else runs
        return f"Nothing wrong was found in {which}{more}. No policy is named, so no pair was looked at (--policy)"
    is_well = all(str(each["verdict"]).startswith(WELL) for each in document["pairs"])
    return WELL if is_well and not more else f"Nothing wrong was found{more}"


def _night_text(pair: Mapping[str, Any]) -> str:
    if pair["night"] is None:
        return "none has ended yet"
    return f"{pair['night']}: {head_of(pair['verdict'])} (ended {human_time(pair['finished_at'])})"


def _oldest_text(oldest: Mapping[str, Any]) -> str:
    if oldest["not_known"]:
        return f"not known: {oldest['not_known']}"
    if oldest["key"] is None:
        if found := oldest["found_since"]:
            wrong = ", ".join(f"{each['run_id']} found {each['rows']:,} wrong" for each in found)
            return f"none at the last night ({human_time(oldest['until'])}), but since then {wrong}"
        how = f" ({oldest['why']})" if oldest["why"] else ""
        return f"none: all that was written before {human_time(oldest['until'])} is proven{how}"
    return f"{shown(oldest['key'])} of {human_time(oldest['written_at'])} ({oldest['why']})"


def _backlog_text(backlog: Mapping[str, Any]) -> str:
    if backlog["rows"] is None:
        return "not known"
    if not backlog["rows"]:
        return "0 rows"
    rows = plural(backlog["rows"], "row") if backlog["is_whole"] else f"more than {plural(backlog['rows'], 'row')}"
    return f"{rows} ({human_bytes(backlog['bytes'])}) since {human_time(backlog['oldest_since'])}"


def _problem_text(problem: Mapping[str, Any]) -> str:
    since = f"since {human_time(problem['since'])}: " if problem["since"] else ""
    return f"  ! {since}{problem['problem']}"


def status_text(document: Mapping[str, Any]) -> str:
    """The status as text."""
    lines = [
        _head(document),
        *map(_problem_text, document["problems"]),
        *(
            f"  - {each['problem'].partition(': sealift')[0]}, dismissed by hand: {shown(each['reason'])} "
            f"({shown(each['by'])}, {human_time(each['at'])})"
            for each in document["dismissed"]
        ),
        *(f"  ? {each['what']} is not known: {each['why']}" for each in document["not_known"]),
    ]
    for each in document["pairs"]:
        lines += [
            "",
            shown(f"pair {each['pair']}  {each['source']} → {each['destination']}"),
            f"  last night       {_night_text(each)}",
            f"  oldest unproven  {_oldest_text(each['oldest_unproven'])}",
            f"  backlog          {_backlog_text(each['backlog'])}",
        ]
    if document["running"]:
        rows = [
            [
                run["run_id"],
                f"{run['accounted']:,} of {run['rows']:,}",
                human_time(run["created_at"]),
                run["destination"] or "",
            ]
            for run in document["running"]
        ]
        lines += ["", table(["running", "rows", "since", "destination"], rows)]
    lines += ["", *_queue_lines(document)]
    looked_at = document["looked_at"]
    of_all = (
        f", of which the latest {looked_at['runs']:,} were looked at"
        if looked_at["runs"] < looked_at["all_runs"]
        else ""
    )
    return "\n".join([*lines, f"ledger  {document['ledger']}, {plural(looked_at['all_runs'], 'run')}{of_all}"])


def _queue_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What waits in the queues of events."""
    events = document.get("events")
    if events is None:
        return
    if not events["has_events"]:
        why = "`sealift local` has none" if is_local() else "no event was ever handled: nights and backfills copy"
        yield f"events  there is no queue {events['queue']}, and {why}"
    elif events["waiting"] is not None:
        dead = document["dead_letters"]["waiting"]
        yield (
            f"events  {events['waiting']:,} waiting and {events['in_flight']:,} being handled in {events['queue']}, "
            f"{plural(dead, 'dead letter')}"
        )
