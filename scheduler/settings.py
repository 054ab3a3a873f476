"""Settings of a function, from its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.core.model import Location
from jobs.errors import ConfigError


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """`SEALIFT_POLICY` (a path or s3://…) and `SEALIFT_LEDGER` (s3://bucket/prefix) are required.

    `SEALIFT_BATCH_QUEUE`, `SEALIFT_BATCH_JOB_DEFINITION` and `SEALIFT_TOPIC` replace the names that
    follow from the policy's name (`scheduler.batch_starts`, `scheduler.follow`).
    `SEALIFT_BATCH_SHARE` says that queues share fairly, and is the share of jobs of no pair.
    `SEALIFT_SYSTEM` is the system's name, if it is longer than the policy's. None if they are not
    set.
    """

    policy: str
    ledger: Location
    batch_queue: str | None = None
    batch_job_definition: str | None = None
    topic: str | None = None
    batch_share: str | None = None
    system: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> FunctionSettings:
        """Raises ConfigError if something is missing, UsageError for a ledger that is not an s3://
        URI.
        """
        values = os.environ if environment is None else environment
        for name in ("SEALIFT_POLICY", "SEALIFT_LEDGER"):
            if not values.get(name):
                raise ConfigError(f"{name} is not set: this function needs it in its environment")
        return cls(
            values["SEALIFT_POLICY"],
            Location.parse(values["SEALIFT_LEDGER"]),
            values.get("SEALIFT_BATCH_QUEUE") or None,
            values.get("SEALIFT_BATCH_JOB_DEFINITION") or None,
            values.get("SEALIFT_TOPIC") or None,
            values.get("SEALIFT_BATCH_SHARE") or None,
            values.get("SEALIFT_SYSTEM") or None,
        )
