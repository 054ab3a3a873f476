"""Candidates of a restore: rows of bucket and archives, and the choice among them."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import cast

import pyarrow as pa

from jobs.archives.index import ArchiveIndex, Damage
from jobs.archives.model import ArchiveRecord
from jobs.archives.unindexed import etags_of_archives, find_unindexed
from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import Listed, Location, ObjectRef, ObjectVersion
from jobs.core.run import Side
from jobs.errors import ConfigError, DamagedArchive, ManifestError, UsageError
from jobs.ledger.journal import Entry, from_document
from jobs.ledger.ledger import Ledger
from jobs.ledger.tombstones import expired_rows
from jobs.manifests import open_manifest
from jobs.reports.document import LEFT_OUT, iso_time
from jobs.reports.figures import plural
from jobs.restore.as_of import NOT_RESTORED, current_at, pick_asked
from jobs.restore.as_of_journal import Event, is_of_event, row_from_entry
from jobs.runs.request import Draft, Request, failures_of
from jobs.s3.listing import list_all
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.sessions import are_apart, open_side, side_store
from jobs.s3.store import Store
from jobs.tables.rows import batch_of, fill_batch, manifest_batch, manifest_schema

FILES_AT_ONCE = 64
LATE_DAYS = 15
"""How long after an event its line may come: SQS keeps a message for 14 days at most."""

NAMES = (*ObjectVersion._fields[:-1], "event_order", "event_copy")
SCHEMA = pa.schema([*manifest_schema(), *(pa.field(name, pa.string()) for name in NAMES[-2:])])
"""A manifest's columns, and those that events have beside them."""

Choose = Callable[[Sequence[ObjectVersion], Sequence[ObjectVersion]], list[ObjectVersion]]
"""Maps one key's rows (oldest first) and archived versions (preferred first) to what is restored,
the newest last.
"""


class RestoreQuery:
    """What a request wants restored: the candidates, and how to choose one of them.

    `damage`: the archives that cannot be searched. `etags`: of what has an archive's name where the
    archives are. None: listing it is denied, so an archive without an index is not seen.
    `without_event`: the chosen versions that count by the dates of their copies, where others have
    events in the journal.
    """

    def __init__(self, request: Request, ledger: Ledger, draft: Draft):
        if request.source is None:
            raise UsageError("nothing to restore from", advice="give --archives s3://bucket/prefix")
        self.request, self.source, self.ledger, self.draft = request, request.source, ledger, draft
        self.index = ArchiveIndex(ledger.store, ledger.location)
        self.damage: Damage = []
        self.etags: dict[Location, str] | None = {}
        self.without_event, self._has_events = 0, False
        options = request.options
        self.is_history, self.at = bool(options["is_history"]), options["at"]
        self.is_asked = bool(request.keys or request.manifest)  # it names its rows
        self.is_retry = bool(request.manifest) and self.is_history  # its rows were chosen by the first run
        self.archives = Side.from_dict(options["archives"]) if options["archives"] else None
        self.bucket: str | None = self.source.location.bucket if self.is_history else options["bucket"]

    async def records(self) -> dict[str, ArchiveRecord]:
        """The archives to look into, by URI. Raises UsageError for archives of several buckets."""
        if self.archives is None:
            self._check_place(self.source.location.bucket)
            return {}
        place = self.archives.location
        async with side_store(self.archives) as store:
            # First: what is indexed meanwhile has a name in both lists, or in that of the index alone.
            self.etags = {} if self.is_retry else await etags_of_archives(store, place)
            records = await self.index.records(place, self.damage)
            indexed = {*(each.location for each in records), *(each.archive for each in self.damage)}
            self.damage += await find_unindexed(store, self.index, (self.etags or {}).keys() - indexed)
        self.damage = [each for each in self.damage if self.bucket is None or each.source_bucket in (None, self.bucket)]
        self._check_damage()
        records = [each for each in records if self.bucket in (None, each.source_bucket)]
        buckets = sorted({each.source_bucket for each in records})
        if not records:
            raise UsageError(
                f"the index knows no archives below {place}{f' of {self.bucket}' if self.bucket else ''}",
                advice="check bucket and prefix (`sealift archives list` shows what is known), or index what is there: "
                f"sealift archives reindex --source {place}",
            )
        if len(buckets) > 1:
            raise UsageError(f"{place} has archives of {', '.join(buckets)}", advice="say which with --bucket")
        self.bucket = buckets[0]
        self._check_place(self.bucket)
        return {str(each.location): each for each in records}

    async def candidates(self, records: Sequence[ArchiveRecord]) -> AsyncIterator[pa.RecordBatch]:
        """Rows in `manifest_schema()`: first those that the request names or a listing finds, then
        archived ones, then what the ledger has of expired and copied versions.
        """
        sought: set[str] = set()
        if self.is_asked:
            async for batch in self.draft.noting(self._asked(), says_latest=True):
                sought.update(map(str, batch["key"].to_pylist()))
                yield batch
        elif self.is_history:
            async for batch in self._listed():
                yield batch
        if self.is_retry:
            return
        async for batch in self._archived(records, sorted(sought) if self.is_asked else None):
            yield batch
        self._check_damage()
        if self.is_history:
            where = self.ledger.store, self.ledger.location, self.source.location.bucket, self.request.selection.prefix
            async for batch in expired_rows(*where):
                yield batch
            async for batch in journal_rows(*where, self.at):
                self._has_events = True
                yield batch

    def choose(self, rows: Sequence[ObjectVersion], archived: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        """Choose one key's version, see `Choose`."""
        if self.is_retry:
            return [*rows, *archived]
        if self.is_asked:
            return pick_asked(rows, archived)
        found = current_at(rows, archived, math.inf if self.at is None else self.at)
        if found is None:
            return []
        if self._has_events and not (found.archive in NOT_RESTORED or is_of_event(found, archived)):
            self.without_event += 1
        return [found]

    def description(self) -> str:
        """Where the rows come from, for people."""
        if self.request.manifest:
            return self.request.manifest
        what = f"keys {', '.join(self.request.keys[:3])}" if self.request.keys else f"{self.request.selection.prefix}*"
        when = "" if self.at is None else f" as of {iso_time(self.at)}"
        places = [str(each.location) for each in (self.source, self.archives) if each is not None]
        return f"{what} of {' and '.join(dict.fromkeys(places))}{when}"

    def options(self) -> dict[str, object]:
        """What the run's options say beside the request's: the bucket of the archives, which rows of
        a retry do not name, and the archives that were not searched.

        A retry of rows that have been chosen keeps those of the first run.
        """
        earlier = self.request.options.get(LEFT_OUT, [])
        found = [{"archive": str(each.archive), "reason": each.reason} for each in self.damage]
        left_out = {LEFT_OUT: earlier if self.is_retry else found} if found or earlier else {}
        return {"bucket": self.bucket, **left_out}

    async def _asked(self) -> AsyncIterator[pa.RecordBatch]:
        """The rows that the request names."""
        if not (uri := self.request.manifest):
            named = [Listed(key, None, True, False, None, None, 0.0, None) for key in self.request.keys]
            yield manifest_batch(named)
            return
        if uri.startswith("run:"):
            uri = await failures_of(self.ledger, uri[4:])
        manifest = await open_manifest(uri, self.ledger.store)
        if not self.is_retry and self.bucket and manifest.bucket not in (None, self.bucket):
            raise UsageError(
                f"{uri} is about bucket {manifest.bucket}, the archives are of {self.bucket}", advice="name one bucket"
            )
        async for batch in manifest.batches:
            # Another archive may have a row of an earlier restore by now, or the same one at another place.
            forgotten = {name: batch[name] for name in batch.schema.names if name != "archive"}
            yield batch if self.is_retry else fill_batch(forgotten, batch.num_rows)

    async def _listed(self) -> AsyncIterator[pa.RecordBatch]:
        """The versions that the bucket still has. Raises ConfigError if it keeps none."""
        store = open_side(self.source)
        if self.archives is None and not await store.is_versioned(self.source.location.bucket):
            raise ConfigError(
                f"{self.source.location.bucket} keeps no versions", advice="give --archives, which may know how it was"
            )
        place = self.source.location._replace(key=self.request.selection.prefix)
        async for page in list_all(store, place, versions=True):
            yield manifest_batch(page)

    async def _archived(
        self, records: Sequence[ArchiveRecord], keys: Sequence[str] | None
    ) -> AsyncIterator[pa.RecordBatch]:
        """Members of these archives, of `keys` (in order; None: all). Only the row groups that can
        hold one are read.

        A version that several archives hold is restored from the first of them. Archives that are as
        they were written come first, of them those that need no thawing.
        """

        def preference(record: ArchiveRecord) -> tuple[bool, bool, Location]:
            is_other = self.etags is not None and self.etags.get(record.location) != record.etag
            return is_other, record.storage_class in ARCHIVE_CLASSES, record.location

        in_order, prefix = sorted(records, key=preference), self.request.selection.prefix
        async with aclosing(self.index.tables_of(in_order, self.damage, prefix, keys)) as tables:
            async for _, table in tables:
                yield fill_batch({name: table[name] for name in table.column_names}, table.num_rows)

    def _check_damage(self) -> None:
        """Raises DamagedArchive for an archive that cannot be searched, without --skip-damaged.

        It may hold a newer version of a key, and nobody gets an older one without asking for it.
        """
        if self.damage and self.archives is not None and not self.request.options.get("skip_damaged"):
            first = self.damage[0]
            raise DamagedArchive(
                f"{plural(len(self.damage), 'archive')} may hold newer versions and cannot be searched: "
                f"{first.archive}: {first.reason}",
                advice=f"rebuild the index with sealift archives reindex --source {self.archives.location}, or restore "
                "what the others hold with --skip-damaged",
            )

    def _check_place(self, bucket: str) -> None:
        """Raises UsageError for the original bucket as destination without --in-place."""
        destination = self.request.destination
        is_original = destination.location.bucket == bucket and not are_apart(self.archives or self.source, destination)
        if is_original and not self.request.options["in_place"]:
            raise UsageError(f"{bucket} is the original bucket", advice="name another, or add --in-place")


def event_batch(rows: Sequence[ObjectVersion]) -> pa.RecordBatch:
    """Events in `SCHEMA`."""
    return batch_of([(*row[:-1], *cast(Event, row.beside)) for row in rows], NAMES, SCHEMA)


async def journal_rows(
    store: Store, ledger: Location, bucket: str, prefix: str, until: float
) -> AsyncIterator[pa.RecordBatch]:
    """Events that copied into the bucket or hid something there, as a restore's rows.

    `jobs.restore.as_of_journal` reads them. They are all of the journal's lines up to `LATE_DAYS`
    after `until` (epoch seconds). Raises ManifestError for an invalid object, with its name.
    """
    folder = ledger.join("journal/")
    latest = min(until + timedelta(LATE_DAYS).total_seconds(), datetime.now(UTC).timestamp())
    last = f"{folder.key}dt={datetime.fromtimestamp(latest, UTC).date().isoformat()}0"  # "0" sorts next to "/"
    async with aclosing(list_all(store, folder, versions=False)) as pages:
        async for page in pages:
            names = [
                each.key for each in page if each.key < last and each.key.endswith((".json", ".jsonl", ".parquet"))
            ]
            refs = [ObjectRef(ledger.bucket, name) for name in names]
            files = await gather_bounded(lambda ref: _read(store, ref), refs, FILES_AT_ONCE)
            entries = (entry for file in files for entry in file if entry.destination_bucket == bucket)
            rows = [row for row in map(row_from_entry, entries) if row is not None and row.key.startswith(prefix)]
            if rows:
                yield event_batch(rows)


async def _read(store: Store, ref: ObjectRef) -> list[Entry]:
    data = (await retry(lambda: store.get(ref))).data
    try:
        return [from_document(json.loads(line)) for line in data.splitlines() if line.strip()]
    except (ValueError, OverflowError, RecursionError) as error:
        raise ManifestError(f"{ref} is not a journal: {error}", advice="put back an earlier version of it") from error
