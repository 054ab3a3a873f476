"""A role that wants a code: a person types it once for the whole run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.doubles.fake_sts import PROFILE, fake_sts
from tests.end_to_end.conftest import World
from tests.end_to_end.scenes import copied
from tests.end_to_end.terminals import at_a_terminal


@pytest.mark.slow
def test_a_person_types_the_code_once_for_a_run_of_several_workers(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        world.put(f"k{number}")
    server = world.server
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    profiles = ["--source-profile", PROFILE, "--destination-profile", PROFILE]
    with fake_sts(lambda number: (server.access_key, server.secret_key, 3600.0)) as sts:
        more = {"rows_per_shard": "2", "processes": "2"}
        for name, value in (sts.environment(tmp_path) | more).items():
            monkeypatch.setenv(name, value)
        with at_a_terminal(world, "replicate", *sides, *profiles, "--yes") as terminal:
            terminal.await_text("MFA code")
            terminal.press("123456\n")
            assert terminal.await_end() == 0, terminal.shown
    assert terminal.shown.count("MFA code") == 1
    assert sts.codes == ["123456"]
    assert copied(world) == 6


@pytest.mark.parametrize("by_key", [True, False], ids=["Ctrl-C", "SIGTERM"])
def test_one_interrupt_ends_a_command_that_waits_for_a_code(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_key: bool
) -> None:
    world.put("k")
    with fake_sts(lambda number: (world.server.access_key, world.server.secret_key, 3600.0)) as sts:
        for name, value in sts.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        to = f"s3://{world.ledger}/inventories"
        with at_a_terminal(
            world, "inventory", f"s3://{world.source}", "--destination", to, "--source-profile", PROFILE
        ) as terminal:
            terminal.await_text("MFA code")
            terminal.await_text(": ")  # and is read now
            if by_key:
                terminal.press("\x03")
            else:
                terminal.process.send_signal(signal.SIGTERM)
            assert terminal.await_end() == 75, terminal.shown
    assert "interrupted" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert sts.codes == []
