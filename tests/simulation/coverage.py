"""Which lines of the product the schedules pass: `python -m tests.simulation.coverage`, with Python 3.12 or newer.

Only lines within functions count. What a module does when it is loaded says nothing about a schedule.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from tests.simulation.engine.campaign import play
from tests.simulation.engine.courses import make

ROOT = Path(__file__).resolve().parents[2]
_OPTIMIZED = 0x1
"""The flag of a function's code. Those of modules and classes lack it."""


def main() -> int:
    """Play schedules and print the share of lines, for all, for each package, and what is never entered."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.coverage", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3_000, metavar="N", help="how many schedules (default 3,000)")
    given = parser.parse_args()
    if not hasattr(sys, "monitoring"):
        parser.error("it needs sys.monitoring, which Python has since 3.12")
    passed = _passed_lines(range(1, given.seeds + 1))
    for line in report(passed):
        print(line)
    return 0


def _passed_lines(seeds: range) -> dict[str, set[int]]:
    """The lines of the product that were passed while these schedules were played, by file."""
    passed: dict[str, set[int]] = defaultdict(set)
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009  mypy knows the oldest Python only
    ours = tuple(str(ROOT / folder) for folder in ("jobs", "scheduler"))

    def note(code: CodeType, line: int) -> object:
        if code.co_filename.startswith(ours):
            passed[code.co_filename].add(line)
        return monitoring.DISABLE  # each line is noted once

    monitoring.use_tool_id(monitoring.COVERAGE_ID, "sealift")
    monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, note)
    monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)
    gc.freeze()
    try:
        for seed in seeds:
            play(make(seed))
    finally:
        monitoring.free_tool_id(monitoring.COVERAGE_ID)
    return passed


def report(passed: dict[str, set[int]]) -> Iterator[str]:
    """The lines to print. `passed`: line numbers by file."""
    lines: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    never = []
    for folder in ("jobs", "scheduler"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            there = function_lines(path)
            found = there & passed.get(str(path), set())
            package = "/".join(path.relative_to(ROOT).parts[:2]) if path.parent != ROOT / folder else folder
            for name in (package, "all"):
                lines[name] += len(there)
                hits[name] += len(found)
            if there and not found:
                never.append(str(path.relative_to(ROOT)))
    for name in sorted(lines, key=lambda each: (each != "all", each)):
        yield f"{hits[name] / max(lines[name], 1):>6.1%}  of {lines[name]:>6,} lines  {name}"
    yield f"never entered: {len(never)} modules"
    yield from (f"  {name}" for name in never)


def function_lines(path: Path) -> set[int]:
    """The numbers of the lines within functions that have code, without those of `def` itself."""
    found: set[int] = set()
    codes = [compile(path.read_text(), str(path), "exec")]
    while codes:
        code = codes.pop()
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        if code.co_flags & _OPTIMIZED:
            found |= {line for _, _, line in code.co_lines() if line and line != code.co_firstlineno}
    return found


if __name__ == "__main__":
    sys.exit(main())
