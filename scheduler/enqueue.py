"""The enqueue function: makes manifests of backlogs or lists, and calls submit.

    {"action": "backlog"}                                 each five minutes: which backlog is big or old enough?
    {"action": "backlog", "pair": "scans", "now": true}   a person: this one, however small
    {"pair": "scans", "keys": ["scans/1.jpg", …]}         a person: these keys, as they are now
    {"pair": "scans", "rows": [{"key": …, "version_id": …}, …]}
    {"pair": "scans", "prefixes": ["scans/2026/"]}        a person: what a run will find there

Each call announces again a manifest of which a run was not started. Submit does nothing if it was
started meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.aws.clients import invoke
from jobs.core.metrics import Metric, Unit
from jobs.errors import UsageError
from jobs.policy.coverage import match
from jobs.policy.model import Pair, Policy
from scheduler import backlog
from scheduler.backlog import BacklogRow, Published, Waiting
from scheduler.batch_starts import is_started
from scheduler.log import measure, say
from scheduler.runtime import Runtime, current_runtime
from scheduler.submit import for_manifest

LISTED_MAX = 10_000
"""How many keys one call may list. More need a manifest or a prefix."""
MANIFESTS_CHECKED = 5
"""At least so many of the latest manifests are checked, and on to the first started one."""
_LISTS = ("keys", "rows", "prefixes")


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point."""
    runtime = current_runtime()
    published = runtime.run(handle(runtime, event))
    following = str(context.function_name).removesuffix("enqueue") + "submit"
    return runtime.run(_call_submit(published, following, context.aws_request_id))


async def handle(runtime: Runtime, event: Mapping[str, Any]) -> list[Published]:
    """Handle one event without Lambda. Returns the manifests for which runs must be started.

    Raises PolicyError, UsageError, StoreError.
    """
    policy = await runtime.policy()
    if any(event.get(name) for name in _LISTS):
        pair = _pair(policy, event.get("pair"))
        published = await _listed(runtime, policy, pair, event)
        before = await _unstarted(runtime, policy, pair)  # five manifests later, nobody would look
        return [*(each for each in before if each.number != published.number), published]
    pairs = policy.pairs if event.get("pair") is None else (_pair(policy, event["pair"]),)
    manifests = []
    for pair in pairs:
        waiting = await backlog.waiting(runtime, pair.name)
        _measure(policy, pair, waiting, runtime.clock())
        why = "asked for" if event.get("now") else _is_due(pair, waiting, runtime.clock())
        if waiting and why:
            await backlog.publish(runtime, pair.name, waiting, why)
        manifests += await _unstarted(runtime, policy, pair)
    return manifests


def _is_due(pair: Pair, waiting: Sequence[Waiting], now: float) -> str:
    """Why the backlog is due, else empty."""
    rows, limits = sum(each.rows for each in waiting), pair.thresholds
    if rows >= limits.backlog_rows:
        return f"{rows} rows, at least {limits.backlog_rows}"
    oldest = min((each.since for each in waiting), default=now)
    return f"older than {limits.backlog_age}" if now - oldest >= limits.backlog_age else ""


async def _listed(runtime: Runtime, policy: Policy, pair: Pair, event: Mapping[str, Any]) -> Published:
    bucket = pair.source.bucket
    try:
        if any(isinstance(event.get(name), str) for name in _LISTS):
            raise TypeError("a text would be taken letter by letter")
        rows = [BacklogRow(bucket, str(key), None, None, None, "asked for") for key in event.get("keys") or ()]
        for each in event.get("rows") or ():
            version = each.get("version_id")
            rows.append(BacklogRow(bucket, str(each["key"]), version and str(version), None, None, "asked for"))
        prefixes = [str(prefix) for prefix in event.get("prefixes") or ()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"keys and prefixes are lists of texts, rows a list of key and version_id ({error})"
        ) from error
    if len(rows) > LISTED_MAX:
        raise UsageError(f"{len(rows):,} rows: at most {LISTED_MAX:,} at once; write a manifest and start a backfill")
    try:
        rows = [backlog.check_row(row._asdict()) for row in rows]
    except (ValueError, TypeError) as error:
        raise UsageError(f"no object can have such a key or version id: {error}") from error
    strange = [row.key for row in rows if match(policy, bucket, row.key) is not pair]
    if strange:
        raise UsageError(f"{len(strange):,} keys are not the pair {pair.name}'s, {strange[0]!r} is the first")
    return await backlog.publish_listed(runtime, pair.name, rows, prefixes, "asked for")


async def _unstarted(runtime: Runtime, policy: Policy, pair: Pair) -> list[Published]:
    """The latest manifests of which something has not been started, the oldest first.

    Oldest first, so a started manifest implies that all older ones were announced.
    """
    unstarted: list[Published] = []
    for looked, number in enumerate(reversed(await backlog.numbers(runtime, pair.name)), 1):
        published = await backlog.read_manifest(runtime, pair.name, number)
        if not all([await is_started(runtime, policy, what) for what in for_manifest(pair, published)]):
            unstarted.append(published)
        elif looked >= MANIFESTS_CHECKED:
            break
    return unstarted[::-1]


async def _call_submit(published: Sequence[Published], function: str, request_id: str) -> dict[str, Any]:
    for each in published:
        payload = {"action": "manifest", "pair": each.pair, "number": each.number}
        await asyncio.to_thread(invoke, function, payload)
        say("info", "manifest", request=request_id, **each._asdict())
    return {"manifests": [each._asdict() for each in published]}


def _pair(policy: Policy, name: Any) -> Pair:
    pair = policy.pair(str(name))
    if pair is None:
        raise UsageError(
            f"there is no pair {name!r} in the policy, only {', '.join(each.name for each in policy.pairs)}"
        )
    return pair


def _measure(policy: Policy, pair: Pair, waiting: Sequence[Waiting], now: float) -> None:
    metrics = [
        Metric("BacklogRows", Unit.COUNT, sum(each.rows for each in waiting)),
        Metric("BacklogBytes", Unit.BYTES, sum(each.size_bytes for each in waiting)),
        Metric("BacklogAge", Unit.SECONDS, max((now - each.since for each in waiting), default=0.0)),
    ]
    measure(metrics, {"System": policy.name, "Pair": pair.name}, Function="enqueue")
