"""A healthy system in the place of AWS."""

from __future__ import annotations

import pytest

from jobs.aws import clients, queues
from jobs.doctor import system as doctors_system
from tests.doctor.system import System


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> System:
    made = System(capsys)
    monkeypatch.setattr(clients, "open_client", made.account.client)
    monkeypatch.setattr(queues, "open_client", made.account.client)
    monkeypatch.setattr(doctors_system, "open_store", lambda *_, **__: made.store)
    return made
