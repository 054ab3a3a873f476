"""Advice after a comparison or its repair: what a person does now, and the commands for it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.core.category import FINDINGS, Category
from jobs.core.model import Location
from jobs.core.run import RunSpec
from jobs.ledger.ledger import Ledger
from jobs.reports.figures import plural

REPAIR = "repair.parquet"
"""The file of a run with the rows that its repair looks at."""
DIFFERENT = "different.parquet"
"""The file of a run with the rows that differ, each with the ETag of the copy that was seen."""
REPLICA_STEP = "S3 does not replicate these by itself any more. This shows the command that does: sealift doctor"
"""What a person does about a replica that differs."""
DISJOINT_STEP = (
    "No key is at both sides. Check the prefixes of --source and --destination, or give --map FROM=TO. "
    "If all copies are missing indeed, repair with --repair."
)


def first_steps(
    found: Mapping[str, Any], repair: str, overwrite: str, of_disjoint: Callable[[], str] | None = None
) -> list[str]:
    """What a person does about what a comparison `found`, the report of one. See `next_steps`.

    `of_disjoint`: makes the step where both sides have objects, and no key in common.
    """
    rows = {name: each["rows"] for name, each in found["categories"].items() if each["rows"]}
    if of_disjoint is not None and rows.keys() - {Category.EXCLUDED} == {Category.MISSING, Category.EXTRA}:
        return [of_disjoint()]
    left = {name: count for name, count in rows.items() if name in FINDINGS}
    # What is unverifiable is a finding only where the inventory says that its replication FAILED.
    left[Category.UNVERIFIABLE] = found["findings"] - sum(left.values())
    return next_steps(left, repair, overwrite)


def disjoint_step(places: Mapping[str, Location], missing: Sequence[str], extra: Sequence[str]) -> str:
    """What a person does about two sides without a common key: a prefix was forgotten, perhaps.

    `places`: what was compared, by side. `missing`, `extra`: the first keys below them that only the source
    has, and only the destination.
    """
    for side, longer, shorter in (("destination", extra, missing), ("source", missing, extra)):
        there = set(longer)
        ends = {each.removesuffix(shorter[0]) for each in longer if shorter and each.endswith(shorter[0])}
        for prefix in sorted(ends - {""}, key=len):
            if 2 * sum(prefix + each in there for each in shorter) > len(shorter):
                owner = "The copies'" if side == "destination" else "The source's"
                meant = f"--{side} {places[side]._replace(key=places[side].key + prefix)}"
                return f"No key is at both sides. {owner} keys begin with {prefix}: did you mean {meant}?"
    return DISJOINT_STEP


def next_steps(left: Mapping[str, int], repair: str, overwrite: str) -> list[str]:
    """What a person does now, a sentence for each step, as `why: command`.

    `left`: category → findings that are left. `repair` and `overwrite`: the commands that copy what
    is missing or stale, and what differs.
    """
    steps = []
    if left.get(Category.MISSING) or left.get(Category.STALE):
        steps.append(f"Copy what is missing or stale, and verify it: {repair}")
    if rows := left.get(Category.DIFFERENT):
        found = plural(rows, "different object")
        steps.append(f"Look at {found} first. Overwrite only if the source is right: {overwrite}")
    if rows := left.get(Category.EXTRA):
        steps.append(f"Look at {plural(rows, 'object')} without an original. Sealift leaves them where they are.")
    if left.get(Category.UNVERIFIABLE):
        steps.append("S3 reports that its replication failed. Find out why: sealift doctor")
    return steps


def night_steps(ledger: Ledger, spec: RunSpec, found: Mapping[str, Any], _: Path) -> list[str]:
    """The next steps after the comparison of a night. The policy says how its objects are copied."""
    if not found["findings"] or spec.options["of_replica"]:
        return [REPLICA_STEP] if found["findings"] else []
    repair, overwrite = (
        f"sealift replicate --pair {spec.options['pair']} --manifest {shlex.quote(ledger.uri(spec.run_id, name))}"
        for name in (REPAIR, DIFFERENT)
    )
    again = f"Then check again: sealift nightly --pair {spec.options['pair']} --again --margin 0s"
    return [*first_steps(found, repair, overwrite), again]
