"""Checks of the account and of what the ledger and the metrics say of the work."""

from __future__ import annotations

from datetime import date

from jobs.aws.readings import Unread
from jobs.doctor.batch_replication import advice
from jobs.doctor.facts import AccountFacts, LedgerFacts, NightFacts, WaitingFacts
from jobs.doctor.model import Check, Finding, failure, known, ok, warning
from jobs.reports.figures import human_seconds, plural
from jobs.s3.operations import Operation

SKEW_SECONDS_MAX = 300
"""AWS refuses requests that are 15 minutes off, most services five."""
SKEW_SECONDS_NOTED = 60
BACKLOG_SECONDS_MORE = 1800
"""A due backlog should be a run half an hour later: monitoring.tf."""


def _credentials(facts: AccountFacts) -> Finding:
    found = facts.identity
    if isinstance(found, Unread) and found.is_denied:  # this question needs no permission
        return failure("AWS does not accept these credentials", "renew them, or name another profile (AWS_PROFILE)")
    return ok(f"{known(found).arn}")


def _clock(facts: AccountFacts) -> Finding:
    skew = known(facts.skew_seconds)
    way = "ahead of" if skew > 0 else "behind"
    if abs(skew) > SKEW_SECONDS_MAX:
        return failure(f"this clock is {human_seconds(abs(skew))} {way} S3's", "set the clock, AWS refuses requests")
    if abs(skew) > SKEW_SECONDS_NOTED:
        return warning(f"this clock is {human_seconds(abs(skew))} {way} S3's", "set the clock")
    return ok("this clock agrees with S3's")


ACCOUNT_CHECKS = (Check("credentials", _credentials), Check("clock", _clock))


def _conditions(facts: LedgerFacts) -> Finding:
    ignored = known(facts.ignored)
    if Operation.PUT in ignored:
        return failure("the server ignores conditions on PutObject: two workers can both win", "use another server")
    if ignored:
        return warning(
            f"the server ignores conditions on {', '.join(ignored)}", "a damaged index may replace a newer one there"
        )
    return ok("the server heeds conditions of writes")


LEDGER_CHECKS = (Check("conditional-writes", _conditions),)


def _night(facts: NightFacts) -> Finding:
    ended = known(facts.ended)
    if not ended:
        return warning("no night has ended yet", f"sealift nightly --pair {facts.pair.name} plays one by hand")
    last = ended[0]
    hours = (facts.now - last.ended_at) / 3600
    if hours > facts.hours_max:
        return failure(
            f"the last night ended {hours:,.0f} hours ago, the policy wants one within {facts.hours_max}",
            "look at its schedule, then at sealift runs list",
        )
    if last.exit_code:
        return warning(f"the last night ended with {last.exit_code}: {last.verdict}", "read its report")
    return ok(f"the last night ended {hours:,.0f} hours ago: {last.verdict.partition(': ')[0]}")


def _proof(facts: NightFacts) -> Finding | None:
    """How long before the last night the slice of keys was proven whose turn is the longest ago."""
    ended = known(facts.ended)
    if not ended:
        return None
    slices = int(facts.pair.verify.rota)
    in_turn = plural(slices, "night")
    proven: dict[int, date] = {}
    for each in reversed(ended):
        if each.proven is not None and each.proven[1] == slices:
            proven[each.proven[0]] = each.night
    oldest = min((proven.get(number, ended[-1].night) for number in range(slices)), default=ended[-1].night)
    days = (ended[0].night - oldest).days  # how long ago the last night was is another line
    if days > slices + 1:
        return warning(
            f"some keys had no proof for {days} days before the last night, their turn comes within {in_turn}",
            "nights did not end, or their verification did not: sealift runs list",
        )
    return ok(f"every key was proven, or has its turn, within {in_turn}")


def _replica(facts: NightFacts) -> Finding | None:
    """What a night found in the replica. S3 itself says nothing of objects older than its rule."""
    ended = known(facts.ended)
    if facts.pair.replica is None or not ended:
        return None
    compared = next((each for each in ended if each.unreplicated is not None), None)
    if compared is None:
        return warning(
            "no night has compared the replica with the hot bucket: nobody knows what is older than its rule",
            f"sealift nightly --pair {facts.pair.name} --again compares them",
        )
    if not compared.unreplicated:
        return ok(f"the night of {compared.night} found the hot bucket's objects in the replica")
    hot = facts.pair.destination
    return failure(
        f"{compared.unreplicated:,} objects are not in the replica as in the hot bucket, by the night of "
        f"{compared.night}: they are older than the rule, or failed",
        advice(hot.bucket, hot.region, facts.replicator),
    )


NIGHT_CHECKS = (Check("last-night", _night), Check("proof", _proof), Check("replica", _replica))


def _events(facts: WaitingFacts) -> Finding:
    age = known(facts.event_seconds)
    if age is None:
        return ok("no event failed within an hour")
    if age > facts.event_seconds_max:
        return failure(f"an event is unhandled for {human_seconds(age)}", "the function's log and journal say why")
    return ok(f"the oldest unhandled event waited for {human_seconds(age)}")


def _backlog(facts: WaitingFacts) -> Finding:
    age = known(facts.backlog_seconds)
    if age is None:
        return warning("nobody has measured the backlog for an hour", "read the log of the function enqueue")
    if age > facts.pair.thresholds.backlog_age + BACKLOG_SECONDS_MORE:
        return failure(
            f"an object waits in the backlog for {human_seconds(age)}, and no run took it",
            "read the log of the function enqueue, then sealift runs list",
        )
    return ok(f"the oldest object of the backlog waits for {human_seconds(age)}")


WAITING_CHECKS = (Check("oldest-event", _events), Check("oldest-backlog", _backlog))
