"""Questions about what the ledger says of the work: nights, their replicas, and the state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from functools import partial

from jobs.core.category import Category
from jobs.core.model import Location
from jobs.core.run import RunState
from jobs.doctor.batch_replication import advice
from jobs.doctor.model import Finding, Question, failure, ok, warning
from jobs.doctor.system import System
from jobs.ledger.ledger import Ledger
from jobs.ledger.state_files import Place, summary
from jobs.nights.calendar import Stage
from jobs.nights.documents import Night, Summary
from jobs.policy.model import Pair
from jobs.reports.figures import plural

_UNREPLICATED = (Category.MISSING, Category.STALE, Category.DIFFERENT)
DAY_SECONDS = 86_400


def questions(system: System) -> Iterator[Question]:
    """Of each pair that has nights."""
    for pair in system.pairs:
        if pair.nightly.enabled:
            subject = f"pair {pair.name}"
            yield Question("last-night", subject, partial(_night, system, pair), needs_aws=False)
            yield Question("state", subject, partial(_state, system, pair), needs_aws=False)
            if pair.replica:
                yield Question("replica", subject, partial(_replica, system, pair))


def _nights(system: System, pair: Pair, limit: int) -> list[Summary]:
    async def read(ledger: Ledger) -> list[Summary]:
        return await Night(ledger, pair.name, date.max).earlier(limit)

    return system.in_ledger(read)


def _night(system: System, pair: Pair) -> Finding:
    nights = _nights(system, pair, 1)
    if not nights:
        return warning("no night has ended yet", f"sealift nightly --pair {pair.name} plays one by hand")
    last, wanted = nights[0], system.policy.alarms.night_hours
    hours = (time.time() - last.finished_at.timestamp()) / 3600
    if hours > wanted:
        says = f"the last night ended {hours:,.0f} hours ago, the policy wants one within {wanted}"
        return failure(says, "look at its schedule, then at sealift runs list")
    if last.exit_code:
        return warning(f"the last night ended with {last.exit_code}: {last.verdict}", "read its report")
    return ok(f"the last night ended {hours:,.0f} hours ago: {last.verdict.partition(': ')[0]}")


def _state(system: System, pair: Pair) -> Finding:
    """What the last generation counts of the pair's copies: findings, and how long ago each was compared."""

    async def read(ledger: Ledger) -> list[Place]:
        return [*(await summary(ledger)).generation.places]

    hot = Location(pair.destination.bucket, pair.destination.prefix)
    places = [each for each in system.in_ledger(read) if hot.overlaps(Location(each.copy_bucket, each.prefix))]
    findings = sum(each.findings for each in places)
    if findings:
        return warning(f"{plural(findings, 'open finding')} of its copies", "sealift status names them")
    oldest = min((each.oldest_checked for each in places if each.oldest_checked is not None), default=time.time())
    days = (time.time() - oldest) / DAY_SECONDS
    if days > pair.verify.rota + 2:
        says = f"some copies were not compared for {days:,.0f} days, their turn comes within {pair.verify.rota} nights"
        return warning(says, "nights did not end, or their verification did not: sealift runs list")
    return ok(f"no open findings of {sum(each.objects for each in places):,} objects, each compared in its turn")


def _replica(system: System, pair: Pair) -> Finding:
    """What a night found in the replica. S3 itself says nothing of objects older than its rule."""
    for night in _nights(system, pair, pair.verify.rota):
        for stage in night.stages:
            if stage.stage == Stage.REPLICA and stage.state == RunState.COMPLETE:
                missing = sum(stage.counts.get(name, 0) for name in _UNREPLICATED)
                if not missing:
                    return ok(f"the night of {night.night} found the hot bucket's objects in the replica")
                says = (
                    f"{missing:,} objects are not in the replica as in the hot bucket, by the night of {night.night}: "
                    "they are older than the rule, or failed"
                )
                account = pair.destination.account or system.identity.account
                return failure(says, advice(pair.destination.bucket, pair.destination.region, account, system.name))
    return warning(
        "no night has compared the replica with the hot bucket: nobody knows what is older than its rule",
        f"sealift nightly --pair {pair.name} --again compares them",
    )
