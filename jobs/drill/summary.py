"""The summary of a drill: a document of the ledger, what it says of all objects, and all of it as a page.

    drills/<pair>/<name>/asked.json    what it restores, and where to: written first
    drills/<pair>/<name>/<leg>.json    what was found there, before anything is removed
    drills/<pair>/<name>.json, .html   it has ended: its summary

Each of them is written once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from msgspec import Meta, Struct, json

from jobs.core.display import shown_key
from jobs.core.model import Attributes
from jobs.core.words import explained
from jobs.drill.model import ARCHIVES, INDEX, SOURCE, VERSION, Proof, Sample, Written
from jobs.errors import LedgerError, NotFound, PreconditionFailed
from jobs.ledger.files import JSON, list_files, read_document, write_file
from jobs.ledger.ledger import WRITE_TRIES, Ledger
from jobs.reports.figures import human_bytes, human_dollars, human_seconds, human_time, plural

HTML = Attributes(headers={"content-type": "text/html; charset=utf-8"})
HISTORY = 30
"""How many drills before this one its page shows."""
FOUND = 200
"""How many findings a page lists."""
CONFIDENCE = 0.95
WHO_SAYS = {SOURCE: "the source", INDEX: "the archives' index", VERSION: "the version that was restored"}
T = TypeVar("T")
Count = Annotated[int, Meta(ge=0)]


class LegResult(Struct, frozen=True, kw_only=True):
    """What was restored from one place, and found.

    `by`: what said how so many objects have to be. `seconds`: it took, where the plan said `planned_seconds`.
    `lag_seconds`: the longest that a copy of a recent object was written after it. `written`: what is to be removed.
    """

    leg: str
    run_id: str | None = None
    sample: Sample
    findings: Sequence[Proof] = ()
    by: Mapping[str, Count] = {}
    size_bytes: Count = 0
    seconds: float = 0.0
    planned_seconds: tuple[float, float] = (0.0, 0.0)
    dollars: float = 0.0
    lag_seconds: float | None = None
    written: Sequence[Written] = ()

    @property
    def is_empty(self) -> bool:
        """True for a bucket without objects. That nothing is packed yet is no fault."""
        return self.leg != ARCHIVES and not (self.sample.population or self.sample.cold or self.sample.large)


class Checked(Struct, frozen=True):
    """How the user's own check ended. `code`: None if it took too long."""

    command: str
    code: int | None
    seconds: float


class Summary(Struct, frozen=True, kw_only=True):
    """What a drill came to. `good_at`: when the last good one ended, this one or one before it (epoch seconds)."""

    pair: str
    name: str
    to: str
    verdict: str
    next_steps: Sequence[str]
    exit_code: Count
    began_at: float
    finished_at: float
    good_at: float | None
    legs: Sequence[LegResult]
    check: Checked | None
    left: Sequence[str]
    report_html: str


class Drill(Struct, frozen=True):
    """One drill of a pair in the ledger."""

    ledger: Ledger
    pair: str
    name: str

    @property
    def folder(self) -> str:
        """The name of its documents."""
        return f"drills/{self.pair}/{self.name}"

    async def read(self, suffix: str, kind: type[T]) -> T | None:
        """One of its documents. None: it is not there. Raises StoreError, LedgerError."""
        advice = "use the Sealift that wrote it, or begin another drill"
        with contextlib.suppress(NotFound):
            return await read_document(self.ledger.store, self.ledger.location, f"{self.folder}{suffix}", kind, advice)
        return None

    async def write(self, suffix: str, document: T) -> T:
        """Write a document, and return the one that is there: the first counts."""
        await self.write_bytes(suffix, json.format(json.encode(document), indent=2), JSON)
        return await self.read(suffix, type(document)) or document

    async def write_bytes(self, suffix: str, data: bytes, attributes: Attributes = HTML) -> None:
        """Write a file, if none of that name is there yet."""
        with contextlib.suppress(PreconditionFailed):
            name = self.folder + suffix
            await write_file(self.ledger.store, self.ledger.location, name, data, attributes, tries=WRITE_TRIES)


async def ended_drills(ledger: Ledger, pair: str, most: int = 1) -> list[Summary]:
    """The summaries of a pair's last drills, the latest first. One that cannot be read is left out."""
    folder = ledger.location.join(f"drills/{pair}/")
    files = [(each.last_modified, each.key[len(folder.key) :]) async for each in list_files(ledger.store, folder)]
    found = list[Summary]()
    for _, name in sorted((each for each in files if each[1].endswith(".json") and "/" not in each[1]), reverse=True):
        with contextlib.suppress(LedgerError):
            summary = await Drill(ledger, pair, name.removesuffix(".json")).read(".json", Summary)
            found += [summary] if summary else []
        if len(found) == most:
            break
    return sorted(found, key=lambda each: each.finished_at, reverse=True)


def at_most(clean: int) -> float:
    """The share of faulty objects that is ruled out at 95 % where so many, chosen at random, are all right."""
    return 1.0 - float((1 - CONFIDENCE) ** (1 / clean))


def judge(pair: str, legs: Sequence[LegResult], check: Checked | None, left: Sequence[str]) -> tuple[str, list[str]]:
    """What a drill came to, as a sentence, and what a person does now. No step: it was good."""
    wrong, rows = sum(len(each.findings) for each in legs), sum(each.sample.rows for each in legs)
    found = list[tuple[str, str]]()
    if wrong:
        verdict = f"{plural(wrong, 'object')} of {rows:,} did not come back as they have to be"
        found.append((verdict, "See which below, and whether other copies are right: sealift status"))
    if check and check.code != 0:
        ended = f"ended with {check.code}" if check.code is not None else "took too long, and was stopped"
        found.append((f"The check {ended}: {check.command}", "See why the check did not end with 0"))
    if left:
        found.append((f"{plural(len(left), 'object')} of others stay", f"See who wrote {shown_key(left[0])}"))
    short = [each for each in legs if each.sample.absent and each.leg != ARCHIVES]
    if short:
        named = ", ".join(f"{plural(each.sample.absent, 'key')} of {each.leg}" for each in short)
        what = f"Not restored, though the manifest names them: {named}"
        found.append((what, f"Copy what is missing: sealift replicate --pair {pair} --manifest FILE"))
    empty = [each.leg for each in legs if each.is_empty]
    if empty or not rows:
        what = f"Nothing was there to restore: {', '.join(empty)}" if empty else "Nothing was restored: all is cold"
        found.append((what, f"Compare the pair: sealift nightly --pair {pair} --again"))
    verdict = f"All {rows:,} objects came back as they have to be, byte for byte"
    return found[0][0] if found else verdict, [step for _, step in found]


def confidence(leg: LegResult) -> str:
    """What a leg says of all its objects that could be chosen."""
    sample = leg.sample
    if leg.findings or not sample.random:
        return ""
    if sample.random >= sample.population:
        return f"all {sample.population:,} are right"
    most = at_most(sample.random)
    return f"{sample.random:,} of {sample.population:,} chosen at random are right: at 95 %, at most {most:.2%} are not"


def page_of(summary: Summary, earlier: Sequence[Summary]) -> str:
    """A drill as a self-contained page, with those before it. Same summaries, same page."""
    from jobs.reports.html.page import Line, Page, Table, render_page  # jinja2 loads here

    legs, wrong, history = list[Line](), list[Line](), list[Line]()
    for each in summary.legs:
        planned = f"{' to '.join(map(human_seconds, each.planned_seconds))}; {human_dollars(each.dollars)}"
        judges = [f"{count:,} by {WHO_SAYS[by]}" for by, count in each.by.items()]
        says = "; ".join(filter(None, [confidence(each), ", ".join(judges)]))
        rate = f"{human_bytes(each.size_bytes / max(each.seconds, 0.001))}/s"
        says += f"; {rate}; planned {planned}; {each.sample.cold:,} cold and {each.sample.large:,} large left out"
        figures = [f"{each.sample.rows:,}", human_bytes(each.size_bytes), human_seconds(each.seconds)]
        legs.append(Line("different" if each.findings else "same", each.leg, says, figures))
        for found in each.findings:
            wrong.append(Line("", shown_key(found.key), explained(found.reason, found.detail), [each.leg]))
    for drill in (summary, *earlier):
        rows = f"{sum(leg.sample.rows for leg in drill.legs):,}"
        history.append(Line("", drill.name, drill.verdict, [rows, human_time(drill.finished_at)]))
    lags = [each.lag_seconds for each in summary.legs if each.lag_seconds is not None]
    facts = {
        "Finished": human_time(summary.finished_at),
        "Took": human_seconds(summary.finished_at - summary.began_at),
        "Check": summary.check.command if summary.check else "none",
        "Copies behind by at most": human_seconds(max(lags)) if lags else "not known",
    }
    page = Page(
        title=f"drill {summary.name} · {summary.pair}",
        kind=f"drill {summary.name} / pair {summary.pair}",
        verdict=f"{summary.verdict}.",
        tone="bad" if summary.exit_code else "good",
        places={"Restored from": ", ".join(each.leg for each in summary.legs), "Restored to": summary.to},
        facts=facts,
        steps=summary.next_steps,
        tables=[
            *([Table("What is wrong", ("Key", "Place"), wrong[:FOUND])] if wrong else []),
            Table("Places", ("Place", "Objects", "Bytes", "Took"), legs),
            Table("Drills", ("Drill", "Objects", "Ended"), history),
        ],
        files={"This page": summary.report_html},
    )
    return render_page(page)
