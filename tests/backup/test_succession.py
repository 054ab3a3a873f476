"""The table of `next_step`, row by row."""

from __future__ import annotations

import inspect

import pytest

from jobs.backup.succession import Act, NextStep, can_be_copy, newest, next_step
from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import Listed


def version(name: str, time: float = 0.0, size_bytes: int | None = 1, *, marker: bool = False) -> Listed:
    return Listed("k", name, True, marker, None if marker else size_bytes, None if marker else name, time, None)


A, B, MARKER = version("a"), version("b"), version("m", marker=True)
ROWS = [
    # history, copies, wanted, found, older on top, mirrored, step
    ([A, B], [B], [0], {1: 0}, False, False, NextStep(Act.COPY, 0)),
    ([A, MARKER], [A], [], {}, False, True, NextStep(Act.MARK)),
    ([], [A], [], {}, False, True, NextStep(Act.MARK)),
    ([A, MARKER], [MARKER], [], {}, False, True, NextStep(Act.DONE)),
    ([], [], [], {}, False, False, NextStep(Act.DONE)),
    ([], [A], [], {}, False, False, NextStep(Act.DONE)),
    ([A, B], [A], [], {}, False, False, NextStep(Act.COPY, 1)),
    ([A, B], [A, B], [0], {0: 0, 1: 1}, False, False, NextStep(Act.DONE)),
    ([A, B], [B, MARKER], [], {1: 0}, False, False, NextStep(Act.RESTORE, 0)),
    ([A, B], [B, A], [], {1: 0}, True, False, NextStep(Act.RESTORE, 0)),
    ([A], [A, B], [], {0: 0}, False, True, NextStep(Act.RESTORE, 0)),
    ([A], [A, B], [], {0: 0}, False, False, NextStep(Act.DONE)),
    ([A, MARKER], [A], [0], {0: 0}, False, False, NextStep(Act.DONE)),
]


@pytest.mark.parametrize(("history", "copies", "wanted", "found", "older", "mirrored", "step"), ROWS)
def test_every_row(
    history: list[Listed],
    copies: list[Listed],
    wanted: list[int],
    found: dict[int, int],
    older: bool,
    mirrored: bool,
    step: NextStep,
) -> None:
    assert next_step(history, copies, wanted, found, older_on_top=older, mirrors_deletes=mirrored) == step


def test_the_table_shows_every_step() -> None:
    text = inspect.getdoc(next_step) or ""
    shown = {line.rsplit("|", 2)[1].strip() for line in text.splitlines() if line.startswith("|")}
    assert shown >= {"copy it", "mark", "done", "restore it"}


def test_newest_knows_delete_markers_only_where_they_are_mirrored() -> None:
    assert newest([A, B, MARKER], mirrors_deletes=True) is None
    assert newest([A, B, MARKER], mirrors_deletes=False) == 1
    assert newest([MARKER, A], mirrors_deletes=True) == 1
    assert newest([], mirrors_deletes=False) is None


def test_a_copy_is_as_large_and_not_older_than_its_source() -> None:
    source = version("a", time=1000.0)
    assert can_be_copy(source, version("c", time=1000.0 - SKEW_SECONDS))
    assert not can_be_copy(source, version("c", time=999.0 - SKEW_SECONDS))
    assert not can_be_copy(source, version("c", time=2000.0, size_bytes=2))
    assert not can_be_copy(source, version("c", time=2000.0, marker=True))
    assert not can_be_copy(MARKER, version("c", time=2000.0))
