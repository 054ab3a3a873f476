"""What a person at a terminal is asked."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.scenes import copied
from tests.end_to_end.terminals import at_a_terminal


@pytest.mark.parametrize(("answer", "code", "copies"), [("n\n", 2, 0), ("y\n", 0, 1)])
def test_a_run_starts_only_if_a_person_agrees(world: World, answer: str, code: int, copies: int) -> None:
    world.put("a")
    with at_a_terminal(world, "replicate", *world.sides) as terminal:
        terminal.await_text("Start? [y/N]: ")
        assert world.keys(world.destination) == []  # the trial's objects would stay while nobody answers
        terminal.press(answer)
        assert terminal.await_end() == code, terminal.shown
    assert ("nothing was started" in terminal.shown, "Traceback" in terminal.shown) == (code != 0, False)
    assert (copied(world), len(world.sealift("runs", "list", "--json").document["runs"])) == (copies, copies)
