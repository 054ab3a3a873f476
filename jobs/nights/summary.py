"""The summary of a night: a document of the ledger, one sentence, what to do now, and all of it as a page.

The first one that is written counts. Decoding is the check: what is not such a document was altered.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict

from jobs.core.category import Category
from jobs.core.model import Attributes
from jobs.core.outcome import Status
from jobs.core.words import called
from jobs.errors import NotFound
from jobs.ledger.files import JSON, list_names, read_document, write_once
from jobs.ledger.ledger import Ledger
from jobs.reports.figures import human_seconds, human_time, plural

Count = Annotated[int, Meta(ge=0)]
Time = Annotated[datetime, Meta(tz=True)]
_SUMMARY = re.compile(r"(\d{4}-\d\d-\d\d(?:-\d\d+)?)\.json", re.ASCII)


class Ending(StrEnum):
    """What a night came to. After the first two it was well."""

    WELL = "well"
    NOTHING_FOUND = "nothing_found"
    FINDINGS = "findings"
    EMPTIED = "emptied"
    UNPROVEN = "unproven"
    REFUSED = "refused"


GOOD = (Ending.WELL, Ending.NOTHING_FOUND)
TONES: Mapping[str | None, str] = {Ending.WELL: "good", Ending.FINDINGS: "bad", Ending.EMPTIED: "bad"}
"""How a page of such a night looks. Of others it warns."""


class StageResult(Struct, frozen=True, kw_only=True):
    """What the run of a stage came to, or why it has none.

    `advice`: what a person does where it was refused. `bytes`: of a comparison, by category. `slice`: the slice of that
    night.
    """

    stage: str
    run_id: str | None = None
    refused: str | None = None
    advice: str = ""
    rows: Count = 0
    counts: Mapping[str, Count] = {}
    bytes: Mapping[str, Count] = {}
    slice: tuple[Count, Count] | None = None
    report_html: str | None = None


class Emptied(Struct, frozen=True):
    """The last night in which a source had objects that has none now, and what puts them back."""

    night: str
    objects: Count
    restore: str


class Known(Struct, frozen=True):
    """What the state says of a pair.

    `left`: objects that need somebody. `left_first`: some of them. `accepted`: those that a person has
    accepted. Of all `objects`, `checked` were proven by stored checksums or bytes, and `read` by bytes
    within `read_days`.
    """

    left: Count = 0
    left_first: Sequence[str] = ()
    accepted: Count = 0
    objects: Count = 0
    checked: Count = 0
    read: Count = 0
    read_days: Count = 0


class Summary(Struct, frozen=True, kw_only=True):
    """What a night came to.

    `ending`: None in those of releases that did not say it. `good_at`: when the last night ended that was well, this
    one or one before it. `drill`: what to do where the pair's last good drill is too old, which makes no night worse.
    """

    night_version: Literal[2] = 2
    pair: str
    night: str
    source: str
    destination: str
    ending: Ending | None = None
    verdict: str = ""
    next_steps: Sequence[str] = ()
    drill: str = ""
    exit_code: Count
    began_at: Time
    finished_at: Time
    good_at: Time | None = None
    stages: Sequence[StageResult]
    known: Known
    emptied: Emptied | None
    report_html: str | None

    def turn(self, stage: str, of: int) -> int | None:
        """The slice of `of` that a stage of this night took. None: it took no such slice."""
        return next(
            (each.slice[0] for each in self.stages if each.stage == stage and each.slice and each.slice[1] == of), None
        )


class Night(Struct, frozen=True):
    """One night of a pair in the ledger. `label`: its day, and `-02` where it is checked once more.

    Its methods raise StoreError, and LedgerError for altered documents.
    """

    ledger: Ledger
    pair: str
    label: str

    @property
    def day(self) -> date:
        """The day on which it began."""
        return date.fromisoformat(self.label[:10])

    @property
    def name(self) -> str:
        """The name of its documents, without a suffix."""
        return f"nights/{self.pair}/{self.label}"

    async def read(self) -> Summary | None:
        """Its summary. None while it has not ended."""
        where, name = (self.ledger.store, self.ledger.location), f"{self.name}.json"
        advice = "use the Sealift that wrote it, or restore an earlier version of it"
        with contextlib.suppress(NotFound):
            return await read_document(*where, name, Summary, advice, lambda summary: summary.night == str(self.day))
        return None

    async def write(self, suffix: str, data: bytes, attributes: Attributes = JSON) -> None:
        """Write a file, if none of that name is there yet."""
        await write_once(self.ledger.store, self.ledger.location, self.name + suffix, data, attributes)


async def ended_nights(ledger: Ledger, pair: str, before: str = "9999") -> list[Night]:
    """The pair's ended nights with an earlier label than this one, the latest first."""
    names = await list_names(ledger.store, ledger.location.join(f"nights/{pair}/"))
    labels = [match[1] for match in map(_SUMMARY.fullmatch, names) if match and match[1] < before]
    labels.sort(key=lambda label: (label[:10], len(label), label), reverse=True)  # `-100` comes after `-99`
    return [Night(ledger, pair, label) for label in labels]


async def last_summary(ledger: Ledger, pair: str) -> Summary | None:
    """The summary of the pair's last night."""
    nights = await ended_nights(ledger, pair)
    return await nights[0].read() if nights else None


def judge(
    night: Night, stages: Sequence[StageResult], known: Known, emptied: Emptied | None
) -> tuple[Ending, str, list[str]]:
    """What a night came to, as a sentence too, and what a person does now, a sentence for each step.

    It was well if every stage is complete, something was compared and proven, and nothing is left.
    """
    if emptied:
        steps = ["If that is meant, take the pair out of the policy", f"Else put the objects back: {emptied.restore}"]
        since = f"on {emptied.night} it had {emptied.objects:,}"
        return Ending.EMPTIED, f"The source has no object, {since}, and all copies stay", steps
    refused = [each.advice for each in stages if each.refused]
    if known.left:
        needs = f"{plural(known.left, 'object')} {'needs' if known.left == 1 else 'need'} attention"
        return Ending.FINDINGS, needs, [*refused, "See what is wrong, and what helps: sealift status"]
    young = max(each.counts.get(Category.IN_FLIGHT, 0) for each in stages)
    proof = f"{plural(young, 'object')} too new to be judged (--margin); " if young else ""
    proof += (
        f"of {plural(known.objects, 'object')}, checksums prove {known.checked:,}, and within "
        f"{plural(known.read_days, 'day')} all bytes of {known.read:,} were read"
    )
    if not known.checked or not _is_compared(stages):
        check = f"Check bucket and prefixes of the pair {night.pair} in the policy: sealift policy check"
        again = f"sealift nightly --pair {night.pair} --night {night.day} --again"
        compare = f"Compare what is newer than the margin, too: {again} --margin 0s"
        return Ending.UNPROVEN, f"Nothing could be proven; {proof}", [*refused, compare if young else check]
    if refused:
        return Ending.REFUSED, "Not everything was done", refused
    if young or 2 * known.checked < known.objects:
        return Ending.NOTHING_FOUND, f"Nothing wrong was found; {proof}", []
    accepted = f", but for {plural(known.accepted, 'object')} that somebody has accepted" if known.accepted else ""
    return Ending.WELL, f"All is well{accepted}; {proof}", []


def _is_compared(stages: Sequence[StageResult]) -> bool:
    """False if the source has no object, or all are in flight.

    Copies without an original prove nothing: the source may have been emptied before.
    """
    proves_nothing = {Category.IN_FLIGHT, Category.EXTRA, Category.EXCLUDED}
    is_verified = any(each.counts.get(Status.VERIFIED) for each in stages)
    return is_verified or any(count and name not in proves_nothing for name, count in stages[0].counts.items())


def stage_text(stage: StageResult) -> str:
    """Return what a stage came to."""
    if stage.refused:
        return f"refused, {stage.refused}"
    words = (f"{count:,} {called(name, 'replicate')}" for name, count in stage.counts.items() if count)
    return ", ".join(words) or "nothing"


def page_of(summary: Summary) -> str:
    """A night's summary as a self-contained page. Same summary, same page."""
    from jobs.reports.html.page import Line, Page, Table, render_page  # jinja2 loads here

    verdict, where = summary.verdict.partition(": ")[0], f"{summary.source} → {summary.destination}"
    took = human_seconds((summary.finished_at - summary.began_at).total_seconds())
    known = {name.replace("_", " ").capitalize(): value for name, value in asdict(summary.known).items()}
    facts = {name: f"{value:,}" for name, value in known.items() if isinstance(value, int)}
    lines = [Line("", each.stage, stage_text(each), [f"{each.rows:,}"]) for each in summary.stages]
    notes = [each.report_html for each in summary.stages if each.report_html]
    notes.append("This page is written once, at the end of the night. What was repaired since: sealift status")
    left = Table("First of what is left", ("Key",), [Line("", key, "", []) for key in summary.known.left_first])
    page = Page(
        title=f"night of {summary.night} · {summary.pair} · {where}",
        kind=f"night of {summary.night} / pair {summary.pair}",
        verdict=f"{verdict}.",
        tone=TONES.get(summary.ending, "warn"),
        places={"Source": summary.source, "Destination": summary.destination},
        facts=facts | {"Finished": human_time(summary.finished_at), "Took": took},
        steps=[*summary.next_steps, *filter(None, [summary.drill])],
        tables=[*([left] if left.lines else []), Table("Stages", ("Stage", "Rows"), lines, notes)],
        files={"This page": summary.report_html},
    )
    return render_page(page)
