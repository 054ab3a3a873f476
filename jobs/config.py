"""Settings of a process, from the environment.

boto3 reads AWS's own variables itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from jobs.errors import ConfigError

ROWS_PER_SHARD = 100_000
"""The rows of a shard, unless the environment says otherwise."""
BATCH_PROCESSES = 16
"""The workers at once that a plan for AWS Batch counts on: the least number of its shards."""
TUNING = "SEALIFT_TUNING"

_Count = Annotated[int, Meta(ge=1)]
_Number = Annotated[float, Meta(gt=0, lt=1e9)]


class Tuning(Struct, frozen=True, kw_only=True):
    """What can be tuned: counts of at least 1, and numbers above zero."""

    processes: _Count = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    in_flight: _Count = 512
    checkpoint_rows: _Count = 5_000
    checkpoint_seconds: _Number = 15.0
    patience_seconds: _Number = 60.0
    buffer_mib: _Number = 64.0
    rows_per_shard: _Count = ROWS_PER_SHARD
    max_failed_percent: _Number = 50.0


TUNING_NAMES = Tuning.__struct_fields__


class Settings(Tuning, frozen=True, kw_only=True):
    """What the environment says about how Sealift works.

    `SEALIFT_LEDGER` and `SEALIFT_POLICY` mean `--ledger` and `--policy`. `SEALIFT_BATCH_QUEUE` and
    `SEALIFT_BATCH_JOB_DEFINITION` say where jobs go in AWS Batch. Where a queue is named,
    `--executor` is `batch`, else `local`. `SEALIFT_SYSTEM` is the system's name, the policy's after
    a prefix of Terraform's: jobs bear it as the tag `sealift:system`, by which roles may end them.
    `SEALIFT_ENDPOINTS_ONLY` is 1 where workers reach S3 by VPC endpoints only.

    `SEALIFT_TUNING` is a list, as `processes=2 buffer_mib=256`. `processes`: workers at once
    (default: one per core, in AWS Batch 16). `in_flight`: rows at once in a worker. `buffer_mib`:
    object data in a worker's memory. `checkpoint_rows`, `checkpoint_seconds`: when a worker writes a
    checkpoint. `patience_seconds`: how long it waits for a service that does not answer.
    `rows_per_shard`. `max_failed_percent`: of its rows, for a worker to end early.
    """

    ledger: str | None = None
    policy: str | None = None
    batch_queue: str | None = None
    batch_job_definition: str | None = None
    system: str | None = None
    topic: str | None = None
    endpoints_only: bool | None = None
    executor: str
    batch_processes: int
    batch_job_id: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Raises ConfigError for a number that is not positive, or an unknown word."""
        tuned = dict(each.partition("=")[::2] for each in environment.get(TUNING, "").replace(",", " ").split())
        if unknown := tuned.keys() - {*TUNING_NAMES}:
            advice = f"write NAME=VALUE, with a name of {', '.join(TUNING_NAMES)}"
            raise ConfigError(f"{TUNING}: {', '.join(sorted(unknown))}", advice=advice)
        names = ("ledger", "policy", "batch_queue", "batch_job_definition", "system", "topic", "endpoints_only")
        said = {name: environment.get(f"SEALIFT_{name.upper()}") or None for name in names} | {
            "executor": "batch" if environment.get("SEALIFT_BATCH_QUEUE") else "local",
            "batch_processes": tuned.get("processes", BATCH_PROCESSES),
            "batch_job_id": environment.get("AWS_BATCH_JOB_ID") or None,
        }
        try:
            return msgspec.convert(tuned | said, cls, strict=False)
        except msgspec.ValidationError as error:
            text = str(error).replace("$.endpoints_only", "SEALIFT_ENDPOINTS_ONLY").replace("$", TUNING)
            advice = "counts are at least 1, numbers above zero, and what is on is 1"
            raise ConfigError(f"a setting is wrong: {text}", advice=advice) from error

    @property
    def buffer_bytes(self) -> int:
        """Object data in a worker's memory."""
        return int(self.buffer_mib * 1024 * 1024)

    @staticmethod
    def inherited(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The variables that a job in AWS Batch has to get from the process that submits it.

        Of its tuning only when to end early: all else is about the machine that submits. What is
        returned takes the place of the job definition's own variable.
        """
        own = environment.get(TUNING, "").replace(",", " ").split()
        most = [each for each in own if each.startswith("max_failed_percent=")]
        return {TUNING: most[-1]} if most else {}
