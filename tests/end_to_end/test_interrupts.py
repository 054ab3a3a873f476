"""Two interrupts end a run whose server has gone silent, and nothing is lost."""

from __future__ import annotations

import signal

import pytest

from tests.doubles import fault_proxy as faulty
from tests.doubles.batch.account import await_value
from tests.end_to_end.conftest import World
from tests.end_to_end.scenes import FAST_CHECKPOINTS, copied


@pytest.mark.slow
def test_two_signals_end_a_run_whose_server_never_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in range(60):
        world.put(f"k{each}")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    with faulty.fault_proxy(world.server.endpoint, faulty.Faults({}, seed=1)) as proxy:
        through = {"AWS_ENDPOINT_URL_S3": proxy.endpoint, "rows_per_shard": "30"}
        process = world.start("replicate", *sides, "--max-rate", "20", **FAST_CHECKPOINTS | through)
        await_value(lambda: process.poll() is not None or copied(world) > 5, 60)
        monkeypatch.setattr(faulty, "STALL_SECONDS", 3600.0)
        proxy.faults.shares = {"stall": 1}
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "stopping" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    assert "Traceback" not in stderr
    [run] = world.sealift("runs", "list", "--json").document["runs"]
    assert world.sealift("runs", "retry", run["run_id"], "--json").code == 0
    assert copied(world) == 60
