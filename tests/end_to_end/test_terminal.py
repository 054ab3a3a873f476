"""What a person at a terminal meets: questions, and Ctrl-C."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.scenes import copied
from tests.end_to_end.terminals import at_a_terminal


@pytest.mark.parametrize(("says_no", "code", "said"), [(True, 2, "as you said"), (False, 75, "interrupted")])
def test_who_does_not_agree_starts_nothing(world: World, says_no: bool, code: int, said: str) -> None:
    world.put("a")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    with at_a_terminal(world, "replicate", *sides) as terminal:
        terminal.await_text("Start?")
        if says_no:
            terminal.press("n\n")
        assert (terminal.await_end() if says_no else terminal.interrupt()) == code
        assert said in terminal.shown
        assert "nothing was started" in terminal.shown
        assert "Traceback" not in terminal.shown
    assert copied(world) == 0
    assert world.sealift("runs", "list", "--json").document["runs"] == []


def test_who_agrees_starts_it(world: World) -> None:
    world.put("a")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    with at_a_terminal(world, "replicate", *sides) as terminal:
        terminal.await_text("Start?")
        terminal.press("y\n")
        assert terminal.await_end() == 0
    assert copied(world) == 1
