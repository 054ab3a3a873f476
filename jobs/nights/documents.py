"""The documents of a night in the ledger. Each is written once, and the first writer decides for all.

Decoding is the check: what is not such a document was altered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Annotated, Literal, TypeVar

from msgspec import DecodeError, Meta, Struct, json

from jobs.core.model import Attributes
from jobs.core.run import RunState
from jobs.errors import LedgerError, NotFound, PreconditionFailed
from jobs.ledger.files import JSON, list_names, read_file, write_file
from jobs.ledger.ledger import WRITE_TRIES, Ledger
from jobs.nights.calendar import label, parse_label

Count = Annotated[int, Meta(ge=0)]
Code = Annotated[int, Meta(ge=0, lt=256)]
Slice = tuple[Count, Count]
Time = Annotated[datetime, Meta(tz=True)]
T = TypeVar("T", bound="Document")


class Document(Struct, frozen=True, kw_only=True):
    """What every document of a night says of itself."""

    night_version: Literal[2] = 2


class Claim(Document, frozen=True, kw_only=True):
    """What a night will do. A night that goes on keeps to it.

    `began_at`: epoch seconds. `margin_seconds`: None for the defaults. `slice`, `deep`: (number,
    of). `places`: what the policy gave the pair.
    """

    night: str
    began_at: float
    margin_seconds: Annotated[float, Meta(ge=0)] | None
    slice: Slice
    deep: Slice | None
    places: Sequence[str]


class StageResult(Document, frozen=True, kw_only=True):
    """What a stage is: its run, or why it has none, and what that came to.

    Its own document has what is known before the run is made. `advice`: what a person does where it was
    refused. `origins`: where the inventories of a comparison come from, for people. `source_objects`:
    how many objects the source has by its own. `slice`: whose turn it was.
    """

    stage: str
    run_id: str | None = None
    state: str | None = None
    refused: str | None = None
    advice: str = ""
    origins: tuple[str, ...] = ()
    source_objects: Count = 0
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

    `left`: objects with an open finding, or that the night could not look at. `left_first`: some of
    them. `found_by`: the runs that found most. `accepted`: those that a person has accepted. Of all
    `objects`, `checked` were proven by stored checksums or bytes, and `read` by bytes within
    `read_days`.
    """

    left: Count = 0
    left_first: Sequence[str] = ()
    found_by: Sequence[str] = ()
    accepted: Count = 0
    objects: Count = 0
    checked: Count = 0
    read: Count = 0
    read_days: Count = 0


class Summary(Document, frozen=True, kw_only=True):
    """What a night came to. `left`: how many objects need somebody, each counted once."""

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


@dataclass(frozen=True, slots=True)
class Night:
    """One night of a pair in the ledger. `times`: 2 where it is checked once more.

    Its methods raise StoreError, and LedgerError for altered documents.
    """

    ledger: Ledger
    pair: str
    night: date
    times: int = 1

    @property
    def name(self) -> str:
        """The name of its documents, without a suffix."""
        return f"nights/{self.pair}/{label(self.night, self.times)}"

    def uri(self, suffix: str) -> str:
        """The URI of a document, which may not exist yet."""
        return str(self.ledger.location.join(self.name + suffix))

    async def summary(self) -> Summary | None:
        """None while the night has not ended."""
        return await self.read(".json", Summary)

    async def ended(self) -> tuple[Summary | None, Night]:
        """Return the latest summary of the night, and the night of its next time. None: it has not
        ended once.
        """
        night, last = self, None
        while (summary := await night.summary()) is not None:
            night, last = replace(night, times=night.times + 1), summary
        return last, night

    async def earlier(self, limit: int) -> list[Summary]:
        """Return at most `limit` summaries of nights before this one, the latest first."""
        names = await list_names(self.ledger.store, self.ledger.location.join(f"nights/{self.pair}/"))
        labels = filter(None, (parse_label(name.removesuffix(".json")) for name in names if name.endswith(".json")))
        before = sorted((each for each in labels if each < (self.night.isoformat(), self.times)), reverse=True)
        nights = [replace(self, night=date.fromisoformat(day), times=times) for day, times in before[:limit]]
        return [summary for night in nights if (summary := await night.summary())]

    async def read(self, suffix: str, kind: type[T]) -> T | None:
        """None: there is no such document."""
        try:
            data = await read_file(self.ledger.store, self.ledger.location, self.name + suffix)
        except NotFound:
            return None
        try:
            return json.decode(data, type=kind)
        except (DecodeError, RecursionError) as error:
            raise LedgerError(
                f"{self.uri(suffix)} is not what this Sealift writes ({error})",
                advice="use the Sealift that wrote it, or restore an earlier version of it",
            ) from error

    async def write(self, suffix: str, document: T) -> T:
        """Return what is there now: this document, or another writer's that came first."""
        await self.write_file(suffix, json.format(json.encode(document), indent=2))
        return await self.read(suffix, type(document)) or document

    async def write_file(self, suffix: str, data: bytes, attributes: Attributes = JSON) -> None:
        """Write a file, if none of that name is there yet."""
        with contextlib.suppress(PreconditionFailed):  # another writer came first
            await write_file(
                self.ledger.store, self.ledger.location, self.name + suffix, data, attributes, tries=WRITE_TRIES
            )
