"""The submit function: starts a Batch job for a night, a drill or a manifest.

The job is one plain job, which plans. Nothing is planned here.

    {"action": "nightly", "pair": "scans", "scheduled_at": "2026-11-25T01:00:00Z"}   EventBridge Scheduler, or a person
    {"action": "drill", "pair": "scans", "scheduled_at": "2026-11-25T01:00:00Z"}     likewise, if the policy has `drill`
    {"action": "manifest", "pair": "scans", "number": 7}                             the enqueue function

| trigger   | command                           | once for each  |
|-----------|-----------------------------------|----------------|
| nightly   | nightly --pair P --night D        | pair and night |
| drill     | drill --pair P --name D --yes     | pair and day   |
| manifest  | replicate --pair P --manifest URI | manifest       |
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jobs.core.model import parse_time
from jobs.errors import UsageError
from jobs.ledger.backlog import read_manifest
from jobs.nights.calendar import find_night
from jobs.policy.model import Pair, Policy
from jobs.policy.words import minutes_of
from scheduler.batch_starts import BACKFILL, DRILL, NIGHTLY, Start, start
from scheduler.log import say
from scheduler.runtime import Runtime, current_runtime


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point. Raises SealiftError. Lambda then repeats an asynchronous call."""
    runtime = current_runtime()
    return runtime.run(handle(runtime, event, context.aws_request_id))


async def handle(runtime: Runtime, event: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    """Handle one event without Lambda. Returns `started`, a list with the job's document.

    Raises PolicyError, UsageError, StoreError, ConfigError, ValueError.
    """
    policy = await runtime.policy()
    started = await start(runtime, policy, await _wanted(runtime, policy, event), request_id)
    say("info", "started" if started["is_new"] else "started before", request=request_id, **started)
    return {"started": [started]}


async def _wanted(runtime: Runtime, policy: Policy, event: Mapping[str, Any]) -> Start:
    action = event.get("action")
    if action not in ("nightly", "drill", "manifest"):
        raise UsageError(f"there is no action {action!r}: nightly, drill or manifest")
    pair = policy.find_pair(event.get("pair"))
    if action == "drill" and policy.drill is None:
        raise UsageError("the policy says no bucket that drills restore to: add drill, with bucket and region")
    if action != "manifest":
        at = parse_time(event["scheduled_at"]) if "scheduled_at" in event else runtime.clock()
        return nightly(pair, at) if action == "nightly" else drill(pair, at)
    number = int(event["number"])
    published = await read_manifest(runtime.store(), runtime.ledger, pair.name, number)
    return for_manifest(pair.name, number, published.manifest)


def for_manifest(pair: str, number: int, manifest: str) -> Start:
    """The run of a manifest of a pair."""
    command = ("replicate", "--pair", pair, "--yes", "--manifest", manifest)
    return Start(pair, BACKFILL, f"{number:06d}", command)


def nightly(pair: Pair, at: float) -> Start:
    """The latest night that has begun at `at` (epoch seconds) in the pair's time zone."""
    night = find_night(at, minutes_of(pair.nightly.hour), zoneinfo.ZoneInfo(pair.nightly.time_zone)).isoformat()
    return Start(pair.name, NIGHTLY, night, ("nightly", "--pair", pair.name, "--night", night))


def drill(pair: Pair, at: float) -> Start:
    """The drill of the day of `at` (epoch seconds) in UTC."""
    day = datetime.fromtimestamp(at, UTC).date().isoformat()
    return Start(pair.name, DRILL, day, ("drill", "--pair", pair.name, "--name", day, "--yes"))
