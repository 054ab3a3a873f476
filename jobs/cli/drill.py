"""`sealift drill`: a sample of a pair's backups, restored on trial."""

from __future__ import annotations

import secrets
import shlex
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from msgspec import to_builtins

from jobs.cli import console
from jobs.cli.command import Answer, LedgerCommand, PolicyOptions, Work, choose_pair
from jobs.cli.options import Name, Place, Positive, Rows, When, option, rare, shared
from jobs.config import Settings
from jobs.core.display import shown_key
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.errors import UsageError
from jobs.reports.figures import human_bytes, human_dollars, human_seconds, plural
from jobs.runs.launch import OF_PAIR
from jobs.runs.request import open_ledger

if TYPE_CHECKING:
    from jobs.drill.summary import Summary
    from jobs.drill.trial import LegPlan

CHECK_SECONDS = 3600
WHOLE = 1 << 62
"""Bytes: more than any bucket has."""


class Drill(PolicyOptions, LedgerCommand):
    """Restore a sample of a pair's backups to a place of its own, compare every byte, and remove it again.

    The sample is taken from the hot bucket, its replica and the pair's archives: some objects at random,
    and some of each storage class and age, older versions, the largest ones, odd keys. What is restored has to be as
    the source is, as the archives' index says, or as the version that it was made of: bytes, metadata, tags and
    annotations.
    --check runs a command of yours on it, with the place as its last argument. Only versions that the
    drill wrote are removed. The exit code is 3 if anything is wrong.

    \b
    sealift drill --pair scans
    sealift drill --pair scans --sample 1000 --prefix 2026/ --to s3://drills/scans/ --check './check.sh --fast'
    sealift drill --pair scans --as-of 30d --manifest contracts.csv --dry-run
    """

    pair_name: str = shared("pair", required=True)
    sample: int | None = option("So many objects of each place at random.", type=Positive, metavar="N")
    prefix: str | None = option("Only source keys that begin with this.")
    manifest: str | None = shared("manifest", "Exactly the source keys that this file names.", type=Rows)
    at: float | None = option("As it was at: 30d (ago), 2026-11-01, 2026-11-01T06:00:00Z.", name="--as-of", type=When)
    to: Location | None = option("Restore below this. Default: drill.bucket of the policy.", type=Place)
    check: str | None = option("Run this on what was restored, and expect 0.", metavar="COMMAND")
    check_seconds: int = rare("Stop the check after this.", type=Positive, default=CHECK_SECONDS, metavar="SECONDS")
    name: str | None = option("What the drill is called. The same name goes on with it.", type=Name)
    max_cost: float | None = shared("max-cost", default=None)
    dry_run: bool = shared("dry-run", default=False)
    yes: bool = shared("yes", default=False)

    def run(self) -> Work:
        """Choose, ask, restore, compare, and remove."""
        from jobs.drill.model import MOST, Asked
        from jobs.drill.summary import Drill as Documents
        from jobs.drill.summary import Summary
        from jobs.drill.trial import Trial, check_apart

        policy, pair, place = choose_pair(self.pair_name, self.policy, self.ledger)
        now, rules = time.time(), policy.drill
        if self.at is not None and self.at > now:
            raise UsageError("--as-of is in the future", advice="name a time that has passed, in UTC or with an offset")
        to = self.to or (Location(rules.bucket, rules.prefix) if rules else None)
        if to is None:
            raise UsageError("restore to where?", advice="give --to s3://bucket/prefix, or `drill:` in the policy")
        check_apart(policy, to)
        words = shlex.split(self.check or "")
        if words and shutil.which(words[0]) is None:
            raise UsageError(f"--check: {words[0]} is no program", advice="name one with its path")
        name = self.name or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        side = Side(to.join(f"{pair.name}/{name}/"), region=rules.region if rules and not self.to else None)
        if self.manifest and (self.sample or self.prefix):
            raise UsageError("--manifest names all that is restored", advice="leave out --sample and --prefix")
        sample = MOST if self.manifest else self.sample or (rules.sample if rules else 300)
        most = WHOLE if self.manifest else rules.max_size if rules else 10 * 1024**3
        asked = Asked(self.at or now, self.prefix or "", sample, most, secrets.randbelow(1 << 31), side, self.manifest)
        documents = Documents(open_ledger(place), pair.name, name)
        check = (words, self.check_seconds) if words else None

        async def play() -> Answer:
            from jobs.runs import launch

            if (ended := await documents.read(".json", Summary)) is not None:
                return Answer(to_builtins(ended), summary_text(ended), ended.exit_code)
            known = await documents.read("/asked.json", Asked) or asked
            settings = Settings.from_environment()
            trial = Trial(documents, policy, pair, settings, console, known, check)
            with ExitStack() as scratch:
                plans = await trial.plan(scratch)
                new = [each.planned for each in plans if each.planned]
                launch.check_limits(new, self.max_cost, None)
                launch.check_limits(new, pair.limits.max_cost, pair.limits.max_objects, OF_PAIR)
                text = plan_text(plans, str(known.to.location))
                if self.dry_run:
                    return Answer({"dry_run": True, "legs": [to_builtins(each.sample) for each in plans]}, text)
                if not self.as_json:
                    console.say(text)
                if not console.confirm("Start?", is_agreed=self.yes, as_json=self.as_json):
                    raise UsageError("nothing was started, as you said", advice="--yes does not ask")
                summary = await trial.run(plans)
            return Answer(to_builtins(summary), summary_text(summary), summary.exit_code)

        return play()


def plan_text(plans: Sequence[LegPlan], to: str) -> str:
    """What a drill restores, as text."""
    lines = [f"drill to {to}"]
    for each in plans:
        sample = each.sample
        text = f"{plural(sample.rows, 'object')} ({sample.random:,} of {sample.population:,} at random)"
        if each.run:
            _, plan = each.run
            takes = f"{human_seconds(plan.seconds)} to {human_seconds(plan.seconds_most)}"
            text += f", {human_bytes(sample.size_bytes)}, {human_dollars(plan.total_dollars)}, {takes}"
        lines.append(f"  {each.leg.name:9} {text}")
    return "\n".join(lines)


def summary_text(summary: Summary) -> str:
    """A drill's summary as text."""
    from jobs.core.words import explained
    from jobs.drill.summary import confidence

    lines = [f"Drill {summary.name}, pair {summary.pair}: {summary.verdict}"]
    for each in summary.legs:
        lines.append(f"  {each.leg:9} {plural(each.sample.rows, 'object')} in {human_seconds(each.seconds)}")
        lines[-1] += f"; {confidence(each)}" if confidence(each) else ""
        lines += [
            f"    {shown_key(found.key)}: {explained(found.reason, found.detail)}" for found in each.findings[:20]
        ]
    lines += [f"  {step}" for step in summary.next_steps]
    return "\n".join([*lines, f"  page  {summary.report_html}"])
