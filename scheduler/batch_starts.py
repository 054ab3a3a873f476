"""Starts of Batch jobs: each happens once, in spite of duplicates and crashes.

    <ledger>/starts/<pair>/<job>/<once>/000001.json      claimed (`jobs.ledger.claims`), before Batch is asked
    <ledger>/starts/<pair>/<job>/<once>/submitted.json   the job's id

What is submitted comes from the trigger and the policy, never from a claim. The job's name says what it is for. Who has
the claim asks Batch for a job of that name first: the one who had it before may have died behind its submission. Batch
lists a job a moment late, so a second one is possible. What two do at once is done once (`jobs.ledger.claims`,
`jobs.ledger.owner`).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from msgspec import Struct

from jobs.aws.batch import Batch
from jobs.aws.batch_arrays import REPORT, SYSTEM_TAG, checked, retry_strategy
from jobs.config import Settings
from jobs.errors import NotFound, Unavailable
from jobs.ledger.claims import claim
from jobs.policy.model import Policy
from scheduler.runtime import Runtime

ATTEMPTS = 3
TIMEOUT_SECONDS = 14 * 86_400
"""How long an attempt may take: as long as Fargate lets a job run. The jobs that are started here
wait for arrays, and a backfill of 10⁹ objects takes days, so the timeout of a worker is not theirs.
https://docs.aws.amazon.com/batch/latest/userguide/fargate.html"""
NIGHTLY, DRILL, BACKFILL, RESTORE = "nightly", "drill", "backfill", "restore"
"""The kinds of jobs that functions start, beside `REPORT`: by their job definitions' names."""
_SUBMITTED = "submitted.json"


class Start(Struct, frozen=True):
    """One plain job to be started. `once`: the night or day, the manifest's number, or the run that it is for."""

    pair: str
    job: str
    once: str
    command: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where its claim lies below the ledger."""
        return "/".join(["starts", *filter(None, (self.pair, self.job, self.once))])

    def name(self, policy: Policy) -> str:
        """The name of the Batch job, another one for each start."""
        return "-".join([policy.name, *filter(None, (self.pair, self.job, self.once))])


async def start(
    runtime: Runtime, policy: Policy, what: Start, caller: str, batch: Batch | None = None
) -> dict[str, Any]:
    """Start a job, or find that it was started: `job_name`, `job_id`, `is_new`.

    `caller`: a call of Lambda, the same when Lambda repeats it. Raises Unavailable while another caller
    may be about to submit, StoreError, ConfigError.
    """
    name, record = what.name(policy), f"{what.place}/{_SUBMITTED}"
    answer = {"pair": what.pair, "job": what.job, "once": what.once, "job_name": name}
    try:
        return answer | {"job_id": json.loads(await runtime.read(record))["job_id"], "is_new": False}
    except NotFound:
        pass
    if not await claim(runtime.store(), runtime.ledger, what.place, {"caller": caller}):
        raise Unavailable("SubmitJob", name, "Claimed", "another call is about to start it")
    request = _request(runtime, policy, what, name)
    job_id = await asyncio.to_thread((batch or Batch()).submit, request, is_new=False)
    await runtime.write_once(record, json.dumps({"job_id": job_id}).encode())
    return answer | {"job_id": job_id, "is_new": True}


async def started(runtime: Runtime, pair: str, job: str) -> set[str]:
    """For which nights or numbers jobs of a pair were submitted, by one listing."""
    names = await runtime.names(f"{Start(pair, job, '').place}/")
    return {name.partition("/")[0] for name in names if name.endswith(f"/{_SUBMITTED}")}


def _request(runtime: Runtime, policy: Policy, what: Start, name: str) -> dict[str, Any]:
    """SubmitJob's request. Queue and definition are Terraform's, unless settings name others."""
    settings = runtime.settings
    definition = settings.batch_job_definition or f"{policy.name}-{{job}}"
    environment = {"SEALIFT_LEDGER": str(runtime.ledger), **Settings.inherited()}
    if runtime.policy_file.startswith("s3://"):
        environment["SEALIFT_POLICY"] = runtime.policy_file
    tags = {SYSTEM_TAG: policy.name, "sealift:start": what.job}
    request = {
        "jobName": name,
        "jobQueue": settings.batch_queue or f"{policy.name}-orchestrators",
        "jobDefinition": definition.replace("{job}", "replicate" if what.job == REPORT else what.job),
        "containerOverrides": {
            "command": list(what.command),
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
        },
        "retryStrategy": retry_strategy(ATTEMPTS),
        "timeout": {"attemptDurationSeconds": TIMEOUT_SECONDS},
        "tags": tags | ({"sealift:pair": what.pair} if what.pair else {}),
        "propagateTags": True,
    }
    return checked(request)
