"""The report of an acceptance: where the account differed from this machine, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.acceptance.script import Result

MARKS = {"same": "✓", "different": "✗", "not shown": "–", "not tried": "–"}


def document(about: Mapping[str, str], results: Sequence[Result], planned: Sequence[str], ended: str) -> dict[str, Any]:
    """The report. `about`: where and when. `planned`: the names of all steps. `ended`: why it ended early.

    A step that was not tried is in it, so that a short report never looks like a good one.
    """
    steps = [_step(result) for result in results]
    missing = [name for name in planned if name not in {result.step.name for result in results}]
    steps += [{"name": name, "state": "not tried"} for name in missing]
    counts = {state: sum(step["state"] == state for step in steps) for state in MARKS}
    return {**about, "ended": ended, "counts": counts, "steps": steps}


def _step(result: Result) -> dict[str, Any]:
    state = "not shown" if result.not_shown else "different" if result.differences else "same"
    return {
        "name": result.step.name,
        "does": result.step.does,
        "state": state,
        "differences": result.differences,
        "not_shown": result.not_shown,
        "expected": dict(result.step.expected),
        "seen": dict(result.seen),
        "seconds": round(result.seconds, 1),
    }


def text(report: Mapping[str, Any]) -> str:
    """The report for people: differences first of all."""
    counts = report["counts"]
    lines = [
        f"Acceptance of Sealift {report['version']} as {report['name']} in {report['where']}, {report['started_at']}",
        f"{counts['same']} steps as on this machine, {counts['different']} different, "
        f"{counts['not shown']} not shown, {counts['not tried']} not tried",
    ]
    if report["ended"]:
        lines.append(f"It ended early: {report['ended']}")
    order = ("different", "not shown", "not tried", "same")
    for step in sorted(report["steps"], key=lambda step: order.index(step["state"])):
        took = f", {step['seconds']:.0f} s" if step["state"] in ("same", "different") else ""
        lines.append(f"{MARKS[step['state']]} {step['name']}: {step['state']}{took}")
        lines += [f"    {each}" for each in step.get("differences", [])]
        lines += [f"    {step['not_shown']}"] if step.get("not_shown") else []
    return "\n".join(lines)


def write(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write both forms into a folder. Returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"report-{report['name']}.txt", folder / f"report-{report['name']}.json"]
    paths[0].write_text(text(report) + "\n", encoding="utf-8")
    paths[1].write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return paths


def is_clean(report: Mapping[str, Any]) -> bool:
    """True if every step was tried or said why it could not be, and none differed."""
    return not report["ended"] and report["counts"]["different"] == report["counts"]["not tried"] == 0
