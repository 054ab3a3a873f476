"""Advice after a comparison or its repair: what a person does now, and the commands for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

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


def forgotten_prefix(missing: Sequence[str], extra: Sequence[str]) -> tuple[str, str] | None:
    """The side whose keys have one prefix more than those of the other, and that prefix.

    `missing`, `extra`: the first keys that only the source or only the destination has, without the
    prefixes that were compared.
    """
    for side, longer, shorter in (("destination", extra, missing), ("source", missing, extra)):
        there = set(longer)
        ends = (each.removesuffix(shorter[0]) for each in longer if shorter and each.endswith(shorter[0]))
        for prefix in sorted({*ends} - {""}, key=len):
            if 2 * sum(prefix + each in there for each in shorter) > len(shorter):
                return side, prefix
    return None


def disjoint_step(forgotten: tuple[str, str] | None, places: Mapping[str, Location]) -> str:
    """What a person does about two sides without a common key. `places`: what was compared, by side."""
    if forgotten is None:
        return DISJOINT_STEP
    side, prefix = forgotten
    place = places[side]
    whose = "The copies'" if side == "destination" else "The source's"
    meant = f"--{side} {place._replace(key=place.key + prefix)}"
    return f"No key is at both sides. {whose} keys begin with {prefix}: did you mean {meant}?"


def findings_by_category(categories: Mapping[str, tuple[int, int]], findings: int) -> dict[str, int]:
    """Return category → findings. `categories`: all rows and bytes of each.

    An unverifiable row is a finding only where the inventory says that its replication FAILED.
    """
    found = {str(name): rows for name, (rows, _) in categories.items() if name in FINDINGS}
    return found | {Category.UNVERIFIABLE.value: findings - sum(found.values())}


def are_disjoint(categories: Mapping[str, tuple[int, int]]) -> bool:
    """Whether both sides have objects, and no key in common: then a prefix was forgotten, perhaps."""
    there = {name for name, (rows, _) in categories.items() if rows and name != Category.EXCLUDED}
    return there == {Category.MISSING, Category.EXTRA}


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


def night_steps(spec: RunSpec, left: Mapping[str, int], ledger: Ledger) -> list[str]:
    """The next steps after the comparison of a night. The policy says how its objects are copied."""
    pair = spec.options["pair"]
    if spec.options.get("of_replica"):
        return [REPLICA_STEP] if any(left.values()) else []
    repair, overwrite = (
        f"sealift replicate --pair {pair} --manifest {shlex.quote(ledger.uri(spec.run_id, name))}"
        for name in (REPAIR, DIFFERENT)
    )
    again = f"Then check again: sealift nightly --pair {pair} --again --margin 0s"
    return [*next_steps(left, repair, overwrite), *([again] if any(left.values()) else [])]
