"""The summary of a night in the ledger. The first one that is written counts.

Decoding is the check: what is not such a document was altered.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from jobs.core.model import Attributes
from jobs.core.run import RunState
from jobs.errors import NotFound, PreconditionFailed
from jobs.ledger.files import JSON, list_names, read_document, write_file
from jobs.ledger.ledger import WRITE_TRIES, Ledger

Count = Annotated[int, Meta(ge=0)]
Code = Annotated[int, Meta(ge=0, lt=256)]
Slice = tuple[Count, Count]
Time = Annotated[datetime, Meta(tz=True)]
_SUMMARY = re.compile(r"(\d{4}-\d\d-\d\d(?:-\d\d+)?)\.json", re.ASCII)


class StageResult(Struct, frozen=True, kw_only=True):
    """What the run of a stage came to, or why it has none.

    `advice`: what a person does where it was refused. `slice`: the slice of that night.
    """

    stage: str
    run_id: str | None = None
    state: str | None = None
    refused: str | None = None
    advice: str = ""
    exit_code: Code = 0
    rows: Count = 0
    counts: Mapping[str, Count] = {}
    slice: Slice | None = None
    report_html: str | None = None

    @property
    def is_over(self) -> bool:
        """False if its run has rows left to do."""
        return self.state in (None, RunState.COMPLETE)


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
    """What a night came to. `left`: how many objects need somebody, each counted once."""

    night_version: Literal[2] = 2
    pair: str
    night: str
    source: str
    destination: str
    state: str
    verdict: str = ""
    next_steps: Sequence[str] = ()
    left: Count
    exit_code: Code
    began_at: Time
    finished_at: Time
    stages: Sequence[StageResult]
    known: Known
    emptied: Emptied | None
    summary: str
    report_html: str | None
    ledger: str


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
        with contextlib.suppress(PreconditionFailed):  # another writer came first
            name = self.name + suffix
            await write_file(self.ledger.store, self.ledger.location, name, data, attributes, tries=WRITE_TRIES)


async def ended_nights(ledger: Ledger, pair: str, before: str = "9999") -> list[Night]:
    """The pair's ended nights with an earlier label than this one, the latest first."""
    names = await list_names(ledger.store, ledger.location.join(f"nights/{pair}/"))
    labels = [match[1] for match in map(_SUMMARY.fullmatch, names) if match and match[1] < before]
    labels.sort(key=lambda label: (label[:10], len(label), label), reverse=True)  # `-100` comes after `-99`
    return [Night(ledger, pair, label) for label in labels]


async def last_summaries(ledger: Ledger, pair: str, limit: int) -> list[Summary]:
    """At most so many summaries of the pair's nights, the latest first."""
    nights = await ended_nights(ledger, pair)
    return [summary for night in nights[:limit] if (summary := await night.read())]
