"""The enqueue function: makes manifests of backlogs, and calls submit.

    {"action": "backlog"}                                 each five minutes: which backlog is big or old enough?
    {"action": "backlog", "pair": "scans", "now": true}   a person: this one, however small

Each call announces again a manifest of which a run was not started. Submit does nothing if it was
started meanwhile.

Of a pair, the runs of a day's manifests cost no more than its `limits.max_cost`, by an estimate from rows and bytes.
The rest waits: `sealift status` and an alarm name it.

Pairs are handled at once, so that none waits for another. A call makes one manifest of a pair, of what it has read when
the time is over, and the next call goes on from there. What fails for one pair fails the call at its end.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from jobs.aws.clients import invoke
from jobs.core.enums import StorageClass
from jobs.core.part_sizes import COPY_LIMIT_BYTES, PREFERRED_PART_BYTES
from jobs.core.pricing import Bill, Group, Histogram, PricedWork
from jobs.errors import Unavailable
from jobs.ledger.backlog import Manifest, Waiting, manifest_numbers, read_manifest, read_manifests
from jobs.policy.model import Pair, Policy
from jobs.policy.words import age_text
from scheduler import backlog
from scheduler.batch_starts import BACKFILL, started
from scheduler.log import measure, say
from scheduler.runtime import Runtime, current_runtime

RESERVE_SHARE = 0.2
"""The share of the time that is reserved for manifests that were read, and for submit."""
DAY_SECONDS = 86_400
MANIFESTS_OF_A_DAY = 300
"""There is at most one each five minutes."""
LISTING_SECONDS = 15.0
"""So long a manifest may take beyond its time before its pair is given up."""
Announce = Callable[[Manifest], Awaitable[object]]
_ANNOUNCED = ("pair", "number", "manifest", "rows", "size_bytes")


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point. Raises SealiftError, after it has done what it could."""
    runtime, following = current_runtime(), str(context.function_name).removesuffix("enqueue") + "submit"
    announced: list[dict[str, Any]] = []

    async def call_submit(each: Manifest) -> None:
        await asyncio.to_thread(invoke, following, {"action": "manifest", "pair": each.pair, "number": each.number})
        announced.append({name: getattr(each, name) for name in _ANNOUNCED})
        say("info", "manifest", request=context.aws_request_id, **announced[-1])

    runtime.run(handle(runtime, event, call_submit, context.get_remaining_time_in_millis() / 1000))
    return {"manifests": announced}


async def handle(
    runtime: Runtime, event: Mapping[str, Any], announce: Announce, remaining_seconds: float = math.inf
) -> None:
    """Handle one event without Lambda: `announce` each manifest for which a run must be started, oldest first.

    What could not be announced is announced by the next call. A failure of one pair does not keep the others from
    theirs: it is raised in the end. Raises PolicyError, UsageError, StoreError, LedgerError.
    """
    policy = await runtime.policy()
    end = asyncio.get_running_loop().time() + remaining_seconds * (1 - RESERVE_SHARE)
    pairs = policy.pairs if event.get("pair") is None else (policy.find_pair(event["pair"]),)
    works = [_enqueue_in_time(runtime, policy, pair, bool(event.get("now")), end) for pair in pairs]
    answers = await asyncio.gather(*works, return_exceptions=True)
    failures = [each for each in answers if isinstance(each, BaseException)]
    for failure in failures:
        say("error", "not enqueued", error=str(failure))
    for manifests in answers:
        for each in [] if isinstance(manifests, BaseException) else manifests:
            await announce(each)
    if failures:
        raise failures[0]


async def _enqueue_in_time(runtime: Runtime, policy: Policy, pair: Pair, is_asked: bool, end: float) -> list[Manifest]:
    try:
        async with asyncio.timeout_at(end + LISTING_SECONDS):
            return await _enqueue_backlog(runtime, policy, pair, is_asked, end)
    except TimeoutError as error:
        raise Unavailable("enqueue", f"the backlog of {pair.name}", "Timeout", "the time was over") from error


async def _enqueue_backlog(runtime: Runtime, policy: Policy, pair: Pair, is_asked: bool, end: float) -> list[Manifest]:
    """Publish what is due, in a manifest that a run of the pair may take. Returns all that have not been started."""
    waiting = await backlog.waiting(runtime, pair.name)
    _measure(policy, pair.name, waiting, runtime.clock())
    why = "asked for" if is_asked else _is_due(pair, waiting, runtime.clock())
    if why and (affordable := await _affordable(runtime, pair, waiting)):
        rows_max = min(backlog.ROWS_MAX, pair.limits.max_objects)
        await backlog.publish(runtime, pair.name, affordable, why, rows_max=rows_max, deadline=end)
    return await _unstarted(runtime, pair)


async def _affordable(runtime: Runtime, pair: Pair, waiting: Sequence[Waiting]) -> list[Waiting]:
    """What of the backlog may start: with the manifests of the last 24 hours it stays within the pair's `max_cost`."""
    began = runtime.clock() - DAY_SECONDS
    published = await read_manifests(runtime.store(), runtime.ledger, pair.name, MANIFESTS_OF_A_DAY)
    dollars = sum(_dollars(pair, each.rows, each.size_bytes) for each in published if each.created_at > began)
    taken: list[Waiting] = []
    for each in waiting:
        more = _dollars(pair, each.rows, each.size_bytes)
        if dollars + more <= pair.limits.max_cost:
            taken.append(each)
            dollars += more
    if rows := sum(each.rows for each in waiting) - sum(each.rows for each in taken):
        reason = f"limits.max_cost allows ${pair.limits.max_cost:,.2f} a day"
        say("warning", "backlog waits", pair=pair.name, rows=rows, reason=reason)
    return taken


def _dollars(pair: Pair, rows: int, size_bytes: int) -> float:
    """What a run costs that copies so much, as its plan will say of objects of one size in STANDARD."""
    work = PricedWork(
        apart=False,
        cross_region=pair.source.region != pair.destination.region,
        storage_class=pair.destination.storage_class or "keep",
        sse=pair.destination.encryption,
        annotations=pair.destination.annotations,
    )
    in_parts = rows > 0 and size_bytes / rows > COPY_LIMIT_BYTES
    parts = max(rows, -(-size_bytes // PREFERRED_PART_BYTES)) if in_parts else rows
    group = Group(StorageClass.STANDARD, in_parts, True, False, rows, size_bytes, parts)
    return sum(Bill(work, Histogram((group,), rows)).dollars.values())


def _is_due(pair: Pair, waiting: Sequence[Waiting], now: float) -> str:
    """Why the backlog is due, else empty."""
    rows, limits = sum(each.rows for each in waiting), pair.thresholds
    if rows >= limits.backlog_rows:
        return f"{rows} rows, at least {limits.backlog_rows}"
    oldest = min((each.since for each in waiting), default=now)
    return f"older than {age_text(limits.backlog_age)}" if now - oldest >= limits.backlog_age else ""


async def _unstarted(runtime: Runtime, pair: Pair) -> list[Manifest]:
    """The manifests that have not been started, the oldest first.

    Announced is not started: submit is called without waiting for its end, and may fail for one
    manifest and not for later ones.
    """
    known = await started(runtime, pair.name, BACKFILL)
    where = runtime.store(), runtime.ledger, pair.name
    return [await read_manifest(*where, each) for each in await manifest_numbers(*where) if f"{each:06d}" not in known]


def _measure(policy: Policy, pair: str, waiting: Sequence[Waiting], now: float) -> None:
    age, where = max((now - each.since for each in waiting), default=0.0), {"System": policy.name, "Pair": pair}
    rows, size_bytes = sum(each.rows for each in waiting), sum(each.size_bytes for each in waiting)
    measure({"BacklogAge": age}, where, Function="enqueue", BacklogRows=rows, BacklogBytes=size_bytes)
