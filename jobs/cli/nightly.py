"""`sealift nightly`: a pair's night, and one summary of it."""

from __future__ import annotations

import os
import time
import zoneinfo
from datetime import datetime, tzinfo

import click
from msgspec import to_builtins

from jobs import interrupts
from jobs.cli import console
from jobs.cli.command import Answer, LedgerCommand, PolicyOptions, choose_pair
from jobs.cli.options import choice, flag, option, shared
from jobs.config import Settings
from jobs.errors import Interrupted, UsageError
from jobs.ledger.claims import claim
from jobs.nights.calendar import find_night
from jobs.nights.summary import Night, Summary, ended_nights
from jobs.policy.coverage import scope
from jobs.policy.run_options import sides
from jobs.policy.words import minutes_of
from jobs.runs.request import check_apart, open_ledger


class Nightly(PolicyOptions, LedgerCommand):
    """A pair's night: compare both sides, copy what is missing or stale, compare the replica with
    the hot bucket, verify a slice by checksums, and read another one.

    The inventories are S3's if the policy names them and they are at most 50 hours old, else
    listings. Objects that differ are reported, never overwritten. Of a replica all is reported,
    because S3 writes it. Each run keeps to the pair's limits. A run above them is refused, and the
    summary says so. A night happens once: started again, it continues where it stopped, or says
    when it ran and what it said then. With --again it checks once more, the same slices. What
    a night leaves are all findings of the pair that are open and not accepted, by any run.

    \b
    sealift nightly --pair scans
    sealift nightly --pair scans --night 2026-11-24 --executor batch --json
    """

    name: str = shared("pair", required=True)
    night: datetime | None = option(
        "Which night. Default: the last one to begin in the pair's zone.",
        type=click.DateTime(["%Y-%m-%d"]),
        metavar="YYYY-MM-DD",
    )
    again: bool = flag("Check again now, in a night that has already run.")
    margin: float | None = shared("margin", show_default="15m; of a replica without replication time control a day")
    executor: str | None = shared("executor", type=choice("local", "batch"))

    def run(self) -> Answer:
        """The night's summary."""
        settings = Settings.from_environment()
        policy, pair, place = choose_pair(self.name, self.policy, self.ledger)
        zone = zoneinfo.ZoneInfo(pair.nightly.time_zone)
        latest = find_night(time.time(), minutes_of(pair.nightly.hour), zone)
        night = self.night.date() if self.night else latest
        if night > latest:
            raise UsageError(f"--night {night}: that night has not begun", advice=f"the latest one is {latest}")
        check_apart(*sides(policy, pair), place)
        ledger, name = open_ledger(place), pair.name

        async def play() -> tuple[Summary, bool]:
            from jobs.doctor.pairs import judge_drill
            from jobs.nights.night import NightWork, write_page  # DuckDB and pyarrow load here

            nights = await ended_nights(ledger, name, before=f"{night}~")
            times = [each for each in nights if each.label[:10] == str(night)]
            if times and not self.again and (ended := await times[0].read()) is not None:
                await write_page(times[0], ended)  # a killed start may owe it
                return ended, True
            ours = Night(ledger, name, f"{night}-{len(times) + 1:02}" if times else str(night))
            who = {"batch_job_id": settings.batch_job_id} if settings.batch_job_id else {"host": os.uname().nodename}
            if not await claim(ledger.store, ledger.location, f"{ours.name}/claims", who):
                raise Interrupted(f"another machine works at the night of {night}", advice="wait until it has ended")
            last = await nights[0].read() if nights else None
            work = policy, pair, scope(policy, pair), settings, self.executor, console
            drill = await judge_drill(policy.drill, pair, ledger)
            return await NightWork(ours, *work, self.margin, last).run(drill.says, drill.advice), False

        summary, ran_before = interrupts.run(play())
        text = summary_text(summary, zone, ran_before=ran_before)
        return Answer(to_builtins(summary) | {"ran_before": ran_before}, text, summary.exit_code)


def summary_text(summary: Summary, zone: tzinfo, *, ran_before: bool) -> str:
    """The summary as text. `zone`: the pair's time zone."""
    head, ended = f"Night of {summary.night}, pair {summary.pair}", summary.finished_at.astimezone(zone)
    if ran_before:
        head += f": already ran at {ended:%H:%M} on {ended:%Y-%m-%d}, nothing was checked now. It said"
    text = [f"{head}: {summary.verdict}", *(f"  {each}" for each in summary.next_steps)]
    if summary.report_html:
        text.append(f"  page  {summary.report_html}")
    if ran_before:
        text.append(f"  To check now: sealift nightly --pair {summary.pair} --night {summary.night} --again")
    return "\n".join(text)
