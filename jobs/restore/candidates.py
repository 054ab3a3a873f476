"""Candidates of a restore: rows of bucket and archives, and the choice among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from jobs.archives.index import ArchiveIndex, Damage, collecting
from jobs.archives.model import ArchiveRecord
from jobs.archives.unindexed import etags_of_archives, find_unindexed
from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import Listed, Location, ObjectVersion
from jobs.core.run import Side
from jobs.errors import ConfigError, DamagedArchive, UsageError
from jobs.ledger.ledger import Ledger
from jobs.ledger.tombstones import expired_rows
from jobs.manifests import open_manifest
from jobs.reports.document import LEFT_OUT, iso_time
from jobs.reports.figures import plural
from jobs.restore.as_of import UNKNOWN, current_at, pick, pick_asked
from jobs.restore.as_of_journal import is_of_event
from jobs.restore.journal_rows import journal_rows
from jobs.runs.request import Draft, Request, failures_of
from jobs.s3.listing import list_all
from jobs.s3.sessions import are_apart, open_side
from jobs.tables.ranged_parquet import holds_any
from jobs.tables.rows import fill_batch, manifest_batch

KEYS_SOUGHT = 200_000
"""Up to so many keys of a manifest are looked up one by one. For more, whole archives are read."""

Choose = Callable[[Sequence[ObjectVersion], Sequence[ObjectVersion]], list[ObjectVersion]]
"""Maps one key's rows (oldest first) and archived versions (preferred first) to what is restored,
the newest last.
"""


@dataclass
class RestoreQuery:
    """What a request wants restored: the candidates, and how to choose one of them.

    `keys`: all that is wanted, if there are any. `damage`: the archives that cannot be searched.
    `without_event`: the chosen versions that count by the dates of their copies, where others have
    events in the journal.
    """

    request: Request
    source: Side
    ledger: Ledger
    index: ArchiveIndex
    keys: Sequence[str]
    draft: Draft
    damage: Damage = field(default_factory=list)
    without_event: int = 0
    _etags: dict[Location, str] | None = field(default_factory=dict)
    _has_events: bool = False

    def __post_init__(self) -> None:
        options = self.request.options
        self.is_history, self.at = bool(options["is_history"]), options["at"]
        self.is_retry = bool(self.request.manifest) and self.is_history  # its rows were chosen by the first run
        self.archives = Side.from_dict(options["archives"]) if options["archives"] else None
        self.bucket: str | None = self.source.location.bucket if self.is_history else options["bucket"]

    async def records(self) -> dict[str, ArchiveRecord]:
        """The archives to look into, by URI. Raises UsageError for archives of several buckets."""
        if self.archives is None:
            self._check_place(self.source.location.bucket)
            return {}
        place = self.archives.location
        # First: what is indexed meanwhile has a name in both lists, or in that of the index alone.
        self._etags = {} if self.is_retry else await etags_of_archives(self.archives)
        records = await self.index.records(place, self.damage)
        indexed = {*(each.location for each in records), *(each.archive for each in self.damage)}
        self.damage += await find_unindexed(self.archives, self.index, (self._etags or {}).keys() - indexed)
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
        sought: set[str] | None = None
        if self._is_asked:
            sought = set()
            async for batch in self.draft.noting(self._asked(), says_latest=True):
                sought.update(map(str, batch["key"].to_pylist()))
                yield batch
        elif self.is_history:
            async for batch in self._listed():
                yield batch
        if self.is_retry:
            return
        keys = sorted(sought) if sought is not None and len(sought) <= KEYS_SOUGHT else None
        async for batch in self._archived(records, keys):
            yield batch
        self._check_damage()
        if self.is_history:
            store, ledger = self.ledger.store, self.ledger.location
            bucket, prefix = self.source.location.bucket, self.request.selection.prefix
            async for batch in expired_rows(store, ledger, bucket, prefix):
                yield batch
            async for batch in journal_rows(store, ledger, bucket, prefix, self.at):
                self._has_events = True
                yield batch

    def choose(self) -> Choose:
        """The function that chooses one key's version."""
        if self.is_retry:
            return lambda rows, archived: [*rows, *archived]
        if self._is_asked:
            return pick_asked
        return _newest if self.at is None else self._current

    def _current(self, rows: Sequence[ObjectVersion], archived: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        found = current_at(rows, archived, self.at)
        if self._has_events and found is not None and not (found.archive in UNKNOWN or is_of_event(found, archived)):
            self.without_event += 1
        return _one(found)

    def description(self) -> str:
        """Where the rows come from, for people."""
        if self.request.manifest:
            return self.request.manifest
        what = f"keys {', '.join(self.keys[:3])}" if self.keys else f"{self.request.selection.prefix}*"
        when = "" if self.at is None else f" as of {iso_time(self.at)}"
        places = [str(each.location) for each in (self.source, self.archives) if each is not None]
        return f"{what} of {' and '.join(dict.fromkeys(places))}{when}"

    @property
    def is_listed(self) -> bool:
        """True if an archive without an index would have been seen."""
        return self._etags is not None

    def options(self) -> dict[str, object]:
        """What the run's options say beside the request's: the bucket of the archives, which rows of
        a retry do not name, and the archives that were not searched.

        A retry of rows that have been chosen keeps those of the first run.
        """
        earlier = self.request.options.get(LEFT_OUT, [])
        found = [{"archive": str(each.archive), "reason": each.reason} for each in self.damage]
        left_out = {LEFT_OUT: earlier if self.is_retry else found} if found or earlier else {}
        return ({"bucket": self.bucket} if self.bucket else {}) | left_out

    @property
    def _is_asked(self) -> bool:
        """True if the request names its rows, by keys or a manifest."""
        return bool(self.keys or self.request.manifest)

    async def _asked(self) -> AsyncIterator[pa.RecordBatch]:
        """The rows that the request names."""
        if not (uri := self.request.manifest):
            names = dict.fromkeys(self.keys)
            yield manifest_batch([Listed(key, None, True, False, None, None, 0.0, None) for key in names])
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
            is_other = self._etags is not None and self._etags.get(record.location) != record.etag
            return is_other, record.storage_class in ARCHIVE_CLASSES, record.location

        for record in sorted(records, key=preference):
            if not holds_any(keys, record.first_key, record.last_key):
                continue
            with collecting(self.damage, record.location):
                tables = self.index.tables(record.location, self.request.selection.prefix, keys)
                async with aclosing(tables):
                    async for table in tables:
                        if keys is not None:
                            table = table.filter(pc.is_in(table["key"], pa.array(keys, pa.string())))
                        if table.num_rows:
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


def _newest(_: Sequence[ObjectVersion], archived: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    return _one(pick(archived[0]._replace(version_id=None, etag=None), archived))


def _one(version: ObjectVersion | None) -> list[ObjectVersion]:
    return [] if version is None else [version]
