"""Nobody waits, and parts are small."""

from __future__ import annotations

import pytest

from tests.sync.scene import KIB


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.core.part_sizes.MIN_PART_BYTES", 5 * KIB)
    for module in ("copying", "multipart_copy"):
        monkeypatch.setattr(f"jobs.s3.{module}.STREAM_PART_BYTES", 8 * KIB)
