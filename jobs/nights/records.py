"""Records of one night in the ledger.

Each is written once, and the first writer decides for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NamedTuple

from jobs.core.model import Attributes, Listed
from jobs.errors import LedgerError, NoSuchBucket, NotFound, PreconditionFailed
from jobs.ledger.files import list_files, read_file, write_file
from jobs.ledger.ledger import WRITE_TRIES, Ledger
from jobs.nights.calendar import NIGHT_VERSION, Stage, claim_name, page_name, parse_label, record_name, summary_name
from jobs.nights.documents import claim_defect, record_defect, summary_defect

LOOK_SECONDS = 0.5
HTML = Attributes(headers={"content-type": "text/html; charset=utf-8"})


class StageRecord(NamedTuple):
    """A stage's record (None before the first), and its number or the next free one."""

    record: dict[str, Any] | None
    number: int


@dataclass(frozen=True, slots=True)
class NightRecords:
    """The ledger's documents of one pair's night. `times`: 2 where it is checked once more.

    Its methods raise StoreError, and LedgerError for altered documents.
    """

    ledger: Ledger
    pair: str
    night: date
    times: int = 1

    @property
    def summary_uri(self) -> str:
        """The URI of the summary, which may not exist yet."""
        return str(self.ledger.location.join(summary_name(self.pair, self.night, self.times)))

    @property
    def page_uri(self) -> str:
        """The URI of the page, which may not exist yet."""
        return str(self.ledger.location.join(page_name(self.pair, self.night, self.times)))

    def record_uri(self, stage: Stage) -> str:
        """The URI of a stage's first record."""
        return str(self.ledger.location.join(record_name(self.pair, self.night, stage, 1, self.times)))

    async def summary(self) -> dict[str, Any] | None:
        """Return the night's summary, None while it has not ended."""
        return await self._read(summary_name(self.pair, self.night, self.times), summary_defect)

    async def earlier(self, limit: int) -> list[dict[str, Any]]:
        """Return the summaries of the nights before this one that have ended, the latest first.

        At most `limit`.
        """
        return await self._summaries((await self._earlier_files())[:limit])

    async def remembered(self, limit: int) -> list[dict[str, Any]]:
        """Return the `earlier` summaries, then as many that the ledger received last, and the last
        one of each older night that these pass findings of on.

        An old night may be made up or checked again now. Its label is of its own day.
        """
        files = await self._earlier_files()
        received = sorted(files, key=lambda file: file.last_modified, reverse=True)
        summaries = await self._summaries(list(dict.fromkeys([*files[:limit], *received[:limit]])))
        nights = {each["night"] for summary in summaries for each in summary.get("unanswered", ())}
        for night in sorted(nights - {summary["night"] for summary in summaries}):
            with contextlib.suppress(ValueError):  # what is no date names no night
                last, _ = await replace(self, night=date.fromisoformat(night), times=1).ended()
                summaries += [last] if last else []
        return summaries

    async def _earlier_files(self) -> list[Listed]:
        """Return the files of the summaries of earlier nights, the latest night first."""
        place, ours = self.ledger.location.join(f"nights/{self.pair}/"), (self.night.isoformat(), self.times)
        files = {}
        async for file in list_files(self.ledger.store, place):
            name = file.key[len(place.key) :]
            label = parse_label(name.removesuffix(".json")) if name.endswith(".json") else None
            if label is not None and label < ours:
                files[label] = file
        return [files[label] for label in sorted(files, reverse=True)]

    async def _summaries(self, files: Iterable[Listed]) -> list[dict[str, Any]]:
        root = len(self.ledger.location.join("").key)
        found = [await self._read(file.key[root:], summary_defect) for file in files]
        return [summary for summary in found if summary is not None]

    async def ended(self) -> tuple[dict[str, Any] | None, NightRecords]:
        """Return the latest summary of the night, and the records of its next time.

        None: it has not ended once, and these are its own.
        """
        records, last = self, None
        while (summary := await records.summary()) is not None:
            records, last = replace(records, times=records.times + 1), summary
        return last, records

    async def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """End the night, and write its page. Returns the summary that won."""
        ended = await self._write(summary_name(self.pair, self.night, self.times), summary, summary_defect)
        await self.write_page(ended)
        return ended

    async def write_page(self, summary: Mapping[str, Any]) -> None:
        """Write the page of the summary that is in the ledger, if it is not there yet."""
        from jobs.nights.page import render_night  # jinja2 loads here

        name = page_name(self.pair, self.night, self.times)
        page = await asyncio.to_thread(render_night, summary)
        with contextlib.suppress(PreconditionFailed):  # another start made it of the same summary
            await write_file(self.ledger.store, self.ledger.location, name, page.encode(), HTML, tries=WRITE_TRIES)

    async def claim(self, intended: Mapping[str, Any]) -> dict[str, Any]:
        """Begin the night, or continue it. Returns the claim that won."""
        return await self._write(claim_name(self.pair, self.night, self.times), intended, claim_defect)

    async def claim_stage(self, stage: Stage, number: int, record: Mapping[str, Any]) -> dict[str, Any]:
        """Name the stage's run before it is made. Returns the record that won."""
        return await self._write(record_name(self.pair, self.night, stage, number, self.times), record, record_defect)

    async def current_record(
        self, stage: Stage, is_made: Callable[[str], Awaitable[bool]], patience_seconds: float
    ) -> StageRecord:
        """Return the stage's record whose run was made, or that says why no run was made.

        `is_made` takes the run's id. A run that is named but not made is being made right now, or
        its maker has died. This waits for it, until `patience_seconds` after its record. After
        that, another run may take its place.
        """
        number = 1
        while (record := await self._record(stage, number)) is not None:
            until = time.time() + min(patience_seconds, record["written_at"] + patience_seconds - time.time())
            while record["refused"] is None and not await is_made(record["run_id"]) and time.time() < until:
                await asyncio.sleep(LOOK_SECONDS)
            if record["refused"] is not None or await is_made(record["run_id"]):
                return StageRecord(record, number)
            number += 1
        return StageRecord(None, number)

    async def _record(self, stage: Stage, number: int) -> dict[str, Any] | None:
        return await self._read(record_name(self.pair, self.night, stage, number, self.times), record_defect)

    async def _read(self, name: str, find_defect: Callable[[Mapping[str, Any]], str]) -> dict[str, Any] | None:
        place = self.ledger.location.join(name)
        try:
            data = await read_file(self.ledger.store, self.ledger.location, name)
        except NoSuchBucket:
            raise
        except NotFound:
            return None
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise LedgerError(f"{place} is not JSON ({error}): the ledger was altered") from error
        if not isinstance(document, dict):
            raise LedgerError(f"{place} is no JSON object: the ledger was altered")
        if (version := document.get("night_version", NIGHT_VERSION)) != NIGHT_VERSION:
            raise LedgerError(
                f"{place} is of version {version}, this Sealift reads version {NIGHT_VERSION}",
                advice="use the Sealift that wrote it, or a newer one",
            )
        if defect := find_defect(document):
            raise LedgerError(f"{place} {defect}: the ledger was altered")
        return document

    async def _write(
        self, name: str, document: Mapping[str, Any], find_defect: Callable[[Mapping[str, Any]], str]
    ) -> dict[str, Any]:
        """Write once.

        Returns what is there now: this document, or another writer's that came first.
        """
        data = json.dumps(document, indent=2, ensure_ascii=False).encode()
        with contextlib.suppress(PreconditionFailed):
            await write_file(self.ledger.store, self.ledger.location, name, data, tries=WRITE_TRIES)
        there = await self._read(name, find_defect)
        if there is None:
            place = self.ledger.location.join(name)
            raise LedgerError(f"{place} was written and is not there: something removes objects of the ledger")
        return there
