"""The table of promises in CONTRIBUTING.md: for each one the tests that notice when it breaks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MOST_TESTS = 5
_LINE = re.compile(r"\| `([a-z-]+)` \| (.+) \| (.+) \|")


class Promise(NamedTuple):
    name: str
    says: str
    tests: tuple[str, ...]
    """Paths from `tests/`, with `::name` of a test, or without for a whole file."""


def promises() -> list[Promise]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("\n## Promises\n")[2].partition("\n## ")[0]
    lines = [_LINE.fullmatch(line) for line in section.splitlines()]
    return [Promise(m[1], m[2], tuple(re.findall(r"`([^`]+)`", m[3]))) for m in lines if m]
