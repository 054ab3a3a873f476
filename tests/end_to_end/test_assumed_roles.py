"""A role that wants a code: a person types it once for the whole run."""

from __future__ import annotations

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
    profiles = ["--source-profile", PROFILE, "--destination-profile", PROFILE]
    with fake_sts(lambda number: (server.access_key, server.secret_key, 3600.0)) as sts:
        more = {"rows_per_shard": "2", "processes": "2"}
        for name, value in (sts.environment(tmp_path) | more).items():
            monkeypatch.setenv(name, value)
        with at_a_terminal(world, "replicate", *world.sides, *profiles, "--yes") as terminal:
            terminal.await_text("MFA code")
            terminal.press("123456\n")
            assert terminal.await_end() == 0, terminal.shown
    assert terminal.shown.count("MFA code") == 1
    assert sts.codes == ["123456"]
    assert copied(world) == 6
