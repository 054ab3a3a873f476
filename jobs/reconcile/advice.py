"""Advice after a comparison or its repair: what a person does now, and the commands for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.core.category import Category
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.ledger.ledger import Ledger
from jobs.reconcile.findings import first_findings
from jobs.reports.document import findings_of
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
    ledger: Ledger, spec: RunSpec, found: Mapping[str, Any], maps: PrefixMap, differences: Path, commands: Sequence[str]
) -> list[str]:
    """What a person does about what a comparison `found`: its report, and a file of `differences`.

    `commands`: those that repair and overwrite, see `next_steps`. In a night the policy says how objects are copied.
    """
    pair = spec.options.get("pair")
    if spec.options.get("of_replica"):
        return [REPLICA_STEP] if found["findings"] else []
    rows = {name: each["rows"] for name, each in found["categories"].items() if each["rows"]}
    if not pair and rows.keys() - {Category.EXCLUDED} == {Category.MISSING, Category.EXTRA}:
        return [_disjoint_step(spec, maps, differences)]
    left = findings_of(found)
    if not pair:
        return next_steps(left, *commands)
    copy = f"sealift replicate --pair {pair} --manifest {{}}".format
    steps = next_steps(left, *(copy(shlex.quote(ledger.uri(spec.run_id, name))) for name in (REPAIR, DIFFERENT)))
    return [*steps, f"Then check again: sealift nightly --pair {pair} --again --margin 0s"] if steps else []


def _disjoint_step(spec: RunSpec, maps: PrefixMap, differences: Path) -> str:
    def place(side: Side, name: str, category: Category, key: str) -> tuple[Location, list[str]]:
        rows = first_findings(differences, f"category = '{category}'")
        return side.location._replace(key=key), [row[name].removeprefix(key) for row in rows]

    below = maps.pairs[0] if len(maps.pairs) == 1 else ("", "")
    source = place(spec.source, "key", Category.MISSING, below[0])
    return disjoint_step(source, place(spec.destination, "destination_key", Category.EXTRA, below[1]))


def disjoint_step(source: tuple[Location, Sequence[str]], destination: tuple[Location, Sequence[str]]) -> str:
    """What a person does about two sides without a common key: a prefix was forgotten, perhaps.

    Of each side the place that was compared, and the first keys below it.
    """
    sides = ("destination", "The copies'", *destination), ("source", "The source's", *source)
    for (side, owner, place, longer), (*_, shorter) in (sides, sides[::-1]):
        there = set(longer)
        ends = {each.removesuffix(shorter[0]) for each in longer if shorter and each.endswith(shorter[0])}
        for prefix in sorted(ends - {""}, key=len):
            if 2 * sum(prefix + each in there for each in shorter) > len(shorter):
                meant = f"--{side} {place._replace(key=place.key + prefix)}"
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
        steps.append(f"Look at {plural(rows, 'object')} without an original. Sealift removes nothing there.")
    if left.get(Category.UNVERIFIABLE):
        steps.append("S3 reports that its replication failed. Find out why: sealift doctor")
    return steps
