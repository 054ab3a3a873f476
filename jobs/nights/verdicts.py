"""The verdict of a night: what it came to, and what to do now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jobs.core.category import Category
from jobs.core.outcome import Status
from jobs.core.words import called
from jobs.nights.calendar import Stage
from jobs.nights.documents import StageResult, Summary
from jobs.reconcile.advice import REPLICA_STEP
from jobs.reports.figures import plural

WELL = "All is well"
"""The head of a night in which all was judged, and nothing is left to do."""


def is_unjudged(summary: Summary) -> bool:
    """True if nothing was compared: the source has no object, or all are in flight.

    Copies without an original prove nothing: the source may have been emptied before.
    """
    found = {category for category, count in _compared(summary).items() if count}
    is_verified = any(each.counts.get(Status.VERIFIED) for each in summary.stages)
    return found <= {Category.IN_FLIGHT, Category.EXTRA, Category.EXCLUDED} and not is_verified


def is_well(summary: Summary) -> bool:
    """True if every stage is complete, something was compared and proven, and nothing is left."""
    are_complete = all(each.is_over and not each.refused for each in summary.stages)
    return are_complete and not summary.left and not is_unjudged(summary) and bool(summary.known.checked)


def verdict(summary: Summary) -> str:
    """The night in one sentence."""
    return f"{_head(summary)}: {'; '.join(map(stage_text, summary.stages))}."


def _head(summary: Summary) -> str:
    left, known, young, emptied = summary.left, summary.known, _young(summary), summary.emptied
    if not summary.stages[-1].is_over:
        return f"The night is not finished, {summary.stages[-1].stage} has rows left to do"
    if emptied:
        return f"The source has no object, on {emptied.night} it had {emptied.objects:,}, and all copies stay"
    if left:
        return f"{left:,} {'object needs' if left == 1 else 'objects need'} attention"
    if summary.stages[0].refused:
        return "Nothing was compared"
    if any(each.refused for each in summary.stages):
        return "Nothing wrong was found, but not everything was done"
    in_flight = f"{plural(young, 'object')} too new to be judged (--margin)"
    if is_unjudged(summary):
        return f"Nothing was compared, {in_flight if young else 'the source has no object'}"
    proof = (
        f"of {plural(known.objects, 'object')} {known.checked:,} are proven by checksums, and the bytes of "
        f"{known.read:,} were read within {known.read_days:,} days"
    )
    if not known.checked:
        return f"Nothing could be proven; {proof}"
    if young or 2 * known.checked < known.objects:
        return f"Nothing wrong was found; {f'{in_flight}; ' if young else ''}{proof}"
    accepted = f", but for {plural(known.accepted, 'object')} that somebody has accepted" if known.accepted else ""
    return f"{WELL}{accepted}; {proof}"


def _young(summary: Summary) -> int:
    """How many objects differ, or are on one side only, and are in flight."""
    return max(each.counts.get(Category.IN_FLIGHT, 0) for each in summary.stages)


def head_of(sentence: str) -> str:
    """Return the part of a verdict that is about the whole night."""
    return sentence.partition(": ")[0].rstrip(".")


def next_steps(summary: Summary) -> Iterator[str]:
    """What a person does now, a sentence for each step."""
    pair, known = summary.pair, summary.known
    again = f"sealift nightly --pair {pair} --night {summary.night}"
    if not summary.stages[-1].is_over:
        yield f"Go on with it: {again} --again"  # without it, a night that has ended once is only shown
        return
    if summary.emptied:
        yield "If that is meant, take the pair out of the policy"
        yield f"Else put the objects back: {summary.emptied.restore}"
        return
    yield from (each.advice for each in summary.stages if each.refused)
    stages = {each.run_id: each.stage for each in summary.stages}
    for run_id in known.found_by:
        is_of_replica = stages.get(run_id) == Stage.REPLICA
        yield REPLICA_STEP if is_of_replica else f"See what was found, and what helps: sealift runs show {run_id}"
    if known.left and not known.found_by:
        yield "See what could not be looked at, and why: sealift status"
    if is_unjudged(summary) and not summary.left and not summary.stages[0].refused:
        if _compared(summary).get(Category.IN_FLIGHT):
            yield f"Compare what is newer than the margin, too: {again} --again --margin 0s"
        else:
            yield f"Check bucket and prefixes of the pair {pair} in the policy: sealift policy check"


def _compared(summary: Summary) -> Mapping[str, int]:
    """The counts of the reconciliation, by category."""
    return summary.stages[0].counts


def stage_text(stage: StageResult) -> str:
    """Return what a stage came to."""
    if stage.refused:
        return f"{stage.stage} refused, {stage.refused}"
    words = (f"{count:,} {called(name, 'replicate')}" for name, count in stage.counts.items() if count)
    return f"{stage.stage} {', '.join(words) or 'nothing'}"
