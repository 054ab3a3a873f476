"""Settings of a process, from the environment.

boto3 reads AWS's own variables itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import ConfigError

ROWS_PER_SHARD = 100_000
"""The rows of a shard, unless the environment says otherwise."""
BATCH_PROCESSES = 16
"""The workers at once that a plan for AWS Batch counts on: the least number of its shards."""
TUNING = "SEALIFT_TUNING"
_DEFAULTS: Mapping[str, int | float] = {
    "processes": len(os.sched_getaffinity(0)),
    "in_flight": 512,
    "checkpoint_rows": 5_000,
    "checkpoint_seconds": 15.0,
    "patience_seconds": 60.0,
    "buffer_mib": 64.0,
    "rows_per_shard": ROWS_PER_SHARD,
    "max_failed_percent": 50.0,
}
"""What can be tuned: counts of at least 1, and numbers above zero."""
TUNING_NAMES = tuple(_DEFAULTS)


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
    max_failed_percent: float
    policy: str | None
    batch_job_id: str | None
    batch_queue: str | None
    batch_job_definition: str | None
    system: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Raises ConfigError for a number that is not positive, or an unknown word."""
        values = os.environ if environment is None else environment
        given = _read_tuning(values)
        tuning: dict[str, Any] = {**_DEFAULTS, **given}
        return cls(
            ledger=values.get("SEALIFT_LEDGER") or None,
            executor="batch" if values.get("SEALIFT_BATCH_QUEUE") else "local",
            batch_processes=int(given.get("processes", BATCH_PROCESSES)),
            buffer_bytes=int(tuning.pop("buffer_mib") * 1024 * 1024),
            policy=values.get("SEALIFT_POLICY") or None,
            batch_job_id=values.get("AWS_BATCH_JOB_ID") or None,
            batch_queue=values.get("SEALIFT_BATCH_QUEUE") or None,
            batch_job_definition=values.get("SEALIFT_BATCH_JOB_DEFINITION") or None,
            system=values.get("SEALIFT_SYSTEM") or None,
            **tuning,
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
        most = _read_tuning(os.environ if environment is None else environment).get("max_failed_percent")
        return {} if most is None else {TUNING: f"max_failed_percent={most:g}"}

    @staticmethod
    def is_endpoints_only(environment: Mapping[str, str] | None = None) -> bool:
        """Whether workers reach S3 by VPC endpoints only: `SEALIFT_ENDPOINTS_ONLY` is set."""
        return bool((os.environ if environment is None else environment).get("SEALIFT_ENDPOINTS_ONLY"))


def _read_tuning(environment: Mapping[str, str]) -> dict[str, int | float]:
    """`processes=2 buffer_mib=256` by name. Raises ConfigError."""
    tuning: dict[str, int | float] = {}
    for each in environment.get(TUNING, "").replace(",", " ").split():
        name, equals, text = each.partition("=")
        if name not in _DEFAULTS or not equals:
            advice = f"write NAME=VALUE, with a name of {', '.join(_DEFAULTS)}"
            raise ConfigError(f"{TUNING}: {each!r}", advice=advice)
        default = _DEFAULTS[name]
        try:
            tuning[name] = type(default)(float(text))
        except (ValueError, OverflowError):
            tuning[name] = 0
        if not 0 < tuning[name] < math.inf:
            least = "at least 1" if isinstance(default, int) else "a number above zero"
            raise ConfigError(f"{TUNING}: {name}={text!r}", advice=f"expected {least}, for example {default:g}")
    return tuning
