"""The verdict of a night: what it came to, and what to do now. Pure.

`stages` are those of a night's summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jobs.core.category import Category
from jobs.core.outcome import Status
from jobs.core.words import called
from jobs.nights.calendar import Stage
from jobs.nights.disproofs import Disproof, disproof_steps, orphan_step, unanswered_text

WELL = "All is well"
"""The head of a night in which all was judged, and nothing is left to do."""
_JUDGED = (Category.SAME, Category.MISSING, Category.STALE, Category.DIFFERENT)


def count_unproven(stages: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many objects a night's reconciliation could not compare, and how many it judged."""
    counts = _found(stages)
    unproven = counts.get(Category.UNVERIFIABLE, 0)
    return unproven, sum(counts.get(category, 0) for category in _JUDGED) + unproven


def is_unproven(stages: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if a night could compare less than half of the objects."""
    unproven, judged = count_unproven(stages)
    return 2 * unproven > judged


def is_unjudged(stages: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if a night compared nothing: its source has no object, or all are in flight.

    Copies without an original prove nothing: the source may have been emptied before.
    """
    found = {category for category, count in _found(stages).items() if count}
    return found <= {Category.IN_FLIGHT, Category.EXTRA, Category.EXCLUDED} and not count_verified(stages)


def count_verified(stages: Iterable[Mapping[str, Any]]) -> int:
    """Return how many rows the night's verifications proved. Two of them may prove one object."""
    return sum(stage["counts"].get(Status.VERIFIED, 0) for stage in stages)


def is_well(stages: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if something was compared, and nothing is left to do.

    Where reports can compare less than half of the objects, as with KMS or uploads in parts, a
    verification has to prove some of them.
    """
    if any(stage["left"] or stage["refused"] for stage in stages) or is_unjudged(stages):
        return False
    return not is_unproven(stages) or bool(count_verified(stages))


def verdict(
    stages: Sequence[Mapping[str, Any]],
    left: int,
    *,
    is_finished: bool = True,
    unanswered: Sequence[Disproof] = (),
) -> str:
    """Return the night in one sentence.

    `left`: how many objects need attention. `unanswered`: what earlier nights found wrong.
    """
    if not is_finished:
        head = f"The night is not finished, {left:,} {'row is' if left == 1 else 'rows are'} left to do"
    elif left:
        head = f"{left:,} {'object needs' if left == 1 else 'objects need'} attention"
    elif unanswered:
        head = unanswered_text(unanswered)
    elif any(stage["refused"] and stage["stage"] == Stage.RECONCILE for stage in stages):
        head = "Nothing was compared"
    elif any(stage["refused"] for stage in stages):
        head = "Nothing wrong was found, but not everything was done"
    elif is_unjudged(stages):
        young = _found(stages).get(Category.IN_FLIGHT, 0)
        objects = "the only object is" if young == 1 else f"all {young:,} objects are"
        head = f"Nothing was compared, since {f'{objects} in flight' if young else 'the source has no object'}"
    elif is_unproven(stages):
        unproven, judged = count_unproven(stages)
        verified = count_verified(stages)
        head = (
            f"Nothing wrong was found, but {unproven:,} of {judged:,} objects could not be compared, and "
            f"{f'only {verified:,}' if verified else 'none'} of all verified"
        )
    elif unjudged := _young(stages):
        head = f"Nothing wrong was found; {unjudged} too new to be judged (--margin)"
    else:
        head = WELL
    return f"{head}: {'; '.join(map(stage_text, stages))}."


def _young(stages: Iterable[Mapping[str, Any]]) -> str:
    """The objects that differ, or are on one side only, and are in flight: `1 object is`."""
    for stage in stages:
        if count := stage["counts"].get(Category.IN_FLIGHT, 0):
            of_replica = " of the replica" if stage["stage"] == Stage.REPLICA else ""
            return f"{count:,} {'object' if count == 1 else 'objects'}{of_replica} {'is' if count == 1 else 'are'}"
    return ""


def head_of(sentence: str) -> str:
    """Return the part of a verdict that is about the whole night."""
    return sentence.partition(": ")[0].rstrip(".")


def next_steps(
    pair: str,
    night: str,
    stages: Sequence[Mapping[str, Any]],
    *,
    is_finished: bool,
    left: int | None = None,
    restore: str = "",
    unanswered: Sequence[Disproof] = (),
    orphans: Sequence[str] = (),
) -> list[str]:
    """Return what a person does now, a sentence for each step. Nothing to do: an empty list.

    `left`: how many objects need attention. If one stage found all of them, that one is named
    alone, unless another one proved more of them wrong: only the retry of that one replaces these.
    `restore`: the command that puts the objects of an emptied source back. `unanswered`: what
    earlier nights found wrong. `orphans`: wrong copies whose original is gone.
    """
    if not is_finished:
        return [f"Go on with it: sealift nightly --pair {pair} --night {night}"]
    carried = (step for each in unanswered for step in disproof_steps(pair, each))
    removed = [orphan_step(orphans)] if orphans else []
    return [*_steps(pair, night, stages, left, restore), *removed, *carried]


def _steps(pair: str, night: str, stages: Sequence[Mapping[str, Any]], left: int | None, restore: str) -> Iterator[str]:
    complete = [each for each in stages if left and each["left"] == left and not each["refused"]]
    found_all = max(complete, key=_count_wrong, default=None)
    for stage in stages:
        is_other = found_all is not None and stage is not found_all and not stage["refused"]
        if found_all is not None and is_other and _count_wrong(stage) <= _count_wrong(found_all):
            continue
        if stage.get("emptied"):
            yield "If that is meant, take the pair out of the policy"
            yield f"Else put the objects back: {restore}"
        elif stage["refused"] and stage["stage"] == Stage.REPLICA:
            yield f"Make the replica of the pair {pair}, or let the night read it: sealift doctor says what is wrong."
        elif stage["refused"] and stage["stage"] == Stage.RECONCILE:
            yield f"Check by the policy of now: sealift nightly --pair {pair} --night {night} --again"
        elif stage["refused"]:
            yield (
                f"{stage['stage']} was refused: find out why the plan is so large, then raise the pair's limits for "
                f"the next night, or copy now: sealift replicate --pair {pair} --dry-run"
            )
        elif stage["left"] and stage["stage"] == Stage.REPLICA:
            yield "S3 does not replicate these by itself any more. This shows the command that does: sealift doctor"
        elif stage["left"]:
            is_of_copies = stage["stage"] == Stage.REPAIR and stage["counts"].get(Status.CHANGED)
            run_id = stages[0]["run_id"] if is_of_copies else stage["run_id"]  # the comparison says how they differ
            yield f"See what {stage['stage']} left, and what helps: sealift runs show {run_id}"
    if is_unjudged(stages) and not any(stage["left"] or stage["refused"] for stage in stages):
        if _found(stages).get(Category.IN_FLIGHT):
            again = f"sealift nightly --pair {pair} --night {night} --again --margin 0s"
            yield f"Compare what is newer than the margin, too: {again}"
        else:
            yield f"Check bucket and prefixes of the pair {pair} in the policy: sealift policy check"


def _count_wrong(stage: Mapping[str, Any]) -> int:
    """Return how many objects a stage proved wrong at one side. Only its run says at which."""
    wrong = [Status.DIFFERENT, Status.DAMAGED]
    if stage["stage"] == Stage.REPAIR:  # a copy that differs and is not older stays
        wrong.append(Status.CHANGED)
    return int(sum(stage["counts"].get(name, 0) for name in wrong))


def _found(stages: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
    """The counts of the reconciliation, by category."""
    counts: Iterator[Mapping[str, int]] = (each["counts"] for each in stages if each["stage"] == Stage.RECONCILE)
    return next(counts, {})


def _copies_are(count: int) -> str:
    return "1 copy is" if count == 1 else f"{count:,} copies are"


def stage_text(stage: Mapping[str, Any]) -> str:
    """Return what a stage came to."""
    if stage["refused"]:
        return f"{stage['stage']} refused, {stage['refused']}"
    if stage["run_id"] is None and stage["stage"] == Stage.REPAIR:
        return "nothing to repair"
    counts = {name: count for name, count in stage["counts"].items() if count}
    if emptied := stage.get("emptied"):
        objects = emptied["objects"]
        visible = counts.get(Category.EXTRA, 0) + counts.get(Category.IN_FLIGHT, 0)
        copies = (
            "all copies stay"
            if visible >= objects
            else f"{_copies_are(visible)} there, and the others are hidden by "
            "delete markers, where deletes are mirrored, or gone"
        )
        return (
            f"the source has no object, on {emptied['night']} it had {objects:,}: {copies}. Nothing else was done, "
            "and versions stay"
        )
    if not counts and stage["stage"] in (Stage.SAMPLE, Stage.DEEP) and (part := stage.get("sample")):
        return f"{stage['stage']} nothing, {_empty_slice(stage, part)}"
    words = (f"{count:,} {called(name, 'replicate')}" for name, count in counts.items())
    return f"{stage['stage']} {', '.join(words) or 'nothing'}"


def _empty_slice(stage: Mapping[str, Any], part: Sequence[int]) -> str:
    """Why a verification of a slice had no object."""
    excluded = stage.get("excluded") or {}
    number = f"slice {part[0] + 1}/{part[1]}"
    if young := excluded.get("older_than"):
        return f"since {number} has no object older than the margin ({young:,} younger)"
    others = excluded.get("sample", 0)
    which = f"none of the {others:,} keys" if others > 1 else "no object"
    return f"{number} has {which}{' (no byte was read tonight)' if stage['stage'] == Stage.DEEP else ''}"
