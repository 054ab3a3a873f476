"""The status as OpenMetrics text, for the text file of a node exporter or a cron job.

https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
A series is left out where nothing is known. Objects and bytes are those of a pair's last comparison.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import Any

from jobs.core.category import Category
from jobs.errors import ConfigError, StoreError
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import Night, Summary
from jobs.policy.model import Pair, Policy

NIGHTS = 30
"""How many nights of a pair are looked at for a good one."""
STATUSES = tuple(each for each in Category if each != Category.EXCLUDED)
GAUGES = {
    "sealift_problems": "What a person has to act on.",
    "sealift_good_night_age_seconds": "Since the last night without findings ended.",
    "sealift_oldest_verified_age_seconds": "Since the object that waits longest was verified.",
    "sealift_oldest_read_age_seconds": "Since the bytes that wait longest were read.",
    "sealift_open_findings": "Objects that are known to be wrong and are not accepted.",
    "sealift_backlog_rows": "Objects that wait for a run.",
    "sealift_waiting_events": "Events that wait in a queue.",
    "sealift_objects": "Objects of the last comparison by status.",
    "sealift_bytes": "Bytes of the last comparison by status.",
}


Sample = tuple[str, str, float]
"""A gauge, its labels as text, and a value. Labels are names of pairs and queues, which need no escapes."""


async def open_metrics(ledger: Ledger, policy: Policy | None, document: Mapping[str, Any], now: float) -> str:
    """The text. `document`: that of `sealift status`. `now`: epoch seconds."""
    samples: list[Sample] = [("sealift_problems", "", len(document["problems"]))]
    samples += [("sealift_backlog_rows", f'pair="{each["pair"]}"', each["rows"]) for each in document["backlogs"]]
    samples += [
        _waiting(each["what"], each["queue"], each["waiting"])
        for each in document["queues"]
        if each["waiting"] is not None
    ]
    if policy is not None:
        samples += await asyncio.to_thread(_events, policy)
    for pair in policy.pairs if policy else ():
        with suppress(StoreError, ConfigError):  # the status says why
            nights = await Night(ledger, pair.name, date.max).earlier(NIGHTS)
            samples += [*_ages(document, pair, nights, now), await _open_findings(ledger, pair)]
            samples += await _statuses(ledger, pair.name, nights)
    lines = []
    for gauge, help in GAUGES.items():
        lines += [f"# TYPE {gauge} gauge", f"# HELP {gauge} {help}"]
        lines += [f"{name}{{{labels}}} {value:.15g}" for name, labels, value in samples if name == gauge]
    return "\n".join([*lines, "# EOF"])


def _waiting(what: str, queue: str, count: int) -> Sample:
    return "sealift_waiting_events", f'kind="{what.replace(" ", "_")}",queue="{queue}"', count


def _events(policy: Policy) -> list[Sample]:
    from jobs.aws.dead_letters import DeadLetters

    name = f"{policy.name}-objects"
    try:
        depth = DeadLetters(name, str(policy.ledger.region), tries=1).queue.depth()
    except (StoreError, ConfigError):  # the status says why
        return []
    return [_waiting("event", name, depth.waiting + depth.delayed)]


def _ages(document: Mapping[str, Any], pair: Pair, nights: list[Summary], now: float) -> Iterator[Sample]:
    copies = f"s3://{pair.destination.bucket}/{pair.destination.prefix}"
    places = [each for each in document["places"] if each["place"].startswith(copies)]
    times: dict[str, list[datetime]] = {"good_night": [each.finished_at for each in nights if not each.exit_code][:1]}
    for gauge, name in (("oldest_verified", "oldest_checked"), ("oldest_read", "oldest_read")):
        times[gauge] = [datetime.fromisoformat(each[name]) for each in places if each[name]]
    for gauge, known in times.items():
        if known:
            yield f"sealift_{gauge}_age_seconds", f'pair="{pair.name}"', now - min(known).timestamp()


async def _open_findings(ledger: Ledger, pair: Pair) -> Sample:
    from jobs.ledger.state import OPEN
    from jobs.ledger.state_files import open_state
    from jobs.tables.duck import in_thread

    sql = f"SELECT count(*) FROM findings WHERE {OPEN} AND copy_bucket = ? AND starts_with(copy_key, ?)"
    async with open_state(ledger, only_open=True) as database:
        place = [pair.destination.bucket, pair.destination.prefix]
        answer = await in_thread(database.connection, database.connection.execute, sql, place)
        return "sealift_open_findings", f'pair="{pair.name}"', answer.fetchall()[0][0]


async def _statuses(ledger: Ledger, pair: str, nights: list[Summary]) -> list[Sample]:
    stages = [stage for stage in (nights[0].stages if nights else ()) if stage.stage == "reconcile" and stage.run_id]
    if not stages or (report := await ledger.report(str(stages[0].run_id))) is None:
        return []
    return [
        (f"sealift_{what}", f'pair="{pair}",status="{status.replace(" ", "_")}"', report["categories"][status][name])
        for what, name in (("objects", "rows"), ("bytes", "bytes"))
        for status in STATUSES
    ]
