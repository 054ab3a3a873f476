"""The replicate job: brings each version of a manifest to the destination.

A row whose size and ETag the manifest knows costs one request: a CopyObject that S3 performs only
if the source is still what the manifest says and nothing is at the destination. Only when S3
refuses does the job look at both sides and decide (`jobs.replicate.decision`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

from jobs.core.evidence import NOT_THE_ONE_NAMED, Verdict, best_checksum, compare, is_md5, is_named
from jobs.core.histories import align_known, as_row, first_missing, keys_of, with_rows
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectRef, ObjectVersion, Route, is_exact
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    ConfigError,
    Conflict,
    Denied,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.replicate.decision import Origin, Overwrite, decide
from jobs.runs.failure_count import gave_up
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import ContentSide, compare_bytes, is_damaged
from jobs.s3.copying import Copier, CopyOptions, is_altered
from jobs.s3.lookup import VersionLooks, find, is_current_version, key_history
from jobs.s3.multipart_copy import ALTERED
from jobs.s3.retries import retry
from jobs.s3.store import ABSENT, Deleted, Guard, Store
from jobs.s3.stored_checksums import stored_checksums
from jobs.s3.uploads import NO_RECORDS, UploadRecords

_COVERED = "its copy is there, and below a newer version that is no copy of it: readers get that one"
TOO_LATE = "a newer version is at the destination already; an older one cannot be put below it"
HIDDEN_AGAIN = (
    "it was copied above a delete marker before, and a new delete marker hides that copy: look for a lifecycle rule of "
    "the destination's bucket that expires objects, exclude the copies from it, then copy it with --overwrite always"
)
_SHARED = "this may be the copy of another version of the same bytes: metadata, tags, annotations were not compared"
_SUPERSEDED = (
    "the destination is newer and condemned, but this is not the source's current version, whose copy "
    "it may be: verify again"
)
_DAMAGED = (
    "a verify run found the source damaged, and nothing proves that it is right now: compare it with the copy, and "
    "restore the source from what is right"
)
SUSPENDED = (
    "the destination bucket {bucket} no longer keeps versions, so each version of a key would replace the one before "
    "for good: enable its versioning, then continue the run"
)
ONLY_COPY = (
    "the copy differs, and {bucket} keeps no versions, so the copy would be lost for good: enable the bucket's "
    "versioning, or remove the copy if nobody needs it"
)
_COPYING = ("CopyObject", "UploadPartCopy")
"""Requests whose errors name the place of the copy, though all that they read is the source."""
LAST_TRIES = 2
"""How often a version is tried then, before newer ones are copied above its place."""
_NEWER_IN_DOUBT = "a newer version may be at the destination already, and could not be compared"
ONE_OF_SEVERAL = (
    "the manifest names several versions of this key, and each copy would replace the one before: copy them with "
    "--versions all, or name one of them"
)
_CAME_MEANWHILE = "something else came to the destination"
_MARKER_GONE = "the source no longer has this delete marker: none was made"
S = TypeVar("S", Outcome, Outcome | None, Outcome | Unavailable, Outcome | Unavailable | None)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplicateOptions(CopyOptions):
    """How to copy, which versions, and what may be overwritten.

    `keeps_replaced`: an object that is replaced has to stay, as an older version.
    """

    all_versions: bool = False
    overwrite: Overwrite = Overwrite.OLDER
    keeps_replaced: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read the options from a run's spec, which has others as well."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**known | {"overwrite": Overwrite(known.get("overwrite", Overwrite.OLDER))})


class Replicate:
    """The replicate job of one worker (a `jobs.runs.worker.Job`)."""

    chains = staticmethod(keys_of)

    def __init__(
        self,
        source: Store,
        destination: Store,
        route: Route,
        options: ReplicateOptions,
        budget: ByteBudget,
        records: UploadRecords = NO_RECORDS,
    ):
        self.source, self.destination, self.route = source, destination, route
        self.options, self.budget = options, budget
        self.copier = Copier(source, destination, route, options, budget, records)
        self._keeps_versions: bool | None = None
        self._asking = asyncio.Lock()

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Return the outcomes of one key's rows, oldest version first.

        Raises Unavailable, Conflict or PreconditionFailed where a retry may help. A retry is always
        safe.
        """
        return await self._process(rows, is_last=False)

    async def process_last(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Do as `process`, at the last try: a version that cannot be copied ends as failed.

        Newer versions are copied without it, as they are without an archived one. Then it has lost
        its place in the destination's history. So only answers about this version lead to that.
        """
        return await self._process(rows, is_last=True)

    async def _process(self, rows: Sequence[ObjectVersion], *, is_last: bool) -> list[Outcome]:
        if not self.options.all_versions:
            if len(rows) > 1:
                return [Outcome.of(row, Status.FAILED, ONE_OF_SEVERAL) for row in rows]
            return [await self._settle(row, partial(self._replicate, row), is_last=is_last) for row in rows]
        try:
            return await self._replay(rows, is_last=is_last)
        except REFUSALS as error:  # the histories cannot be listed, so no row has a place
            return [self._refused(row, error) for row in rows]

    async def _guarded(self, row: ObjectVersion, work: Awaitable[S]) -> S | Outcome:
        try:
            return await work
        except REFUSALS as error:
            return self._refused(row, error)

    def _refused(self, row: ObjectVersion, error: StoreError) -> Outcome:
        """Return the outcome of a row that S3 refuses for good."""
        if isinstance(error, NotFound):
            if isinstance(error, NoSuchBucket):
                raise error
            return Outcome.of(row, Status.MISSING, f"the source object is gone ({error.code})")
        if isinstance(error, ArchivedObject):
            is_copy = error.operation not in _COPYING and error.target.startswith(str(self.route.target_of(row)))
            which = "copy" if is_copy else "source"
            return Outcome.of(row, Status.ARCHIVED, f"the {which} must be restored from its archive class first")
        return Outcome.of(row, Status.FAILED if isinstance(error, Rejected) else Status.DENIED, str(error))

    async def _replicate(self, row: ObjectVersion) -> Outcome:
        if row.is_delete_marker:
            return Outcome.of(row, Status.FAILED, "a delete marker is reproduced only with --versions all")
        if self.copier.is_simple(row):
            try:
                return await self.copier.copy_simply(row, ABSENT)
            except PreconditionFailed:
                pass  # the source has changed, or an object is there: look at both
        return await self._look_and_copy(row)

    async def _look_and_copy(self, row: ObjectVersion) -> Outcome:
        ref, target = self.route.source_of(row), self.route.target_of(row)
        source, destination = await asyncio.gather(find(self.source, ref), find(self.destination, target))
        if source and (damaged := await self._find_damage(row, source)):
            return damaged
        verdict = compare(source, destination) if source and destination else None
        is_in_doubt = bool(verdict and verdict.same and destination and row.condemned_etag == destination.etag)
        action = decide(row, source, destination, verdict, self.options.overwrite)
        checksum = None
        if action.prove and source and destination:
            verdict, checksum = await self._read_both(ref, source, target, destination)
            action = decide(row, source, destination, verdict, self.options.overwrite)
        if action.trace and source and destination:
            origin = await self._origin(ref, source, destination)
            action = decide(row, source, destination, verdict, self.options.overwrite, origin)
        if action.copy and source and destination and row.condemned_etag == destination.etag:
            alone = decide(row._replace(condemned_etag=None), source, destination, verdict, self.options.overwrite)
            if not alone.copy and not await self._is_current(ref, source):
                action = alone._replace(reason=_SUPERSEDED)
        if action.copy and source and action.replaces and not await self._may_replace(target.bucket):
            return Outcome.of(row, Status.FAILED, ONLY_COPY.format(bucket=target.bucket))
        if action.copy and source:
            copied = await self._copy(row, source, Guard(etag=action.replaces) if action.replaces else ABSENT)
            if copied.status is Status.DAMAGED or not is_in_doubt:
                return copied
            return await self._read_copy(copied, ref, source, target)
        if action.status is None:
            raise ValueError(f"no action for {ref}")
        outcome = Outcome.of(row, action.status, action.reason)
        if action.status is Status.SAME and source and destination and verdict:
            return outcome._replace(
                reason=await self.copier.complete(row, source, destination) or outcome.reason,
                evidence=verdict.evidence,
                size_bytes=source.size_bytes,
                etag=source.etag,
                destination_etag=destination.etag,
                destination_version_id=destination.version_id,
                checksum=checksum or best_checksum(source),
            )
        seen_etag = source.etag if source and action.status is Status.CHANGED else outcome.etag
        return outcome._replace(etag=seen_etag, destination_etag=destination.etag if destination else None)

    async def _copy(self, row: ObjectVersion, source: ObjectInfo, guard: Guard) -> Outcome:
        """Copy a version. One whose bytes contradict twice what S3 keeps of them is damaged: when
        they are copied, and when they are read.
        """
        try:
            copied = await self.copier.copy(row, source, guard)
            if is_altered(source, copied):
                target = str(self.route.target_of(row))
                raise Conflict("CopyObject", target, ALTERED, "the copy's checksum is not the source's")
            return copied
        except (Conflict, Unavailable) as error:
            if error.code != ALTERED:
                raise
            if not await self._is_damaged(row, source):
                raise
            return Outcome.of(row, Status.DAMAGED, Reason.DAMAGED)

    async def _find_damage(self, row: ObjectVersion, source: ObjectInfo) -> Outcome | None:
        """Return the outcome of a row whose source was found damaged, and is not proven right now."""
        if not row.is_found_damaged or row.etag != source.etag:
            return None
        if stored_checksums(source) and not source.is_archived and not await self._is_damaged(row, source):
            return None
        return Outcome.of(row, Status.DAMAGED, _DAMAGED)

    async def _is_damaged(self, row: ObjectVersion, source: ObjectInfo) -> bool:
        side = ContentSide(self.source, self.route.source_of(row), source)
        return await self._reading(is_damaged(side, self.budget))

    async def _read_copy(self, copied: Outcome, ref: ObjectRef, source: ObjectInfo, target: ObjectRef) -> Outcome:
        """Prove by bytes the copy that replaces one whose bytes were wrong, though S3's checksums
        agreed.
        """
        there = await find(self.destination, target)
        if there is None or there.etag != copied.destination_etag:
            raise Conflict("GetObject", str(target), "Raced", "the copy was replaced before it was read")
        verdict, checksum = await self._read_both(ref, source, target, there)
        if verdict.same:
            return copied._replace(evidence=verdict.evidence, checksum=checksum)
        status = Status.DAMAGED if verdict.is_source_damaged else Status.MISMATCHED
        reason = f"it was copied again, and reads as other bytes still: {verdict.reason}"
        return copied._replace(status=status, reason=reason, evidence=verdict.evidence, checksum=None)

    async def _origin(self, ref: ObjectRef, source: ObjectInfo, destination: ObjectInfo) -> Origin:
        """Return whether the destination's object is a copy of a version below the row's.

        Only the source's current version may ask: above another one, the same content can come
        again, and the destination's object can be a copy of that. A version that may not be read is
        passed over.
        """
        try:
            history = await key_history(self.source, ref.bucket, ref.key)
        except (Denied, Redirected, Rejected):  # the server forbids or lacks version listings
            return Origin.UNKNOWN
        identities = [(each.version_id or NULL_VERSION, each.etag) for each in history]
        own = (source.version_id or NULL_VERSION, source.etag)
        older = history[:-1] if identities[-1:] == [own] else []
        there, looks = _listed_now(ref.key, destination), self._looks()
        for version in reversed(older):
            if version.is_delete_marker or version.size_bytes != there.size_bytes:
                continue
            if version.etag == there.etag and is_md5(version.etag):
                return Origin.OLDER_VERSION
            try:
                verdict = await self._compare_versions(as_row(version), there, looks)
            except (Denied, ArchivedObject):
                continue
            if verdict.same:
                return Origin.OLDER_VERSION
        return Origin.UNKNOWN

    async def _is_current(self, ref: ObjectRef, seen: ObjectInfo) -> bool:
        """True if a version is the source's current one: no newer one can follow its copy."""
        if ref.version_id is None:
            return True
        now = await find(self.source, ref._replace(version_id=None))
        return now is not None and (now.etag, now.version_id) == (seen.etag, seen.version_id)

    async def _replay(self, rows: Sequence[ObjectVersion], *, is_last: bool) -> list[Outcome]:
        """Reproduce one key's history, oldest first, on top of what the destination has of it
        already.

        The source's whole history gives the order, also when `rows` are only a part of it. A
        version in doubt may be at the destination. So neither it nor an older one is put on top.
        `is_last`: see `_persist`.
        """
        target = self.route.target_of(rows[0])
        await self._require_versions(target.bucket)
        history = await key_history(self.destination, target.bucket, target.key)
        versions = await self._in_history(rows) if history or not _is_one_object(rows) else list(rows)
        matching, damage, doubts = await self._matching(versions, history, is_last=is_last)
        alignment = align_known(len(versions), matching)
        left_alone = [s for s, place in enumerate(alignment) if place is None and versions[s].row < 0]
        resume_at, last_doubt = first_missing(alignment), max(doubts, default=-1)
        current = history[-1] if history else None
        newest, top = len(versions) - 1, len(history) - 1
        outcomes = {row.version_id: Outcome.of(row, Status.MISSING, _MARKER_GONE) for row in rows}
        for index, row in enumerate(versions):
            if row.row < 0:
                continue
            at = alignment[index]
            is_below = index == newest and (newest, top) not in matching
            outcome: Outcome | None = None
            if row.is_found_damaged:
                outcome = await self._settle(row, partial(self._still_damaged, row), is_last=is_last)
            if outcome is not None:
                pass
            elif at is not None and is_below and current and await self._belongs_on_top(row):
                is_older = any((older, top) in matching for older in range(newest))
                is_again = any((newest, place) in matching for place in range(at + 1, top))
                bring = partial(self._bring_on_top, row, current, is_older=is_older, is_again=is_again)
                outcome = await self._settle(row, bring, is_last=is_last)
            elif at is not None:
                is_shared = any((other, at) in matching for other in left_alone)
                prove = partial(self._already_same, row, history[at], matching[index, at], is_shared=is_shared)
                outcome = await self._settle(row, prove, is_last=is_last)
            elif index in damage:
                outcome = Outcome.of(row, Status.DAMAGED, damage[index])
            elif index in doubts:
                outcome = self._doubted(row, doubts[index])
            elif index < resume_at:
                outcome = Outcome.of(row, Status.CHANGED, TOO_LATE)
            elif index < last_doubt:
                doubted = self._doubted(row, doubts[last_doubt])
                outcome = doubted._replace(reason=f"{_NEWER_IN_DOUBT}: {doubted.reason}")
            else:
                outcome = await self._settle(row, partial(self._replay_one, row, current), is_last=is_last)
                if outcome.status in (Status.COPIED, Status.DELETED):
                    current = _as_listed(target.key, row, outcome)
            outcomes[row.version_id] = outcome
        return list(outcomes.values())

    async def _require_versions(self, bucket: str) -> None:
        """Check once that the destination still keeps versions. Otherwise each write of a history
        replaces the one before, for good.

        Raises ConfigError.
        """
        try:
            is_versioned = await self._is_versioned(bucket)
        except (Denied, Redirected, Rejected):  # the command that planned the run could ask
            self._keeps_versions = is_versioned = True
        if not is_versioned:
            raise ConfigError(SUSPENDED.format(bucket=bucket))

    async def _may_replace(self, bucket: str) -> bool:
        """Whether an object of the destination may be replaced. Raises StoreError."""
        return not self.options.keeps_replaced or await self._is_versioned(bucket)

    async def _is_versioned(self, bucket: str) -> bool:
        """Ask once, and not by each row, whether the destination keeps versions."""
        async with self._asking:
            if self._keeps_versions is None:
                self._keeps_versions = await self.destination.is_versioned(bucket)
            return self._keeps_versions

    async def _check_kept(self, outcome: Outcome, bucket: str) -> Outcome:
        """Return the outcome of a write. Raises ConfigError if it made no version of its own."""
        is_written = outcome.status in (Status.COPIED, Status.DELETED)
        if is_written and not is_exact(outcome.destination_version_id):
            self._keeps_versions = None  # some servers leave the id out, so ask
            await self._require_versions(bucket)
        return outcome

    async def _settle(self, row: ObjectVersion, work: Callable[[], Awaitable[S]], *, is_last: bool) -> S | Outcome:
        result = await self._guarded(row, self._persist(work, is_last=is_last))
        return gave_up(row, result) if isinstance(result, Unavailable) else result

    async def _persist(self, work: Callable[[], Awaitable[T]], *, is_last: bool) -> T | Unavailable:
        """Return the result of the work. At the last try return an error that stays."""
        if not is_last:
            return await work()
        try:
            return await retry(work, tries=LAST_TRIES)
        except Unavailable as error:
            if not error.is_of_object:
                raise
            return error

    def _doubted(self, row: ObjectVersion, error: StoreError) -> Outcome:
        return self._refused(row, error) if isinstance(error, REFUSALS) else gave_up(row, error)

    async def _belongs_on_top(self, row: ObjectVersion) -> bool:
        """Whether a row is the source's current version. Then its copy belongs above all others."""
        ref = self.route.source_of(row)
        return await is_current_version(self.source, ref, row.etag, is_delete_marker=row.is_delete_marker)

    async def _bring_on_top(self, row: ObjectVersion, current: Listed, *, is_older: bool, is_again: bool) -> Outcome:
        """Copy the source's current version once more, above what covers its copy.

        `is_older`: what covers it is the copy of an older version. `is_again`: an earlier run has
        copied the source's current version once more. The rules of `decide` hold. Nothing is lost,
        since the bucket keeps versions. Where something hides each new copy, as a lifecycle rule
        does, every run would make one more version. So the second time the row is `changed`.
        """
        if current.is_delete_marker and is_again and self.options.overwrite is not Overwrite.ALWAYS:
            return Outcome.of(row, Status.CHANGED, HIDDEN_AGAIN)
        may_replace = (
            current.is_delete_marker
            or is_older
            or row.condemned_etag == current.etag
            or self.options.overwrite is Overwrite.ALWAYS
            or (self.options.overwrite is Overwrite.OLDER and current.last_modified < (row.last_modified or 0))
        )
        if may_replace:
            return await self._replay_one(row, current)
        return Outcome.of(row, Status.CHANGED, _COVERED)._replace(destination_etag=current.etag)

    async def _in_history(self, rows: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        """Return all versions of the rows' key that the source has or, by the rows, had: oldest
        first. A delete marker that it no longer has is left out.
        """
        listed = await key_history(self.source, self.route.source.bucket, rows[0].key)
        markers = {each.version_id for each in listed if each.is_delete_marker}
        versions = with_rows(listed, rows)
        return [each for each in versions if not each.is_delete_marker or each.version_id in markers]

    async def _still_damaged(self, row: ObjectVersion) -> Outcome | None:
        source = await find(self.source, self.route.source_of(row))
        return await self._find_damage(row, source) if source else None

    async def _already_same(self, row: ObjectVersion, there: Listed, evidence: Evidence, *, is_shared: bool) -> Outcome:
        """Return the outcome of a version that is there.

        `is_shared`: it may be the copy of another version of the same bytes, which this run leaves
        alone and which has no other copy.
        """
        lack = ""
        if there.etag is not None:  # no delete marker
            ref, copy = self.route.source_of(row), self.route.target_of(row)._replace(version_id=there.version_id)
            lack = await self.copier.complete_annotations(ref, row.etag, there.size_bytes or 0, copy, there.etag)
            if is_shared:
                lack = "; ".join(filter(None, (_SHARED, lack)))
        return Outcome.of(row, Status.SAME, lack)._replace(
            evidence=evidence,
            size_bytes=row.size_bytes or 0,
            etag=row.etag,
            destination_etag=there.etag,
            destination_version_id=there.version_id,
        )

    async def _replay_one(self, row: ObjectVersion, current: Listed | None) -> Outcome:
        target = self.route.target_of(row)
        return await self._check_kept(await self._write_one(row, target, current), target.bucket)

    async def _write_one(self, row: ObjectVersion, target: ObjectRef, current: Listed | None) -> Outcome:
        if row.is_delete_marker:
            await self._look_before_marker(row, target, current)
            deleted = await self._mark(target, _etag_of(current))
            return Outcome.of(row, Status.DELETED)._replace(destination_version_id=deleted.version_id)
        guard = Guard(etag=etag) if (etag := _etag_of(current)) else ABSENT
        source = await self.source.head(self.route.source_of(row))
        if not is_named(row, source):
            return Outcome.of(row, Status.CHANGED, NOT_THE_ONE_NAMED)._replace(etag=source.etag)
        if source.is_archived:
            return Outcome.of(row, Status.ARCHIVED, "the source must be restored from its archive class first")
        if row.condemned_etag and await self._is_damaged(row, source):
            return Outcome.of(row, Status.DAMAGED, _DAMAGED)
        return await self._copy(row, source, guard)

    async def _look_before_marker(self, row: ObjectVersion, target: ObjectRef, current: Listed | None) -> None:
        """Look at both sides directly before a delete marker. It has a condition only where an object
        is on top, and some servers ignore that.

        Raises Conflict if the source's current object came back, or if something else is on top of
        the copies by now.
        """
        source, there = await asyncio.gather(
            find(self.source, self.route.source_of(row)._replace(version_id=None)), find(self.destination, target)
        )
        if row.is_latest and source is not None:
            raise Conflict("DeleteObject", str(target), "Raced", "the source has an object again")
        if _etag_of(current) != (there.etag if there else None):
            raise Conflict("DeleteObject", str(target), "Raced", _CAME_MEANWHILE)

    async def _mark(self, target: ObjectRef, etag: str | None) -> Deleted:
        """Put a delete marker onto the object of this ETag, so that it hides no newer copy.

        Raises Conflict if something else is on top by now.
        """
        try:
            return await self.destination.delete(target.bucket, target.key, if_match=etag)
        except NoSuchBucket:
            raise
        except (NotFound, PreconditionFailed) as error:
            raise Conflict(error.operation, error.target, "Raced", _CAME_MEANWHILE) from error

    async def _matching(
        self, rows: Sequence[ObjectVersion], history: Sequence[Listed], *, is_last: bool
    ) -> tuple[dict[tuple[int, int], Evidence], dict[int, str], dict[int, StoreError]]:
        """Return (index of a row, index of a destination version) → what proves that both are the
        same.

        Also return index of a row → why its source is damaged, as a comparison of bytes
        showed. Such a row is not copied, since any of the copies may be the last intact one. Last
        return index of a row → the error of a comparison, which leaves it in doubt.
        """
        matching: dict[tuple[int, int], Evidence] = {}
        damage: dict[int, str] = {}
        doubts: dict[int, StoreError] = {}
        looks = self._looks()
        ours, theirs = dict[int, str](), dict[int, str]()  # MD5s that HEAD has said
        for s, row in enumerate(rows):
            await asyncio.sleep(0)  # all that was seen before is no request
            for d, there in enumerate(history):
                if row.is_delete_marker or there.is_delete_marker:
                    if row.is_delete_marker and there.is_delete_marker:
                        matching[s, d] = Evidence.NONE
                elif (
                    row.size_bytes == there.size_bytes
                    and row.etag == there.etag
                    and is_md5(row.etag)
                    and row.condemned_etag != there.etag
                ):
                    matching[s, d] = Evidence.MD5_ETAG
                elif s in ours and d in theirs and ours[s] != theirs[d]:
                    continue
                elif row.size_bytes in (None, there.size_bytes):
                    try:
                        verdict = await self._persist(
                            partial(self._compare_versions, row, there, looks), is_last=is_last
                        )
                    except (Denied, Redirected, ArchivedObject, Rejected) as error:
                        doubts.setdefault(s, error)
                        continue
                    if isinstance(verdict, Unavailable):
                        doubts.setdefault(s, verdict)
                    elif verdict.same:
                        matching[s, d] = verdict.evidence
                    elif verdict.is_source_damaged:
                        damage[s] = verdict.reason
                    ref, copy = self.route.source_of(row), self.route.target_of(row)
                    if md5 := looks[0].md5_of(ref):
                        ours[s] = md5
                    if md5 := looks[1].md5_of(copy._replace(version_id=there.version_id)):
                        theirs[d] = md5
        return matching, damage, doubts

    def _looks(self) -> tuple[VersionLooks, VersionLooks]:
        return VersionLooks(self.source), VersionLooks(self.destination)

    async def _compare_versions(
        self, row: ObjectVersion, there: Listed, looks: tuple[VersionLooks, VersionLooks]
    ) -> Verdict:
        ref, target = self.route.source_of(row), self.route.target_of(row)._replace(version_id=there.version_id)
        source, destination = await asyncio.gather(looks[0].find(ref), looks[1].find(target))
        if source is None or destination is None:
            return Verdict(None, Evidence.NONE, "one of them is gone")
        verdict = compare(source, destination)
        if verdict.same is False or (verdict.same and row.condemned_etag != there.etag):
            return verdict
        verdict, _ = await self._read_both(ref, source, target, destination)
        return verdict

    async def _read_both(
        self, ref: ObjectRef, source: ObjectInfo, target: ObjectRef, destination: ObjectInfo
    ) -> tuple[Verdict, str | None]:
        """Compare the bytes. Raises Conflict when one side is gone since the look: look again."""
        return await self._reading(
            compare_bytes(
                ContentSide(self.source, ref, source), ContentSide(self.destination, target, destination), self.budget
            )
        )

    async def _reading(self, read: Awaitable[T]) -> T:
        try:
            return await read
        except NoSuchBucket:
            raise
        except NotFound as error:
            raise Conflict(error.operation, error.target, "Raced", "it went away while it was read") from error


def _etag_of(current: Listed | None) -> str | None:
    """Return the ETag of the object that is on top. None: nothing is, or a delete marker."""
    return None if current is None or current.is_delete_marker else current.etag


def _listed_now(key: str, info: ObjectInfo) -> Listed:
    """Return what a listing shows of an object that HEAD has described."""
    size_bytes, modified = info.size_bytes, info.last_modified
    return Listed(key, info.version_id, True, False, size_bytes, info.etag, modified, info.storage_class)


def _is_one_object(rows: Sequence[ObjectVersion]) -> bool:
    """True for one row that is surely an object: it needs no place, and nothing hides it."""
    return len(rows) == 1 and rows[0].etag is not None and not rows[0].is_delete_marker


def _as_listed(key: str, row: ObjectVersion, outcome: Outcome) -> Listed:
    """Return what a listing would now show as the destination's current version."""
    version_id, etag = outcome.destination_version_id, outcome.destination_etag
    return Listed(key, version_id, True, row.is_delete_marker, row.size_bytes, etag, 0.0, None)
