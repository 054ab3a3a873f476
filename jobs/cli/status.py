"""`sealift status`: one screen of what goes on, what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import click

from jobs.cli.console import emit, table
from jobs.cli.options import command_options, json_option, ledger_option, policy_option, takes
from jobs.cli.policy_and_ledger import ledger_location, read_policy
from jobs.config import Settings
from jobs.doctor.undelivered import look_at_undelivered
from jobs.errors import ConfigError, ExitCode, StoreError
from jobs.ledger.ledger import Ledger
from jobs.nights.calendar import NIGHTS_REMEMBERED
from jobs.nights.disproofs import Disproof, disproof_steps, open_disproofs, unanswered_text
from jobs.nights.records import NightRecords
from jobs.nights.verdicts import WELL, head_of, is_well
from jobs.policy.model import Pair, Policy
from jobs.registry import is_proof_only
from jobs.reports.document import need_attention
from jobs.reports.figures import plural
from jobs.runs.prompt_ledger import open_prompt_ledger
from jobs.runs.replaced_runs import covers, repaired, repaired_since
from jobs.runs.summaries import RunFilter, summarize_runs

RUNS = 100
"""How many of the latest runs are looked at."""
NIGHT_DAYS = 2
"""A pair's last night is at most so old, or something is wrong."""

_NEXT = {
    "stopped": "sealift runs retry {}",
    "unreported": "sealift runs report {}",
    "unreadable": "sealift runs show {}",
}


@command_options
class StatusCommand:
    """`sealift status`, as it was typed."""

    policy: str | None = policy_option()
    ledger: str | None = ledger_option()
    as_json: bool = json_option()


@click.command()
@takes(StatusCommand)
def status(options: StatusCommand) -> int:
    """Show what runs, what the pairs' last nights came to, and what needs attention.

    The exit code is 3 if something does. A run's bad rows count until a retry mends them, or a
    later run of the same kind looks at all of them: between the same places, with the same filters
    or none, as deep. Those of a pair's runs count until its next night, and a night counts until a
    later one, or --again, is well. Copies that a night proved wrong count until a retry mends them,
    or a night proves their slice. Of all runs the latest 100 count. The pairs are those of the
    policy, if there is one.

    \b
    sealift status
    sealift status --policy policy.yaml --json
    """
    settings = Settings.from_environment()
    name = options.policy or settings.policy
    policy = read_policy(name).called(settings.system) if name else None
    place = ledger_location(options.ledger or settings.ledger or (policy.ledger.uri if policy else None), settings)
    document = asyncio.run(_look(open_prompt_ledger(place), policy))
    if policy is not None:
        document["dead_letters"] = letters = _dead_letters(policy)
        if count := letters["waiting"]:
            document["problems"].append(f"{plural(count, 'dead letter')} in {letters['queue']}: sealift events list")
        document["undelivered"] = [
            {name: each[name] for name in ("queue", "region", "account", "waiting", "error")}
            for each in look_at_undelivered(policy)
        ]
        for each in document["undelivered"]:
            if count := each["waiting"]:
                found = plural(count, "undelivered event")
                document["problems"].append(f"{found} in {each['queue']}: sealift events list")
    emit(document, as_json=options.as_json, text=status_text(document))
    return int(ExitCode.FINDINGS if document["problems"] else ExitCode.DONE)


async def _look(ledger: Ledger, policy: Policy | None) -> dict[str, Any]:
    runs = await summarize_runs(ledger, RUNS, RunFilter())
    nights = [await _last_night(ledger, pair) for pair in (policy.pairs if policy else ())]
    today = datetime.now(UTC).date()
    return {
        "ledger": str(ledger.location),
        "problems": [*_night_problems(nights, runs, today), *_run_problems(runs, nights)],
        "pairs": [{name: night.get(name) for name in ("pair", "night", "verdict", "exit_code")} for night in nights],
        "running": [run for run in runs if run["state"] == "incomplete"],
    }


def _dead_letters(policy: Policy) -> dict[str, Any]:
    """How many dead letters there are, or why nobody knows: `queue`, `waiting` and `error`."""
    from jobs.aws.dead_letters import DeadLetters

    name = f"{policy.name}-objects"
    try:
        letters = DeadLetters(name, str(policy.ledger.region), tries=1)
        return {"queue": letters.name, "waiting": letters.count(), "error": None}
    except (StoreError, ConfigError) as error:
        return {"queue": name, "waiting": None, "error": str(error)}


async def _last_night(ledger: Ledger, pair: Pair) -> Mapping[str, Any]:
    """The summary of the last night of a pair that has ended, or the pair's name alone.

    `open`: what the pair's nights have found wrong, and no later one proved (`Disproof`).
    """
    summaries = await NightRecords(ledger, pair.name, date.max).remembered(NIGHTS_REMEMBERED)
    last = summaries[0] if summaries else {}
    return last | {"pair": pair.name, "open": open_disproofs(summaries, str(last.get("destination", "")))}


def _night_problems(
    nights: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]], today: date
) -> Iterator[str]:
    """A line for each pair without a night that is well, or for each thing to do then.

    A repair alone does not make a night well: only the next check proves it.
    """
    mended = repaired(runs, is_proof_only)
    for night in nights:
        command = f"sealift nightly --pair {night['pair']}"
        stages = night.get("stages", ())
        run_ids = {each["run_id"] for each in stages if each["run_id"]}
        carried = [Disproof(**each) for each in night.get("unanswered", ())]
        of_others = {step for each in carried for step in disproof_steps(night["pair"], each)}
        if night.get("night") is None:
            yield f"pair {night['pair']}: no night has ended yet: {command}"
        elif _days_ago(night["night"], today) > NIGHT_DAYS:
            yield f"pair {night['pair']}: no night has ended since {night['night']}: {command}"
        elif night["exit_code"] and not (carried and is_well(stages)):
            head = f"pair {night['pair']}, night of {night['night']}: {head_of(night['verdict'])}"
            steps = [each for each in night.get("next_steps", ()) if each not in of_others]
            steps = steps or [f"Check again: {command} --again"]
            if repair := repaired_since(runs, run_ids, is_proof_only):
                yield f"{head}. {repair} has repaired since. Check again: {command} --again --margin 0s"
                steps = steps if len(steps) > 1 else []
            yield from (f"{head}. {step}" for step in steps)
        for disproof in night["open"]:
            if disproof.run_id not in {*mended, *run_ids}:
                head = f"pair {night['pair']}: {unanswered_text([disproof])}"
                yield from (f"{head}. {step}" for step in disproof_steps(night["pair"], disproof))


def _days_ago(night: str, today: date) -> int:
    """How old a night is. Any text may be in the ledger: what is no date is old."""
    try:
        return (today - date.fromisoformat(night)).days
    except ValueError:
        return NIGHT_DAYS + 1


def _run_problems(runs: list[dict[str, Any]], nights: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Runs that somebody has to act on. `runs`: the latest first.

    `nights`: the last ones of the pairs, which say more of their own runs, and of those that began
    before they ended. A run may begin in the second in which a night ends.
    """
    of_nights = {stage["run_id"] for night in nights for stage in night.get("stages", ())}
    ended = {night["pair"]: datetime.fromisoformat(night["finished_at"]) for night in nights if "finished_at" in night}
    well_again = repaired(runs, is_proof_only)
    for number, run in enumerate(runs):
        until = ended.get(run["pair"])
        is_over = run["run_id"] in {*well_again, *of_nights} or (
            until is not None and datetime.fromisoformat(run["created_at"]) < until
        )
        if run["state"] in _NEXT:
            yield f"run {run['run_id']} is {run['state']}: {_NEXT[run['state']].format(run['run_id'])}"
        elif run["failures"] and not is_over and not any(covers(later, run) for later in runs[:number]):
            found = need_attention(run["failures"], run["rows"])
            yield f"run {run['run_id']}: {found}: sealift runs report {run['run_id']}"


def _calm_head(pairs: Sequence[Mapping[str, Any]]) -> str:
    """The head without a problem. All is well only if each night says so."""
    is_well = all(str(each["verdict"]).startswith(WELL) for each in pairs)
    return WELL if is_well else "Nothing wrong was found"


def status_text(document: Mapping[str, Any]) -> str:
    """The status as text."""
    problems = document["problems"]
    lines = [
        plural(len(problems), "problem") if problems else _calm_head(document["pairs"]),
        *(f"  ! {each}" for each in problems),
    ]
    if document["pairs"]:
        rows = [[each["pair"], each["night"] or "–", each["verdict"] or "–"] for each in document["pairs"]]
        lines += ["", table(["pair", "last night", "came to"], rows)]
    if document["running"]:
        rows = [[run["run_id"], f"{run['rows']:,}", run["destination"] or ""] for run in document["running"]]
        lines += ["", table(["running", "rows", "destination"], rows)]
    if (letters := document.get("dead_letters")) and letters["error"]:
        lines += ["", f"dead letters  not looked at: {letters['error']}"]
    for each in document.get("undelivered", ()):
        if each["error"]:
            lines += ["", f"{each['queue']}  not looked at: {each['error']}"]
    return "\n".join([*lines, "", f"ledger  {document['ledger']}"])
