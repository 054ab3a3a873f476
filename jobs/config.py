"""Settings of a process, from the environment.

boto3 reads AWS's own variables itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.errors import ConfigError

ROWS_PER_SHARD = 100_000
"""The rows of a shard, unless the environment says otherwise."""
BATCH_PROCESSES = 16
"""The workers at once that a plan for AWS Batch counts on: the least number of its shards."""
TUNING = "SEALIFT_TUNING"
TUNING_NAMES = (
    "processes", "in_flight", "checkpoint_rows", "checkpoint_seconds", "patience_seconds", "buffer_mib",
    "rows_per_shard", "max_failed_percent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says about how Sealift works.

    `SEALIFT_LEDGER` and `SEALIFT_POLICY` mean `--ledger` and `--policy`. `SEALIFT_BATCH_QUEUE` and
    `SEALIFT_BATCH_JOB_DEFINITION` say where jobs go in AWS Batch. Where a queue is named,
    `--executor` is `batch`, else `local`. `SEALIFT_SYSTEM` is the system's name, the policy's after
    a prefix of Terraform's: jobs bear it as the tag `sealift:system`, by which roles may end them.

    `SEALIFT_TUNING` is a list, as `processes=2 buffer_mib=256`. `processes`: workers at once
    (default: one per core, in AWS Batch 16). `in_flight`: rows at once in a worker. `buffer_mib`:
    object data in a worker's memory. `checkpoint_rows`, `checkpoint_seconds`: when a worker writes a
    checkpoint. `patience_seconds`: how long it waits for a service that does not answer.
    `rows_per_shard`. `max_failed_percent`: of its rows, for a worker to end early.
    """

    ledger: str | None
    executor: str
    processes: int
    batch_processes: int
    in_flight: int
    checkpoint_rows: int
    checkpoint_seconds: float
    patience_seconds: float
    buffer_bytes: int
    rows_per_shard: int
    max_failed_percent: float = 50.0
    policy: str | None = None
    batch_job_id: str | None = None
    batch_queue: str | None = None
    batch_job_definition: str | None = None
    system: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Raises ConfigError for a number that is not positive, or an unknown word."""
        values = os.environ if environment is None else environment
        tuning = _read_tuning(values.get(TUNING, ""))

        def number(name: str, default: float) -> float:
            try:
                value = float(tuning[name]) if name in tuning else default
            except ValueError:
                value = 0.0
            if not 0 < value < math.inf:
                advice = f"expected a number above zero, for example {default:g}"
                raise ConfigError(f"{TUNING}: {name}={tuning[name]!r}", advice=advice)
            return value

        def count(name: str, default: int) -> int:
            if not (value := int(number(name, default))):
                advice = f"expected at least 1, for example {default}"
                raise ConfigError(f"{TUNING}: {name}={tuning[name]!r}", advice=advice)
            return value

        return cls(
            ledger=values.get("SEALIFT_LEDGER") or None,
            executor="batch" if values.get("SEALIFT_BATCH_QUEUE") else "local",
            processes=count("processes", len(os.sched_getaffinity(0))),
            batch_processes=count("processes", BATCH_PROCESSES),
            in_flight=count("in_flight", 512),
            checkpoint_rows=count("checkpoint_rows", 5_000),
            checkpoint_seconds=number("checkpoint_seconds", 15),
            patience_seconds=number("patience_seconds", 60),
            buffer_bytes=int(number("buffer_mib", 64) * 1024 * 1024),
            rows_per_shard=count("rows_per_shard", ROWS_PER_SHARD),
            max_failed_percent=number("max_failed_percent", 50),
            policy=values.get("SEALIFT_POLICY") or None,
            batch_job_id=values.get("AWS_BATCH_JOB_ID") or None,
            batch_queue=values.get("SEALIFT_BATCH_QUEUE") or None,
            batch_job_definition=values.get("SEALIFT_BATCH_JOB_DEFINITION") or None,
            system=values.get("SEALIFT_SYSTEM") or None,
        )

    @property
    def in_batch(self) -> bool:
        """True within AWS Batch."""
        return self.batch_job_id is not None

    @staticmethod
    def inherited(environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables that a job in AWS Batch has to get from the process that submits it.

        Of its tuning only when to end early: all else is about the machine that submits. What is
        returned takes the place of the job definition's own variable.
        """
        tuning = _read_tuning((os.environ if environment is None else environment).get(TUNING, ""))
        most = tuning.get("max_failed_percent")
        return {TUNING: f"max_failed_percent={most}"} if most else {}

    @staticmethod
    def is_endpoints_only(environment: Mapping[str, str] | None = None) -> bool:
        """Whether workers reach S3 by VPC endpoints only: `SEALIFT_ENDPOINTS_ONLY` is set."""
        return bool((os.environ if environment is None else environment).get("SEALIFT_ENDPOINTS_ONLY"))


def _read_tuning(text: str) -> dict[str, str]:
    """`processes=2 buffer_mib=256` by name. Raises ConfigError."""
    tuning = {}
    for each in text.replace(",", " ").split():
        name, equals, value = each.partition("=")
        if name not in TUNING_NAMES or not equals:
            raise ConfigError(
                f"{TUNING}: {each!r}", advice=f"write NAME=VALUE, with a name of {', '.join(TUNING_NAMES)}"
            )
        tuning[name] = value
    return tuning
