"""What a night came to: one sentence, what to do now, and both as a page. Pure."""

from __future__ import annotations

from msgspec import structs

from jobs.core.category import Category
from jobs.core.outcome import Status
from jobs.core.words import called
from jobs.nights.documents import StageResult, Summary
from jobs.reports.figures import human_seconds, human_time, plural


def judge(summary: Summary) -> tuple[bool, str, list[str]]:
    """Whether a night was well, in a sentence why, and what a person does now, a sentence for each step.

    It is if every stage is complete, something was compared and proven, and nothing is left.
    """
    known, emptied, last = summary.known, summary.emptied, summary.stages[-1]
    again = f"sealift nightly --pair {summary.pair} --night {summary.night} --again"
    if not last.is_over:  # without --again, a night that has ended once is only shown
        return False, f"The night is not finished, {last.stage} has rows left to do", [f"Go on with it: {again}"]
    if emptied:
        steps = ["If that is meant, take the pair out of the policy", f"Else put the objects back: {emptied.restore}"]
        since = f"on {emptied.night} it had {emptied.objects:,}"
        return False, f"The source has no object, {since}, and all copies stay", steps
    refused = [each.advice for each in summary.stages if each.refused]
    if summary.left:
        needs = f"{plural(summary.left, 'object')} {'needs' if summary.left == 1 else 'need'} attention"
        return False, needs, [*refused, "See what is wrong, and what helps: sealift status"]
    young = max(each.counts.get(Category.IN_FLIGHT, 0) for each in summary.stages)
    proof = f"{plural(young, 'object')} too new to be judged (--margin); " if young else ""
    proof += (
        f"of {plural(known.objects, 'object')} {known.checked:,} are proven by checksums, and the bytes of "
        f"{known.read:,} were read within {plural(known.read_days, 'day')}"
    )
    if not known.checked or not _is_compared(summary):
        check = f"Check bucket and prefixes of the pair {summary.pair} in the policy: sealift policy check"
        compare = f"Compare what is newer than the margin, too: {again} --margin 0s"
        return False, f"Nothing could be proven; {proof}", [*refused, compare if young else check]
    if refused:
        return False, "Not everything was done", refused
    if young or 2 * known.checked < known.objects:
        return True, f"Nothing wrong was found; {proof}", []
    accepted = f", but for {plural(known.accepted, 'object')} that somebody has accepted" if known.accepted else ""
    return True, f"All is well{accepted}; {proof}", []


def _is_compared(summary: Summary) -> bool:
    """False if the source has no object, or all are in flight.

    Copies without an original prove nothing: the source may have been emptied before.
    """
    proves_nothing = {Category.IN_FLIGHT, Category.EXTRA, Category.EXCLUDED}
    is_verified = any(each.counts.get(Status.VERIFIED) for each in summary.stages)
    return is_verified or any(count and name not in proves_nothing for name, count in summary.stages[0].counts.items())


def stage_text(stage: StageResult) -> str:
    """Return what a stage came to."""
    if stage.refused:
        return f"refused, {stage.refused}"
    words = (f"{count:,} {called(name, 'replicate')}" for name, count in stage.counts.items() if count)
    return ", ".join(words) or "nothing"


def page_of(summary: Summary) -> str:
    """A night's summary as a self-contained page. Same summary, same page."""
    from jobs.reports.html.page import Line, Page, Table, render_page  # jinja2 loads here

    is_well, sentence, _ = judge(summary)
    lines = [Line("", each.stage, stage_text(each), [f"{each.rows:,}"]) for each in summary.stages]
    notes = [each.report_html for each in summary.stages if each.report_html]
    notes.append("This page is written once, at the end of the night. What was repaired since: sealift status")
    left = Table("First of what is left", ("Key",), [Line("", key, "", []) for key in summary.known.left_first])
    return render_page(
        Page(
            title=f"night of {summary.night} · {summary.pair} · {summary.source} → {summary.destination}",
            kind=f"night of {summary.night} / pair {summary.pair}",
            verdict=f"{sentence}.",
            tone="bad" if summary.left else "good" if is_well and sentence.startswith("All is well") else "warn",
            places={"Source": summary.source, "Destination": summary.destination},
            facts={
                **{
                    name.replace("_", " ").capitalize(): f"{value:,}"
                    for name, value in structs.asdict(summary.known).items()
                    if isinstance(value, int)
                },
                "Finished": human_time(summary.finished_at),
                "Took": human_seconds((summary.finished_at - summary.began_at).total_seconds()),
            },
            steps=summary.next_steps,
            tables=[*([left] if left.lines else []), Table("Stages", ("Stage", "Rows"), lines, notes)],
            files={"Summary": summary.summary, "Ledger": summary.ledger, "This page": summary.report_html},
        )
    )
