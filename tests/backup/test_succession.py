"""The steps of `next_step`, each with its reason, and the table that it shows of them."""

from __future__ import annotations

import inspect

import pytest

from jobs.backup.succession import Act, NextStep, can_be_copy, is_older, newest, next_step
from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import Listed, ObjectVersion


def version(name: str, time: float = 0.0, size_bytes: int | None = 1, *, marker: bool = False) -> Listed:
    return Listed("k", name, True, marker, None if marker else size_bytes, None if marker else name, time, None)


A, B, MARKER = version("a"), version("b"), version("m", marker=True)
NONE, MIRRORED = ("", "none", "", ""), ("", "none, deletes mirrored", "", "an object")
BELOW = ("", "there", "below")
ROWS = [
    # history, copies, wanted, found, older on top, mirrored, step, the docstring's line, why
    (
        [A, B],
        [B],
        [0],
        {1: 0},
        False,
        False,
        NextStep(Act.COPY, 0),
        ("has no copy", "", "", ""),
        "a version that was asked for and has no copy is lost when the source loses it, so it goes before the order",
    ),
    (
        [A, B],
        [],
        [0, 1],
        {},
        False,
        False,
        NextStep(Act.COPY, 0),
        ("has no copy", "", "", ""),
        "of two, the older first: S3 cannot put a version below another one",
    ),
    (
        [A, MARKER],
        [A],
        [],
        {},
        False,
        True,
        NextStep(Act.MARK),
        MIRRORED,
        "deleted at the source, and the pair mirrors that: nobody may read the copy as current",
    ),
    (
        [],
        [A],
        [],
        {},
        False,
        True,
        NextStep(Act.MARK),
        MIRRORED,
        "no version is left at the source: it is deleted as well",
    ),
    ([A, MARKER], [MARKER], [], {}, False, True, NextStep(Act.DONE), NONE, "a second marker would say nothing new"),
    ([], [], [], {}, False, True, NextStep(Act.DONE), NONE, "a marker of a key that never was would say nothing"),
    ([], [], [], {}, False, False, NextStep(Act.DONE), NONE, "nothing was, and nothing is"),
    (
        [],
        [A],
        [],
        {},
        False,
        False,
        NextStep(Act.DONE),
        NONE,
        "deletes are retained: the last copy is what they are for",
    ),
    (
        [A, B],
        [A],
        [],
        {},
        False,
        False,
        NextStep(Act.COPY, 1),
        ("", "there", "none", ""),
        "the newest belongs on top, though another event asked",
    ),
    (
        [A, B],
        [A, B],
        [0],
        {0: 0, 1: 1},
        False,
        False,
        NextStep(Act.DONE),
        ("", "there", "on top", ""),
        "all that was wanted is stored, and the newest is current",
    ),
    (
        [A, B],
        [A, B],
        [],
        {1: 1},
        True,
        True,
        NextStep(Act.DONE),
        ("", "there", "on top", ""),
        "whatever else was heard, what is on top is not appended again",
    ),
    (
        [A, MARKER, B],
        [A, B],
        [1],
        {2: 1},
        False,
        True,
        NextStep(Act.DONE),
        ("", "there", "on top", ""),
        "a marker below the newest hides nothing, and has no bytes to copy",
    ),
    (
        [A, MARKER],
        [A],
        [0],
        {0: 0},
        False,
        False,
        NextStep(Act.DONE),
        ("", "there", "on top", ""),
        "deletes are retained: the marker hides nothing here",
    ),
    (
        [A, B],
        [B, MARKER],
        [],
        {1: 0},
        False,
        False,
        NextStep(Act.RESTORE, 0),
        (*BELOW, "a delete marker"),
        "the source shows B, so a marker above its copy is of the past",
    ),
    (
        [A, B],
        [B, A],
        [],
        {1: 0},
        True,
        False,
        NextStep(Act.RESTORE, 0),
        (*BELOW, "an older version's"),
        "a late older version came on top: readers would get A for B",
    ),
    (
        [A],
        [A, B],
        [],
        {0: 0},
        False,
        True,
        NextStep(Act.RESTORE, 0),
        (*BELOW, "unknown, deletes mirrored"),
        "B was removed at the source, and the pair mirrors that",
    ),
    (
        [A],
        [A, B],
        [],
        {0: 0},
        False,
        False,
        NextStep(Act.DONE),
        (*BELOW, "unknown, deletes retained"),
        "B was the newest until it was removed there, and removals are not followed",
    ),
]
"""What is right, written down apart from the code."""


@pytest.mark.parametrize(("history", "copies", "wanted", "found", "older", "mirrored", "step", "line", "why"), ROWS)
def test_every_row(
    history: list[Listed],
    copies: list[Listed],
    wanted: list[int],
    found: dict[int, int],
    older: bool,
    mirrored: bool,
    step: NextStep,
    line: tuple[str, ...],
    why: str,
) -> None:
    assert next_step(history, copies, wanted, found, older_on_top=older, mirrors_deletes=mirrored) == step, why


def test_the_docstring_shows_these_rows() -> None:
    text = inspect.getdoc(next_step) or ""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    steps = {Act.COPY: "copy it", Act.RESTORE: "restore it", Act.MARK: "mark", Act.DONE: "done"}
    played = {(*line, steps[step.act]) for *_, step, line, _ in ROWS}
    assert {tuple(cells) for cells in lines[2:]} == played


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
    # Some servers list a marker with a size.
    empty, marker = version("c", time=2000.0, size_bytes=0), version("m", time=1500.0, marker=True)
    assert not can_be_copy(marker._replace(size_bytes=0), empty)
    assert not can_be_copy(empty, marker._replace(size_bytes=0, last_modified=2500.0))


@pytest.mark.parametrize(
    ("time", "is_surely_older"), [(None, False), (999.0, True), (1000.0, True), (1000.9, True), (1001.0, False)]
)
def test_an_event_is_older_by_the_seconds_of_s3(time: float | None, is_surely_older: bool) -> None:
    """S3 dates a version to the second, its event to the millisecond."""
    row = ObjectVersion(0, "k", "v", last_modified=time)
    assert is_older(row, version("a", time=1000.0)) is is_surely_older
