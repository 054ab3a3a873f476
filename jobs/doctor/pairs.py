"""Questions about what the ledger says of the work at each pair: its last night and drill, and what waits for a run.

`sealift status` judges by the same rules, and a night's page has what they say of drills.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from functools import partial

from jobs.core.display import shown
from jobs.doctor.model import Finding, Question, failure, ok, unchecked, warning
from jobs.doctor.system import System
from jobs.drill.summary import ended_drills
from jobs.ledger.backlog import Waiting, read_backlog
from jobs.ledger.ledger import Ledger
from jobs.nights.summary import Ending, Summary, last_summary
from jobs.policy.model import Drill, Pair, Policy
from jobs.reports.document import iso_time
from jobs.reports.figures import human_seconds, plural

OVERDUE_SECONDS = 1800
"""Half an hour after a backlog is due, a run should have taken it: monitoring.tf."""


def questions(system: System) -> Iterator[Question]:
    """Of each pair."""
    for pair in system.pairs:
        asks = {"last-night": partial(_night, system.policy, pair), "backlog": partial(_backlog, pair)}
        asks["last-drill"] = partial(judge_drill, system.policy.drill, pair)
        for check, asked in asks.items():
            yield Question(check, f"pair {pair.name}", partial(system.in_ledger, asked), needs_aws=False)


async def _night(policy: Policy, pair: Pair, ledger: Ledger) -> Finding:
    return judge_night(policy, pair, await last_summary(ledger, pair.name))


async def _backlog(pair: Pair, ledger: Ledger) -> Finding:
    return judge_backlog(pair.name, pair, await read_backlog(ledger.store, ledger.location, pair.name))


def judge_night(policy: Policy, pair: Pair, last: Summary | None) -> Finding:
    """Whether the last night of a pair was good and recent. UNCHECKED where nights are off and none is recent."""
    play, hours = f"sealift nightly --pair {pair.name}", policy.alarms.night_hours
    if last is None and pair.nightly.enabled:
        return warning("no night has ended yet", f"play one by hand: {play}")
    ended = last.finished_at.timestamp() if last else 0.0
    age, since = time.time() - ended, iso_time(ended)
    says, is_old = f"the last night ended {human_seconds(age)} ago", age > 3600 * hours
    if is_old and pair.nightly.enabled:
        return failure(f"{says}, the policy wants one within {hours} hours", f"look at its schedule, or: {play}", since)
    if last and last.exit_code:
        # What leads here is left out: what the night has found is among the findings.
        steps = last.next_steps[:-1] if last.ending == Ending.FINDINGS else last.next_steps
        says = f"the night of {last.night} ended with {last.exit_code}: {last.verdict}"
        return warning(says, next(iter(steps), f"check again: {play} --again"), since)
    if last is None or is_old:
        return unchecked(f"its nights are off in the policy, and none has ended within {hours} hours", play)
    return ok(f"{says}: {last.verdict.partition(': ')[0]}")


async def judge_drill(rules: Drill | None, pair: Pair, ledger: Ledger) -> Finding:
    """Whether the last good drill of a pair is recent."""
    if rules is None:
        return ok("the policy asks for no drills")
    drills = await ended_drills(ledger, pair.name)
    play, good_at = f"sealift drill --pair {pair.name}", drills[0].good_at if drills else None
    if good_at is None:
        return warning("no drill was good yet" if drills else "no drill has ended yet", play)
    says, age = f"the last good drill ended {human_seconds(time.time() - good_at)} ago", time.time() - good_at
    if age > 2 * 86_400 * rules.days:
        return failure(f"{says}, the policy wants one every {rules.days} days", play, iso_time(good_at))
    return ok(says)


def judge_backlog(name: str, pair: Pair | None, waiting: Sequence[Waiting]) -> Finding:
    """What waits for a run of the pair of this name, the oldest first: rows of its backlog, or manifests of them."""
    if not waiting:
        return ok("nothing waits for a run")
    since, now = waiting[0].since, time.time()
    rows = plural(sum(each.rows for each in waiting), "object")
    says = f"{rows} wait for a run, the oldest for {human_seconds(now - since)}"
    if pair is None:
        return failure(says, "the policy has no such pair, add it", iso_time(since))
    manifests = [each for each in waiting if each.name.startswith("s3://")]  # they are due at once
    due = min(manifests[0].since if manifests else now, since + pair.thresholds.backlog_age)
    if now <= due + OVERDUE_SECONDS:
        return ok(says)
    advice = "the log of the function enqueue says why, or that limits.max_cost is reached: sealift runs list"
    if manifests and now > manifests[0].since + OVERDUE_SECONDS:
        manifest = shlex.quote(shown(manifests[0].name))
        advice = f"no run has taken them: sealift replicate --pair {name} --manifest {manifest}"
    return failure(says, advice, iso_time(since))
