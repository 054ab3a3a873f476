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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial, partialmethod
from typing import TYPE_CHECKING, NamedTuple, cast

from jobs.archives.reader import ArchiveReader, content_checksums
from jobs.core.algorithms import Protection
from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import Step
from jobs.core.evidence import Verdict, compare, difference
from jobs.core.model import NULL_VERSION, Checksum, Listed, Location, ObjectInfo, ObjectRef, ObjectVersion, is_exact
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
    SealiftError,
    StoreError,
    Unavailable,
)
from jobs.expire.places import PlaceLook
from jobs.expire.rules import CopyAt, Original, Proven, Terms, decide, refuse_copy
from jobs.runs.failure_count import gave_up
from jobs.runs.kind import no_look
from jobs.s3.annotations import AnnotationPair
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.checksums import ContentCheck
from jobs.s3.compare_bytes import check_bytes, update
from jobs.s3.gated_store import patient
from jobs.s3.lookup import KeyLooks, find
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
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
    def version_id(self) -> str | None:
        """The id that alone names what is deleted. None: what is current goes, if it has the ETag.

        While a bucket keeps versions, no write makes a null version, so its id is exact directly after a look:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersioningEnabledBuckets.html
        """
        version_id = self.original.ref.version_id
        if self.step is Step.HIDE or (self.original.is_current and not is_exact(version_id)):
            return None
        return version_id or NULL_VERSION


@dataclass(slots=True)
class Expire:
    """The expire job of one worker: `process` takes what `chains` cuts out of a shard.

    `look`: at the documents of both places, for S3's time. `keeps_versions`: whether the bucket of
    originals did when the run was planned, and its conditions were tried. `deletes`: it is no dry
    run. `places`: where copies count. `prefix`: no key outside of it is touched, whatever the rows
    say. `planned_at`: epoch seconds at which the run was planned. `look_at_owner`: see
    `jobs.runs.kind.Opened`.

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
    tombstones: Tombstones
    clock: Callable[[], float]
    places: Sequence[Location]
    keeps_versions: bool
    deletes: bool = False
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

    def __post_init__(self) -> None:
        self._originals, self._copies = (
            patient(each, self.patience_seconds) for each in (self.source, self.destination)
        )
        self._annotations = AnnotationPair(self._originals, self._copies, self.budget)
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
        say what is gone. Raises ConfigError for a bucket or a place that is not as it was. Raises
        PartlyDone when the worker has to stop.
        """
        # The plan weighed the shares: what became due after it was not weighed.
        now = min(await self.look.look(), self.clock(), self.planned_at)
        await self._check_versioning()
        terms = Terms(now, self.grace_seconds, self.keeps_versions, self.places, self.prefix)
        seen_at = elapsed_seconds()
        there, outcomes = await self._look_at_all(rows, is_last)
        proven = await self.compare([each for each in there if decide(each, None, terms) is None])
        removals: list[Removal] = []
        for each in there:
            decision = decide(each, proof := proven.get(each.row.row), terms)
            if isinstance(decision, Cause):
                outcomes[each.row.row] = _kept(each.row, *decision)
            elif decision is not None and proof is not None:
                removals.append(Removal(each, proof, decision, min(seen_at, proof.looked_at)))
        if removals and self.deletes:
            outcomes |= await self._remove(removals, is_last)
        else:
            for going in removals:
                outcomes[going.row] = _deleted(going.original.row, self._tombstone(going), Status.LEFT)
        return [outcomes[row.row] for row in rows]

    process_last = partialmethod(process, is_last=True)

    # Looks.

    async def _check_versioning(self) -> None:
        """Raise ConfigError where a delete would do something else than it would have when the run was planned."""
        if await retry(lambda: self.source.is_versioned(self.bucket)) is not self.keeps_versions:
            raise ConfigError(
                f"s3://{self.bucket} keeps versions since the run was planned, or no longer", advice="plan again"
            )

    async def _look_at_all(
        self, rows: Sequence[ObjectVersion], is_last: bool
    ) -> tuple[list[Original], dict[int, Outcome]]:
        """Return the originals that are there, and the outcomes of the rest.

        What this run deleted is not missing. What it hid it must not remove: below any marker, once
        it has announced that.
        """
        look = partial(self._look, KeyLooks(self.source, self.bucket), is_last=is_last)
        looked = await gather_bounded(look, rows, REQUESTS_AT_ONCE)
        announced: Mapping[int, Tombstone] = {}
        if not all(isinstance(each, Outcome) or (each and each.is_current and not each.is_replaced) for each in looked):
            announced = await self.tombstones.announced(rows[0].row, rows[-1].row)
        there: list[Original] = []
        outcomes: dict[int, Outcome] = {}
        for row, each in zip(rows, looked, strict=True):
            stone = announced.get(row.row)
            if isinstance(each, Outcome):
                outcomes[row.row] = each
            elif stone and (each is None or each.is_replaced):
                outcomes[row.row] = _deleted(row, stone)
            elif stone and each and each.is_hidden and stone.step is Step.HIDE:
                is_own = each.is_hidden_by(stone.marker_version_id, stone.recorded_at)
                outcomes[row.row] = _deleted(row, stone) if is_own else _kept(row, Reason.DELETED, "source")
            elif each is None:
                outcomes[row.row] = Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
            else:
                there.append(each)
        return there, outcomes

    async def _look(self, looks: KeyLooks, row: ObjectVersion, *, is_last: bool = False) -> Original | Outcome | None:
        """Return the original as it is now, None when it is gone, an outcome when S3 does not show it."""
        if row.beside is None:
            return _kept(row, Reason.COPY_MISSING)
        try:
            return await find_original(looks, row, cast(CopyAt, row.beside), is_versioned=self.keeps_versions)
        except (Denied, Redirected, Rejected) as error:
            return Outcome.refused(row, error)
        except Unavailable as error:
            if not is_last:
                raise
            return gave_up(row, error)

    async def _look_at_copy(self, at: CopyAt) -> ObjectInfo | Cause | None:
        """What is current at the key of a copy, or of its archive."""
        try:
            return await find(self._copies, ObjectRef(at.bucket, at.key))
        except StoreError as error:
            return _cause(error)

    async def _look_again(self, removals: Sequence[Removal]) -> tuple[list[Removal], dict[int, Outcome]]:
        """Return the removals with looks that are fresh, and the outcomes of what is not as it was."""
        seen_at = elapsed_seconds()
        await retry(self.look_at_owner)  # after the tombstones: who owns the run now reads them, or is seen here
        await self.look.look()
        await self._check_versioning()
        old = seen_at - FRESH_SECONDS / 2
        stale = [each for each in removals if each.version_id == NULL_VERSION or each.seen_at <= old]
        look = partial(self._look, KeyLooks(self.source, self.bucket))
        originals = await gather_bounded(look, [each.original.row for each in stale], REQUESTS_AT_ONCE)
        fresh, kept = {each.row: each for each in removals}, dict[int, Outcome]()
        for each, original, changed in zip(stale, originals, await self.find_changed(stale), strict=True):
            fresh[each.row] = each._replace(seen_at=seen_at)
            if changed or original != each.original:
                del fresh[each.row]
                kept[each.row] = _kept(each.original.row, *(changed or Cause(Reason.SOURCE_CHANGED)))
        return list(fresh.values()), kept

    async def find_changed(self, compared: Sequence[Removal]) -> list[Cause | None]:
        """Return for each why its copy is no longer the object that was compared, else None."""
        at = {each.original.copy.place: each.original.copy for each in compared}
        found = dict(zip(at, await gather_bounded(self._look_at_copy, at.values(), REQUESTS_AT_ONCE), strict=True))
        changed: list[Cause | None] = []
        for each in compared:
            before, now = each.proven.copy, found[each.original.copy.place]
            cause = (
                now if isinstance(now, Cause) else refuse_copy(each.original.copy, now, by_checksum=self.by_checksum)
            )
            is_same = before and isinstance(now, ObjectInfo) and _identity(before) == _identity(now)
            changed.append(cause or (None if is_same else Cause(Reason.SOURCE_CHANGED, "copy")))
        return changed

    # The comparison.

    async def compare(self, originals: Sequence[Original]) -> dict[int, Proven]:
        """Compare bytes, metadata, headers, tags and annotations of each with its copy → by row.

        What is current at the copy's key counts. Each read is pinned to its version and ETag.
        """
        at_one_place: dict[tuple[str | None, ...], list[Original]] = {}
        for each in originals:
            at = each.copy
            at_one_place.setdefault((at.place, at.etag, at.checksum), []).append(each)
        found = await gather_bounded(self._compare_at, at_one_place.values(), REQUESTS_AT_ONCE)
        return {row: proven for part in found for row, proven in part.items()}

    async def _compare_at(self, originals: Sequence[Original]) -> dict[int, Proven]:
        """Compare originals with what is at one place: a copy, or their archive."""
        looked_at, found = elapsed_seconds(), await self._look_at_copy(originals[0].copy)
        copy = found if isinstance(found, ObjectInfo) else None
        contents: dict[int, Content] = {}
        try:
            async for each, content in self._read(originals, found):
                contents[each.row.row] = content
        except (StoreError, DamagedArchive) as error:  # of an archive: the rest is not tried
            contents = dict.fromkeys((each.row.row for each in originals), _unknown(_cause(error))) | contents

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

    def _refute(self, original: Original, found: ObjectInfo | Cause | None) -> Verdict | None:
        """The verdict that needs no bytes, if there is one."""
        at, ref, info = original.copy, original.ref, original.info
        if isinstance(found, Cause):
            return _unknown(found)
        if not self.is_apart and (ref.bucket, ref.key) == (at.bucket, at.key):
            return _unknown(Cause(Reason.KEPT, "itself"))
        if (cause := refuse_copy(at, found, by_checksum=self.by_checksum)) or found is None:
            return _unknown(cause or Cause(Reason.COPY_MISSING))
        if info.size_bytes != (at.member or found).size_bytes:
            return Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)
        differing = difference(info.attributes, at.member or found.attributes)
        return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, differing) if differing else None

    async def _read(
        self, originals: Sequence[Original], copy: ObjectInfo | Cause | None
    ) -> AsyncGenerator[tuple[Original, Content], None]:
        """What is at one place: a replica, or the members of an archive."""
        left, at = list[Original](), originals[0].copy
        for each in originals:
            if verdict := self._refute(each, copy):
                yield each, verdict
            else:
                left.append(each)
        if not isinstance(copy, ObjectInfo) or not left:
            return
        if self.by_checksum or at.member is None:
            for each in left:
                yield each, _indexed(each.copy, copy) if at.member else await self._read_replica(each, copy)
            return
        reader = ArchiveReader(self._copies, ObjectRef(at.bucket, at.key, copy.version_id), copy.etag, self.budget)
        of_member = {id(each.copy.member): each for each in left}
        async with aclosing(reader.contents([member for each in left if (member := each.copy.member)])) as members:
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

    async def _remove(self, removals: Sequence[Removal], is_last: bool) -> dict[int, Outcome]:
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
            there, known = await self._look_at_all(rows, is_last)
            outcomes |= known | {each.row.row: gave_up(each.row, failed[each.row.row]) for each in there}
        return outcomes

    async def _announce_and_delete(self, removals: Sequence[Removal]) -> dict[int, End]:
        """Announce, delete, confirm → what became of each row."""
        name = await self.tombstones.announce(list(map(self._tombstone, removals)))
        try:
            fresh, kept = await self._look_again(removals)
        except SealiftError:  # no delete was sent, so what is gone is no work of this run
            await self.tombstones.confirm(name, [])
            raise
        send_by = min((each.seen_at for each in fresh), default=0.0) + FRESH_SECONDS
        ended = await gather_bounded(partial(self._delete, send_by=send_by), fresh, REQUESTS_AT_ONCE)
        # Also what may be gone: a delete may have been done before its error. A stop comes before it is sent.
        gone = [
            self._tombstone(each)._replace(marker_version_id=marker_id)
            for each, (end, marker_id) in zip(fresh, ended, strict=True)
            if isinstance(end, StoreError) or (isinstance(end, Outcome) and end.status is Status.DONE)
        ]
        await self.tombstones.confirm(name, gone)
        return {each.row: end for each, (end, _) in zip(fresh, ended, strict=True)} | kept

    async def _delete(self, removal: Removal, send_by: float) -> tuple[End, str | None]:
        """Delete one → what became of it, and the id of its delete marker.

        What was deleted or replaced meanwhile counts as this run's only if an answer was lost: then
        it is looked at again. Somebody else's delete is not for this run to undo.
        """
        row, version_id = removal.original.row, removal.version_id
        etag = removal.original.info.etag if version_id is None else None
        try:
            made = await self.source.delete(self.bucket, row.key, version_id=version_id, if_match=etag, send_by=send_by)
        except NoSuchBucket:
            raise
        except (PreconditionFailed, NotFound) as error:
            if error.was_sent_once:
                return _kept(row, Reason.SOURCE_CHANGED), None
            return error.recast(Conflict, detail="an answer was lost"), None
        except (Denied, Rejected) as error:
            return _kept(row, Reason.REFUSED, error.fact), None
        except (Unavailable, Conflict, Interrupted) as error:  # others end the run
            return error, None
        return _deleted(row, self._tombstone(removal)), made.version_id if removal.step is Step.HIDE else None

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

    def made(info: ObjectInfo, version_id: str | None, above: Sequence[Listed] = ()) -> Original:
        return Original(row, copy, ObjectRef(looks.bucket, row.key, version_id), info, tuple(above))

    current = await looks.current(row.key)
    has_others = is_versioned or is_exact(row.version_id)
    if current is not None and (not has_others or (current.version_id or NULL_VERSION) == wanted):
        return made(current, current.version_id)
    history = await looks.history(row.key) if has_others else []
    named = [not each.is_delete_marker and each.version_id == wanted for each in history]
    if True not in named:
        return made(current, current.version_id) if current is not None and row.version_id is None else None
    place = named.index(True)
    version_id = history[place].version_id
    info = await retry(lambda: find(looks.store, ObjectRef(looks.bucket, row.key, version_id)))
    return made(info, info.version_id or version_id, history[place + 1 :]) if info else None


def _identity(info: ObjectInfo) -> tuple[object, ...]:
    carried = (dict(info.attributes.metadata), dict(info.attributes.headers), info.tag_count)
    return info.version_id, info.etag, info.last_modified, info.size_bytes, info.unsent_metadata, *carried


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


def _kept(row: ObjectVersion, reason: Why, detail: str = "") -> Outcome:
    """Return the outcome of an original that stays."""
    return Outcome.of(row, Status.LEFT if reason == Reason.TOO_NEW else Status.BLOCKED, reason, detail)


def _deleted(row: ObjectVersion, stone: Tombstone, status: Status = Status.DONE) -> Outcome:
    """Return the outcome of an original that went, or would go, with its copy."""
    what = "hidden" if stone.step is Step.HIDE else "removed"
    return Outcome.of(row, status, Reason.DELETED, what)._replace(
        evidence=next((each for each in Evidence if each == stone.evidence), Evidence.NONE),
        size_bytes=stone.size_bytes,
        destination_version_id=stone.copy_version_id,
        destination_etag=stone.copy_etag,
    )
