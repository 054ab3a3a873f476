"""The table in the docstring of `jobs.sync.table`: each line that has a step is played."""

from __future__ import annotations

import re

import pytest

from jobs.sync import table
from jobs.sync.edges import Look
from jobs.sync.table import Act, Overwrite, Rules, Step, next_step
from tests.sync.looks import ALL, CURRENT, MIRROR, NEVER, UNKEPT, C, look

SCENES: dict[str, list[tuple[Look, Rules]]] = {
    "0a": [(look("A1 B2", "A3", is_damaged=True), ALL), (look("A1 B2", "", is_damaged=True), UNKEPT)],
    "1a": [(look("A1 B2", "B3"), ALL)],
    "1b": [(look("A1 B2", "B3", blocked={1}), ALL)],
    "1c": [(look("A1 B2", "C1"), NEVER)],
    "2a": [(look("A1 M2 B3", "A4"), MIRROR)],
    "3a": [(look("A1 M2", "A3"), MIRROR), (look("", "C3"), MIRROR)],
    "3b": [
        (look("A1 M2", "A2 C3"), MIRROR._replace(overwrite=Overwrite.NEVER)),
        (look("A1 M2", "A2 C3"), ALL._replace(is_replay=True)),
    ],
    "4a": [(look("A1 M2", "A2 M3"), MIRROR), (look("", "C3"), ALL)],
    "5a": [(look("A1 B2", "A3 C4"), ALL)],
    "6a": [(look("A1 B2", "A3 B4"), ALL)],
    "7a": [(look("?1", "?2", unknown=((0, 0),)), ALL)],
    "8a": [(look("A1", "A2 M3 A4 M5"), ALL)],
    "9a": [
        (look("A1", ""), CURRENT),
        (look("A1", "A2 M3"), CURRENT),
        (look("A1 B2", "B3 A4"), ALL),
        (look("A6", "C8", is_own=True), CURRENT),
        (look("?1 ?2", "?3 ?4", unknown=((0, 1), (1, 0), (1, 1)), different=((0, 0),)), ALL),
    ],
    "9b": [(look("A1 B2", "A3"), CURRENT._replace(overwrite=Overwrite.NEVER))],
    "10a": [
        (look("A1", "A2 C3", agreed=C), ALL),
        (look("A1", "A2 C3"), ALL._replace(overwrite=Overwrite.ALWAYS)),
        (look("A1", "A2 C3"), MIRROR),
        (look("A3", "A3 C3"), ALL),
    ],
    "11a": [(look("A1", "A2 C3"), ALL)],
    "11b": [(look("?1", "?2 B4", unknown=((0, 0),), different=((0, 1),), blocked={0}), ALL)],
    "11c": [(look("A1", "C3"), CURRENT), (look("A1", "A2 C3"), ALL._replace(is_replay=True))],
    "12a": [(look("M5", "A2"), UNKEPT._replace(mirrors_deletes=True))],
    "12b": [(look("M5", ""), UNKEPT._replace(mirrors_deletes=True)), (look("", "C3"), UNKEPT)],
    "13a": [(look("A1", "A2"), UNKEPT), (look("?1", "?2", unknown=((0, 0),)), UNKEPT)],
    "14a": [(look("A1", ""), UNKEPT), (look("A1", "M2"), UNKEPT)],
    "15a": [
        (look("A1", "C3", agreed=C), UNKEPT),
        (look("A1", "C3"), UNKEPT._replace(overwrite=Overwrite.ALWAYS)),
        (look("A5", "C3"), UNKEPT),
        (look("B1 A2", "B3"), UNKEPT),
        (look("A1", "C3", is_own=True), UNKEPT),
    ],
    "15b": [(look("A5", "C3"), UNKEPT._replace(keeps_replaced=True))],
    "16a": [(look("A3", "C3"), UNKEPT), (look("A1", "C0"), UNKEPT._replace(overwrite=Overwrite.NEVER))],
}


def lines() -> dict[str, str]:
    """Number and letter of each line that has a step → the step."""
    found: dict[str, str] = {}
    number, letter = "", "a"
    for row in re.findall(r"^\|(.{4})\|.*\|\s*([^|]*?)\s*\|$", table.__doc__ or "", re.MULTILINE):
        if row[0].strip().isdigit():
            number, letter = row[0].strip(), "a"
        if number and row[1]:
            found[f"{number}{letter}"] = row[1]
            letter = chr(ord(letter) + 1)
    return found


def worded(step: Step, looked: Look, *, waits: bool) -> str:
    """A step as the docstring says it. `waits`: the line is about a version below T."""
    objects = [each for each in looked.source if not each.is_marker]
    if step.act is Act.APPEND:
        return "append T" if step.version is objects[-1] else "append it, oldest first"
    if step.act is Act.MARK:
        return "delete marker"
    assert step.act is Act.DONE
    assert step.top is not None
    return f"it waits: {step.ends[objects[0]].status}" if waits else f"done: {step.top.status}"


@pytest.mark.parametrize("line", SCENES)
def test_each_line_of_the_table_is_what_happens(line: str) -> None:
    said = lines()[line]
    for looked, rules in SCENES[line]:
        done = worded(next_step(looked, rules), looked, waits=said.startswith("it waits"))
        if said == "done":
            assert done == "done: same"
        elif " / " in said:
            assert done.removeprefix("done: ") in said.removeprefix("done: ").split(" / ")
        else:
            assert done.split(" (")[0] == said.split(" (")[0]


def test_each_line_with_a_step_is_played() -> None:
    assert lines().keys() == SCENES.keys()
