"""The submit function: starts a Batch job for a night, manifest or inventory.

The job is one plain job, which plans. Nothing is planned here.

    {"action": "nightly", "pair": "scans", "scheduled_at": "2026-11-25T01:00:00Z"}   EventBridge Scheduler, or a person
    {"action": "manifest", "pair": "scans", "number": 7}                             the enqueue function
    an object …/manifest.checksum was created (EventBridge)                           a finished inventory

| trigger   | command                                         | once for each         |
|-----------|-------------------------------------------------|-----------------------|
| nightly   | nightly --pair P --night D                      | pair and night        |
| manifest  | replicate --pair P --manifest URI               | manifest              |
| inventory | reconcile --source-inventory … --map …          | pair of reports       |
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jobs.backup.events import ObjectEvent, parse_document
from jobs.core.model import Location, parse_time
from jobs.errors import UsageError
from jobs.ledger.backlog import read_manifest
from jobs.nights.calendar import find_night
from jobs.policy.coverage import Scope, scope
from jobs.policy.model import Pair, Policy
from jobs.policy.run_options import prefix_map
from jobs.policy.words import minutes_of
from jobs.s3.listing import list_folders
from scheduler.batch_starts import Start, start
from scheduler.log import say
from scheduler.runtime import Runtime, current_runtime

T = TypeVar("T")

_REPORT = re.compile(r"(?P<bucket>[^/]+)/(?P<config>[^/]+)/(?P<stamp>\d{4}-\d\d-\d\dT\d\d-\d\dZ)/manifest\.checksum")
BACKFILL = "backfill"


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point. Raises SealiftError. Lambda then repeats an asynchronous call."""
    runtime = current_runtime()
    return runtime.run(handle(runtime, event, context.aws_request_id))


async def handle(runtime: Runtime, event: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    """Handle one event without Lambda. Returns `started`, a document for each job.

    Raises PolicyError, UsageError, StoreError, ConfigError.
    """
    policy = await runtime.policy()
    started = [await start(runtime, policy, what) for what in await _starts(runtime, policy, event)]
    for each in started:
        say("info", "started" if each["is_new"] else "started before", request=request_id, **each)
    return {"started": started}


async def _starts(runtime: Runtime, policy: Policy, event: Mapping[str, Any]) -> list[Start]:
    action = event.get("action")
    if action is None:
        return [start for report in parse_document(event) for start in await _reconciliations(runtime, policy, report)]
    pair = find_pair(policy, event.get("pair"))
    if action == "nightly":
        at = event.get("scheduled_at")
        return [nightly(pair, runtime.clock() if at is None else _parse("scheduled_at", parse_time, at))]
    if action == "manifest":
        number = _parse("number", int, event.get("number"))
        published = await read_manifest(runtime.store(), runtime.settings.ledger, pair.name, number)
        return [for_manifest(pair, number, published.manifest)]
    raise UsageError(f"there is no action {action!r}: nightly or manifest")


def find_pair(policy: Policy, name: Any) -> Pair:
    """The pair of this name. Raises UsageError, with the names that there are."""
    pair = policy.pair(str(name))
    if pair is None:
        names = ", ".join(each.name for each in policy.pairs)
        raise UsageError(f"there is no pair {name!r} in the policy, only {names}")
    return pair


def _parse(name: str, parse: Callable[[Any], T], value: Any) -> T:
    try:
        return parse(value)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{name} {value!r} cannot be read: {error}") from error


def nightly(pair: Pair, at: float) -> Start:
    """The latest night that has begun at `at` (epoch seconds) in the pair's time zone."""
    night = find_night(at, minutes_of(pair.nightly.hour), zoneinfo.ZoneInfo(pair.nightly.time_zone)).isoformat()
    return Start(pair.name, "nightly", night, ("nightly", "--pair", pair.name, "--night", night))


def for_manifest(pair: Pair, number: int, manifest: str = "") -> Start:
    """The run of a manifest. Its name needs only the number."""
    command = ("replicate", "--pair", pair.name, "--yes", "--manifest", manifest)
    return Start(pair.name, BACKFILL, f"{number:06d}", command)


async def _reconciliations(runtime: Runtime, policy: Policy, event: ObjectEvent) -> list[Start]:
    """The reconciliations that a finished inventory allows: of pairs that now have a report of both
    sides.
    """
    inventory = policy.inventory
    report = _REPORT.fullmatch(event.key.removeprefix(inventory.prefix).lstrip("/")) if inventory else None
    if inventory is None or report is None or event.bucket not in inventory.buckets.values():
        return []
    config, starts = report["config"], []
    for pair in policy.pairs:
        if report["bucket"] not in (pair.source.bucket, pair.destination.bucket) or not pair.source.inventory:
            continue
        covered = scope(policy, pair)
        if covered.excluded:
            continue  # a bare reconciliation knows no exclusions; the pair's night does
        source = await _latest(runtime, policy, pair.source.bucket, pair.source.region, config)
        destination = await _latest(runtime, policy, pair.destination.bucket, pair.destination.region, config)
        if source and destination and source[1][:10] == destination[1][:10]:
            starts.append(_reconcile(pair, covered, source, destination))
    return starts


def _reconcile(pair: Pair, covered: Scope, source: tuple[Location, str], destination: tuple[Location, str]) -> Start:
    maps = [word for text in prefix_map(pair, covered).texts() for word in ("--map", text)]
    sides = (
        *("--source-inventory", str(source[0])),
        *("--destination-inventory", str(destination[0])),
    )
    owners = [
        word
        for name, account in (("source", pair.source.account), ("destination", pair.destination.account))
        for word in (f"--{name}-expected-bucket-owner", str(account))
        if account
    ]
    return Start(pair.name, "reconcile", f"{source[1]}-{destination[1]}", ("reconcile", *sides, *owners, *maps))


async def _latest(
    runtime: Runtime, policy: Policy, bucket: str, region: str, config: str
) -> tuple[Location, str] | None:
    """The manifest.json of the latest complete report of a bucket, and the time when it began.

    Of the inventory configuration that is called `config`, else of the only one there is.
    """
    assert policy.inventory is not None
    where = {str(name): str(folder) for name, folder in policy.inventory.buckets.items()}.get(region)
    if where is None:
        return None
    store, base = runtime.store(region), f"{policy.inventory.prefix}{bucket}/"
    configs = [folder async for folder in list_folders(store, where, base)]
    chosen = [folder for folder in configs if folder == f"{base}{config}/"] or configs
    if len(chosen) != 1:
        return None
    dated = [folder async for folder in list_folders(store, where, chosen[0])]
    for folder in sorted(dated, reverse=True):
        stamp = folder.rstrip("/").rpartition("/")[2]
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ", stamp):
            inside = await store.list_objects(where, f"{folder}manifest.", max_keys=2)
            if len(inside.entries) == 2:
                return Location(where, f"{folder}manifest.json"), stamp
    return None
