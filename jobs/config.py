"""Settings of a process, from the environment.

boto3 reads AWS's own variables itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.core.failure_limit import FailureLimit
from jobs.core.parentage import LENDING, PARENT_PIPE
from jobs.errors import ConfigError, UsageError

ROWS_PER_SHARD = 100_000
"""The rows of a shard, unless the environment says otherwise."""

BATCH_PROCESSES = 16
"""The workers at once that a plan for AWS Batch counts on: the least number of its shards."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says about how Sealift works.

    `SEALIFT_LEDGER`, `SEALIFT_EXECUTOR` and `SEALIFT_POLICY` mean `--ledger`, `--executor` and
    `--policy`. The others tune workers: `SEALIFT_PROCESSES` (default: one per core, in
    AWS Batch 16),
    `SEALIFT_IN_FLIGHT` (rows at once in a worker), `SEALIFT_CHECKPOINT_ROWS`,
    `SEALIFT_CHECKPOINT_SECONDS`, `SEALIFT_PATIENCE_SECONDS`, `SEALIFT_BUFFER_MIB` (object data in a
    worker's memory), `SEALIFT_ROWS_PER_SHARD`, `SEALIFT_MAX_FAILURES` (`10%` or a count of rows,
    instead of the run's `--max-failures`). `SEALIFT_LOG`: `json` for a worker's log on stderr,
    `none` for none.
    `json` is the default within AWS Batch, which sets `AWS_BATCH_JOB_ID` (`in_batch`,
    `batch_job_id`). `SEALIFT_START`: the name by which the functions have started this job.
    `SEALIFT_BATCH_QUEUE` and `SEALIFT_BATCH_JOB_DEFINITION` say where `--executor batch` sends its
    jobs. `SEALIFT_SYSTEM` is the system's name,
    the policy's after a prefix of Terraform's: jobs bear it as the tag `sealift:system`, by which
    roles may end them.
    `SEALIFT_DEBUG` means `--debug`.
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
    log_json: bool = False
    in_batch: bool = False
    policy: str | None = None
    batch_job_id: str | None = None
    batch_queue: str | None = None
    batch_job_definition: str | None = None
    system: str | None = None
    max_failures: FailureLimit | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Raises ConfigError for a number that is not positive, or an unknown word."""
        values = os.environ if environment is None else environment

        def number(name: str, default: float) -> float:
            text = values.get(name, "")
            try:
                value = float(text) if text else default
            except ValueError:
                value = 0.0
            if not 0 < value < math.inf:
                raise ConfigError(f"{name}={text!r}", advice=f"expected a number above zero, for example {default:g}")
            return value

        def count(name: str, default: int) -> int:
            if not (value := int(number(name, default))):
                raise ConfigError(f"{name}={values[name]!r}", advice=f"expected at least 1, for example {default}")
            return value

        in_batch = bool(values.get("AWS_BATCH_JOB_ID"))
        log = values.get("SEALIFT_LOG") or ("json" if in_batch else "none")
        if log not in ("json", "none"):
            raise ConfigError(f"SEALIFT_LOG={log!r}", advice="expected json or none")

        return cls(
            ledger=values.get("SEALIFT_LEDGER") or None,
            executor=values.get("SEALIFT_EXECUTOR") or "local",
            processes=count("SEALIFT_PROCESSES", len(os.sched_getaffinity(0))),
            batch_processes=count("SEALIFT_PROCESSES", BATCH_PROCESSES),
            in_flight=count("SEALIFT_IN_FLIGHT", 512),
            checkpoint_rows=count("SEALIFT_CHECKPOINT_ROWS", 5_000),
            checkpoint_seconds=number("SEALIFT_CHECKPOINT_SECONDS", 15),
            patience_seconds=number("SEALIFT_PATIENCE_SECONDS", 60),
            buffer_bytes=int(number("SEALIFT_BUFFER_MIB", 64) * 1024 * 1024),
            rows_per_shard=count("SEALIFT_ROWS_PER_SHARD", ROWS_PER_SHARD),
            log_json=log == "json",
            in_batch=in_batch,
            policy=values.get("SEALIFT_POLICY") or None,
            batch_job_id=values.get("AWS_BATCH_JOB_ID") or None,
            batch_queue=values.get("SEALIFT_BATCH_QUEUE") or None,
            batch_job_definition=values.get("SEALIFT_BATCH_JOB_DEFINITION") or None,
            system=values.get("SEALIFT_SYSTEM") or None,
            max_failures=cls._max_failures(values.get("SEALIFT_MAX_FAILURES")),
        )

    @staticmethod
    def _max_failures(text: str | None) -> FailureLimit | None:
        try:
            return FailureLimit.parse(text) if text else None
        except UsageError as error:
            raise ConfigError(f"SEALIFT_MAX_FAILURES={error.what}", advice=error.own_advice) from error

    @staticmethod
    def logs_requests() -> bool:
        """True if the requests of this process are logged on stderr."""
        return bool(os.environ.get("SEALIFT_DEBUG"))

    @staticmethod
    def choose_request_log() -> None:
        """Log the requests of this process and of the workers on this machine on stderr."""
        os.environ["SEALIFT_DEBUG"] = "1"

    @staticmethod
    def inherited(environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables that a job in AWS Batch has to get from the process that submits it.

        Nothing, where the default is meant.
        """
        most = (os.environ if environment is None else environment).get("SEALIFT_MAX_FAILURES")
        return {"SEALIFT_MAX_FAILURES": most} if most else {}

    @staticmethod
    def is_endpoints_only(environment: Mapping[str, str] | None = None) -> bool:
        """Whether workers reach S3 by VPC endpoints only: `SEALIFT_ENDPOINTS_ONLY` is set."""
        return bool((os.environ if environment is None else environment).get("SEALIFT_ENDPOINTS_ONLY"))

    @staticmethod
    def has_parent_pipe() -> bool:
        """Whether this process is to end with its parent, which holds the other end of stdin."""
        return bool(os.environ.get(PARENT_PIPE))

    @staticmethod
    def has_lender() -> bool:
        """Whether this process borrows its credentials from its parent."""
        return bool(os.environ.get(LENDING))

    @staticmethod
    def job_start() -> tuple[str, str] | None:
        """The name by which this Batch job was started, and its id.

        None for all other processes.
        """
        name, job_id = os.environ.get("SEALIFT_START", ""), os.environ.get("AWS_BATCH_JOB_ID", "")
        return (name, job_id) if name and job_id else None
