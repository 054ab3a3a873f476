"""The expire job: looks at originals, compares each with its copy, and deletes what is proven.

No other job deletes. A row says where a listing, or an archive's index, has a copy
(`jobs.expire.rules.CopyAt`). The job asks S3 for the original and its locks, reads the copy's bytes,
and compares them with what S3 keeps of the original, else with the original's own bytes. Nothing
that the ledger or a listing says of the copy's content counts. What cannot be read, or not in time,
is unknown: never an error, never a wait without end. Then `jobs.expire.rules.decide` decides:

- A current version in a bucket that keeps versions gets a delete marker, if it still has the
  compared ETag. Removing the marker undoes that. A later run, a grace period after that, removes the
  version below the marker.
- Any other version is removed for good: by its version id or, where there are none, only if it has
  the compared ETag. A null version below others is removed by that id as well, while the bucket
  keeps versions, since no write makes one then.

Tombstones are announced before anything is deleted (`jobs.ledger.tombstones`). So what a killed
attempt deleted is `done` by this run, not missing. Each delete is sent at most `FRESH_SECONDS`
after the look at the original and its copy that it relies on (`Store.delete`, `send_by`). If a
comparison took longer, or the machine slept, both are looked at again. Locks are never bypassed.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial, partialmethod
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jobs.archives.reader import ArchiveReader, content_checksums
from jobs.core.algorithms import Protection
from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import Step
from jobs.core.evidence import Verdict, compare, difference, is_multipart
from jobs.core.model import NULL_VERSION, Checksum, Location, ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.core.outcome import Evidence, Outcome, PartlyDone, Status
from jobs.core.reasons import Cause, Reason, Why
from jobs.errors import (
    AuthenticationFailed,
    ConfigError,
    Conflict,
    DamagedArchive,
    Denied,
    Interrupted,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.expire.places import PlaceLook
from jobs.expire.rules import CopyAt, Original, Proven, Terms, decide, refuse_copy
from jobs.runs.failure_count import gave_up
from jobs.runs.kind import no_look
from jobs.s3.annotations import AnnotationPair
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import ContentCheck
from jobs.s3.compare_bytes import ContentSide, check_bytes, update
from jobs.s3.gated_store import patient
from jobs.s3.lookup import KeyLooks, find
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import DELETED_AT_ONCE, Store
from jobs.s3.tag_reader import TagReader

if TYPE_CHECKING:
    from jobs.ledger.tombstones import Tombstone, Tombstones

GROUP_ROWS = 128
GROUP_BYTES = 256 * 1024**2
"""Rows are compared and then deleted in groups of this size: small, so that little time passes
between the two, and a slow server is in time."""
GROUPS_AT_ONCE = 2
REQUESTS_AT_ONCE = 64

FRESH_SECONDS = 5.0
"""How long after the beginning of a look at the original, its copy and their places a delete may be sent."""

End = Outcome | StoreError | Interrupted
"""What became of a row: an outcome, or an error that a retry may cure."""
Content = Verdict | Checksum | ContentCheck
"""What is known of a copy's bytes: why nothing is, their SHA-256 by the index, or what was read."""


class Removal(NamedTuple):
    """A row whose original goes now, and why it may. `seen_at`: when the older of both looks began."""

    original: Original
    proven: Proven
    step: Step
    seen_at: float

    @property
    def row(self) -> int:
        """The row's number."""
        return self.original.row.row

    @property
    def is_null(self) -> bool:
        """True for a null version below others: a condition would apply to the one on top.

        While a bucket keeps versions, no write makes a null version, so its id is exact directly after a look:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersioningEnabledBuckets.html
        """
        return not self.original.is_current and not is_exact(self.original.ref.version_id)

    @property
    def is_by_id(self) -> bool:
        """True if the version id alone removes these bytes and no others."""
        return self.is_null or (self.step is Step.REMOVE and is_exact(self.original.ref.version_id))


@dataclass(slots=True)
class Expire:
    """The expire job of one worker: `process` takes what `chains` cuts out of a shard.

    `look`: at the documents of both places, for S3's time. `heeded`: the steps in which the
    server heeds conditions (`jobs.expire.plan.heeded_steps`), none in a dry run. `places`: where
    copies count. `prefix`: no key outside of it is touched, whatever the rows say. `planned_at`:
    epoch seconds at which the run was planned. `look_at_owner`: see `jobs.runs.kind.Opened`.

    `is_apart`: originals and copies are on different services. `patience_seconds`: for one request
    of a comparison, with all its tries. `by_checksum`: no copy is read. What S3 keeps of it counts,
    also of archived ones. `ignores_annotations`: an original may have some that its copy lacks.
    """

    source: Store
    destination: Store
    budget: ByteBudget
    look: PlaceLook
    bucket: str
    grace_seconds: float
    heeded: Collection[Step]
    tombstones: Tombstones
    clock: Callable[[], float]
    places: Sequence[Location]
    prefix: str = ""
    planned_at: float = math.inf
    look_at_owner: Callable[[], Awaitable[None]] = no_look
    is_apart: bool = False
    patience_seconds: float = 60.0
    by_checksum: bool = False
    ignores_annotations: bool = False
    _originals: Store = field(init=False)
    _copies: Store = field(init=False)
    _tags: TagReader = field(init=False)
    _annotations: AnnotationPair = field(init=False)
    _unanswered: set[int] = field(default_factory=set, init=False)
    """The rows whose delete may have been done, or may still be: its answer was lost."""

    def __post_init__(self) -> None:
        self._originals, self._copies = (
            patient(each, self.patience_seconds) for each in (self.source, self.destination)
        )
        self._annotations = AnnotationPair.between(self._originals, self._copies, self.budget)
        self._tags = TagReader(self._originals)

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """Yield the rows of a shard in groups, in order."""
        group: list[ObjectVersion] = []
        size_bytes = 0
        for row in rows:
            if group and (len(group) == GROUP_ROWS or size_bytes + (row.size_bytes or 0) > GROUP_BYTES):
                yield group
                group, size_bytes = [], 0
            group.append(row)
            size_bytes += row.size_bytes or 0
        if group:
            yield group

    async def process(self, rows: Sequence[ObjectVersion], *, is_last: bool = False) -> list[Outcome]:
        """Return one outcome for each row, in order. `is_last`: a row that S3 cannot serve ends as failed.

        Raises Unavailable, Conflict or PreconditionFailed where a retry may help. Tombstones then
        say what is gone. Raises ConfigError for a delete whose condition was not tried, and for a
        place that is not as it was. Raises PartlyDone when the worker has to stop.
        """
        is_versioned = await retry(lambda: self.source.is_versioned(self.bucket))
        # The plan weighed the shares: what became due after it was not weighed.
        now = min(await self.look.look(), self.clock(), self.planned_at)
        terms = Terms(now, self.grace_seconds, is_versioned, self.places, self.prefix)
        seen_at = elapsed_seconds()
        there, outcomes = await self._look_at_all(rows, is_versioned, is_last)
        proven = await self.compare([each for each in there if decide(each, None, terms) is None])
        removals: list[Removal] = []
        for each in there:
            decision = decide(each, proof := proven.get(each.row.row), terms)
            if isinstance(decision, Cause):
                outcomes[each.row.row] = _kept(each.row, *decision)
                if decision.reason == Reason.REFUSED and not is_last:
                    await self._refuse_race("GetObject", each.row)  # it may have gone while it was read
            elif decision is not None and proof is not None:
                removals.append(Removal(each, proof, decision, min(seen_at, proof.looked_at)))
        if removals and self.heeded:
            outcomes |= await self._remove(removals, is_versioned, is_last)
        else:
            for going in removals:
                outcomes[going.row] = _deleted(going, Status.LEFT, is_hidden=going.step is Step.HIDE)
        return [outcomes[row.row] for row in rows]

    process_last = partialmethod(process, is_last=True)

    # Looks at originals.

    async def _look_at_all(
        self, rows: Sequence[ObjectVersion], is_versioned: bool, is_last: bool
    ) -> tuple[list[Original], dict[int, Outcome]]:
        """Return the originals that are there, and the outcomes of the rest.

        What this run deleted is not missing.
        """
        look = partial(self._look, KeyLooks(self.source, self.bucket), is_versioned=is_versioned, is_last=is_last)
        looked = await gather_bounded(look, rows, REQUESTS_AT_ONCE)
        announced: Mapping[int, Tombstone] = {}
        if not all(isinstance(each, Outcome) or _is_in_place(each) for each in looked):
            announced = await self.tombstones.announced(rows[0].row, rows[-1].row)
        there: list[Original] = []
        outcomes: dict[int, Outcome] = {}
        settled: list[Tombstone] = []
        for row, each in zip(rows, looked, strict=True):
            if isinstance(each, Outcome):
                outcomes[row.row] = each
                continue
            stone = announced.get(row.row)
            is_gone = each is None or each.is_replaced
            if stone is not None and each is not None and not is_gone and each.markers_above and _hides(stone):
                # Below any marker this run must not remove it: the marker may be its own.
                marker = each.marker_of(stone.marker_version_id, stone.recorded_at)
                if marker is None:
                    outcomes[row.row] = _kept(row, Reason.DELETED, "source")  # by others, long after
                    continue
                stone, is_gone = stone._replace(marker_version_id=marker.version_id), True
            if stone is not None and is_gone:
                outcomes[row.row] = _by_earlier_attempt(row, stone)
                settled.append(stone._replace(recorded_at=self.clock()))
            elif each is None:
                outcomes[row.row] = Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
            else:
                there.append(each)
        if settled:
            await self.tombstones.settle(settled)
        return there, outcomes

    async def _look(
        self, looks: KeyLooks, row: ObjectVersion, *, is_versioned: bool, is_last: bool = False
    ) -> Original | Outcome | None:
        """Return the original as it is now, None when it is gone, an outcome when S3 does not show it."""
        if row.beside is None:
            return _kept(row, Reason.COPY_MISSING)
        try:
            return await find_original(looks, row, cast(CopyAt, row.beside), is_versioned=is_versioned)
        except (Denied, Redirected, Rejected) as error:
            return Outcome.refused(row, error)
        except Unavailable as error:
            if not is_last:
                raise
            return gave_up(row, error)

    async def _look_now(self, row: ObjectVersion, *, is_versioned: bool) -> Original | Outcome | None:
        return await self._look(KeyLooks(self.source, self.bucket), row, is_versioned=is_versioned)

    async def _refuse_race(self, operation: str, row: ObjectVersion) -> None:
        """Raise Conflict if another attempt of this run deletes it as well: its tombstone says what became of it."""
        if await self.tombstones.announced_by_others(row.row):
            raise Conflict(operation, row.key, "Raced", "another attempt of the run deletes it as well")

    # The comparison.

    async def compare(self, originals: Sequence[Original]) -> dict[int, Proven]:
        """Compare bytes, metadata, headers, tags and annotations of each with its copy → by row.

        What is current at the copy's key counts. Each read is pinned to its version and ETag.
        """
        at_one_place: dict[tuple[Any, ...], list[Original]] = {}
        for each in originals:
            at = each.copy
            shared = (at.etag, at.checksum) if at.member else (each.row.row,)
            at_one_place.setdefault((at.bucket, at.key, *shared), []).append(each)
        found = await gather_bounded(self._compare_at, at_one_place.values(), REQUESTS_AT_ONCE)
        return {row: proven for part in found for row, proven in part.items()}

    async def find_changed(self, compared: Sequence[tuple[Original, Proven]]) -> list[Cause | None]:
        """Return for each original why its copy is no longer the object that was compared, else None."""
        at = {(each.copy.bucket, each.copy.key): each.copy for each, _ in compared}
        found = dict(zip(at, await gather_bounded(self._look_at_copy, at.values(), REQUESTS_AT_ONCE), strict=True))
        changed: list[Cause | None] = []
        for each, before in compared:
            now = found[each.copy.bucket, each.copy.key]
            cause = now if isinstance(now, Cause) else refuse_copy(each.copy, now, by_checksum=self.by_checksum)
            is_same = before.copy and isinstance(now, ObjectInfo) and _identity(before.copy) == _identity(now)
            changed.append(cause or (None if is_same else Cause(Reason.SOURCE_CHANGED, "copy")))
        return changed

    async def _look_at_copy(self, at: CopyAt) -> ObjectInfo | Cause | None:
        """What is current at the key of a copy, or of its archive."""
        try:
            return await find(self._copies, ObjectRef(at.bucket, at.key))
        except StoreError as error:
            return _cause(error)

    async def _compare_at(self, originals: Sequence[Original]) -> dict[int, Proven]:
        """Compare originals with what is at one place: a copy, or their archive."""
        looked_at, found = elapsed_seconds(), await self._look_at_copy(originals[0].copy)
        copy = None if isinstance(found, Cause) else found
        contents: dict[int, Content] = {}
        for each in originals:
            if refuted := _unknown(found) if isinstance(found, Cause) else self._refute(each, copy):
                contents[each.row.row] = refuted
        left = [each for each in originals if each.row.row not in contents]
        if copy is not None and left:
            try:
                async for each, content in self._read(left, copy):
                    contents[each.row.row] = content
            except (StoreError, DamagedArchive) as error:  # of an archive: the rest is not tried
                contents |= {each.row.row: _unknown(_cause(error)) for each in left if each.row.row not in contents}

        async def judge(original: Original) -> Proven:
            try:
                verdict = await self._judge(original, contents[original.row.row])
                if verdict.same and copy is not None:
                    verdict = await self._find_lack(original, copy) or verdict
            except StoreError as error:
                verdict = _unknown(_cause(error))
            return Proven(verdict, copy, looked_at)

        judged = await gather_bounded(judge, originals, REQUESTS_AT_ONCE)
        return {each.row.row: proven for each, proven in zip(originals, judged, strict=True)}

    def _refute(self, original: Original, copy: ObjectInfo | None) -> Verdict | None:
        """The verdict that needs no bytes, if there is one."""
        at, ref, info = original.copy, original.ref, original.info
        if not self.is_apart and (ref.bucket, ref.key) == (at.bucket, at.key):
            return _unknown(Cause(Reason.KEPT, "itself"))
        if (cause := refuse_copy(at, copy, by_checksum=self.by_checksum)) or copy is None:
            return _unknown(cause or Cause(Reason.COPY_MISSING))
        if info.size_bytes != (at.member or copy).size_bytes:
            return Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)
        differing = difference(info.attributes, at.member or copy.attributes)
        return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, differing) if differing else None

    async def _read(
        self, originals: Sequence[Original], copy: ObjectInfo
    ) -> AsyncGenerator[tuple[Original, Content], None]:
        """What is at one place: a replica, or the members of an archive."""
        at = originals[0].copy
        if self.by_checksum or at.member is None:
            for each in originals:
                yield each, _indexed(each.copy, copy) if at.member else await self._read_replica(each, copy)
            return
        reader = ArchiveReader(self._copies, ObjectRef(at.bucket, at.key, copy.version_id), copy.etag, self.budget)
        of_member = {id(each.copy.member): each for each in originals}
        async with aclosing(reader.contents([member for each in originals if (member := each.copy.member)])) as members:
            async for member, content in members:
                original = of_member[id(member)]
                if isinstance(content, Cause):
                    yield original, _unknown(content)
                    continue
                check = ContentCheck(original.info, _hashed(original.info))
                try:
                    async with aclosing(content) as pieces:
                        async for piece in pieces:
                            await update(check, piece)
                    yield original, check
                except DamagedArchive as error:
                    yield original, _unknown(_cause(error))

    async def _read_replica(self, original: Original, copy: ObjectInfo) -> Content:
        verdict, info = compare(original.info, copy, Protection.INTENT), original.info
        if verdict.same is False or self.by_checksum:
            return verdict
        theirs = ContentSide(self._copies, ObjectRef(original.copy.bucket, original.copy.key, copy.version_id), copy)
        return await check_bytes(theirs, info, self.budget, _hashed(info))

    async def _judge(self, original: Original, content: Content) -> Verdict:
        """Whether content is the original's: by what S3 keeps of it, else by its bytes, read now."""
        info, differs = original.info, Verdict(False, Evidence.CHECKSUM, Reason.CONTENT_DIFFERS)
        if isinstance(content, Verdict):
            return content
        if isinstance(content, ContentCheck):
            if content.is_refuted or content.evidence is not Evidence.NONE:
                return differs if content.is_refuted else Verdict(True, content.evidence)
            sha256, evidence = content.checksum("SHA256"), Evidence.CONTENT
        else:
            sha256, evidence = content, Evidence.CHECKSUM
        if info.is_archived:
            return _unknown(Cause(Reason.ARCHIVED, "source"))
        known = replace(info, checksums=(*info.checksums, sha256))
        check = await check_bytes(ContentSide(self._originals, original.ref, info), known, self.budget)
        return differs if check.is_refuted else Verdict(True, evidence)

    async def _find_lack(self, original: Original, copy: ObjectInfo) -> Verdict | None:
        """Why the copy lacks tags or annotations of the original, or nobody knows. None: it has all."""
        at, ref = original.copy, original.ref
        replica = ObjectRef(at.bucket, at.key, copy.version_id)
        if tags := await self._tags.read_surely(ref, original.info.tag_count):
            there = at.member.tags if at.member else await self._copies.get_tags(replica)
            if not tags.items() <= there.items():
                return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, "tags")
        if self.ignores_annotations or await self._annotations.has_all(ref, None if at.member else replica):
            return None
        return _unknown(Cause(Reason.METADATA_DIFFERS, "annotations"))

    # Deletes.

    async def _remove(self, removals: Sequence[Removal], is_versioned: bool, is_last: bool) -> dict[int, Outcome]:
        """Raises, but at the last try, an error that a retry may cure, and PartlyDone when the worker has to stop."""
        try:
            ends = await self._announce_and_delete(removals)
        except (Unavailable, Conflict, Interrupted) as error:
            ends = dict.fromkeys((each.row for each in removals), error)
        outcomes = {row: end for row, end in ends.items() if isinstance(end, Outcome)}
        if stop := next((end for end in ends.values() if isinstance(end, Interrupted)), None):
            raise PartlyDone(str(stop), list(outcomes.values())) from stop
        failed = {row: end for row, end in ends.items() if isinstance(end, StoreError)}
        if failed and not is_last:
            raise next(iter(failed.values()))
        if failed:  # what was done may have lost its answer
            rows = [each.original.row for each in removals if each.row in failed]
            there, known = await self._look_at_all(rows, is_versioned, is_last)
            outcomes |= known | {each.row.row: gave_up(each.row, failed[each.row.row]) for each in there}
        return outcomes

    async def _announce_and_delete(self, removals: Sequence[Removal]) -> dict[int, End]:
        """Announce, delete, confirm → what became of each row."""
        steps = {each.step for each in removals if not each.is_by_id}
        self._check_heeded(steps)
        name = await self.tombstones.announce(list(map(self._tombstone, removals)))
        try:
            fresh, kept = await self._look_again(removals)
            needs_versions = Step.HIDE in steps or any(each.is_null for each in fresh)
            if needs_versions and not await retry(lambda: self.source.is_versioned(self.bucket)):
                what = "it has been suspended meanwhile, so a delete would do something else: look again"
                raise Conflict("GetBucketVersioning", self.bucket, "Raced", what)
        except (Unavailable, Conflict, Interrupted):  # no delete was sent, so what is gone is no work of this run
            await self.tombstones.confirm(name, [])
            raise
        ended = await self._delete(fresh)
        self._unanswered.update(row for row, (end, _) in ended.items() if isinstance(end, Unavailable))
        # Also what may be gone: a delete may have been done before its error. A stop comes before it is sent.
        gone = [each for each in fresh if _may_be_gone(ended[each.row][0])]
        await self.tombstones.confirm(
            name, [self._tombstone(each)._replace(marker_version_id=ended[each.row][1] or None) for each in gone]
        )
        return {row: end for row, (end, _) in ended.items()} | kept

    def _check_heeded(self, steps: Collection[Step]) -> None:
        """Raise ConfigError for a step whose condition was not tried when the run was planned."""
        if set(steps) - set(self.heeded):
            raise ConfigError(
                f"s3://{self.bucket} keeps versions since the run was planned, or no longer, so whether its server "
                "heeds If-Match is not known",
                advice="plan again",
            )

    async def _look_again(self, removals: Sequence[Removal]) -> tuple[list[Removal], dict[int, Outcome]]:
        """Return the removals with looks that are fresh, and the outcomes of what is not as it was."""
        seen_at = elapsed_seconds()
        await retry(self.look_at_owner)  # after the tombstones: who owns the run now reads them, or is seen here
        await self.look.look()
        stale = [each for each in removals if each.is_null or seen_at - each.seen_at >= FRESH_SECONDS / 2]
        changed = await self.find_changed([(each.original, each.proven) for each in stale])
        moved = await gather_bounded(self._is_moved, stale, REQUESTS_AT_ONCE)
        for each in compress(stale, moved):
            await self._refuse_race("HeadObject", each.original.row)
        fresh = {each.row: each for each in removals} | {each.row: each._replace(seen_at=seen_at) for each in stale}
        kept = {
            each.row: _kept(each.original.row, *(cause or Cause(Reason.SOURCE_CHANGED)))
            for each, cause, is_moved in zip(stale, changed, moved, strict=True)
            if cause or is_moved
        }
        return [each for row, each in fresh.items() if row not in kept], kept

    async def _is_moved(self, removal: Removal) -> bool:
        """True if the original is not as it was."""
        is_versioned = removal.step is Step.HIDE or not removal.original.is_current
        now = await self._look_now(removal.original.row, is_versioned=is_versioned)
        if now is None:  # an older version of the same bytes may be current now
            return removal.row not in self._unanswered
        return now != removal.original

    async def _delete(self, removals: Sequence[Removal]) -> dict[int, tuple[End, str | None]]:
        """Delete → what became of each row, and the id of its marker, empty where the server names none."""
        send_by = min((each.seen_at for each in removals), default=0.0) + FRESH_SECONDS
        guarded = [each for each in removals if not each.is_by_id]
        by_id = [each for each in removals if each.is_by_id]
        delete = partial(self._delete_guarded, send_by=send_by)
        ended = await gather_bounded(delete, guarded, REQUESTS_AT_ONCE)
        refs = [each.original.ref for each in by_id]
        named = [(ref.key, ref.version_id or NULL_VERSION) for ref in refs]
        errors: Sequence[StoreError | Interrupted | None]
        try:
            errors = await remove_versions(self.source, self.bucket, named, send_by)
        except (Unavailable, Conflict, Interrupted) as error:
            errors = [error] * len(named)
        ended += [(_end(each, error), None) for each, error in zip(by_id, errors, strict=True)]
        return {each.row: end for each, end in zip([*guarded, *by_id], ended, strict=True)}

    async def _delete_guarded(self, removal: Removal, send_by: float) -> tuple[End, str | None]:
        """Hide the current object (without versions: remove it), if it still has the proven ETag.

        Where it was deleted meanwhile, that counts as this run's only if an answer to this run's
        delete was lost: somebody else's delete is not for this run to undo. It is a Conflict when
        S3 says that it has another ETag, and then that it has this one: try again.
        """
        row, etag = removal.original.row, removal.original.info.etag
        try:
            try:
                made = await self.source.delete(self.bucket, row.key, if_match=etag, send_by=send_by)
                marker_id = made.version_id or ("" if made.is_delete_marker else None)
            except (PreconditionFailed, NotFound) as error:
                now = await self._look_now(row, is_versioned=removal.step is Step.HIDE)
                if isinstance(now, Original) and _is_in_place(now):
                    return Conflict(error.operation, error.target, "Raced", "it is there, and it is not"), None
                await self._refuse_race(error.operation, row)
                markers = now.markers_above if isinstance(now, Original) else ()
                is_ours = row.row in self._unanswered or not error.was_sent_once
                if not is_ours or (now is not None and not markers):
                    return _end(removal, error), None
                marker_id = markers[0].version_id if markers else None  # the lowest may be the first request's
        except (Unavailable, Conflict, Denied, Rejected, Interrupted) as error:  # others end the run
            return _end(removal, error), None
        return _end(removal, None, marker_id), marker_id

    def _tombstone(self, removal: Removal) -> Tombstone:
        from jobs.ledger.tombstones import Tombstone

        row, at, ref, info, *_ = removal.original
        verdict, copy, _ = removal.proven
        return Tombstone(
            row.row, row.key, ref.version_id, info.etag, info.size_bytes, info.last_modified, removal.step, at.place,
            copy.version_id if copy else None, copy.etag if copy else None, verdict.evidence.value, None, self.clock(),
        )  # fmt: skip


async def find_original(looks: KeyLooks, row: ObjectVersion, copy: CopyAt, *, is_versioned: bool) -> Original | None:
    """Return the row's version as S3 has it now, None when it is gone.

    A row without a version id names the null version: a listing without versions gave it. One
    request where the version is current. A current object may be another than the row's, and the
    caller must see that.
    """
    wanted = row.version_id or NULL_VERSION

    def made(info: ObjectInfo, version_id: str | None) -> Original:
        return Original(row, copy, ObjectRef(looks.bucket, row.key, version_id), info)

    current = await looks.current(row.key)
    has_others = is_versioned or is_exact(row.version_id)
    if current is not None and (not has_others or (current.version_id or NULL_VERSION) == wanted):
        return made(current, current.version_id)
    history = await looks.history(row.key) if has_others else []
    named = [not each.is_delete_marker and each.version_id == wanted for each in history]
    if True not in named:
        return made(current, current.version_id) if current is not None and row.version_id is None else None
    place = named.index(True)
    info = await retry(lambda: find(looks.store, ObjectRef(looks.bucket, row.key, history[place].version_id)))
    if info is None:
        return None
    original, later = made(info, info.version_id or history[place].version_id), history[place + 1 :]
    if not later:
        return original
    # S3 dates an upload in parts by its beginning. All else hid the version at its date.
    dated = (each.last_modified for each in later if not is_multipart(each.etag))
    return original._replace(
        is_current=False,
        hidden_at=min(dated, default=later[0].last_modified),
        markers_above=tuple(each for each in later if each.is_delete_marker),
        newest_etag=next((each.etag for each in reversed(later) if not each.is_delete_marker), None),
    )


async def remove_versions(
    store: Store, bucket: str, versions: Sequence[tuple[str, str]], send_by: float | None = None
) -> list[StoreError | None]:
    """Remove versions for good, each named by (key, version id). Locks are never bypassed.

    Return None for each, or why it stays. `send_by`: see `Store.delete`.

    A version id names the same bytes for ever, so no condition is necessary. `null` does not.
    Raises Interrupted only if no request was sent whose answer is unknown.
    """
    answers: list[StoreError | None] = []
    for start in range(0, len(versions), DELETED_AT_ONCE):
        group, failures = versions[start : start + DELETED_AT_ONCE], list[StoreError]()
        request = partial(store.delete_versions, bucket, group, send_by=send_by)
        try:
            answers += await retry(request, partial(_note, failures))
        except Interrupted as stop:
            if failures:  # its answer was lost, so it may have removed them
                raise failures[-1] from stop
            raise
    return answers


def _note(failures: list[StoreError], error: StoreError) -> None:
    if error.code == "TooLate":  # a later try is too late as well
        raise failures[-1] if failures else error
    failures.append(error)


def _is_in_place(original: Original | None) -> bool:
    """True if the row's object is there, and current."""
    return original is not None and original.is_current and not original.is_replaced


def _identity(info: ObjectInfo) -> tuple[object, ...]:
    carried = (dict(info.attributes.metadata), dict(info.attributes.headers), info.tag_count)
    return info.version_id, info.etag, info.last_modified, info.size_bytes, *carried


def _indexed(at: CopyAt, archive: ObjectInfo) -> Content:
    """The member's SHA-256 by the index, if S3 keeps of the archive the SHA-256 that its index has."""
    algorithm, _, value = (at.checksum or "").partition(":")
    if algorithm != "SHA256" or Checksum(algorithm, value, "-" in value) not in archive.checksums:
        return _unknown(Cause(Reason.NOTHING_COMPARABLE, "SHA-256 of the archive"))
    if at.member is None or at.member.sha256 is None:
        return _unknown(Cause(Reason.NOTHING_COMPARABLE, "SHA-256 of the member"))
    return content_checksums(at.member)[0]


def _hashed(info: ObjectInfo) -> str | None:
    """Without anything strong of the original, its bytes are read and hashed as well."""
    return "SHA256" if ContentCheck(info).evidence is Evidence.NONE else None


def _unknown(cause: Cause) -> Verdict:
    return Verdict(None, Evidence.NONE, *cause)


def _cause(error: StoreError | DamagedArchive) -> Cause:
    """Why one side cannot be read. Credentials that are not accepted end the run."""
    if isinstance(error, AuthenticationFailed):
        raise error
    if isinstance(error, DamagedArchive):
        return Cause(Reason.ARCHIVE_DAMAGED, str(error))
    return Cause(Reason.REFUSED, error.fact)


def _by_earlier_attempt(row: ObjectVersion, stone: Tombstone) -> Outcome:
    return Outcome.of(row, Status.DONE, Reason.DELETED, "hidden" if _hides(stone) else "removed")._replace(
        evidence=next((each for each in Evidence if each == stone.evidence), Evidence.NONE),
        size_bytes=stone.size_bytes,
        destination_version_id=stone.copy_version_id,
        destination_etag=stone.copy_etag,
    )


def _hides(stone: Tombstone) -> bool:
    return stone.step is Step.HIDE


def _kept(row: ObjectVersion, reason: Why, detail: str = "") -> Outcome:
    """Return the outcome of an original that stays."""
    return Outcome.of(row, Status.LEFT if reason == Reason.TOO_NEW else Status.BLOCKED, reason, detail)


def _deleted(removal: Removal, status: Status, *, is_hidden: bool) -> Outcome:
    """Return the outcome of an original that goes, or would, with its copy."""
    copy = removal.proven.copy
    return Outcome.of(removal.original.row, status, Reason.DELETED, "hidden" if is_hidden else "removed")._replace(
        evidence=removal.proven.verdict.evidence,
        size_bytes=removal.original.info.size_bytes,
        destination_version_id=copy.version_id if copy else None,
        destination_etag=copy.etag if copy else None,
    )


def _end(removal: Removal, error: StoreError | Interrupted | None, marker_id: str | None = None) -> End:
    """Return what S3's answer to a delete means. Raises what ends the run."""
    row = removal.original.row
    if error is None:
        return _deleted(removal, Status.DONE, is_hidden=removal.step is Step.HIDE and marker_id is not None)
    if isinstance(error, NoSuchBucket):
        raise error
    if isinstance(error, Unavailable | Conflict | Interrupted):
        return error
    if isinstance(error, PreconditionFailed | NotFound):
        return _kept(row, Reason.SOURCE_CHANGED)
    return _kept(row, Reason.REFUSED, error.fact)


def _may_be_gone(end: End) -> bool:
    return isinstance(end, StoreError) or (isinstance(end, Outcome) and end.status is Status.DONE)
