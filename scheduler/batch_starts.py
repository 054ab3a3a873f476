"""Starts of Batch jobs: each happens once, in spite of duplicates and crashes.

    <ledger>/starts/<job name>.json             claimed: what will be started, and when. Written first
    <ledger>/starts/<job name>.submitted.json   its id

A claim is a lock, not an order: what is submitted comes from the trigger and the policy, never from
a claim. The job's name says what it is for, so a second caller asks for the same one. The writer of
a claim without an id may have crashed: then Batch is asked for a job of that name first. Of two
submitters the first to write the id wins, and the other job is ended before it starts.

Batch has no token for a submission and lists a job a moment late. So a second job is possible: its
submitter died before it wrote the id, or its request arrived after it was given up. A job records
its own id when it begins, unless one is recorded (`jobs.ledger.job_starts`). It knows its name by
SEALIFT_START. Of two running jobs one does the work.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from jobs.aws.batch import Batch
from jobs.aws.batch_arrays import NAME_CHARS_MAX, REPORT, SYSTEM_TAG, checked, retry_strategy
from jobs.config import Settings
from jobs.errors import NotFound
from jobs.ledger.job_starts import decode_start_record, encode_start_record, start_record_name
from jobs.ledger.run_ids import run_job
from jobs.policy.model import Policy
from jobs.restore.thawing import can_wait
from scheduler.log import say
from scheduler.runtime import Runtime

ATTEMPTS = 3
TIMEOUT_SECONDS = 14 * 86_400
"""How long an attempt may take: as long as Fargate lets a job run. The jobs that are started here
wait for arrays, and a backfill of 10⁹ objects takes days, so the timeout of a worker is not theirs.
https://docs.aws.amazon.com/batch/latest/userguide/fargate.html"""
_NIGHT = re.compile(r"\d{4}-\d\d-\d\d")
_ODD = re.compile(r"[^A-Za-z0-9_-]+")


class Trace(StrEnum):
    """Where the ledger says how a job ended: in a run's report, in a night's summary, or in what
    its own run leaves.
    """

    REPORT = "report"
    NIGHT = "night"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class StartKind:
    """A kind of job that the functions start.

    `has_pair`: it is about one of the policy's pairs, else about a run. `trace`: what it leaves.
    `definition`: the job definition of Terraform that it shares, if it has none of its own.
    `is_once`: whether a text may tell its starts apart.
    """

    name: str
    has_pair: bool = True
    trace: Trace = Trace.RUN
    definition: str = ""
    is_once: Callable[[str], bool] = bool


START_KINDS = {
    kind.name: kind
    for kind in (
        StartKind("nightly", trace=Trace.NIGHT, is_once=lambda once: _NIGHT.fullmatch(once) is not None),
        StartKind("backfill"),
        StartKind("restore", has_pair=False, is_once=can_wait),
        StartKind(
            REPORT,
            has_pair=False,
            trace=Trace.REPORT,
            definition="replicate",
            is_once=lambda once: run_job(once.rpartition("-")[0]) is not None,
        ),
    )
}
"""The kinds of jobs that the functions start, by their names."""


@dataclass(frozen=True, slots=True)
class Start:
    """One plain job to be started.

    `job`: one of `START_KINDS`. `once` tells it from others of its kind:
    a night, a manifest's number, a run, `id-…` (a person's), `request-…`.
    """

    pair: str
    job: str
    once: str
    command: tuple[str, ...]

    def name(self, policy: Policy) -> str:
        """The name of the Batch job, another one for each start.

        It ends in a hash where its parts cannot be read from it: where characters are replaced, it
        is cut, or pair or `once` holds the kind as well.
        """
        parts = self._parts(policy)
        whole = _ODD.sub("-", "-".join(parts))
        kind = f"-{self.job}-"
        is_ambiguous = bool(self.pair) and (kind in f"-{self.pair}-" or kind in f"-{self.once}-")
        if whole == "-".join(parts) and len(whole) <= NAME_CHARS_MAX and not is_ambiguous:
            return whole
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return f"{whole[: NAME_CHARS_MAX - 13]}-{digest}"

    def stem(self, policy: Policy) -> str:
        """What the names of all starts with the same pair and kind begin with."""
        whole = _ODD.sub("-", "-".join(replace(self, once="")._parts(policy)))
        return whole[: NAME_CHARS_MAX - 13]

    def _parts(self, policy: Policy) -> list[str]:
        return [part for part in (policy.name, self.pair, self.job, self.once) if part]


async def start(runtime: Runtime, policy: Policy, what: Start, batch: Batch | None = None) -> dict[str, Any]:
    """Start a job, or find that it was started: `job_name`, `job_id`, `is_new`. Raises StoreError,
    ConfigError.
    """
    name = what.name(policy)
    claim = {**asdict(what), "at": runtime.clock(), "token": secrets.token_hex(8)}
    is_new = await runtime.write_once(f"starts/{name}.json", _json(claim))
    answer = {"pair": what.pair, "job": what.job, "once": what.once, "job_name": name}
    if not is_new:
        known = await _submitted(runtime, name)
        if known is not None:
            return answer | {"job_id": known, "is_new": False}
    edge = batch or Batch()
    job_id = await asyncio.to_thread(edge.submit, _request(runtime, policy, what, name), is_new=is_new)
    if not await runtime.write_once(start_record_name(name), encode_start_record(job_id)):
        first = await _submitted(runtime, name)
        if first is not None and first != job_id:
            await asyncio.to_thread(edge.terminate, job_id, f"another one was first: {first}")
            return answer | {"job_id": first, "is_new": False}
    return answer | {"job_id": job_id, "is_new": is_new}


async def read_start(runtime: Runtime, policy: Policy, name: str) -> Start | None:
    """What a Batch job of ours was started for, without its command. None for a job of others.

    The claim only says how to read the job's name: its fields must give that name, by the policy.
    """
    try:
        claim = json.loads(await runtime.read(f"starts/{name}.json"))
        start = Start(str(claim["pair"]), str(claim["job"]), str(claim["once"]), ())
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        say("warning", "claim ignored", job_name=name, reason=f"it is no claim: {error!r}")
        return None
    if start.name(policy) != name or not _is_ours(policy, start):
        say("warning", "claim ignored", job_name=name, reason="it does not fit the job's name and the policy")
        return None
    return start


def _is_ours(policy: Policy, start: Start) -> bool:
    kind = START_KINDS.get(start.job)
    if kind is None or not kind.is_once(start.once):
        return False
    return policy.pair(start.pair) is not None if kind.has_pair else not start.pair


async def is_started(runtime: Runtime, policy: Policy, what: Start) -> bool:
    """Whether Batch has a job for it."""
    return await _submitted(runtime, what.name(policy)) is not None


async def started_names(runtime: Runtime, policy: Policy, pair: str, job: str) -> set[str]:
    """The names of all jobs of this kind that Batch has had for a pair, by one listing."""
    begin, suffix = Start(pair, job, "", ()).stem(policy), ".submitted.json"
    names = await runtime.names(f"starts/{begin}")
    return {begin + name.removesuffix(suffix) for name in names if name.endswith(suffix)}


async def is_second(runtime: Runtime, name: str, job_id: str) -> bool:
    """Whether another job of that name was recorded first. Then this one was ended, or should have
    been.
    """
    return await _submitted(runtime, name) not in (None, job_id)


async def _submitted(runtime: Runtime, name: str) -> str | None:
    try:
        return decode_start_record(await runtime.read(start_record_name(name)))
    except NotFound:
        return None


def _request(runtime: Runtime, policy: Policy, what: Start, name: str) -> dict[str, Any]:
    """SubmitJob's request. Queue and definition are Terraform's, unless settings name others."""
    settings = runtime.settings
    definition = settings.batch_job_definition or f"{policy.name}-{{job}}"
    environment = {"SEALIFT_LEDGER": str(settings.ledger), "SEALIFT_START": name}
    environment |= Settings.inherited()
    if settings.policy.startswith("s3://"):
        environment["SEALIFT_POLICY"] = settings.policy
    request = {
        "jobName": name,
        "jobQueue": settings.batch_queue or f"{policy.name}-orchestrators",
        "jobDefinition": definition.replace("{job}", START_KINDS[what.job].definition or what.job),
        "containerOverrides": {"command": list(what.command), "environment": _pairs(environment)},
        "retryStrategy": retry_strategy(ATTEMPTS),
        "timeout": {"attemptDurationSeconds": TIMEOUT_SECONDS},
        "tags": {
            SYSTEM_TAG: str(policy.name),
            "sealift:start": what.job,
            **({"sealift:pair": what.pair} if what.pair else {}),
        },
        "propagateTags": True,
    }
    return checked(request)


def _pairs(values: Mapping[str, str]) -> Sequence[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()
