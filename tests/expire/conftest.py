"""No test here waits between two tries, and none asks a server for its replication rules."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any, **__: Any) -> None: ...

    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    monkeypatch.setattr("jobs.expire.places.refuse_replicated_deletes", nothing)
