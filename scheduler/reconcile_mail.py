"""Reconciliations that a finished inventory started: their runs, and what people do about them.

Batch says which command ended, and the run's spec says which reports it compared.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.core.category import Category
from jobs.errors import NotFound
from jobs.s3.listing import list_folders
from scheduler.runtime import Runtime

_RUN = re.compile(r"(\d{8}T\d{6}Z)-reconcile-[0-9a-f]+")
_DAY_SECONDS = 86_400
LOOKED_AT = 50
"""So many runs are looked at, the latest first."""


async def find_reconcile_run(runtime: Runtime, job: Mapping[str, Any]) -> str | None:
    """The latest run that compared the reports which an ended job's command names.

    None: Batch does not say when the job was made, or no such run has a report.
    """
    command = (job.get("container") or {}).get("command") or []
    asked = [_value(command, f"--{side}-inventory") for side in ("source", "destination")]
    created_ms = job.get("createdAt")
    if None in asked or not isinstance(created_ms, int | float):
        return None
    for run_id in (await _run_ids(runtime, created_ms / 1000))[:LOOKED_AT]:
        spec = await _document(runtime, f"runs/{run_id}/spec.json")
        options = spec.get("options")
        compared = [spec.get("manifest"), options.get("destination_manifest") if isinstance(options, dict) else None]
        if compared == asked and await _document(runtime, f"runs/{run_id}/report.json"):
            return run_id
    return None


def next_steps(report: Mapping[str, Any], pair: str, folder: str) -> list[str]:
    """What a person copies after a pair's reconciliation. `folder`: that of the run, whose page says the rest."""
    found = {name for name, each in report["categories"].items() if each["rows"]}
    copying = f"sealift replicate --pair {pair} --manifest {folder}"
    steps = []
    if found & {Category.MISSING, Category.STALE}:
        steps.append(f"Copy what is missing or stale: {copying}repair.parquet")
    if Category.DIFFERENT in found:
        steps.append(f"Look at what differs. Overwrite it only if the source is right: {copying}different.parquet")
    return steps


def _value(command: Sequence[Any], option: str) -> str | None:
    words = [str(word) for word in command]
    place = words.index(option) + 1 if option in words else len(words)
    return words[place] if place < len(words) else None


async def _run_ids(runtime: Runtime, since: float) -> list[str]:
    """The reconcile runs that began at or after a time, the latest first."""
    begin, found = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(since)), []
    for day in range(int(since // _DAY_SECONDS), int(runtime.clock() // _DAY_SECONDS) + 1):
        place = runtime.place(f"runs/{time.strftime('%Y%m%dT', time.gmtime(day * _DAY_SECONDS))}")
        async for folder in list_folders(runtime.store(), place.bucket, place.key):
            run_id = folder.rstrip("/").rpartition("/")[2]
            if (match := _RUN.fullmatch(run_id)) and match[1] >= begin:
                found.append(run_id)
    return sorted(found, reverse=True)


async def _document(runtime: Runtime, name: str) -> dict[str, Any]:
    """A document of the ledger, empty for a missing or damaged one."""
    try:
        document = json.loads(await runtime.read(name))
    except (NotFound, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
