"""Settings of a function, from its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from jobs.core.model import Location
from jobs.errors import ConfigError


class FunctionSettings(Struct, frozen=True):
    """`SEALIFT_POLICY` (a policy.json, by path or s3://…) and `SEALIFT_LEDGER` (s3://bucket/prefix) are required.

    `SEALIFT_BATCH_QUEUE`, `SEALIFT_BATCH_JOB_DEFINITION` and `SEALIFT_TOPIC` replace the names that
    follow from the policy's name (`scheduler.batch_starts`, `scheduler.follow`).
    `SEALIFT_SYSTEM` is the system's name, if it is longer than the policy's. None if they are not
    set.
    """

    policy: str
    ledger: Location
    batch_queue: str | None = None
    batch_job_definition: str | None = None
    topic: str | None = None
    system: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> FunctionSettings:
        """Raises ConfigError if something is missing, UsageError for a ledger that is not an s3://
        URI.
        """
        values: dict[str, Any] = {
            name: environment.get(f"SEALIFT_{name.upper()}") or None for name in cls.__struct_fields__
        }
        for name in ("policy", "ledger"):
            if values[name] is None:
                raise ConfigError(f"SEALIFT_{name.upper()} is not set: this function needs it in its environment")
        return cls(**values | {"ledger": Location.parse(values["ledger"])})
