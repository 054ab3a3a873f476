"""A healthy system in the place of AWS."""

from __future__ import annotations

import pytest

from jobs.aws import clients
from jobs.doctor import gather_stored
from tests.doctor.system import System


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> System:
    made = System(capsys)
    monkeypatch.setattr(clients, "open_client", made.account.client)
    monkeypatch.setattr(gather_stored, "open_store", lambda *_, **__: made.store)
    return made
