"""Hundreds of events in random order, many twice, with failing requests and invocations: nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.servers import Server
from tests.local.queue_process import queue_server
from tests.local.storm import storm


@pytest.mark.slow
def test_a_storm_ends_with_every_version_accounted_for(
    seaweed: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with queue_server() as port:
        figures = storm(seaweed, f"http://127.0.0.1:{port}", tmp_path, events=400, seed=5, crash_share=0.4)
    capsys.readouterr()
    assert figures.wrong == []
    assert figures.messages == 480
    assert min(figures.faults["refused"], figures.faults["lost"], figures.crashes) > 0
    assert figures.failed >= figures.crashes
