"""Candidates of a restore: rows of bucket and archives, and the choice among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from jobs.archives.unindexed import etags_of_archives, find_unindexed
from jobs.core.model import Listed, Location, ObjectVersion
from jobs.core.run import Side
from jobs.errors import ConfigError, DamagedArchive, UsageError
from jobs.ledger.ledger import Ledger
from jobs.ledger.run_ids import begin_second
from jobs.reports.document import LEFT_OUT, iso_time
from jobs.reports.figures import plural
from jobs.restore.as_of import current_at, pick, pick_asked, why_unrestorable
from jobs.restore.as_of_journal import is_of_event
from jobs.restore.pricing import records_of
from jobs.runs.request import Draft, Request, failures_of
from jobs.s3.sessions import are_apart, open_side

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.archives.index import ArchiveIndex, Damage
    from jobs.archives.model import ArchiveRecord
    from jobs.manifests import Manifest
    from jobs.restore.plan import Choose

KEYS_SOUGHT = 200_000
"""Up to so many keys of a manifest are looked up one by one. For more, whole archives are read."""


class RestoreQuery:
    """What a request wants restored: the candidates, and how to choose one of them."""

    def __init__(self, request: Request, ledger: Ledger, index: ArchiveIndex, keys: Sequence[str], draft: Draft):
        if request.source is None:
            raise UsageError("nothing to restore from", advice="give --archives s3://bucket/prefix")
        self.request, self.ledger, self.index, self.keys = request, ledger, index, keys
        self._draft = draft
        self.source: Side = request.source
        self.options = request.options
        named = self.options["archives"]
        self.archives = Side.from_dict(named) if named else None
        self.is_retry = bool(request.manifest) and bool(self.options["is_history"])
        self.damage: Damage = []
        self._etags: dict[Location, str] | None = {}
        self._bucket: str | None = self.source.location.bucket if self.options["is_history"] else self.options["bucket"]
        self._packed_at: dict[str, float] = {}
        self._manifest: Manifest | None = None
        self._has_events = False
        self.without_event = 0

    async def records(self) -> dict[str, ArchiveRecord]:
        """The archives to look into, by URI. Raises UsageError for archives of several buckets."""
        if self.archives is None:
            self._check_place({self.source.location.bucket})
            return {}
        await self._open_manifest()
        # First: what is indexed meanwhile has a name in both lists, or in that of the index alone.
        self._etags = {} if self.is_retry else await etags_of_archives(self.archives)
        whole = await self.index.records(self.archives.location, self.damage)
        indexed = {each.location for each in whole} | {each.archive for each in self.damage}
        names = [each for each in self._etags or {} if each not in indexed]
        self.damage += await find_unindexed(self.archives, self.index, names)
        self._check_damage()
        of = self._bucket = self._bucket or self._bucket_of_manifest(whole)
        records = records_of(whole, self.archives.location, of)
        self._check_place({each.source_bucket for each in records.values()})
        # Not by their dates: an archive may have been copied since.
        begins = {archive: begin_second(each.run_id or "") for archive, each in records.items()}
        self._packed_at = {archive: float(time) for archive, time in begins.items() if time is not None}
        return records

    async def candidates(self, records: dict[str, ArchiveRecord]) -> AsyncIterator[pa.RecordBatch]:
        """Rows in `manifest_schema()`: first those that the request names or a listing finds, then
        archived ones, then what the ledger has of expired and copied versions.
        """
        from jobs.restore.archived_rows import archived_rows

        sought: list[str] | None = None
        if self._is_asked:
            sought = []
            async for batch in self._draft.noted(self._asked()):
                if sought is not None:
                    sought += [str(key) for key in batch["key"].to_pylist()]
                    sought = sought if len(sought) <= KEYS_SOUGHT else None
                yield batch
        elif self.options["is_history"]:
            async for batch in self._listed():
                yield batch
        if self.is_retry:
            return
        found = list(records.values())
        prefix = self.request.selection.prefix
        async for batch in archived_rows(self.index, found, prefix, sought, self.damage, self._etags):
            yield batch
        self._check_damage()
        if self.options["is_history"]:
            async for batch in self._recorded():
                yield batch

    def choose(self) -> Choose:
        """The function that chooses one key's version."""
        at = self.options["at"]
        if self.is_retry:
            return lambda rows, archived: [*rows, *archived]
        if self._is_asked:
            return pick_asked
        return _newest if at is None else self._current

    def _current(self, rows: Sequence[ObjectVersion], archived: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        found = current_at(rows, archived, self.options["at"], self._packed_at)
        if self._has_events and found is not None and not (why_unrestorable(found) or is_of_event(found, archived)):
            self.without_event += 1
        return _one(found)

    def description(self) -> str:
        """Where the rows come from, for people."""
        if self.request.manifest:
            return self.request.manifest
        what = f"keys {', '.join(self.keys[:3])}" if self.keys else f"{self.request.selection.prefix}*"
        at = self.options["at"]
        when = "" if at is None else f" as of {iso_time(at)}"
        places = [str(each.location) for each in (self.source, self.archives) if each is not None]
        return f"{what} of {' and '.join(dict.fromkeys(places))}{when}"

    @property
    def is_listed(self) -> bool:
        """True if an archive without an index would have been seen."""
        return self._etags is not None

    @property
    def bucket(self) -> dict[str, str]:
        """The bucket whose archives were chosen, as an option of the run.

        The rows of a retry do not name it.
        """
        return {"bucket": self._bucket} if self._bucket else {}

    def left_out(self) -> dict[str, list[dict[str, str]]]:
        """The archives that were not searched, as an option of the run. A retry of rows that have
        been chosen keeps those of the first run.
        """
        found = [{"archive": str(each.archive), "reason": each.reason} for each in self.damage]
        earlier = self.options.get(LEFT_OUT, [])
        return {LEFT_OUT: earlier if self.is_retry else found} if found or earlier else {}

    @property
    def _is_asked(self) -> bool:
        """True if the request names its rows, by keys or a manifest."""
        return bool(self.keys or self.request.manifest)

    async def _asked(self) -> AsyncIterator[pa.RecordBatch]:
        """The rows that the request names."""
        from jobs.tables.rows import manifest_batch

        if self.keys:
            yield manifest_batch(
                [Listed(key, None, True, False, None, None, 0.0, None) for key in dict.fromkeys(self.keys)]
            )
            return
        await self._open_manifest()
        if self._manifest is not None:
            async for batch in self._manifest.batches:
                yield batch if self.is_retry else _forgetting_archives(batch)

    async def _open_manifest(self) -> None:
        """Open the manifest that the request names, if any, once."""
        from jobs.manifests import open_manifest

        uri = self.request.manifest
        if uri is None or self._manifest is not None:
            return
        if uri.startswith("run:"):
            uri = await failures_of(self.ledger, uri[4:])
        self._manifest = await open_manifest(uri, self.ledger.store)
        named = self._manifest.bucket
        if named is not None and self._bucket not in (None, named) and not self.is_retry:
            raise UsageError(f"{uri} is about bucket {named}, --bucket says {self._bucket}", advice="name one bucket")

    def _bucket_of_manifest(self, records: Sequence[ArchiveRecord]) -> str | None:
        """The bucket of the manifest's rows, by which these archives are chosen. None: any.

        A key names another object in another bucket. An archive may have lost the name of its own.
        Raises UsageError where no archive has objects of that bucket.
        """
        named = None if self._manifest is None or self.is_retry else self._manifest.bucket
        known = {each.source_bucket for each in records if each.source_bucket}
        if named is None or not known:
            return None
        if named not in known:
            raise UsageError(
                f"{self.request.manifest} is about bucket {named}, and the archives are of {', '.join(sorted(known))}",
                advice="name a manifest of that bucket",
            )
        return named

    async def _listed(self) -> AsyncIterator[pa.RecordBatch]:
        """The versions that the bucket still has. Raises ConfigError if it keeps none."""
        from jobs.s3.listing import list_all
        from jobs.tables.rows import manifest_batch

        store = open_side(self.source)
        if self.archives is None and not await store.is_versioned(self.source.location.bucket):
            raise ConfigError(
                f"{self.source.location.bucket} keeps no versions", advice="give --archives, which may know how it was"
            )
        place = self.source.location._replace(key=self.request.selection.prefix)
        async for page in list_all(store, place, versions=True):
            yield manifest_batch(page)

    async def _recorded(self) -> AsyncIterator[pa.RecordBatch]:
        """What the ledger has of the bucket: what expire runs hid there, and events that copied."""
        from jobs.ledger.expired_rows import expired_rows
        from jobs.restore.journal_rows import journal_rows

        store, ledger = self.ledger.store, self.ledger.location
        bucket, prefix = self.source.location.bucket, self.request.selection.prefix
        async for batch in expired_rows(store, ledger, bucket, prefix):
            yield batch
        async for batch in journal_rows(store, ledger, bucket, prefix, self.options["at"]):
            self._has_events = True
            yield batch

    def _check_damage(self) -> None:
        """Raises DamagedArchive for an archive that cannot be searched, without --skip-damaged.

        It may hold a newer version of a key, and nobody gets an older one without asking for it.
        """
        if self.damage and self.archives is not None and not self.options.get("skip_damaged"):
            first = self.damage[0]
            raise DamagedArchive(
                f"{plural(len(self.damage), 'archive')} may hold newer versions and cannot be searched: "
                f"{first.archive}: {first.reason}",
                advice=f"rebuild the index with sealift archives reindex --source {self.archives.location}, or restore "
                "what the others hold with --skip-damaged",
            )

    def _check_place(self, buckets: set[str]) -> None:
        """Raises UsageError for the original bucket as destination without --in-place."""
        destination = self.request.destination
        near = self.archives or self.source
        bucket = destination.location.bucket
        if bucket in buckets and not self.options["in_place"] and not are_apart(near, destination):
            raise UsageError(f"{bucket} is the original bucket", advice="name another, or add --in-place")


def _forgetting_archives(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of an earlier restore without their archives, so that they are looked up again.

    Another archive may have them, or the same one at another place.
    """
    import pyarrow as pa

    place = batch.schema.get_field_index("archive")
    return batch.set_column(place, batch.schema.field(place), pa.nulls(batch.num_rows, pa.string()))


def _newest(_: Sequence[ObjectVersion], archived: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    return _one(pick(archived[0]._replace(version_id=None, etag=None), archived))


def _one(version: ObjectVersion | None) -> list[ObjectVersion]:
    return [] if version is None else [version]
